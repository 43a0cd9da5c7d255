//! The bus and the presence of a deployment that is one process.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::{
    LoggedBatch, SessionId, UserId,
    port::{Bus, Presence},
};

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
