//! Conversations and how one looks to a member.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{ConversationId, Member, Timestamp, UserId};

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
    pub senders: RecentSenders,
}

/// How far a sender has read by sending: never less than what their membership says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderPosition {
    pub user: UserId,
    pub seq: i32,
    /// The running index of countable messages at `seq`.
    pub countable: i32,
}

/// The read positions of the last senders, kept with the head, which a send writes anyway: their memberships are written
/// when they mark, change or give way to another sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentSenders(SmallVec<[SenderPosition; Self::MAX]>);

impl RecentSenders {
    /// As many as talk at the same time in most groups; each takes 16 bytes of the head.
    pub const MAX: usize = 8;

    /// Notes a sender's last message. Answers whom it displaced: the one silent for longest.
    pub fn note(&mut self, position: SenderPosition) -> Option<SenderPosition> {
        if let Some(known) = self.0.iter_mut().find(|known| known.user == position.user) {
            *known = position;
            return None;
        }
        if self.0.len() < Self::MAX {
            self.0.push(position);
            return None;
        }
        let silent = self.0.iter_mut().min_by_key(|known| known.seq)?;
        Some(std::mem::replace(silent, position))
    }

    pub fn of(&self, user: UserId) -> Option<SenderPosition> {
        self.0.iter().copied().find(|known| known.user == user)
    }

    pub fn iter(&self) -> impl Iterator<Item = SenderPosition> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<SenderPosition> for RecentSenders {
    fn from_iter<I: IntoIterator<Item = SenderPosition>>(positions: I) -> Self {
        Self(positions.into_iter().take(Self::MAX).collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_silent_for_longest_gives_way() {
        let at = |user, seq| SenderPosition { user: UserId(user), seq, countable: seq };
        let mut senders = RecentSenders::default();
        for user in 1..=8 {
            assert_eq!(senders.note(at(user, i32::try_from(user).expect("small"))), None);
        }
        assert_eq!(senders.note(at(1, 9)), None, "known already");
        assert_eq!(senders.note(at(9, 10)), Some(at(2, 2)));
        assert_eq!((senders.of(UserId(1)), senders.of(UserId(2))), (Some(at(1, 9)), None));
    }
}
