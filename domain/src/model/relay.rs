//! The relay of the outbox.

use sha2::{Digest as _, Sha256};

use super::{LaneId, Timestamp};

/// A worker process: random, made at its start, or the same in each of its lives. Never zero, which nobody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub i64);

impl WorkerId {
    pub fn of_number(number: u64) -> Self {
        Self((number >> 1).cast_signed().max(1))
    }

    pub fn named(name: &str) -> Self {
        let hash = Sha256::digest(name);
        Self::of_number(hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

/// A lane that a worker relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLane {
    pub lane: LaneId,
    /// Grows with every change of hands; what an older one says counts no more.
    pub fence: i64,
    /// The last position that arrived.
    pub pos: i64,
}

/// What waits for the relay in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayBacklog {
    pub lane: LaneId,
    pub positions: i64,
    /// When the oldest of them was committed.
    pub oldest: Option<Timestamp>,
}
