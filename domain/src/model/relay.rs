//! The relay of the outbox.

use super::{LaneId, Timestamp};

/// A worker process: random, made at its start, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub i64);

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
