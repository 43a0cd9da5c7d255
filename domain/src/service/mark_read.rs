//! A read position moves forward, on all devices of the reader.

use super::group::no_such_conversation;
use crate::{Caller, Chat, ConversationId, ConversationView, MemberId, ServiceResult};

#[derive(Clone, Debug)]
pub struct MarkRead {
    pub conversation: ConversationId,
    pub seq: i32,
}

impl Chat {
    /// Never backwards, never past `last_seq`. Marks of one reader in one conversation are committed at most once a second;
    /// those between wait for the next and are answered with it.
    pub async fn mark_read(&self, caller: &Caller, command: MarkRead) -> ServiceResult<ConversationView> {
        let member = MemberId { conversation: command.conversation, user: caller.user };
        self.services.committers.mark_read(member, command.seq).await?;
        let view = self.conversations(caller, &[command.conversation]).await?.remove(&command.conversation);
        view.ok_or_else(no_such_conversation)
    }
}
