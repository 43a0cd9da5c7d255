//! Who is due a push, what waits for a provider, and what could not be done.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ConversationId, DeadTask, LaneId, PushRange, PushTarget, PushTask, Pushed, QuietHours, Timestamp, UserId,
};

/// A device of a member, with what may keep it silent.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub conversation: ConversationId,
    /// Its badge is yet to be counted.
    pub target: PushTarget,
    /// How far its user has read.
    pub read_seq: i32,
    /// The newest message that it was pushed; zero for none.
    pub pushed_seq: i32,
    pub quiet_hours: Option<QuietHours>,
    pub is_muted: bool,
    /// The newest message that mentions its user; zero for none.
    pub mentioned_seq: i32,
}

impl Candidate {
    /// They come in this order.
    pub const fn place(&self) -> (ConversationId, UserId) {
        (self.conversation, self.target.user)
    }
}

#[async_trait]
pub trait Pushes: Send + Sync {
    /// The last user of each run of `size` active members after a user, at most `runs` of them.
    async fn member_runs(
        &self,
        conversation: ConversationId,
        after: UserId,
        size: u32,
        runs: u32,
    ) -> Result<Vec<UserId>, StoreError>;

    /// Devices of active members in any of the ranges. By conversation and user, at most `limit`. Who has read all that the ranges
    /// are about may be left out, and so may who has muted the conversation and is not mentioned in it since.
    async fn candidates(
        &self,
        ranges: &[PushRange],
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// All that is unread for each user.
    async fn unread(&self, users: &[UserId]) -> Result<HashMap<UserId, i32>, StoreError>;

    async fn note_pushed(&self, pushed: &[Pushed]) -> Result<(), StoreError>;

    /// Pushes of the lane that wait until then. They take the place of older ones to the same run of members.
    async fn park(&self, task: &PushTask, lane: LaneId, due_at: Timestamp) -> Result<(), StoreError>;

    /// Pushes of the lane that are due now, those that have waited longest first.
    async fn parked(&self, lane: LaneId, now: Timestamp, limit: u32) -> Result<Vec<PushTask>, StoreError>;

    /// They wait no more; unless they were parked anew meanwhile.
    async fn unpark(&self, task: &PushTask) -> Result<(), StoreError>;

    async fn bury(&self, task: &DeadTask) -> Result<(), StoreError>;

    /// Oldest first.
    async fn dead(&self, limit: u32) -> Result<Vec<DeadTask>, StoreError>;

    async fn forget_dead(&self, id: i64) -> Result<(), StoreError>;
}
