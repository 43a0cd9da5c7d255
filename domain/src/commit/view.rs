//! What a committer knows of its lanes: heads and memberships exactly as the database holds them.
//!
//! Everything durable takes its lane's next position. So while the lane stands at the position of this committer's own last
//! transaction, nothing in it has changed, and what is kept here needs no reading. When somebody else has committed there, the
//! log tells which conversations to read again.

use std::collections::HashMap;

use lru::LruCache;

use crate::{
    Conversation, ConversationId, LaneId, LaneLayout, Member, MemberId, UserId, port::log::LogEntry,
};

/// Heads and memberships kept a lane: about 8 MiB.
const KEPT_MAX: usize = 50_000;
/// Foreign transactions in a lane that are looked through; after more everything is read again.
pub(super) const CATCH_UP_MAX: u32 = 64;

/// The lanes of one committer.
pub(super) struct Views {
    layout: LaneLayout,
    /// The database's history that all of it belongs to.
    epoch: Option<i64>,
    lanes: HashMap<LaneId, LaneView>,
}

struct LaneView {
    /// The lane's last position; `None` before the first transaction and after one that failed.
    pos: Option<i64>,
    /// Whether others committed in the lane lately, so that its next position is no safe bet.
    contended: bool,
    conversations: LruCache<ConversationId, Known>,
    kept: usize,
}

struct Known {
    head: Conversation,
    members: HashMap<UserId, Member>,
}

impl Views {
    pub fn new(layout: LaneLayout) -> Self {
        Self { layout, epoch: None, lanes: HashMap::new() }
    }

    pub fn lane_of(&self, conversation: ConversationId) -> LaneId {
        self.layout.of_conversation(conversation)
    }

    /// The epoch and the last positions of these lanes, if all are known and nobody else commits there.
    pub fn last_positions(&self, lanes: &[LaneId]) -> Option<(i64, Vec<(LaneId, i64)>)> {
        let last = |lane: &LaneId| {
            let view = self.lanes.get(lane).filter(|view| !view.contended)?;
            Some((*lane, view.pos?))
        };
        Some((self.epoch?, lanes.iter().map(last).collect::<Option<_>>()?))
    }

    /// What was known of another epoch is void: its positions may come again with other content.
    pub fn set_epoch(&mut self, epoch: i64) {
        if self.epoch.replace(epoch) != Some(epoch) {
            self.lanes.clear();
        }
    }

    /// The position up to which the lane is known.
    pub fn known_until(&self, lane: LaneId) -> Option<i64> {
        self.lanes.get(&lane)?.pos
    }

    /// Under the lane's lock: it stands at `pos`, and `missed` is what the log says of the time since
    /// [`Views::known_until`].
    pub fn catch_up(&mut self, lane: LaneId, pos: i64, missed: &[LogEntry]) {
        let view = self.lane(lane);
        let mut next = view.pos.map(|pos| pos + 1);
        for entry in missed {
            next = next.filter(|next| *next == entry.pos).map(|next| next + 1);
        }
        view.contended = view.pos.is_some_and(|known| known != pos);
        if next == Some(pos + 1) {
            let changed =
                missed.iter().flat_map(|entry| &entry.facts).filter_map(|entry| entry.fact.conversation());
            for conversation in changed {
                view.forget(conversation);
            }
        } else {
            view.conversations.clear();
            view.kept = 0;
        }
        view.pos = Some(pos);
    }

    /// After others seem to have committed there, or perhaps a transaction of this committer: the next one looks how far the lanes are.
    pub fn doubt(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.lane(*lane).contended = true;
        }
    }

    /// After a transaction that failed.
    pub fn forget(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            self.lanes.remove(lane);
        }
    }

    pub fn head(&mut self, id: ConversationId) -> Option<&Conversation> {
        let lane = self.layout.of_conversation(id);
        self.lane(lane).conversations.get(&id).map(|known| &known.head)
    }

    pub fn member(&mut self, id: MemberId) -> Option<&Member> {
        let lane = self.layout.of_conversation(id.conversation);
        self.lane(lane).conversations.get(&id.conversation)?.members.get(&id.user)
    }

    pub fn learn_head(&mut self, head: Conversation) {
        let lane = self.layout.of_conversation(head.id);
        let view = self.lane(lane);
        if let Some(known) = view.conversations.get_mut(&head.id) {
            known.head = head;
            return;
        }
        view.conversations.put(head.id, Known { head, members: HashMap::new() });
        view.kept += 1;
        view.trim();
    }

    /// Keeps a membership, if its conversation is kept.
    pub fn learn_member(&mut self, member: Member) {
        let lane = self.layout.of_conversation(member.conversation);
        let view = self.lane(lane);
        let Some(known) = view.conversations.get_mut(&member.conversation) else { return };
        if known.members.insert(member.user, member).is_none() {
            view.kept += 1;
            view.trim();
        }
    }

    /// What a transaction of this committer has left behind.
    pub fn committed(
        &mut self,
        positions: &[(LaneId, i64)],
        heads: impl IntoIterator<Item = Conversation>,
        members: impl IntoIterator<Item = Member>,
    ) {
        for (lane, pos) in positions {
            self.lane(*lane).pos = Some(*pos);
        }
        heads.into_iter().for_each(|head| self.learn_head(head));
        members.into_iter().for_each(|member| self.learn_member(member));
    }

    fn lane(&mut self, lane: LaneId) -> &mut LaneView {
        self.lanes.entry(lane).or_insert_with(|| LaneView {
            pos: None,
            contended: false,
            conversations: LruCache::unbounded(),
            kept: 0,
        })
    }
}

impl LaneView {
    fn forget(&mut self, conversation: ConversationId) {
        if let Some(known) = self.conversations.pop(&conversation) {
            self.kept -= 1 + known.members.len();
        }
    }

    fn trim(&mut self) {
        while self.kept > KEPT_MAX
            && let Some((_, known)) = self.conversations.pop_lru()
        {
            self.kept -= 1 + known.members.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConversationKind, Fact, RecentSenders, Timestamp};

    const LANE: LaneId = LaneId(0);

    fn head(number: u8) -> Conversation {
        let mut id = [0; 16];
        id[15] = number;
        Conversation {
            id: ConversationId::from_bytes(id).expect("a group's id"),
            kind: ConversationKind::Group,
            title: None,
            created_at: Timestamp(0),
            last_seq: 0,
            rev: 0,
            countable: 0,
            member_count: 1,
            active_at: Timestamp(0),
            pos: 0,
            title_pos: 0,
            title_rev: 0,
            senders: RecentSenders::default(),
        }
    }

    fn views() -> Views {
        let mut views = Views::new(LaneLayout { count: 1 });
        views.set_epoch(1);
        views.catch_up(LANE, 4, &[]);
        views.learn_head(head(1));
        views.learn_head(head(2));
        views
    }

    fn entry(pos: i64, conversation: ConversationId) -> LogEntry {
        let fact = Fact::TitleChanged { conversation, rev: 1 };
        LogEntry { lane: LANE, pos, facts: vec![crate::LoggedFact { fact, trace: None }] }
    }

    #[test]
    fn a_change_by_others_makes_only_its_conversation_unknown() {
        let mut views = views();
        views.catch_up(LANE, 6, &[entry(5, head(2).id), entry(6, head(3).id)]);
        assert!(views.head(head(1).id).is_some());
        assert_eq!(views.head(head(2).id), None);
        assert_eq!(views.known_until(LANE), Some(6));
        assert_eq!(views.last_positions(&[LANE]), None, "others commit there");
        views.catch_up(LANE, 6, &[]);
        assert_eq!(views.last_positions(&[LANE]), Some((1, vec![(LANE, 6)])));
    }

    #[test]
    fn another_epoch_makes_everything_unknown() {
        let mut views = views();
        views.set_epoch(1);
        assert!(views.head(head(1).id).is_some());
        views.set_epoch(2);
        assert_eq!((views.known_until(LANE), views.head(head(1).id)), (None, None));
    }

    #[test]
    fn a_hole_in_what_was_missed_makes_everything_unknown() {
        let mut hole = views();
        hole.catch_up(LANE, 7, &[entry(5, head(2).id), entry(7, head(2).id)]);
        assert_eq!(hole.head(head(1).id), None);
        let mut short = views();
        short.catch_up(LANE, 7, &[entry(5, head(2).id)]);
        assert_eq!(short.head(head(1).id), None);
        let mut back = views();
        back.catch_up(LANE, 3, &[]);
        assert_eq!(back.head(head(1).id), None);
    }

    #[test]
    fn after_a_failure_nothing_is_known() {
        let mut views = views();
        views.forget(&[LANE]);
        assert_eq!((views.known_until(LANE), views.head(head(1).id)), (None, None));
    }
}
