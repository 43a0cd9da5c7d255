//! The caller's signed-in devices.

use super::credentials::REFRESH_TOKEN_LIFETIME;
use crate::{Caller, Domain, ServiceResult, Session};

/// Sessions of one answer; whoever has more signs some out.
const SESSIONS_MAX: u32 = 100;

impl Domain {
    /// Alive sessions, newest first, at most 100. One that was not used for as long as its refresh token lives has died.
    pub async fn sessions(&self, caller: &Caller) -> ServiceResult<Vec<Session>> {
        let used_after = self.services.clock.now().minus(REFRESH_TOKEN_LIFETIME);
        Ok(self.services.accounts.sessions(caller.user, used_after, SESSIONS_MAX).await?)
    }
}
