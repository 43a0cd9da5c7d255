//! The shortcut from a commit to the hubs. A hint: what it loses, a hub finds by the lanes' heads.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::LoggedBatch;

pub trait Bus: Send + Sync {
    /// Tells every hub what was committed. Never waits, never fails the caller.
    fn publish(&self, batch: Arc<LoggedBatch>);

    /// From now on. A receiver that lags loses the oldest batches and is told so.
    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedBatch>>;
}
