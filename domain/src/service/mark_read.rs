//! A read position moves forward, on all devices of the reader.

use super::group::no_such_conversation;
use crate::{Caller, ConversationId, ConversationView, Domain, MemberId, ServiceError, ServiceResult};

#[derive(Clone, Debug)]
pub struct MarkRead {
    pub conversation: ConversationId,
    pub seq: i32,
}

impl Domain {
    /// Never backwards, never past `last_seq`. Marks of one reader in one conversation are committed at most once a second;
    /// those between wait for the next and are answered with it.
    pub async fn mark_read(&self, caller: &Caller, command: MarkRead) -> ServiceResult<ConversationView> {
        // What moves nothing and what is refused need not wait for their turn.
        let view = self.conversations(caller, &[command.conversation]).await?.remove(&command.conversation);
        let view = view.ok_or_else(no_such_conversation)?;
        if (0..=view.viewer.read_seq).contains(&command.seq) {
            return Ok(view);
        }
        if !(0..=view.conversation.last_seq).contains(&command.seq) {
            return Err(ServiceError::invalid(
                &["seq"],
                "`seq` is between 0 and the conversation's `lastSeq`",
            ));
        }
        let member = MemberId { conversation: command.conversation, user: caller.user };
        self.services.committers.mark_read(member, command.seq).await?;
        let view = self.conversations(caller, &[command.conversation]).await?.remove(&command.conversation);
        view.ok_or_else(no_such_conversation)
    }
}
