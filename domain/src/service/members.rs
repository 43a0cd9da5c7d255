//! Members of the caller's conversations.

use std::collections::HashMap;

use crate::{Caller, ConversationId, Domain, Member, MemberId, Page, PageRequest, ServiceResult, UserId};

impl Domain {
    /// Active members by id, where the caller is a member too.
    pub async fn members(
        &self,
        caller: &Caller,
        ids: &[MemberId],
    ) -> ServiceResult<HashMap<MemberId, Member>> {
        let members = self.services.conversations.members(caller.user, ids).await?;
        Ok(members.into_iter().map(|member| (member.id(), member)).collect())
    }

    /// The same page of the members of several conversations, ordered by user; those the caller is no member of are absent.
    pub async fn list_members(
        &self,
        caller: &Caller,
        conversations: &[ConversationId],
        request: &PageRequest<UserId>,
    ) -> ServiceResult<HashMap<ConversationId, Page<Member>>> {
        let rows = self.services.conversations.member_pages(caller.user, conversations, request).await?;
        let mut by_conversation: HashMap<ConversationId, Vec<Member>> = HashMap::new();
        for member in rows {
            by_conversation.entry(member.conversation).or_default().push(member);
        }
        Ok(by_conversation.into_iter().map(|(id, rows)| (id, Page::from_rows(rows, request))).collect())
    }
}
