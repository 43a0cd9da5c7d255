//! The write path: everything durable happens in a transaction of a lane.
//!
//! `change` runs one change in a transaction of its own. Sends and read positions wait in a `queue` until a `committer` takes
//! what is there into one transaction; `batch` decides what that does, from what the `view` of the lanes knows already.
//! `marks` holds back read positions that come too often, `recent_keys` knows a retry when it comes, `offences` who spoils batches.
//! `ids` gives out Snowflakes, `spans` is for traces. Every transaction ends with one outbox row that names its facts, and one publish
//! on the bus.

mod batch;
mod change;
mod committer;
mod ids;
mod marks;
mod offences;
mod queue;
mod recent_keys;
mod spans;
#[cfg(test)]
mod tests;
mod view;

pub use change::{Change, ChangeError, Changed};
pub use ids::IdSource;
pub use queue::{Committers, CommittersSetup};

use std::sync::Arc;

use crate::{
    Domain, Event, LaneId, LoggedBatch, LoggedFact,
    port::{Bus, Random, StoreError},
};

/// The most that `batch_messages_max` can be set to, so that no statement of a batch reaches a database's limit of bound values; the
/// adapter holds its widest row against it.
pub const BATCH_MESSAGES_CEILING: usize = 2048;

fn facts_of(events: &[Event]) -> Vec<LoggedFact> {
    events.iter().map(|event| LoggedFact { fact: event.fact.clone(), trace: event.trace }).collect()
}

fn publish(bus: &dyn Bus, lane: LaneId, pos: i64, events: Vec<Event>) {
    bus.publish(Arc::new(LoggedBatch { lane, pos, events: events.into_iter().map(Arc::new).collect() }));
}

impl Domain {
    /// Runs a transaction outside the lanes, again as a whole while it meets others (trap 7).
    pub(crate) async fn retried<T, F>(&self, mut run: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        for attempt in 0..self.services.limits.retries_max {
            match run().await {
                Err(StoreError::Conflict(_)) => back_off(attempt, &*self.services.random).await,
                result => return result,
            }
        }
        run().await
    }
}

/// Waits a little, longer each time and never the same, so that rivals do not meet again at once.
async fn back_off(attempt: u32, random: &dyn Random) {
    let mut byte = [0; 1];
    random.fill(&mut byte);
    let millis = u64::from(byte[0]) * u64::from(attempt + 1) / 32;
    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
}
