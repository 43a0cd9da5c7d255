//! The caller's conversations.

use std::collections::HashMap;

use crate::{
    Caller, ConversationId, ConversationView, Domain, Page, PageRequest, ServiceResult,
    port::conversations::ListCursor,
};

impl Domain {
    /// Those in which the caller is a member; others are left out, as if they did not exist.
    pub async fn conversations(
        &self,
        caller: &Caller,
        ids: &[ConversationId],
    ) -> ServiceResult<HashMap<ConversationId, ConversationView>> {
        let views = self.services.conversations.views(caller.user, ids).await?;
        Ok(views.into_iter().map(|view| (view.conversation.id, view)).collect())
    }

    /// Latest activity first.
    pub async fn list_conversations(
        &self,
        caller: &Caller,
        request: &PageRequest<ListCursor>,
    ) -> ServiceResult<Page<ConversationView>> {
        let rows = self.services.conversations.list(caller.user, request).await?;
        Ok(Page::from_rows(rows, request))
    }

    /// What is unread in all of the caller's conversations together: the badge of their devices.
    pub async fn total_unread_count(&self, caller: &Caller) -> ServiceResult<i32> {
        let unread = self.services.pushes.unread(&[caller.user]).await?;
        Ok(unread.get(&caller.user).copied().unwrap_or(0))
    }
}
