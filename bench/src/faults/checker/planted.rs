//! The checker's own proof: every fault planted into a clean run is caught, and a clean run raises nothing.

use bench::cluster::Resources;

use super::*;
use crate::journal::{Attempt, Holding, Mark, Move, Probe, Seen, View};

const MESSAGES: i64 = 1200;
/// Mia is removed and comes back at these places of the conversation.
const REMOVED: i64 = 400;
const BACK: i64 = 700;

fn at(seq: i64) -> Moment {
    Duration::from_millis(seq.unsigned_abs() * 10)
}

/// Ada and Bob chat; Mia listens while she is a member. The first attempt of each fifth message is unknown.
fn clean() -> Journal {
    let members: BTreeSet<String> = ["ada", "bob", "mia"].map(str::to_owned).into();
    let conversation = || "c".to_owned();
    let mut journal = Journal { members: [(conversation(), members.clone())].into(), ..Journal::default() };
    for seq in 1..=MESSAGES {
        let user = if seq % 2 == 0 { "ada" } else { "bob" };
        let (id, key) = (format!("m{seq}"), format!("k{seq}"));
        let is_system = seq == REMOVED || seq == BACK;
        let (sender, sent_key) =
            if is_system { (None, None) } else { (Some(user.to_owned()), Some(key.clone())) };
        let rev = seq + 1;
        let row = Row { conversation: conversation(), seq, rev, id: id.clone(), sender, key: sent_key };
        journal.rows.push(row);
        if is_system {
            let joined = seq == BACK;
            journal.moves.push(Move { user: "mia".to_owned(), conversation: conversation(), rev, joined });
            continue;
        }
        let attempt = |outcome, later: u64| Attempt {
            user: user.to_owned(),
            conversation: conversation(),
            key: key.clone(),
            invoked: at(seq) + Duration::from_millis(later),
            answered: at(seq) + Duration::from_millis(later + 2),
            outcome,
        };
        if seq % 5 == 0 {
            journal.attempts.push(attempt(Outcome::Unknown, 0));
        }
        journal.attempts.push(attempt(Outcome::Acked { id: id.clone(), seq }, 3));
        let present = |user: &&String| user.as_str() != "mia" || !(REMOVED..=BACK).contains(&seq);
        for user in members.iter().filter(present) {
            let (user, conversation, id) = (user.clone(), conversation(), id.clone());
            journal.seen.push(Seen { at: at(seq), user, conversation, rev, seq, id });
        }
        journal.probes.push(Probe { user: user.to_owned(), key, found: true });
    }
    let (user, from, to) = ("mia".to_owned(), at(REMOVED), at(BACK));
    journal.absences.push(Absence { user, conversation: conversation(), from, to, back: to });
    for user in &members {
        // Half of what others wrote, and for Mia all of it.
        let unread = if user == "mia" { 200 } else { 100 };
        journal.views.push(View {
            user: user.clone(),
            conversation: conversation(),
            messages: (1..=MESSAGES).map(|seq| (seq, format!("m{seq}"))).collect(),
            read_seq: MESSAGES - 200,
            unread,
        });
    }
    journal.marks.push(Mark { user: "ada".to_owned(), conversation: conversation(), seq: MESSAGES - 200 });
    let held = Resources { memory_kib: 60_000, descriptors: 90 };
    journal.holdings.push(Holding { process: "api".to_owned(), first: held, last: held });
    journal
}

/// Where somebody sees a message.
fn sight(journal: &Journal, user: &str, seq: i64) -> usize {
    journal.seen.iter().position(|seen| seen.user == user && seen.seq == seq).expect("they saw it")
}

fn acked_as(journal: &mut Journal, row: usize, seq: i64) {
    journal.rows[row].seq = seq;
    let id = journal.rows[row].id.clone();
    for attempt in &mut journal.attempts {
        if let Outcome::Acked { id: acked, seq: other } = &mut attempt.outcome
            && *acked == id
        {
            *other = seq;
        }
    }
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
    // What Mia saw before her removal is hers, but not to be repeated after it.
    repeated.seen.retain(|seen| seen.user != "mia" || seen.seq > BACK);
    assert_eq!(check(&repeated), [], "a replay may repeat what its rev tells apart");
}

type Plant = fn(&mut Journal);

const LOSSES_AND_REPEATS: &[(&str, &str, Plant)] = &[
    ("an acked message is lost", "I1", |journal| drop(journal.rows.remove(7))),
    ("ack before commit, then another seq", "I1", |journal| journal.rows[7].seq = MESSAGES + 1),
    ("ack before a commit that never came", "I1", |journal| {
        // The last one, so that nothing else gives it away.
        journal.rows.pop();
        journal.seen.retain(|seen| seen.seq < MESSAGES);
        journal.views.iter_mut().for_each(|view| drop(view.messages.remove(&MESSAGES)));
    }),
    ("a delivery of what is in no table", "I1", |journal| {
        let other = Seen { rev: 9999, seq: 9999, id: "m9999".to_owned(), ..journal.seen[8].clone() };
        journal.seen.push(other);
    }),
    ("a message missing from a fetch", "I1", |journal| drop(journal.views[1].messages.remove(&9))),
    ("a conversation that cannot be fetched", "I1", |journal| drop(journal.views.pop())),
    ("a message twice in SQL", "I2", |journal| {
        let again = Row { seq: MESSAGES + 1, id: "m-again".to_owned(), ..journal.rows[3].clone() };
        journal.rows.push(again);
    }),
    ("an id twice", "I2", |journal| journal.rows[4].id = "m4".to_owned()),
    ("another message at the same place", "I2", |journal| {
        let other = Seen { rev: 9999, id: "m9999".to_owned(), ..journal.seen[8].clone() };
        journal.seen.push(other);
    }),
    ("a duplicate that no rev tells apart", "I2", |journal| {
        let other = Seen { rev: 9999, seq: 9999, ..journal.seen[8].clone() };
        journal.seen.push(other);
    }),
    ("a retry is another message", "I5", |journal| {
        let outcome = Outcome::Acked { id: "m99".to_owned(), seq: 99 };
        let again = Attempt { outcome, ..journal.attempts[3].clone() };
        journal.attempts.push(again);
    }),
    ("one delivery in 1,000 dropped", "I6", |journal| {
        let mut count = 0;
        journal.seen.retain(|_| {
            count += 1;
            count % 1000 != 0
        });
    }),
    ("a delivery after coming back dropped", "I6", |journal| {
        let place = sight(journal, "mia", BACK + 5);
        journal.seen.remove(place);
    }),
];

const ORDER: &[(&str, &str, Plant)] = &[
    ("a hole", "I3", |journal| journal.rows.last_mut().expect("rows").seq = MESSAGES + 2),
    ("acks against their order", "I3", |journal| {
        // The 6th was sent after the 5th was acked, and comes before it.
        acked_as(journal, 4, 6);
        acked_as(journal, 5, 5);
    }),
    ("two deliveries swapped", "I3", |journal| {
        let (one, other) = (sight(journal, "ada", 20), sight(journal, "ada", 21));
        journal.seen.swap(one, other);
    }),
    ("own writes not read", "I4", |journal| journal.probes[3].found = false),
];

const STRANGERS_AND_COUNTS: &[(&str, &str, Plant)] = &[
    ("a leak to a stranger", "I7", |journal| journal.seen[5].user = "eve".to_owned()),
    ("a message from after a removal", "I7", |journal| {
        // At once, so that only its rev tells.
        let seen = &journal.seen[sight(journal, "ada", REMOVED + 1)];
        let leak = Seen { user: "mia".to_owned(), ..seen.clone() };
        journal.seen.push(leak);
    }),
    ("a late delivery after a removal", "I7", |journal| {
        // Of what was hers to see, but more than a second after the ack.
        let place = sight(journal, "mia", REMOVED - 1);
        journal.seen[place].at = at(REMOVED) + GRACE + Duration::from_millis(1);
    }),
    ("an unread too many", "I8", |journal| journal.views[0].unread += 1),
    ("an unread too few", "I8", |journal| journal.views[2].unread -= 1),
    ("a read mark forgotten", "I8", |journal| journal.marks[0].seq += 1),
    ("growth of memory", "I9", |journal| journal.holdings[0].last.memory_kib = 200_000),
    ("growth of descriptors", "I9", |journal| journal.holdings[0].last.descriptors = 400),
    ("a refusal that no fault explains", "run", |journal| {
        journal.attempts[0].outcome = Outcome::Refused("NOT_FOUND".to_owned());
    }),
    ("a complaint of a client", "run", |journal| journal.complaints.push("resync".to_owned())),
];

#[test]
fn every_planted_fault_is_caught() {
    for (name, invariant, plant) in [LOSSES_AND_REPEATS, ORDER, STRANGERS_AND_COUNTS].concat() {
        let mut journal = clean();
        plant(&mut journal);
        assert!(invariants(&journal).contains(invariant), "{name}: {:?}", check(&journal));
    }
}

#[test]
fn a_delivery_just_within_the_time_after_a_removal_is_fine() {
    let mut journal = clean();
    let place = sight(&journal, "mia", REMOVED - 1);
    journal.seen[place].at = at(REMOVED) + GRACE;
    assert_eq!(check(&journal), []);
}
