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

    /// What of it is after these positions, in the order it came; `until` is where the lanes stand. For who has seen all that is forgotten.
    pub fn since(&self, seen: &Positions, until: &Positions) -> impl Iterator<Item = &Arc<LoggedBatch>> {
        // Positions have no gaps, so that their distance tells how many there are, and who saw nearly everything is not taken through all.
        let mut left: i64 = until.iter().map(|(lane, until)| (until - seen.get(lane)).max(0)).sum();
        let is_after = |batch: &Arc<LoggedBatch>| batch.pos > seen.get(batch.lane);
        let newest = self.batches.iter().rev().take_while(|batch| {
            let wanted = left > 0;
            left -= i64::from(is_after(batch));
            wanted
        });
        let begin = self.batches.len() - newest.count();
        self.batches.range(begin..).filter(move |batch| batch.pos > seen.get(batch.lane))
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

#[cfg(test)]
mod tests {
    use domain::LaneId;

    use super::*;

    #[test]
    fn what_is_after_any_positions_is_found_in_the_order_it_came() {
        let lanes = [0, 1, 1, 0, 1, 0, 0, 0, 1];
        let mut heads = Positions::from_vec(vec![10, 20]);
        let mut recent = Recent::new(heads.clone());
        for lane in lanes.map(LaneId) {
            let pos = heads.get(lane) + 1;
            heads.set(lane, pos);
            recent.batches.push_back(Arc::new(LoggedBatch { lane, pos, events: Vec::new() }));
        }
        for first in 10..=16 {
            for second in 20..=25 {
                let seen = Positions::from_vec(vec![first, second]);
                let place = |batch: &Arc<LoggedBatch>| (batch.lane, batch.pos);
                let all = recent.batches.iter().filter(|batch| batch.pos > seen.get(batch.lane)).map(place);
                let found = recent.since(&seen, &heads).map(place);
                assert_eq!(found.collect::<Vec<_>>(), all.collect::<Vec<_>>(), "{first} {second}");
            }
        }
    }
}
