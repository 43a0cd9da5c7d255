//! The position of a subscription in the lanes.

use super::{ConversationId, LaneLayout, Positions};

/// A hash of the conversations that a subscription is limited to; all zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterHash(pub [u8; 8]);

/// What an event cursor says once its signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorPosition {
    /// The database's epoch; another one means that it was restored meanwhile.
    pub epoch: i64,
    pub filter: FilterHash,
    /// What the subscription has seen of each lane.
    pub seen: Positions,
    /// Within a replay: how far it has come (see [`ReplayMark`]); `None` on live events.
    pub replay: Option<ReplayMark>,
}

/// The place in a replay that was cut short: everything before it in the replay's order was delivered, for the rows that
/// had changed up to `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayMark {
    /// The heads of the lanes when the replay took its snapshot.
    pub until: Positions,
    pub conversation: ConversationId,
    /// The last `rev` delivered of `conversation`.
    pub rev: i32,
}

impl ReplayMark {
    /// Whether the replay that was cut short had delivered this change.
    pub fn has(&self, conversation: ConversationId, rev: i32, pos: i64, layout: LaneLayout) -> bool {
        if pos > self.until.get(layout.of_conversation(conversation)) {
            return false;
        }
        conversation < self.conversation || (conversation == self.conversation && rev <= self.rev)
    }
}
