//! A bucket of tokens as one number, as in the generic cell rate algorithm (ITU-T I.371): when it will be full.

use std::time::Duration;

use super::Timestamp;

const SECOND: i64 = 1_000_000;

/// What a bucket holds when it is full, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    pub burst: u32,
    /// Tokens a second.
    pub per_second: u32,
}

/// When it will be full. A new one is full since ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket(pub Timestamp);

/// What was taken of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub tokens: u32,
    /// In the bucket afterwards.
    pub left: u32,
}

impl Refill {
    /// Microseconds that one token takes.
    pub fn token_micros(self) -> i64 {
        SECOND / i64::from(self.per_second.clamp(1, 1_000_000))
    }

    /// Microseconds that an empty bucket takes to fill.
    pub fn whole_micros(self) -> i64 {
        self.token_micros() * i64::from(self.burst)
    }

    /// How long this many tokens take.
    pub fn time_of(self, tokens: u32) -> Duration {
        Duration::from_micros((self.token_micros() * i64::from(tokens)).unsigned_abs())
    }
}

impl Bucket {
    pub const FULL: Self = Self(Timestamp(0));

    /// Takes up to `wanted` tokens, at least `needed`; else says how long until there are so many. More than the bucket can ever hold
    /// counts as all that it can.
    pub fn take(
        &mut self,
        refill: Refill,
        now: Timestamp,
        needed: u32,
        wanted: u32,
    ) -> Result<Taken, Duration> {
        let (token, latest) = (refill.token_micros(), now.0.saturating_add(refill.whole_micros()));
        // Further ahead than an empty bucket only because the clock stepped back: counted anew.
        let full_at = if self.0.0 > latest { now.0 } else { self.0.0.max(now.0) };
        let room = u32::try_from((latest - full_at) / token).unwrap_or(u32::MAX);
        let needed = needed.min(refill.burst);
        if room < needed {
            let wait = full_at + token * i64::from(needed) - latest;
            return Err(Duration::from_micros(wait.unsigned_abs()));
        }
        let tokens = room.min(wanted.max(needed));
        self.0 = Timestamp(full_at + token * i64::from(tokens));
        Ok(Taken { tokens, left: room - tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFILL: Refill = Refill { burst: 10, per_second: 2 };

    #[test]
    fn what_is_taken_comes_back_with_time() {
        let (mut bucket, now) = (Bucket::FULL, Timestamp(5 * SECOND));
        assert_eq!(bucket.take(REFILL, now, 7, 7), Ok(Taken { tokens: 7, left: 3 }));
        assert_eq!(bucket.take(REFILL, now, 4, 4), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(REFILL, now, 1, 5), Ok(Taken { tokens: 3, left: 0 }));
        let later = Timestamp(now.0 + 2 * SECOND);
        assert_eq!(bucket.take(REFILL, later, 4, 4), Ok(Taken { tokens: 4, left: 0 }));
        let much_later = Timestamp(now.0 + 100 * SECOND);
        assert_eq!(bucket.take(REFILL, much_later, 11, 11), Ok(Taken { tokens: 10, left: 0 }), "all of it");
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let mut bucket = Bucket::FULL;
        bucket.take(REFILL, Timestamp(1000 * SECOND), 10, 10).expect("full");
        assert!(bucket.take(REFILL, Timestamp(5 * SECOND), 1, 1).is_ok());
    }
}
