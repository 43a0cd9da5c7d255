//! Conversations and how one looks to a member.

use std::sync::Arc;

use super::{ConversationId, Member, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConversationKind {
    Direct,
    Group,
}

/// A conversation's head: what all members see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    pub id: ConversationId,
    pub kind: ConversationKind,
    /// `None` for direct conversations: clients name those after the other member.
    pub title: Option<Arc<str>>,
    pub created_at: Timestamp,
    pub last_seq: i32,
    pub rev: i32,
    /// How many of the messages count as unread for somebody: neither system messages nor recalled.
    pub countable: i32,
    pub member_count: i32,
    /// When the last message was sent, or the creation; the order of the conversation list.
    pub active_at: Timestamp,
    /// The lane position of the last change.
    pub pos: i64,
    /// The lane position and `rev` of the last change of the title.
    pub title_pos: i64,
    pub title_rev: i32,
}

/// A conversation as a member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationView {
    pub conversation: Arc<Conversation>,
    /// The viewer's own membership.
    pub viewer: Member,
}

impl ConversationView {
    /// Messages after the viewer's `read_seq` that are not system messages, not recalled, not the viewer's own.
    ///
    /// Exact without a counter per member and message: every message carries a running index of the countable ones, and
    /// sending moves the sender's own `read_seq`, so one's own messages are never after it.
    pub fn unread_count(&self) -> i32 {
        (self.conversation.countable - self.viewer.read_countable).max(0)
    }
}
