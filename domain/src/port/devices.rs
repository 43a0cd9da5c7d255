//! Devices that get pushes, and when they do not want them.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ConversationId, DeadTask, PushAddress, PushProvider, PushRange, PushTarget, Pushed, QuietHours,
    SessionId, Timestamp, UserId, model::Caller,
};

/// A device in the range of a push, with what may keep it silent.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub target: PushTarget,
    pub quiet_hours: Option<QuietHours>,
}

#[async_trait]
pub trait Devices: Send + Sync {
    /// Registers the caller's session for pushes: in place of what it had, and of whatever other session had the address.
    async fn register(
        &self,
        caller: &Caller,
        address: &PushAddress,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    async fn unregister(&self, user: UserId, session: SessionId) -> Result<(), StoreError>;

    async fn providers(&self, sessions: &[SessionId])
    -> Result<HashMap<SessionId, PushProvider>, StoreError>;

    /// Until when the user has muted these; the others are left out.
    async fn muted(
        &self,
        user: UserId,
        ids: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Timestamp>, StoreError>;

    async fn mute(
        &self,
        user: UserId,
        conversation: ConversationId,
        until: Timestamp,
    ) -> Result<(), StoreError>;

    async fn quiet_hours(&self, user: UserId) -> Result<Option<QuietHours>, StoreError>;

    async fn set_quiet_hours(&self, user: UserId, hours: Option<&QuietHours>) -> Result<(), StoreError>;

    /// The last user of each run of `size` active members after a user, at most `runs` of them.
    async fn member_runs(
        &self,
        conversation: ConversationId,
        after: UserId,
        size: u32,
        runs: u32,
    ) -> Result<Vec<UserId>, StoreError>;

    /// Devices of active members in the range who have not read the message, have not muted the conversation, and whose device
    /// was not pushed it; without the sender's. Badges are yet to be counted.
    async fn candidates(
        &self,
        range: &PushRange,
        sender: UserId,
        now: Timestamp,
    ) -> Result<Vec<Candidate>, StoreError>;

    /// All that is unread for each user.
    async fn unread(&self, users: &[UserId]) -> Result<HashMap<UserId, i32>, StoreError>;

    async fn note_pushed(
        &self,
        conversation: ConversationId,
        seq: i32,
        pushed: &Pushed,
    ) -> Result<(), StoreError>;

    async fn bury(&self, task: &DeadTask) -> Result<(), StoreError>;

    /// Oldest first.
    async fn dead(&self, limit: u32) -> Result<Vec<DeadTask>, StoreError>;

    async fn forget_dead(&self, id: i64) -> Result<(), StoreError>;

    /// Removes devices of ended sessions and what only they needed; at most so many.
    async fn remove_stale(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
