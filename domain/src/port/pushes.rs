//! Who is due a push, what waits for a provider, and what could not be done.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ConversationId, DeadTask, LaneId, PushRange, PushTarget, PushTask, Pushed, QuietHours, Timestamp, UserId,
};

/// A device in the range of a push, with what may keep it silent.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub target: PushTarget,
    pub quiet_hours: Option<QuietHours>,
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

    /// Devices of active members in the range who have not read the message, have not muted the conversation, and whose device
    /// was not pushed it; without the sender's. By user, at most `limit`. Badges are yet to be counted.
    async fn candidates(
        &self,
        range: &PushRange,
        sender: UserId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// All that is unread for each user.
    async fn unread(&self, users: &[UserId]) -> Result<HashMap<UserId, i32>, StoreError>;

    async fn note_pushed(
        &self,
        conversation: ConversationId,
        seq: i32,
        pushed: &Pushed,
    ) -> Result<(), StoreError>;

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
