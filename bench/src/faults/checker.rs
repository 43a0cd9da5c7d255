//! Which invariants a run broke. Knows nothing of Confab but what clients and SQL said.
//!
//! I1 what was acked is in SQL, and what is in SQL is seen by every member; I2 one message a sender and key; I3 order without holes;
//! I4 senders read their own writes; I5 a retry after an unknown outcome is the same message; I6 what was delivered equals a fresh
//! fetch; I7 nobody sees what is not theirs, nor anything later than a second after a removal; I8 unread counts equal a recount, and what
//! was marked read stays read; I9 processes hold at the end about what they held at first. `planted` proves that each is looked for.

#[cfg(test)]
mod planted;
mod states;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use crate::journal::{Absence, Ended, Journal, Moment, Outcome, Row, Seen};

/// A removed member gets nothing later than this after the removal's ack (P7).
pub const GRACE: Duration = Duration::from_secs(1);
/// The sockets of a revoked session are closed no later than this after the ack, on every node (P7).
pub const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// What a revoked session's sockets are closed with (GRAPHQL, W5), and those of a node that ends (W6).
pub const FORBIDDEN: u16 = 4403;
pub const RESTARTED: u16 = 1012;
/// I9: a process may hold so many times what it held at first, and this on top, as caches fill and pools open with the first load.
const HELD_TIMES_MAX: u64 = 2;
const MEMORY_ON_TOP_KIB: u64 = 48 * 1024;
const DESCRIPTORS_ON_TOP: u64 = 64;
/// I9 of a soak, after its warm-up: 512 KiB a minute are 30 MiB an hour, which a leak of a few hundred bytes for each request or socket
/// passes by far at the load of a soak; what is below cannot be told from a cache that fills. A descriptor in two minutes is one of
/// some 240 connections.
const MEMORY_KIB_A_MINUTE_MAX: f64 = 512.0;
const DESCRIPTORS_A_MINUTE_MAX: f64 = 0.5;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

pub fn check(journal: &Journal) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    let rows = by_conversation(journal);
    found.sends(journal);
    found.rows(journal, &rows);
    found.order_of_acks(journal);
    found.deliveries(journal, &rows);
    found.views(journal, &rows);
    found.states(journal, &rows);
    found.ends(journal);
    found.revocations(journal);
    found.holdings(journal);
    for probe in journal.probes.iter().filter(|probe| !probe.found) {
        found.note("I4", format!("{} does not find their own {}", probe.user, probe.key));
    }
    for complaint in &journal.complaints {
        found.note("run", complaint.clone());
    }
    found.0
}

type Rows<'a> = BTreeMap<&'a str, BTreeMap<i64, &'a Row>>;

fn by_conversation(journal: &Journal) -> Rows<'_> {
    let mut rows: Rows<'_> = BTreeMap::new();
    for row in &journal.rows {
        rows.entry(&row.conversation).or_default().insert(row.seq, row);
    }
    rows
}

/// The last `rev` that a user saw of a conversation, and the messages by `seq`.
type Folded<'a> = (i64, BTreeMap<i64, &'a str>);

struct Found(Vec<Violation>);

impl Found {
    fn note(&mut self, invariant: &'static str, what: String) {
        self.0.push(Violation { invariant, what });
    }

    /// I1 and I5: each ack against SQL, and acks of one key against each other.
    fn sends(&mut self, journal: &Journal) {
        let by_id: HashMap<&str, &Row> = journal.rows.iter().map(|row| (row.id.as_str(), row)).collect();
        let mut acked: HashMap<(&str, &str), &str> = HashMap::new();
        for attempt in &journal.attempts {
            match &attempt.outcome {
                Outcome::Acked { id, seq } => {
                    let row = by_id.get(id.as_str());
                    let same = row.is_some_and(|row| {
                        row.seq == *seq
                            && row.conversation == attempt.conversation
                            && row.sender.as_ref() == Some(&attempt.user)
                            && row.key.as_ref() == Some(&attempt.key)
                    });
                    if !same {
                        self.note("I1", format!("{} was acked as {id}, {seq}; SQL has {row:?}", attempt.key));
                    }
                    let first = acked.entry((&attempt.user, &attempt.key)).or_insert(id);
                    if first != id {
                        self.note("I5", format!("{} was acked as {first} and as {id}", attempt.key));
                    }
                }
                Outcome::Refused(why) => self.note("run", format!("{} was refused: {why}", attempt.key)),
                Outcome::Unknown => {}
            }
        }
    }

    /// I2 and I3 in SQL.
    fn rows(&mut self, journal: &Journal, rows: &Rows<'_>) {
        let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
        for row in &journal.rows {
            if !ids.insert(&row.id) {
                self.note("I2", format!("{} is there twice", row.id));
            }
            if let (Some(sender), Some(key)) = (&row.sender, &row.key)
                && !keys.insert((sender, key))
            {
                self.note("I2", format!("{sender} has two messages of {key}"));
            }
        }
        for (conversation, rows) in rows {
            if let Some((hole, (seq, _))) = (1..).zip(rows).find(|(wanted, (seq, _))| wanted != *seq) {
                self.note("I3", format!("{conversation} has {seq} where {hole} should be"));
            }
        }
    }

    /// I3: who was acked before another was sent comes before it.
    fn order_of_acks(&mut self, journal: &Journal) {
        // What happens to a conversation, in time: a send begins, or an ack arrives.
        let mut times: BTreeMap<&str, Vec<(Moment, bool, i64, &str)>> = BTreeMap::new();
        let mut begun: HashMap<(&str, &str), Moment> = HashMap::new();
        for attempt in &journal.attempts {
            let first = begun.entry((&attempt.user, &attempt.key)).or_insert(attempt.invoked);
            *first = (*first).min(attempt.invoked);
        }
        for attempt in &journal.attempts {
            let Outcome::Acked { seq, .. } = attempt.outcome else { continue };
            let times = times.entry(&attempt.conversation).or_default();
            let invoked =
                begun.get(&(attempt.user.as_str(), attempt.key.as_str())).copied().unwrap_or_default();
            times.push((invoked, false, seq, &attempt.key));
            times.push((attempt.answered, true, seq, &attempt.key));
        }
        for (conversation, mut times) in times {
            times.sort_unstable();
            let mut highest = (0, "");
            for (_, acked, seq, key) in times {
                if acked {
                    highest = highest.max((seq, key));
                } else if seq < highest.0 {
                    let text = format!(
                        "{key} has {seq} in {conversation}, sent after {} was acked as {}",
                        highest.1, highest.0
                    );
                    self.note("I3", text);
                }
            }
        }
    }

    /// I1, I2, I3 and I7 in what was delivered.
    fn deliveries(&mut self, journal: &Journal, rows: &Rows<'_>) {
        let memberships = Memberships::of(journal);
        let mut folded: BTreeMap<(&str, &str), Folded<'_>> = BTreeMap::new();
        let mut known: HashSet<(&str, &str, i64)> = HashSet::new();
        let mut ids: HashMap<(&str, &str), i64> = HashMap::new();
        for seen in &journal.seen {
            if let Some(why) = memberships.forbid(seen) {
                let text =
                    format!("{} saw {} {} of {} {why}", seen.user, seen.seq, seen.id, seen.conversation);
                self.note("I7", text);
            }
            // A repeat is recognised by conversation and rev.
            if !known.insert((&seen.user, &seen.conversation, seen.rev)) {
                continue;
            }
            let (last, messages) = folded.entry((&seen.user, &seen.conversation)).or_default();
            if seen.rev < *last {
                let text =
                    format!("{} saw rev {} of {} after {last}", seen.user, seen.rev, seen.conversation);
                self.0.push(Violation { invariant: "I3", what: text });
            }
            *last = seen.rev.max(*last);
            if messages.insert(seen.seq, &seen.id).is_some_and(|other| other != seen.id) {
                let text = format!("{} saw two messages at {} of {}", seen.user, seen.seq, seen.conversation);
                self.0.push(Violation { invariant: "I2", what: text });
            }
            if ids.insert((&seen.user, &seen.id), seen.rev).is_some() {
                let text = format!("{} saw {} again as rev {}", seen.user, seen.id, seen.rev);
                self.0.push(Violation { invariant: "I2", what: text });
            }
            let row = rows.get(seen.conversation.as_str()).and_then(|rows| rows.get(&seen.seq));
            if row.is_none_or(|row| row.id != seen.id) {
                let text = format!("{} saw {}, which SQL does not have", seen.user, seen.id);
                self.0.push(Violation { invariant: "I1", what: text });
            }
        }
        self.undelivered(journal, rows, &memberships, &folded);
    }

    /// I6: each member was delivered all there is since they joined for the last time.
    fn undelivered(
        &mut self,
        journal: &Journal,
        rows: &Rows<'_>,
        memberships: &Memberships<'_>,
        folded: &BTreeMap<(&str, &str), Folded<'_>>,
    ) {
        for (conversation, members) in &journal.members {
            for user in members {
                let Some(since) = memberships.since(user, conversation) else { continue };
                let sent = rows.get(conversation.as_str()).into_iter().flatten();
                let sent = sent.filter(|(_, row)| row.sender.is_some() && row.rev > since);
                let seen = folded.get(&(user.as_str(), conversation.as_str())).map(|(_, messages)| messages);
                let missing: Vec<_> = sent
                    .filter(|(seq, row)| {
                        seen.and_then(|seen| seen.get(seq)).is_none_or(|seen| *seen != row.id)
                    })
                    .collect();
                if let Some((seq, row)) = missing.first() {
                    let (count, id) = (missing.len(), &row.id);
                    let text = format!(
                        "{user} was not delivered {count} messages of {conversation}, first {seq} {id}"
                    );
                    self.note("I6", text);
                }
            }
        }
    }

    /// I1, I6 and I8 in what is fetched at the end.
    fn views(&mut self, journal: &Journal, rows: &Rows<'_>) {
        let nothing = BTreeMap::new();
        let mut viewed: BTreeSet<(&str, &str)> = BTreeSet::new();
        for view in &journal.views {
            viewed.insert((&view.conversation, &view.user));
            let rows = rows.get(view.conversation.as_str()).unwrap_or(&nothing);
            let there: BTreeMap<i64, &str> = rows.iter().map(|(seq, row)| (*seq, row.id.as_str())).collect();
            let fetched: BTreeMap<i64, &str> =
                view.messages.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
            if there != fetched {
                self.note(
                    "I1",
                    format!("{} fetches other messages of {} than SQL has", view.user, view.conversation),
                );
            }
            let counts = |row: &&Row| row.sender.as_ref().is_some_and(|sender| *sender != view.user);
            let unread = rows.range(view.read_seq + 1..).filter(|(_, row)| counts(row)).count();
            if i64::try_from(unread) != Ok(view.unread) {
                let text = format!(
                    "{} has {} unread in {}, counted {unread}",
                    view.user, view.unread, view.conversation
                );
                self.note("I8", text);
            }
        }
        for mark in &journal.marks {
            let view = journal
                .views
                .iter()
                .find(|view| view.user == mark.user && view.conversation == mark.conversation);
            if view.is_some_and(|view| view.read_seq < mark.seq) {
                self.note("I8", format!("{} had read {} of {}", mark.user, mark.seq, mark.conversation));
            }
        }
        for (conversation, members) in &journal.members {
            for user in members.iter().filter(|user| !viewed.contains(&(conversation, user))) {
                self.note("I1", format!("{user} could not fetch {conversation}"));
            }
        }
    }

    /// A rolling restart closes sockets with a word that tells clients to come again, and no other way.
    fn ends(&mut self, journal: &Journal) {
        for end in &journal.ends {
            let during = journal.restarts.iter().any(|(from, to)| (*from..*to).contains(&end.at));
            let abnormal = match end.ended {
                Ended::Closed(code) => code != RESTARTED,
                Ended::Lost | Ended::Silent => true,
                // The client's own doing, or an operation that may come again over the same socket.
                Ended::Aborted | Ended::Refused => false,
            };
            if during && abnormal {
                self.note("run", format!("a socket of {} ended in a restart: {:?}", end.user, end.ended));
            }
        }
    }

    /// I7 for sessions.
    fn revocations(&mut self, journal: &Journal) {
        for one in &journal.revocations {
            let closed =
                matches!(one.end, Some((at, Ended::Closed(FORBIDDEN))) if at <= one.acked + REVOKED_WITHIN);
            if !closed {
                let after = one.end.map(|(at, ended)| (at.saturating_sub(one.acked), ended));
                self.note("I7", format!("{} was revoked, and ended {after:?} later", one.session));
            }
            if one.last_event.is_some_and(|at| at > one.acked + REVOKED_WITHIN) {
                self.note("I7", format!("{} was told something long after it was revoked", one.session));
            }
        }
    }

    /// I9.
    fn holdings(&mut self, journal: &Journal) {
        for growth in &journal.growths {
            if growth.memory_kib_a_minute > MEMORY_KIB_A_MINUTE_MAX
                || growth.descriptors_a_minute > DESCRIPTORS_A_MINUTE_MAX
            {
                self.note("I9", format!("{} grows: {growth:?}", growth.process));
            }
        }
        for held in &journal.holdings {
            let descriptors = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            let kinds = [
                ("KiB", held.first.memory_kib, held.last.memory_kib, MEMORY_ON_TOP_KIB),
                (
                    "descriptors",
                    descriptors(held.first.descriptors),
                    descriptors(held.last.descriptors),
                    DESCRIPTORS_ON_TOP,
                ),
            ];
            for (unit, first, last, on_top) in kinds {
                if last > first * HELD_TIMES_MAX + on_top {
                    self.note("I9", format!("{} holds {last} {unit}, at first {first}", held.process));
                }
            }
        }
    }
}

/// Who was in which conversation, by its revisions and by the clock.
struct Memberships<'a> {
    members: &'a BTreeMap<String, BTreeSet<String>>,
    /// By conversation and user, as all subscriptions together saw it: whether each `rev` was a beginning.
    moves: HashMap<(&'a str, &'a str), BTreeMap<i64, bool>>,
    absences: HashMap<(&'a str, &'a str), Vec<&'a Absence>>,
}

impl<'a> Memberships<'a> {
    fn of(journal: &'a Journal) -> Self {
        let mut moves: HashMap<(&str, &str), BTreeMap<i64, bool>> = HashMap::new();
        for one in &journal.moves {
            moves.entry((&one.conversation, &one.user)).or_default().insert(one.rev, one.joined);
        }
        let mut absences: HashMap<(&str, &str), Vec<&Absence>> = HashMap::new();
        for one in &journal.absences {
            absences.entry((&one.conversation, &one.user)).or_default().push(one);
        }
        Self { members: &journal.members, moves, absences }
    }

    /// Why this should not have been seen.
    fn forbid(&self, seen: &Seen) -> Option<&'static str> {
        let key = (seen.conversation.as_str(), seen.user.as_str());
        if !self.members.get(&seen.conversation).is_some_and(|members| members.contains(&seen.user)) {
            return Some("as a stranger");
        }
        let last = self.moves.get(&key).and_then(|moves| moves.range(..=seen.rev).next_back());
        if last.is_some_and(|(_, joined)| !joined) {
            return Some("from after their removal");
        }
        let late = |absence: &&Absence| seen.at > absence.from + GRACE && seen.at < absence.to;
        self.absences.get(&key).into_iter().flatten().any(late).then_some("later than their removal allows")
    }

    /// The `rev` since which somebody is a member without a break; `None` when they are not.
    fn since(&self, user: &str, conversation: &str) -> Option<i64> {
        match self.moves.get(&(conversation, user)).and_then(|moves| moves.last_key_value()) {
            None => Some(0),
            Some((rev, true)) => Some(*rev),
            Some((_, false)) => None,
        }
    }
}
