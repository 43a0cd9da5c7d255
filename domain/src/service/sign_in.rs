//! A known user on a new device.

use std::net::IpAddr;

use crate::{Chat, ServiceError, ServiceResult, service::register::SignedIn};

#[derive(Clone, Debug)]
pub struct SignIn {
    pub username: String,
    pub password: String,
    pub device_name: Option<String>,
    pub address: Option<IpAddr>,
}

impl Chat {
    pub async fn sign_in(&self, command: SignIn) -> ServiceResult<SignedIn> {
        let _ = command;
        Err(ServiceError::unavailable("stub"))
    }
}
