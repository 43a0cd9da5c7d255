//! What unit tests share.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

pub(crate) use crate::adapter::ambient::SystemRandom;
use crate::{Timestamp, keys::KeyRing, port::Clock};

/// A clock that moves when told.
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    /// At a number of seconds since 1970.
    pub const fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds * 1_000_000))
    }

    pub fn set(&self, seconds: i64) {
        self.0.store(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).expect("a short time");
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A ring of so many keys, and the folder that holds them.
pub(crate) fn ring(keys: usize) -> (tempfile::TempDir, KeyRing) {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::at(1_000_000);
    for _ in 0..keys {
        KeyRing::create(folder.path(), &clock, &SystemRandom).expect("a key");
        clock.advance(Duration::from_secs(1));
    }
    let ring = KeyRing::open(folder.path()).expect("opens");
    (folder, ring)
}
