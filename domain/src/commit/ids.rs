//! Snowflakes from leased time ranges.
//!
//! An id is 41 bits of milliseconds since 2026-01-01, 10 bits of machine, 12 bits of count. A range of milliseconds is leased
//! to one process for ever, so a process that was paused longer than it thought, or whose clock stepped back, can only use
//! what is its own.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    ServiceResult, Timestamp,
    port::{Clock, Log, StoreError, log::IdRange},
};

/// 2026-01-01T00:00:00Z in milliseconds since 1970.
const EPOCH_MS: i64 = 1_767_225_600_000;
/// One lease: at 4,096 ids a millisecond it lasts for any load, and what a crash wastes of it costs nothing.
const LEASE_MS: i64 = 10_000;
const COUNT_BITS: u32 = 12;
const MACHINE_BITS: u32 = 10;

pub struct IdSource {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    range: Mutex<Option<Range>>,
}

/// What is left of a lease.
struct Range {
    lease: IdRange,
    next_ms: i64,
    next_count: i64,
}

impl Range {
    /// The next id, not before `now_ms` while that is within the lease; `None` when the lease is used up.
    fn take(&mut self, now_ms: i64) -> Option<i64> {
        let floor = now_ms.min(self.lease.until_ms - 1);
        if floor > self.next_ms {
            (self.next_ms, self.next_count) = (floor, 0);
        }
        if self.next_count >= 1 << COUNT_BITS {
            (self.next_ms, self.next_count) = (self.next_ms + 1, 0);
        }
        if self.next_ms >= self.lease.until_ms {
            return None;
        }
        let machine = i64::from(self.lease.machine);
        let id = (self.next_ms << (MACHINE_BITS + COUNT_BITS)) | (machine << COUNT_BITS) | self.next_count;
        self.next_count += 1;
        Some(id)
    }
}

impl IdSource {
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock, range: Mutex::new(None) }
    }

    pub async fn one(&self) -> ServiceResult<i64> {
        let mut ids = self.take(1).await?;
        ids.pop().ok_or_else(|| StoreError::Fault("no id was given".into()).into())
    }

    /// Ascending ids, unique in the whole installation.
    pub async fn take(&self, count: usize) -> Result<Vec<i64>, StoreError> {
        let mut range = self.range.lock().await;
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let now_ms = snowflake_ms(self.clock.now());
            // A lease whose time has passed would give ids that look old; it is left unused.
            let current = range.as_mut().filter(|range| now_ms < range.lease.until_ms);
            if let Some(id) = current.and_then(|range| range.take(now_ms)) {
                ids.push(id);
                continue;
            }
            let lease = self.log.lease_ids(now_ms, LEASE_MS).await?;
            *range = Some(Range { lease, next_ms: lease.from_ms, next_count: 0 });
            if now_ms >= lease.until_ms {
                return Err(StoreError::Fault("a fresh id lease lies in the past".into()));
            }
        }
        Ok(ids)
    }
}

fn snowflake_ms(now: Timestamp) -> i64 {
    (now.millis() - EPOCH_MS).max(1)
}
