//! Token buckets by key, in bounded memory.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{Rate, Timestamp};

/// Keys counted at a time, about 150 bytes each. The least recently used go first, so that a flood of new keys is counted
/// too, at the price of the old ones. Not a setting: it bounds memory, and no honest node comes near it.
const KEYS_MAX: u64 = 100_000;
/// A key that nobody used for this long, and whose bucket is full again, is forgotten.
const IDLE_MAX: Duration = Duration::from_hours(1);

pub(crate) trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Key for T {}

/// The buckets of one limit. Each is one number, as in the generic cell rate algorithm (ITU-T I.371): when it would be full.
pub(crate) struct Rates<K> {
    /// Microseconds.
    refill: i64,
    /// Microseconds that an empty bucket takes to fill.
    whole: i64,
    full_at: Cache<K, Arc<AtomicI64>>,
}

impl<K: Key> Rates<K> {
    pub fn new(rate: Rate) -> Self {
        let refill = micros(rate.refill);
        let full_at = Cache::builder()
            .max_capacity(KEYS_MAX)
            .time_to_idle(IDLE_MAX.max(rate.refill.saturating_mul(rate.burst)))
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { refill, whole: refill * i64::from(rate.burst), full_at }
    }

    /// Takes a token, or says how long until there is one.
    pub fn take(&self, key: K, now: Timestamp) -> Result<(), Duration> {
        let bucket = self.full_at.get_with(key, || Arc::new(AtomicI64::new(now.0)));
        let (now, latest) = (now.0, now.0.saturating_add(self.whole));
        // Further ahead than an empty bucket only because the clock stepped back: counted anew.
        let after = |full_at: i64| if full_at > latest { now } else { full_at.max(now) } + self.refill;
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(after(full_at)).filter(|after| *after <= latest)
        });
        taken
            .map(drop)
            .map_err(|full_at| Duration::from_micros(u64::try_from(after(full_at) - latest).unwrap_or(0)))
    }

    pub fn give_back(&self, key: &K) {
        if let Some(bucket) = self.full_at.get(key) {
            bucket.fetch_sub(self.refill, Ordering::Relaxed);
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
