//! The caller's signed-in devices.

use crate::{Caller, Chat, ServiceError, ServiceResult, Session};

impl Chat {
    /// Alive sessions, newest first.
    pub async fn sessions(&self, caller: &Caller) -> ServiceResult<Vec<Session>> {
        let _ = caller;
        Err(ServiceError::unavailable("stub"))
    }
}
