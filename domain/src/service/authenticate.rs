//! Who an access token speaks for.

use crate::{Caller, Chat, ServiceError, ServiceResult};

impl Chat {
    /// Verifies an access token and that its session has not been ended. `UNAUTHENTICATED` otherwise.
    #[expect(clippy::unused_async, reason = "one shape for every use case")]
    pub async fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        let caller = self.services.tokens.verify(access_token)?;
        if self.services.ended_sessions.contains(caller.session) {
            return Err(ServiceError::unauthenticated("the session has ended"));
        }
        Ok(caller)
    }
}
