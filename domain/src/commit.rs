//! The write path: everything durable happens in a transaction of a lane.
//!
//! `change` runs one change in a transaction of its own. Sends and read positions wait in a `queue` until a `committer` takes
//! what is there into one transaction; `batch` decides what that does, from what the `view` of the lanes knows already.
//! `marks` holds back read positions that come too often. `ids` gives out Snowflakes.
//! Every transaction ends with one outbox row that names its facts, and one publish on the bus.

mod batch;
mod change;
mod committer;
mod ids;
mod marks;
mod queue;
mod view;

pub use batch::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};
pub use change::{Change, ChangeError, Changed};
pub use ids::IdSource;
pub use queue::{Committers, CommittersSetup};

use std::sync::Arc;

use crate::{
    Event, LaneId, LoggedBatch, LoggedFact,
    port::{Bus, Random, StoreError},
};

/// Transactions that meet a deadlock or a taken key are tried this often as a whole (trap 7).
const ATTEMPTS_MAX: u32 = 5;

fn facts_of(events: &[Event]) -> Vec<LoggedFact> {
    events.iter().map(|event| LoggedFact { fact: event.fact.clone(), trace: event.trace }).collect()
}

fn publish(bus: &dyn Bus, lane: LaneId, pos: i64, events: Vec<Event>) {
    bus.publish(Arc::new(LoggedBatch { lane, pos, events: events.into_iter().map(Arc::new).collect() }));
}

/// Runs a transaction outside the lanes, again as a whole while it meets others.
pub(crate) async fn retried<T, F>(random: &dyn Random, mut run: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for attempt in 0..ATTEMPTS_MAX {
        match run().await {
            Err(StoreError::Conflict(_)) => back_off(attempt, random).await,
            result => return result,
        }
    }
    run().await
}

/// Waits a little, longer each time and never the same, so that rivals do not meet again at once.
async fn back_off(attempt: u32, random: &dyn Random) {
    let mut byte = [0; 1];
    random.fill(&mut byte);
    let millis = u64::from(byte[0]) * u64::from(attempt + 1) / 32;
    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
}
