//! History: messages of the caller's conversations.

use std::{collections::HashMap, sync::Arc};

use crate::{Caller, ConversationId, Domain, Message, MessageId, Page, PageRequest, ServiceResult};

impl Domain {
    /// By id, where the caller is a member.
    pub async fn messages(
        &self,
        caller: &Caller,
        ids: &[MessageId],
    ) -> ServiceResult<HashMap<MessageId, Arc<Message>>> {
        let messages = self.services.conversations.messages(caller.user, ids).await?;
        Ok(messages.into_iter().map(|message| (message.id, Arc::new(message))).collect())
    }

    /// By place, where the caller is a member.
    pub async fn messages_at(
        &self,
        caller: &Caller,
        at: &[(ConversationId, i32)],
    ) -> ServiceResult<HashMap<(ConversationId, i32), Arc<Message>>> {
        let messages = self.services.conversations.messages_at(caller.user, at).await?;
        Ok(messages
            .into_iter()
            .map(|message| ((message.conversation, message.seq), Arc::new(message)))
            .collect())
    }

    /// A page of one conversation by `seq`, oldest first; empty where the caller is no member.
    pub async fn history(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        request: &PageRequest<i32>,
    ) -> ServiceResult<Page<Arc<Message>>> {
        let rows = self.services.conversations.history(caller.user, conversation, request).await?;
        Ok(Page::from_rows(rows, request).map(Arc::new))
    }
}
