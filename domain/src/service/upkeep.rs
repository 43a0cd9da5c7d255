//! What keeps a long-lived installation in shape.

use std::time::Duration;

use super::credentials::REFRESH_TOKEN_LIFETIME;
use crate::{Domain, ServiceError, ServiceResult, attempts::FAMILIAR_FOR};

/// Rows removed at once, so that no lock is held for long.
const ROWS_AT_ONCE: u32 = 1000;

/// How long a session is kept after it died, by its end or by not being used for [`REFRESH_TOKEN_LIFETIME`]: beyond any difference
/// of clocks, and short, as nobody is shown a dead session and its device would go on getting pushes.
const DEAD_SESSIONS_KEPT: Duration = Duration::from_hours(24);

impl Domain {
    /// Removes outbox rows, refresh tokens, dead sessions, mutes and familiar networks whose time has passed; answers how many went.
    pub async fn remove_expired(&self) -> ServiceResult<u64> {
        let domain = self.clone();
        // A task of its own: nobody cancels storage work half way (trap 1).
        let work = self.services.tasks.spawn(async move {
            let services = &domain.services;
            let now = services.clock.now();
            let mut removed = 0;
            loop {
                let entries = services
                    .log
                    .remove_expired(now.minus(services.limits.outbox_retention), ROWS_AT_ONCE)
                    .await?;
                let tokens =
                    services.accounts.remove_expired(now.minus(REFRESH_TOKEN_LIFETIME), ROWS_AT_ONCE).await?;
                let unused = now.minus(REFRESH_TOKEN_LIFETIME + DEAD_SESSIONS_KEPT);
                let sessions = services.accounts.remove_sessions(unused, ROWS_AT_ONCE).await?;
                let networks =
                    services.accounts.remove_networks(now.minus(FAMILIAR_FOR), ROWS_AT_ONCE).await?;
                let rows = entries + tokens + sessions + networks;
                removed += rows;
                if rows < u64::from(ROWS_AT_ONCE) {
                    return Ok(removed + services.devices.remove_expired_mutes(now).await?);
                }
            }
        });
        work.await.map_err(ServiceError::internal)?
    }
}
