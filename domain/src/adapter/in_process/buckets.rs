//! Budgets that a process counts for itself.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use lru::LruCache;

use crate::{
    Bucket, Taken, Timestamp,
    port::{
        Buckets,
        buckets::{Ask, NotTaken, Owner},
    },
};

/// Owners counted at a time, about 100 bytes each. The least recently used go first, so that a flood of new ones is counted too, at the
/// price of the old ones.
const OWNERS_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

pub struct InProcessBuckets(Mutex<LruCache<Owner, Bucket>>);

impl Default for InProcessBuckets {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OWNERS_MAX)))
    }
}

#[async_trait]
impl Buckets for InProcessBuckets {
    async fn take(&self, ask: Ask, now: Timestamp) -> Result<Taken, NotTaken> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(ask.owner, || Bucket::FULL);
        bucket.take(ask.refill, now, ask.needed, ask.wanted).map_err(NotTaken::Wait)
    }
}
