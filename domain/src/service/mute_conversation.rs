//! No pushes about a conversation.

use std::collections::HashMap;

use super::group::no_such_conversation;
use crate::{Caller, ConversationId, Domain, ServiceError, ServiceResult, Timestamp};

impl Domain {
    /// For one of the caller's conversations; a time that has passed ends it.
    pub async fn mute_conversation(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        until: Timestamp,
    ) -> ServiceResult<()> {
        if self.conversations(caller, &[conversation]).await?.is_empty() {
            return Err(no_such_conversation());
        }
        let (devices, user) = (self.services.devices.clone(), caller.user);
        let mute = self.services.tasks.spawn(async move { devices.mute(user, conversation, until).await });
        Ok(mute.await.map_err(ServiceError::internal)??)
    }

    /// Until when; those that are not muted now are left out.
    pub async fn muted(
        &self,
        caller: &Caller,
        ids: &[ConversationId],
    ) -> ServiceResult<HashMap<ConversationId, Timestamp>> {
        let mut muted = self.services.devices.muted(caller.user, ids).await?;
        let now = self.services.clock.now();
        muted.retain(|_, until| *until > now);
        Ok(muted)
    }
}
