//! Who an access token speaks for.

use crate::{Caller, Chat, ServiceError, ServiceResult, tokens::ACCESS_TOKEN_LIFETIME};

impl Chat {
    /// Verifies an access token and that its session has not been ended. `UNAUTHENTICATED` otherwise.
    #[expect(clippy::unused_async, reason = "a node whose view of the log is old asks storage")]
    pub async fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        let caller = self.services.tokens.verify(access_token)?;
        if self.services.ended.contains(caller.session) {
            return Err(ServiceError::unauthenticated("the session has been ended"));
        }
        Ok(caller)
    }

    /// Reads which sessions ended while tokens of theirs may still live. Nothing is served before.
    pub async fn load_ended_sessions(&self) -> ServiceResult<()> {
        let since = self.services.clock.now().minus(ACCESS_TOKEN_LIFETIME);
        for (session, ended_at) in self.services.accounts.ended_sessions(since).await? {
            self.services.ended.note(session, ended_at);
        }
        Ok(())
    }
}
