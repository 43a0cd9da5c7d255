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
    /// The oldest position of each lane from which a subscription can be resumed: those below have lost entries.
    pub resumable_from: Positions,
    /// Every active membership of the viewer with its role, whatever the filter.
    pub memberships: Vec<(ConversationId, MemberRole)>,
    pub conversations: Vec<MissedInConversation>,
    /// More happened than is replayed; `conversations` has only a part of it.
    pub too_much: bool,
}

/// How much may be missed, and what of it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedBounds {
    /// Events of all conversations together; more is `too_much`.
    pub events_max: u32,
    /// Conversations up to this many members show each member's reads to the others.
    pub receipts_members_max: i32,
}

impl MissedBounds {
    /// Whether the reads of a conversation's members show to each other.
    pub const fn shows_reads(self, conversation: &Conversation) -> bool {
        conversation.member_count <= self.receipts_members_max
    }
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

impl MissedInConversation {
    /// The lane position from which on the viewer is told what changed: who joined after `since` hears nothing from before.
    pub fn told_after(&self, since: i64) -> i64 {
        told_after(since, self.viewer.joined_pos)
    }

    /// Whether the members' reads show to each other.
    pub fn shows_reads(&self, bounds: MissedBounds) -> bool {
        bounds.shows_reads(&self.conversation)
    }

    /// How many events tell what changed after `since`.
    pub fn events(&self, since: i64, bounds: MissedBounds) -> usize {
        if !self.viewer.is_active() {
            // Nothing but their removal is told to those who were removed.
            return 1;
        }
        let since = self.told_after(since);
        let head = &self.conversation;
        let renamed = head.title_pos > since && head.title_rev > 1;
        let shows_reads = self.shows_reads(bounds);
        let of_others = self.members.iter().map(|member| member_events(member, since, shows_reads));
        self.messages.len()
            + usize::from(renamed)
            + member_events(&self.viewer, since, true)
            + of_others.sum::<usize>()
    }
}

/// After which position of a lane somebody who joined at `joined_pos` is told what happened since `since`.
pub(crate) const fn told_after(since: i64, joined_pos: i64) -> i64 {
    if joined_pos > since { joined_pos - 1 } else { since }
}

fn member_events(member: &Member, since: i64, shows_read: bool) -> usize {
    if !member.is_active() {
        return usize::from(member.removed_pos > since);
    }
    // Who joins gets a role and a read position by that.
    let apart = |pos, rev| pos > since && rev != member.joined_rev;
    usize::from(member.joined_pos > since)
        + usize::from(apart(member.role_pos, member.role_rev))
        + usize::from(shows_read && apart(member.read_pos, member.read_rev))
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
    /// and memberships. `only` limits the conversations; no more is read than `bounds` allows and one.
    async fn missed(
        &self,
        viewer: UserId,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
        bounds: MissedBounds,
    ) -> Result<Missed, StoreError>;
}
