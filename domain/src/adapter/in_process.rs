//! The bus of a deployment that is one process.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{LoggedBatch, port::Bus};

/// Batches a hub may fall behind before it reads them from SQL instead.
const BACKLOG: usize = 1024;

pub struct InProcessBus(broadcast::Sender<Arc<LoggedBatch>>);

impl Default for InProcessBus {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Bus for InProcessBus {
    fn publish(&self, batch: Arc<LoggedBatch>) {
        // Without a hub nobody listens, which is fine.
        let _ = self.0.send(batch);
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        self.0.subscribe()
    }
}
