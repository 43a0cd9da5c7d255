//! A read position moves forward, on all devices of the reader.

use tokio::time::Instant;

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
        let MarkRead { conversation, seq } = command;
        let member = MemberId { conversation, user: caller.user };
        let copies = &self.services.copies;
        if !copies.mark_may_move(member, seq).await
            && let Some(view) = self.view_unmoved(caller, conversation, seq).await?
        {
            return Ok(view);
        }
        let view = self.services.committers.mark_read(member, seq).await?;
        copies.mark_moved(&view).await;
        Ok(view)
    }

    /// What moves nothing and what is refused need not wait for their turn.
    async fn view_unmoved(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        seq: i32,
    ) -> ServiceResult<Option<ConversationView>> {
        let begun = Instant::now();
        let view = self.conversations(caller, &[conversation]).await?.remove(&conversation);
        let view = view.ok_or_else(no_such_conversation)?;
        self.services.copies.learn_view(&view, begun).await;
        if (0..=view.viewer.read_seq).contains(&seq) {
            return Ok(Some(view));
        }
        if !(0..=view.conversation.last_seq).contains(&seq) {
            return Err(ServiceError::invalid(
                &["seq"],
                "`seq` is between 0 and the conversation's `lastSeq`",
            ));
        }
        Ok(None)
    }
}
