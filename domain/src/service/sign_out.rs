//! The end of a session.

use crate::{Caller, Domain, ServiceError, ServiceResult, SessionId, port::log::EndSessions};

impl Domain {
    /// Ends one of the caller's sessions; `None` is the one that calls. One that ended before stays ended.
    pub async fn end_session(
        &self,
        caller: &Caller,
        session: Option<SessionId>,
    ) -> ServiceResult<Vec<SessionId>> {
        let session = session.unwrap_or(caller.session);
        let which = EndSessions::One { user: caller.user, session };
        let ended = self.end_sessions(caller.user, which, None).await?;
        if ended.is_empty() && self.services.accounts.user_of_session(session).await? != Some(caller.user) {
            return Err(ServiceError::not_found("session").at(&["sessionId"]));
        }
        Ok(ended)
    }
}
