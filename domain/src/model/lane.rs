//! Lanes: the fixed number of logs in which everything durable is ordered.

use xxhash_rust::xxh3::xxh3_64;

use super::{ConversationId, UserId};

/// One of the lanes, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

impl LaneId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How many lanes this installation has: chosen once, at install (1 on `SQLite`, 8 elsewhere).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLayout {
    pub count: u16,
}

impl LaneLayout {
    /// The lane of all that happens in a conversation.
    pub fn of_conversation(self, id: ConversationId) -> LaneId {
        self.of_bytes(id.as_bytes())
    }

    /// The lane of what belongs to a user and to no conversation, such as the end of a session.
    pub fn of_user(self, id: UserId) -> LaneId {
        self.of_bytes(&id.0.to_be_bytes())
    }

    fn of_bytes(self, bytes: &[u8]) -> LaneId {
        // XXH3 (https://xxhash.com) is fixed for ever; a stored lane must not move between releases.
        let lane = xxh3_64(bytes) % u64::from(self.count);
        LaneId(u16::try_from(lane).unwrap_or(0))
    }

    pub fn lanes(self) -> impl Iterator<Item = LaneId> {
        (0..self.count).map(LaneId)
    }
}

/// A position in every lane: the last entry of each that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Positions(Vec<i64>);

impl Positions {
    pub fn zero(layout: LaneLayout) -> Self {
        Self(vec![0; usize::from(layout.count)])
    }

    pub fn from_vec(positions: Vec<i64>) -> Self {
        Self(positions)
    }

    pub fn get(&self, lane: LaneId) -> i64 {
        self.0.get(lane.index()).copied().unwrap_or(0)
    }

    pub fn set(&mut self, lane: LaneId, position: i64) {
        if let Some(slot) = self.0.get_mut(lane.index()) {
            *slot = position;
        }
    }

    pub fn as_slice(&self) -> &[i64] {
        &self.0
    }

    /// Whether every lane is at or past the other's position.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }

    pub fn iter(&self) -> impl Iterator<Item = (LaneId, i64)> {
        (0..).map(LaneId).zip(self.0.iter().copied())
    }
}
