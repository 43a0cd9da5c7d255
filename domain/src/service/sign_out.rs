//! The end of a session.

use crate::{Caller, Chat, ServiceError, ServiceResult, SessionId};

impl Chat {
    /// Ends one of the caller's sessions; `None` is the one that calls.
    pub async fn sign_out(&self, caller: &Caller, session: Option<SessionId>) -> ServiceResult<()> {
        let _ = (caller, session);
        Err(ServiceError::unavailable("stub"))
    }
}
