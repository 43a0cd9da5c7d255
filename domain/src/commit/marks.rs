//! Read marks: one reader's in one conversation are committed at most once a second; those between wait and fold.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::queue::{Waiting, Work};
use crate::MemberId;

/// A reader's marks in a conversation are committed at most this often; those between are folded into the next.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// Read marks that came too soon after the reader's last one, folded until they are due.
#[derive(Default)]
pub(super) struct Marks {
    committed: HashMap<MemberId, Instant>,
    deferred: HashMap<MemberId, Waiting>,
    due: VecDeque<(Instant, MemberId)>,
}

impl Marks {
    /// The mark itself if its time has come; otherwise it is kept.
    pub fn admit(&mut self, member: MemberId, waiting: Waiting, now: Instant) -> Option<Waiting> {
        if let Some(kept) = self.deferred.get_mut(&member) {
            fold(kept, waiting);
            return None;
        }
        self.committed.retain(|_, at| now.duration_since(*at) < MARK_INTERVAL);
        let Some(last) = self.committed.insert(member, now) else { return Some(waiting) };
        self.committed.insert(member, last);
        self.due.push_back((last + MARK_INTERVAL, member));
        self.deferred.insert(member, waiting);
        None
    }

    /// Whether as many wait as may, so that no mark of another reader is let in.
    pub fn is_full(&self, member: MemberId, deferred_max: usize) -> bool {
        self.deferred.len() >= deferred_max && !self.deferred.contains_key(&member)
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// What still waits when the committer ends.
    pub fn take_all(&mut self) -> Vec<Waiting> {
        self.due.clear();
        self.deferred.drain().map(|(_, waiting)| waiting).collect()
    }

    /// Those whose time has come, at most `limit`; the rest stays due.
    pub fn take_due(&mut self, now: Instant, limit: usize) -> Vec<Waiting> {
        let mut ready = Vec::new();
        while ready.len() < limit && self.due.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, member)) = self.due.pop_front() else { break };
            if let Some(waiting) = self.deferred.remove(&member) {
                self.committed.insert(member, now);
                ready.push(waiting);
            }
        }
        ready
    }
}

/// The further of two marks, which answers both.
fn fold(kept: &mut Waiting, later: Waiting) {
    if let (Work::Read { seq, .. }, Work::Read { seq: other, .. }) = (&mut kept.work, &later.work) {
        *seq = (*seq).max(*other);
    }
    kept.expires = kept.expires.max(later.expires);
    kept.replies.extend(later.replies);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConversationId, UserId};

    fn mark(user: i64, seq: i32, now: Instant) -> (MemberId, Waiting) {
        let member = MemberId { conversation: ConversationId::group(7), user: UserId(user) };
        (
            member,
            Waiting { work: Work::Read { member, seq }, expires: now + MARK_INTERVAL, replies: Vec::new() },
        )
    }

    fn seqs(marks: &[Waiting]) -> Vec<i32> {
        let seq = |mark: &Waiting| match mark.work {
            Work::Read { seq, .. } => Some(seq),
            Work::Send(_) => None,
        };
        marks.iter().filter_map(seq).collect()
    }

    #[test]
    fn marks_that_are_due_together_are_taken_in_portions_and_none_before_its_time() {
        let (mut marks, begun) = (Marks::default(), Instant::now());
        for (seq, now) in [(1, begun), (3, begun + MARK_INTERVAL / 2), (2, begun + MARK_INTERVAL / 2)] {
            for user in 0..300 {
                let (member, waiting) = mark(user, seq, now);
                assert_eq!(marks.admit(member, waiting, now).is_some(), seq == 1);
            }
        }
        assert!(marks.is_full(mark(300, 1, begun).0, 300) && !marks.is_full(mark(299, 1, begun).0, 300));
        assert!(marks.take_due(begun + MARK_INTERVAL / 2, 256).is_empty());
        let due = begun + MARK_INTERVAL;
        assert_eq!(seqs(&marks.take_due(due, 256)), [3; 256], "the further of two");
        assert_eq!(marks.next_due(), Some(due), "the rest stays due");
        assert_eq!(seqs(&marks.take_due(due, 256)), [3; 44]);
        assert_eq!(marks.next_due(), None);
    }
}
