//! A new password, which ends all other sessions.

use crate::{Caller, Chat, ServiceError, ServiceResult};

#[derive(Clone, Debug)]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

impl Chat {
    pub async fn change_password(&self, caller: &Caller, command: ChangePassword) -> ServiceResult<()> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
