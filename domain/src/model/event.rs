//! What happened, as the hub delivers it.

use std::sync::Arc;

use super::{Content, Conversation, ConversationId, LaneId, Member, MemberRole, Message, SessionId, UserId};
use crate::trace::TraceContext;

/// One entry of a lane's log that names a change. The outbox stores facts; an [`Event`] is a fact with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    ConversationCreated { conversation: ConversationId, rev: i32, members: Vec<UserId> },
    MessageSent { conversation: ConversationId, rev: i32, seq: i32 },
    ReadMarked { conversation: ConversationId, rev: i32, user: UserId, read_seq: i32 },
    MemberJoined { conversation: ConversationId, rev: i32, user: UserId },
    MemberLeft { conversation: ConversationId, rev: i32, user: UserId },
    RoleChanged { conversation: ConversationId, rev: i32, user: UserId, role: MemberRole },
    TitleChanged { conversation: ConversationId, rev: i32 },
    SessionEnded { user: UserId, session: SessionId },
}

impl Fact {
    /// The conversation concerned; `None` for what belongs to a user.
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::ConversationCreated { conversation, .. }
            | Self::MessageSent { conversation, .. }
            | Self::ReadMarked { conversation, .. }
            | Self::MemberJoined { conversation, .. }
            | Self::MemberLeft { conversation, .. }
            | Self::RoleChanged { conversation, .. }
            | Self::TitleChanged { conversation, .. } => Some(*conversation),
            Self::SessionEnded { .. } => None,
        }
    }

    /// The conversation's `rev` of this change; 0 for what belongs to a user.
    pub const fn rev(&self) -> i32 {
        match self {
            Self::ConversationCreated { rev, .. }
            | Self::MessageSent { rev, .. }
            | Self::ReadMarked { rev, .. }
            | Self::MemberJoined { rev, .. }
            | Self::MemberLeft { rev, .. }
            | Self::RoleChanged { rev, .. }
            | Self::TitleChanged { rev, .. } => *rev,
            Self::SessionEnded { .. } => 0,
        }
    }

    /// Whose membership or read position it is about.
    pub const fn member(&self) -> Option<UserId> {
        match self {
            Self::ReadMarked { user, .. }
            | Self::MemberJoined { user, .. }
            | Self::MemberLeft { user, .. }
            | Self::RoleChanged { user, .. } => Some(*user),
            Self::ConversationCreated { .. }
            | Self::MessageSent { .. }
            | Self::TitleChanged { .. }
            | Self::SessionEnded { .. } => None,
        }
    }
}

/// A fact as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFact {
    pub fact: Fact,
    /// The request that changed it, if one alone did.
    pub trace: Option<TraceContext>,
}

/// A fact with what is needed to show it to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub fact: Fact,
    /// The conversation as of this change or later; `None` only for facts without one.
    pub conversation: Option<Arc<Conversation>>,
    /// The message of a `MessageSent`.
    pub message: Option<Arc<Message>>,
    /// The membership of a `MemberJoined` or `RoleChanged`.
    pub member: Option<Arc<Member>>,
    /// The request that changed it, if one alone did.
    pub trace: Option<TraceContext>,
}

/// All events of one position of a lane: one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBatch {
    pub lane: LaneId,
    pub pos: i64,
    pub events: Vec<Arc<Event>>,
}

/// What an event takes beside its text: its own fields and its share of what it points to.
const EVENT_BYTES: usize = 512;

impl LoggedBatch {
    /// How much memory it takes, about.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| EVENT_BYTES + event.text_bytes()).sum()
    }
}

impl Event {
    fn text_bytes(&self) -> usize {
        let of_fact = match &self.fact {
            Fact::ConversationCreated { members, .. } => size_of_val(members.as_slice()),
            _ => 0,
        };
        let of_message = match self.message.as_ref().map(|message| &message.content) {
            Some(Content::Text(text)) => text.len(),
            Some(Content::System(content)) => content.text.len(),
            None => 0,
        };
        of_fact + of_message
    }
}
