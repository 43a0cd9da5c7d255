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
    /// When readers' marks were committed last; those of longer ago than the interval wait to be swept.
    committed: HashMap<MemberId, Instant>,
    /// All of them are looked through once an interval, not at every mark.
    swept_at: Option<Instant>,
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
        self.sweep(now);
        let last = self.committed.get(&member).copied();
        let Some(last) = last.filter(|last| now.duration_since(*last) < MARK_INTERVAL) else {
            self.committed.insert(member, now);
            return Some(waiting);
        };
        self.due.push_back((last + MARK_INTERVAL, member));
        self.deferred.insert(member, waiting);
        None
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_none_or(|at| now.duration_since(at) >= MARK_INTERVAL) {
            self.swept_at = Some(now);
            self.committed.retain(|_, at| now.duration_since(*at) < MARK_INTERVAL);
        }
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

    #[test]
    fn readers_of_longer_ago_are_swept_once_an_interval_and_are_let_through_before() {
        let (mut marks, begun) = (Marks::default(), Instant::now());
        let mut admits = |user, tenths: u32| {
            let now = begun + MARK_INTERVAL * tenths / 10;
            let (member, waiting) = mark(user, 1, now);
            (marks.admit(member, waiting, now).is_some(), marks.committed.len())
        };
        assert_eq!(admits(1, 0), (true, 1), "swept");
        assert_eq!(admits(2, 5), (true, 2));
        assert_eq!(admits(3, 10), (true, 2), "swept: the first is gone");
        assert_eq!(admits(4, 16), (true, 3), "the second has passed and is still there");
        assert_eq!(admits(2, 17), (true, 3), "and comes through all the same");
        assert_eq!(admits(2, 18), (false, 3), "now it is too soon");
        assert_eq!(admits(5, 20), (true, 3), "swept: the third is gone");
    }
}
