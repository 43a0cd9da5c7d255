//! Which invariants a run broke. Knows nothing of Confab but what clients and SQL said.
//!
//! I1 what was acked is in SQL, and what is in SQL is seen by every member; I2 one message a sender and key; I3 order without holes;
//! I4 senders read their own writes; I5 a retry after an unknown outcome is the same message; I6 what was delivered equals a fresh
//! fetch; I7 nobody sees what is not theirs; I8 unread counts equal a recount. The planted faults below prove that each is looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::journal::{Journal, Moment, Outcome, Row};

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

    /// I1, I2, I3, I6 and I7 in what was delivered.
    fn deliveries(&mut self, journal: &Journal, rows: &Rows<'_>) {
        let mut folded: BTreeMap<(&str, &str), Folded<'_>> = BTreeMap::new();
        let mut known: HashSet<(&str, &str, i64)> = HashSet::new();
        for seen in &journal.seen {
            let member =
                journal.members.get(&seen.conversation).is_some_and(|members| members.contains(&seen.user));
            if !member {
                self.note("I7", format!("{} saw {} of {}", seen.user, seen.id, seen.conversation));
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
        }
        for (conversation, members) in &journal.members {
            let sent: BTreeMap<i64, &str> = rows
                .get(conversation.as_str())
                .into_iter()
                .flatten()
                .filter(|(_, row)| row.sender.is_some())
                .map(|(seq, row)| (*seq, row.id.as_str()))
                .collect();
            for user in members {
                let seen = folded.get(&(user.as_str(), conversation.as_str())).map(|(_, messages)| messages);
                let missing: Vec<_> =
                    sent.iter().filter(|(seq, id)| seen.and_then(|seen| seen.get(seq)) != Some(id)).collect();
                if let Some((seq, id)) = missing.first() {
                    let count = missing.len();
                    self.note(
                        "I6",
                        format!(
                            "{user} was not delivered {count} messages of {conversation}, first {seq} {id}"
                        ),
                    );
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
        for (conversation, members) in &journal.members {
            for user in members.iter().filter(|user| !viewed.contains(&(conversation, user))) {
                self.note("I1", format!("{user} could not fetch {conversation}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{Attempt, Probe, Seen, View};

    /// Two members, twenty messages, each acked and seen by both; the first attempt of each fifth is unknown.
    fn clean() -> Journal {
        let members: BTreeSet<String> = ["ada", "bob"].map(str::to_owned).into();
        let mut journal =
            Journal { members: [("c".to_owned(), members.clone())].into(), ..Journal::default() };
        for seq in 1..=20_i64 {
            let user = if seq % 2 == 0 { "ada" } else { "bob" };
            let (id, key) = (format!("m{seq}"), format!("k{seq}"));
            let begun = Duration::from_millis(seq.unsigned_abs() * 10);
            let attempt = |outcome, later: u64| Attempt {
                user: user.to_owned(),
                conversation: "c".to_owned(),
                key: key.clone(),
                invoked: begun + Duration::from_millis(later),
                answered: begun + Duration::from_millis(later + 2),
                outcome,
            };
            if seq % 5 == 0 {
                journal.attempts.push(attempt(Outcome::Unknown, 0));
            }
            journal.attempts.push(attempt(Outcome::Acked { id: id.clone(), seq }, 3));
            journal.rows.push(Row {
                conversation: "c".to_owned(),
                seq,
                id: id.clone(),
                sender: Some(user.to_owned()),
                key: Some(key.clone()),
            });
            for user in &members {
                journal.seen.push(Seen {
                    at: begun,
                    user: user.clone(),
                    conversation: "c".to_owned(),
                    rev: seq + 1,
                    seq,
                    id: id.clone(),
                });
            }
            journal.probes.push(Probe { user: user.to_owned(), key, found: true });
        }
        for user in &members {
            journal.views.push(View {
                user: user.clone(),
                conversation: "c".to_owned(),
                messages: (1..=20).map(|seq| (seq, format!("m{seq}"))).collect(),
                read_seq: 10,
                unread: 5,
            });
        }
        journal
    }

    fn invariants(journal: &Journal) -> BTreeSet<&'static str> {
        check(journal).into_iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn a_clean_run_raises_nothing() {
        assert_eq!(check(&clean()), []);
        let mut repeated = clean();
        let repeats = repeated.seen[10..30].to_vec();
        repeated.seen.extend(repeats);
        assert_eq!(check(&repeated), [], "a replay may repeat what its rev tells apart");
    }

    #[test]
    fn every_planted_fault_is_caught() {
        type Plant = fn(&mut Journal);
        let planted: &[(&str, &str, Plant)] = &[
            ("an acked message is lost", "I1", |journal| drop(journal.rows.remove(7))),
            ("ack before commit, then another seq", "I1", |journal| journal.rows[7].seq = 21),
            ("a message twice in SQL", "I2", |journal| {
                let again = Row { seq: 21, id: "m21".to_owned(), ..journal.rows[3].clone() };
                journal.rows.push(again);
            }),
            ("an id twice", "I2", |journal| journal.rows[4].id = "m4".to_owned()),
            ("a hole", "I3", |journal| journal.rows.last_mut().expect("rows").seq = 22),
            ("acks against their order", "I3", |journal| {
                // The 6th was sent after the 5th was acked, and comes before it.
                for (mine, other) in [(4, 6), (5, 5)] {
                    journal.rows[mine].seq = other;
                    let id = journal.rows[mine].id.clone();
                    for attempt in &mut journal.attempts {
                        if let Outcome::Acked { id: acked, seq } = &mut attempt.outcome
                            && *acked == id
                        {
                            *seq = other;
                        }
                    }
                }
            }),
            ("a delivery dropped", "I6", |journal| drop(journal.seen.remove(11))),
            ("two deliveries swapped", "I3", |journal| journal.seen.swap(10, 12)),
            ("another message at the same place", "I2", |journal| {
                let other = Seen { rev: 99, id: "m99".to_owned(), ..journal.seen[8].clone() };
                journal.seen.push(other);
            }),
            ("a leak to a stranger", "I7", |journal| journal.seen[5].user = "eve".to_owned()),
            ("own writes not read", "I4", |journal| journal.probes[3].found = false),
            ("a retry is another message", "I5", |journal| {
                let again = Attempt {
                    outcome: Outcome::Acked { id: "m99".to_owned(), seq: 99 },
                    ..journal.attempts[3].clone()
                };
                journal.attempts.push(again);
            }),
            ("an unread too many", "I8", |journal| journal.views[0].unread += 1),
            ("a message missing from a fetch", "I1", |journal| drop(journal.views[1].messages.remove(&9))),
            ("a conversation that cannot be fetched", "I1", |journal| drop(journal.views.pop())),
            ("a refusal that no fault explains", "run", |journal| {
                journal.attempts[0].outcome = Outcome::Refused("NOT_FOUND".to_owned());
            }),
            ("a complaint of a client", "run", |journal| journal.complaints.push("resync".to_owned())),
        ];
        for (name, invariant, plant) in planted {
            let mut journal = clean();
            plant(&mut journal);
            assert!(invariants(&journal).contains(invariant), "{name}: {:?}", check(&journal));
        }
    }
}
