//! What others read about the caller.

use crate::{Caller, Chat, ServiceError, ServiceResult, User};

impl Chat {
    /// `None` leaves the name as it is.
    pub async fn update_profile(&self, caller: &Caller, display_name: Option<String>) -> ServiceResult<User> {
        let _ = (caller, display_name);
        Err(ServiceError::unavailable("stub"))
    }
}
