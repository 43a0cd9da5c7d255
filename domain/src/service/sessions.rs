//! The caller's signed-in devices.

use crate::{Caller, Domain, ServiceResult, Session};

/// Sessions of one answer; whoever has more signs some out.
const SESSIONS_MAX: u32 = 100;

impl Domain {
    /// Alive sessions, newest first, at most 100.
    pub async fn sessions(&self, caller: &Caller) -> ServiceResult<Vec<Session>> {
        Ok(self.services.accounts.sessions(caller.user, SESSIONS_MAX).await?)
    }
}
