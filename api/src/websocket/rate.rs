//! How many sockets may be opened in a second: the storm that is left over comes again a little later.

use tokio::time::Instant;

/// A bucket that holds what a second brings.
pub(super) struct Rate {
    per_second: f64,
    left: f64,
    filled_at: Instant,
}

impl Rate {
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), left: per_second.into(), filled_at: now }
    }

    /// Whether one more may be opened now.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.left = (self.left + since * self.per_second).min(self.per_second);
        let any = self.left >= 1.0;
        if any {
            self.left -= 1.0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_brings_as_many_as_may_be_and_no_more_are_saved() {
        let begin = Instant::now();
        let mut rate = Rate::new(4, begin);
        let taken = |rate: &mut Rate, millis| {
            let now = begin + Duration::from_millis(millis);
            (0..10).filter(|_| rate.take(now)).count()
        };
        assert_eq!([0, 100, 500, 60_000].map(|millis| taken(&mut rate, millis)), [4, 0, 2, 4]);
    }
}
