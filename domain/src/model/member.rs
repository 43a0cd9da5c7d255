//! Members of conversations.

use super::{ConversationId, MemberId, Timestamp, UserId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    Member,
    Admin,
    Owner,
}

/// A user's membership, kept as a tombstone after it ended. Each fact carries the `rev` and lane position of its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub conversation: ConversationId,
    pub user: UserId,
    pub role: MemberRole,
    pub read_seq: i32,
    /// The running index of countable messages at `read_seq`.
    pub read_countable: i32,
    pub joined_at: Timestamp,
    pub joined_rev: i32,
    pub joined_pos: i64,
    /// `None` while the membership lasts.
    pub removed_rev: Option<i32>,
    pub removed_pos: i64,
    pub role_rev: i32,
    pub role_pos: i64,
    pub read_rev: i32,
    pub read_pos: i64,
}

impl Member {
    pub const fn id(&self) -> MemberId {
        MemberId { conversation: self.conversation, user: self.user }
    }

    pub const fn is_active(&self) -> bool {
        self.removed_rev.is_none()
    }

    /// The lane position of the last change, whichever it was.
    pub fn pos(&self) -> i64 {
        self.joined_pos.max(self.removed_pos).max(self.role_pos).max(self.read_pos)
    }
}
