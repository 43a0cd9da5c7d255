//! Who talks to whom, and who may know whether somebody is there.

use async_trait::async_trait;

use super::StoreError;
use crate::{ConversationId, SessionId, Timestamp, UserId};

#[async_trait]
pub trait Contacts: Send + Sync {
    /// Those of the users with whom the viewer shares a conversation of at most so many members now.
    async fn contacts(
        &self,
        viewer: UserId,
        among: &[UserId],
        members_max: i32,
    ) -> Result<Vec<UserId>, StoreError>;

    /// Active members of these conversations, each once, at most `limit`. The caller has looked at who asks.
    async fn members_of(
        &self,
        conversations: &[ConversationId],
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError>;

    /// Those of the users who show nobody whether they are there.
    async fn hidden(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    async fn set_hidden(&self, user: UserId, hidden: bool) -> Result<(), StoreError>;

    /// When a session of each of these users was last used, ended ones included.
    async fn last_used(&self, users: &[UserId]) -> Result<Vec<(UserId, Timestamp)>, StoreError>;

    /// These sessions were in use until then; a later time stays.
    async fn note_used(&self, sessions: &[SessionId], until: Timestamp) -> Result<(), StoreError>;
}
