//! The checker's own proof: every fault planted into a clean run is caught, and a clean run raises nothing.

use bench::cluster::Resources;

use serde_json::{Value, json};

use super::*;
use crate::{
    fold::Fold,
    journal::{Attempt, End, Growth, Holding, Mark, Move, Probe, Revocation, Seen, View},
};

const MESSAGES: i64 = 1200;
/// Mia is removed and comes back at these places of the conversation.
const REMOVED: i64 = 400;
const BACK: i64 = 700;

fn at(seq: i64) -> Moment {
    Duration::from_millis(seq.unsigned_abs() * 10)
}

/// How far somebody has read, and what is unread: who sends has read what came before.
fn read(user: &str) -> (i64, i64) {
    match user {
        "ada" => (MESSAGES, 0),
        "bob" => (MESSAGES - 1, 1),
        _ => (MESSAGES - 200, 200),
    }
}

/// What somebody's device makes of its events.
fn folded(user: &str, members: &BTreeSet<String>) -> Fold {
    let mut fold = Fold::of(user, [("c".to_owned(), members.clone())].into_iter());
    let event = |kind: &str, rev: i64, more: Value| {
        let mut event = json!({ "__typename": kind, "rev": rev, "conversation": { "id": "c" } });
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    for seq in 1..=MESSAGES {
        let (sender, rev) = (if seq % 2 == 0 { "ada" } else { "bob" }, seq + 1);
        let is_system = seq == REMOVED || seq == BACK;
        let sender = if is_system { Value::Null } else { json!({ "id": sender }) };
        let sent = event(
            "MessageSent",
            rev,
            json!({ "message": { "id": format!("m{seq}"), "seq": seq, "sender": sender } }),
        );
        match seq {
            REMOVED if user == "mia" => {
                fold.apply(&event("MemberRemoved", rev, json!({ "user": { "id": "mia" } })));
            }
            BACK if user == "mia" => fold.apply(&event("ConversationAdded", rev, json!({}))),
            REMOVED..=BACK if user == "mia" => {}
            _ => fold.apply(&sent),
        }
    }
    if user == "mia" {
        let marked = json!({ "user": { "id": "mia" }, "readSeq": MESSAGES - 200 });
        fold.apply(&event("ReadMarked", MESSAGES + 2, marked));
    }
    fold
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
        let (read_seq, unread) = read(user);
        journal.totals.insert(user.clone(), unread);
        journal.folds.push(folded(user, &members));
        journal.views.push(View {
            user: user.clone(),
            conversation: conversation(),
            messages: (1..=MESSAGES).map(|seq| (seq, format!("m{seq}"))).collect(),
            read_seq,
            unread,
            title: "t".to_owned(),
            members: members.clone(),
        });
    }
    journal.marks.push(Mark { user: "ada".to_owned(), conversation: conversation(), seq: MESSAGES });
    journal.restarts.push((at(100), at(200)));
    let end = |seq, ended| End { at: at(seq), user: "ada".to_owned(), ended };
    journal.ends = vec![end(50, Ended::Lost), end(150, Ended::Closed(RESTARTED)), end(250, Ended::Aborted)];
    let end = Some((at(300) + REVOKED_WITHIN, Ended::Closed(FORBIDDEN)));
    let session = "s".to_owned();
    journal.revocations.push(Revocation {
        session,
        acked: at(300),
        end,
        last_event: Some(at(301)),
        events: 3,
    });
    journal.growths.push(growth(MEMORY_KIB_A_MINUTE_MAX, DESCRIPTORS_A_MINUTE_MAX));
    let held = Resources { memory_kib: 60_000, descriptors: 90 };
    journal.holdings.push(Holding { process: "api".to_owned(), first: held, last: held });
    journal
}

fn growth(memory_kib_a_minute: f64, descriptors_a_minute: f64) -> Growth {
    let most = Resources { memory_kib: 60_000, descriptors: 90 };
    Growth { process: "api".to_owned(), samples: 9, memory_kib_a_minute, descriptors_a_minute, most }
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

/// What differs between Ada's device and what she fetches.
const STATES: &[(&str, &str, Plant)] = &[
    ("a message that the device does not have", "I6", |journal| {
        journal.folds[0].conversations.get_mut("c").expect("there").messages.remove(&17);
    }),
    ("a message that is another one", "I6", |journal| {
        journal.folds[0]
            .conversations
            .get_mut("c")
            .expect("there")
            .messages
            .insert(17, ("m".to_owned(), true));
    }),
    ("a mark that the device was not told", "I6", |journal| {
        journal.folds[0].conversations.get_mut("c").expect("there").read_seq -= 1;
    }),
    ("a title that the device was not told", "I6", |journal| {
        journal.folds[0].conversations.get_mut("c").expect("there").title = Some("old".to_owned());
    }),
    ("a member that the device was not told of", "I6", |journal| {
        journal.views[0].members.remove("bob");
    }),
    ("a conversation that is gone for the device alone", "I6", |journal| {
        journal.folds[0].conversations.get_mut("c").expect("there").is_over = true;
    }),
    ("a conversation that is there for the device alone", "I6", |journal| drop(journal.views.remove(0))),
    ("a total too many", "I8", |journal| *journal.totals.get_mut("bob").expect("there") += 1),
    ("a total that cannot be fetched", "I8", |journal| {
        journal.totals.remove("bob");
    }),
    ("another event under a name that is taken", "I2", |journal| {
        journal.folds[1].confusions.push("rev 3".to_owned());
    }),
];

const ENDS: &[(&str, &str, Plant)] = &[
    ("a socket that is lost in a rolling restart", "run", |journal| journal.ends[1].ended = Ended::Lost),
    ("a socket closed for another reason in a restart", "run", |journal| {
        journal.ends[1].ended = Ended::Closed(1011);
    }),
    ("a revoked session's socket that stays", "I7", |journal| journal.revocations[0].end = None),
    ("a revoked session's socket that is closed late", "I7", |journal| {
        let late = journal.revocations[0].acked + REVOKED_WITHIN + Duration::from_millis(1);
        journal.revocations[0].end = Some((late, Ended::Closed(FORBIDDEN)));
    }),
    ("a revoked session's socket that says nothing of it", "I7", |journal| {
        journal.revocations[0].end = Some((at(301), Ended::Lost));
    }),
    ("an event to a revoked session", "I7", |journal| {
        journal.revocations[0].last_event = Some(at(300) + REVOKED_WITHIN + Duration::from_millis(1));
    }),
    ("memory that grows all the time", "I9", |journal| {
        journal.growths[0] = growth(MEMORY_KIB_A_MINUTE_MAX + 1.0, 0.0);
    }),
    ("descriptors that grow all the time", "I9", |journal| {
        journal.growths[0] = growth(0.0, DESCRIPTORS_A_MINUTE_MAX + 0.1);
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
    let clean = clean();
    for (name, invariant, plant) in [LOSSES_AND_REPEATS, ORDER, STRANGERS_AND_COUNTS, STATES, ENDS].concat() {
        let mut journal = clean.clone();
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
