//! The bus and the presence of a deployment that is one process.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::backlog::{BACKLOG_BYTES_MAX, Backlog};
use crate::{
    LoggedBatch, SessionId, UserId, measure,
    port::{Bus, Presence},
};

/// Batches a hub may fall behind before it reads them from SQL instead.
const BACKLOG: usize = 1024;

pub struct InProcessBus {
    batches: broadcast::Sender<Arc<LoggedBatch>>,
    backlog: Backlog,
}

impl InProcessBus {
    /// `backlog_bytes_max` bounds what hubs have not heard yet; more is lost to them, and found in the log.
    pub fn new(backlog_bytes_max: usize) -> Self {
        Self { batches: broadcast::Sender::new(BACKLOG), backlog: Backlog::new(backlog_bytes_max) }
    }
}

impl Default for InProcessBus {
    fn default() -> Self {
        Self::new(BACKLOG_BYTES_MAX)
    }
}

impl Bus for InProcessBus {
    fn publish(&self, batch: Arc<LoggedBatch>) {
        let put = || {
            // Without a hub nobody listens, which is fine.
            let _ = self.batches.send(batch.clone());
            true
        };
        if !self.backlog.put(batch.bytes(), || self.batches.len(), put) {
            measure::count(measure::BUS_LOST, &[], 1);
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        self.batches.subscribe()
    }
}

/// As many as there are sessions with an open subscription, which the sockets' bound limits.
#[derive(Default)]
pub struct InProcessPresence(Mutex<HashSet<SessionId>>);

impl InProcessPresence {
    fn lock(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Presence for InProcessPresence {
    fn announce(&self, _: UserId, session: SessionId, live: bool) {
        if live {
            self.lock().insert(session);
        } else {
            self.lock().remove(&session);
        }
    }

    async fn live_sessions(&self, _: &[UserId]) -> HashSet<SessionId> {
        self.lock().clone()
    }
}
