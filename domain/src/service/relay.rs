//! The relay of the outbox, as its workers see it: which lanes they have, and how far those are.

use std::time::Duration;

use crate::{Domain, LaneId, RelayBacklog, RelayLane, ServiceError, ServiceResult, WorkerId};

/// How long a worker has a lane without another word.
pub const RELAY_LEASE: Duration = Duration::from_secs(5);

impl Domain {
    /// Prolongs what the worker has, adds at most one lane that nobody has, and answers all of them.
    pub async fn hold_lanes(&self, worker: WorkerId) -> ServiceResult<Vec<RelayLane>> {
        let (relays, now) = (self.services.relays.clone(), self.services.clock.now());
        let hold =
            self.services.tasks.spawn(async move { relays.hold(worker, now, now + RELAY_LEASE).await });
        Ok(hold.await.map_err(ServiceError::internal)??)
    }

    /// Notes how far a lane has been relayed; `false` when another worker has it by now.
    pub async fn note_relayed(&self, lane: LaneId, fence: i64, pos: i64) -> ServiceResult<bool> {
        let relays = self.services.relays.clone();
        let note = self.services.tasks.spawn(async move { relays.note(lane, fence, pos).await });
        Ok(note.await.map_err(ServiceError::internal)??)
    }

    /// What waits for the relay in each lane, whoever has it.
    pub async fn relay_backlog(&self) -> ServiceResult<Vec<RelayBacklog>> {
        Ok(self.services.relays.backlog().await?)
    }

    /// Gives up what the worker has, so that others need not wait.
    pub async fn release_lanes(&self, worker: WorkerId) -> ServiceResult<()> {
        let relays = self.services.relays.clone();
        let release = self.services.tasks.spawn(async move { relays.release(worker).await });
        Ok(release.await.map_err(ServiceError::internal)??)
    }
}
