//! History: messages of the caller's conversations.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Caller, ConversationId, Domain, Message, MessageId, Page, PageRequest, ServiceResult,
    port::conversations::HistoryPage,
};

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
        let pages = [HistoryPage { conversation, request: request.clone() }];
        Ok(self.histories(caller, &pages).await?.pop().unwrap_or_else(Page::empty))
    }

    /// As `history`, for several pages at once, in their order.
    pub async fn histories(
        &self,
        caller: &Caller,
        pages: &[HistoryPage],
    ) -> ServiceResult<Vec<Page<Arc<Message>>>> {
        let rows = self.services.conversations.history_pages(caller.user, pages).await?;
        let page = |(rows, page): (_, &HistoryPage)| Page::from_rows(rows, &page.request).map(Arc::new);
        Ok(rows.into_iter().zip(pages).map(page).collect())
    }
}
