//! Who relays which lane of the outbox: leases, and a fence against those that slept through theirs.

use async_trait::async_trait;

use super::StoreError;
use crate::{LaneId, RelayBacklog, RelayLane, Timestamp, WorkerId};

#[async_trait]
pub trait Relays: Send + Sync {
    /// Prolongs the leases of a worker that have not run out, takes at most one lane that nobody has, and answers what it has now.
    async fn hold(
        &self,
        worker: WorkerId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<RelayLane>, StoreError>;

    /// Notes how far a lane has been relayed. `false`, and nothing noted, when another worker has it.
    async fn note(&self, lane: LaneId, fence: i64, pos: i64) -> Result<bool, StoreError>;

    /// What waits in each lane.
    async fn backlog(&self) -> Result<Vec<RelayBacklog>, StoreError>;

    /// Gives up all lanes of a worker.
    async fn release(&self, worker: WorkerId) -> Result<(), StoreError>;
}
