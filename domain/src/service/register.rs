//! A new user, signed in at once.

use std::net::IpAddr;

use crate::{Chat, Credentials, ServiceError, ServiceResult, User};

#[derive(Clone, Debug)]
pub struct Register {
    pub username: String,
    pub password: String,
    pub display_name: String,
    pub device_name: Option<String>,
    pub address: Option<IpAddr>,
}

/// A user with what their device needs from now on.
#[derive(Clone)]
pub struct SignedIn {
    pub user: User,
    pub credentials: Credentials,
}

impl Chat {
    pub async fn register(&self, command: Register) -> ServiceResult<SignedIn> {
        let _ = command;
        Err(ServiceError::unavailable("stub"))
    }
}
