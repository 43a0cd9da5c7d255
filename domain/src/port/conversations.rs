//! The read side of storage. Finders take the viewer, so that nobody can forget the check; those for the hub say so.

use std::sync::Arc;

use async_trait::async_trait;

use super::{StoreError, log::Heads};
use crate::{
    Conversation, ConversationId, ConversationView, Member, MemberId, MemberRole, Message, MessageId,
    PageRequest, Positions, Timestamp, User, UserId,
};

/// The place of a conversation in the viewer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListCursor {
    pub active_at: Timestamp,
    pub conversation: ConversationId,
}

/// A page of the history of a conversation, by `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HistoryPage {
    pub conversation: ConversationId,
    pub request: PageRequest<i32>,
}

/// What a member's subscription missed, from one snapshot.
#[derive(Clone, Debug)]
pub struct Missed {
    pub heads: Heads,
    /// Every active membership of the viewer with its role, whatever the filter.
    pub memberships: Vec<(ConversationId, MemberRole)>,
    pub conversations: Vec<MissedInConversation>,
    /// More happened in one conversation than is replayed.
    pub too_much: bool,
}

/// What changed in one of the viewer's conversations.
#[derive(Clone, Debug)]
pub struct MissedInConversation {
    pub conversation: Arc<Conversation>,
    /// The viewer's own membership, ended or not.
    pub viewer: Member,
    /// Other memberships that changed, ended ones included.
    pub members: Vec<Member>,
    /// Messages that are new, oldest first.
    pub messages: Vec<Arc<Message>>,
}

#[async_trait]
pub trait Conversations: Send + Sync {
    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    async fn user_by_username_key(&self, key: &str) -> Result<Option<User>, StoreError>;

    /// Those of the conversations in which the viewer is a member now.
    async fn views(
        &self,
        viewer: UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<ConversationView>, StoreError>;

    /// A page of the viewer's conversations, latest activity first; rows in the request's direction, one more than its size.
    async fn list(
        &self,
        viewer: UserId,
        request: &PageRequest<ListCursor>,
    ) -> Result<Vec<ConversationView>, StoreError>;

    /// Active members of conversations in which the viewer is one, by user id, for several conversations at once.
    async fn member_pages(
        &self,
        viewer: UserId,
        conversations: &[ConversationId],
        request: &PageRequest<UserId>,
    ) -> Result<Vec<Member>, StoreError>;

    /// Active members by id, where the viewer is a member too.
    async fn members(&self, viewer: UserId, ids: &[MemberId]) -> Result<Vec<Member>, StoreError>;

    /// Messages by `seq` for each of the pages, where the viewer is a member; rows as in [`Conversations::list`].
    async fn history_pages(
        &self,
        viewer: UserId,
        pages: &[HistoryPage],
    ) -> Result<Vec<Vec<Message>>, StoreError>;

    /// Messages by id, where the viewer is a member.
    async fn messages(&self, viewer: UserId, ids: &[MessageId]) -> Result<Vec<Message>, StoreError>;

    /// Messages by place, where the viewer is a member.
    async fn messages_at(
        &self,
        viewer: UserId,
        at: &[(ConversationId, i32)],
    ) -> Result<Vec<Message>, StoreError>;

    /// For the hub, which knows who may see what: heads of conversations.
    async fn heads_of(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, StoreError>;

    /// For the hub: messages by place.
    async fn messages_for_hub(&self, at: &[(ConversationId, i32)]) -> Result<Vec<Message>, StoreError>;

    /// For the hub: memberships, ended ones included.
    async fn members_for_hub(&self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError>;

    /// What changed for the viewer after these positions, from one snapshot; with `since` absent, nothing but the heads
    /// and memberships. `only` limits the conversations; `limit` bounds the messages and members of each.
    async fn missed(
        &self,
        viewer: UserId,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
        limit: u32,
    ) -> Result<Missed, StoreError>;
}
