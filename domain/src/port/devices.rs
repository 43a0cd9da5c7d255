//! Devices that get pushes, and when they do not want them.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ConversationId, PushAddress, PushProvider, QuietHours, SessionId, Timestamp, UserId, model::Caller,
};

#[async_trait]
pub trait Devices: Send + Sync {
    /// Registers the caller's session for pushes: in place of what it had, and of whatever other session had the address. `false`
    /// when the session has ended.
    async fn register(
        &self,
        caller: &Caller,
        address: &PushAddress,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

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

    /// Removes mutes that have ended.
    async fn remove_expired_mutes(&self, now: Timestamp) -> Result<u64, StoreError>;
}
