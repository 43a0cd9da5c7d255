//! What happened lately, for subscriptions that are about to go live; bounded by count and bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use domain::{LoggedBatch, Positions};

use super::Shared;

pub(super) struct Recent {
    batches: VecDeque<Arc<LoggedBatch>>,
    bytes: usize,
    /// Everything of a lane after this is remembered.
    pub after: Positions,
}

impl Recent {
    pub const fn new(after: Positions) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, after }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<LoggedBatch>> {
        self.batches.iter()
    }

    /// Forgets the oldest for it, as far as the bounds ask.
    pub fn remember(&mut self, batch: &Arc<LoggedBatch>, shared: &Shared) {
        self.batches.push_back(batch.clone());
        self.bytes += batch.bytes();
        let limits = &shared.limits;
        while self.batches.len() > limits.recent_batches_max || self.bytes > limits.recent_batches_bytes_max {
            let Some(old) = self.batches.pop_front() else { break };
            self.bytes -= old.bytes();
            self.after.set(old.lane, old.pos);
        }
        shared.metrics.recent_bytes.store(self.bytes, Ordering::Relaxed);
    }
}
