//! The bus and the presence of a deployment that is one process; and what a process keeps for itself: copies, documents, budgets.

mod buckets;
mod documents;
mod presence;
mod whispers;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lru::LruCache;
use tokio::{sync::broadcast, time::Instant};

pub use self::{
    buckets::InProcessBuckets, documents::InProcessDocuments, presence::InProcessPresence,
    whispers::InProcessWhispers,
};
use super::backlog::{BACKLOG_BYTES_MAX, Backlog};
use crate::{
    LoggedBatch, measure,
    port::{
        Bus, Cache,
        cache::{CacheAway, CacheKey, Cached, Kept, VOID_LIFE},
    },
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

/// Copies that a process keeps for itself: about 10 MiB.
const COPIES_MAX: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

pub struct InProcessCache(Mutex<LruCache<CacheKey, Slot>>);

struct Slot {
    rev: i32,
    /// `None` is a tombstone.
    value: Option<Cached>,
    until: Instant,
}

impl Default for InProcessCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(COPIES_MAX)))
    }
}

impl InProcessCache {
    fn lock(&self) -> MutexGuard<'_, LruCache<CacheKey, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, key: CacheKey, rev: i32, value: Option<Cached>, life: Duration) {
        let now = Instant::now();
        let mut copies = self.lock();
        if copies.get(&key).is_none_or(|known| known.until <= now || known.rev <= rev) {
            copies.put(key, Slot { rev, value, until: now + life });
        }
    }
}

#[async_trait]
impl Cache for InProcessCache {
    async fn get(&self, keys: &[CacheKey]) -> Result<Vec<Option<Cached>>, CacheAway> {
        let now = Instant::now();
        let mut copies = self.lock();
        let mut get = |key| copies.get(key).filter(|slot| slot.until > now)?.value.clone();
        Ok(keys.iter().map(&mut get).collect())
    }

    async fn put(&self, copies: Vec<Kept>) {
        for Kept { key, rev, value, life } in copies {
            self.replace(key, rev, Some(value), life);
        }
    }

    async fn void(&self, keys: &[(CacheKey, i32)]) {
        for (key, rev) in keys {
            self.replace(*key, *rev, None, VOID_LIFE);
        }
    }
}
