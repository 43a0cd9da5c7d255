//! The committer against a log in memory, where every transaction can be looked at.

mod fake;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use self::fake::{FakeLog, Handle, POISON, Portion, SilentBus};
use super::{Committers, CommittersSetup, IdSource};
use crate::{
    ClientKey, Content, ConversationId, ErrorCode, Limits, MemberId, Mentions, Message, MessageDraft,
    MessageId, MessageText, ServiceResult, Timestamp, UserId,
    lifeline::Lifeline,
    model::message::content_hash,
    port::Clock,
    testing::{ManualClock, SystemRandom},
};

fn group() -> ConversationId {
    ConversationId::group(7)
}

fn start(log: &Arc<FakeLog>, lifeline: &Lifeline) -> Committers {
    let clock = Arc::new(ManualClock::at(1_900_000_000));
    let port = Arc::new(Handle(log.clone()));
    Committers::start(CommittersSetup {
        log: port.clone(),
        bus: Arc::new(SilentBus),
        clock: clock.clone(),
        random: Arc::new(SystemRandom),
        ids: Arc::new(IdSource::new(port, clock)),
        limits: Limits { send_timeout: Duration::from_mins(1), ..Limits::default() },
        tasks: TaskTracker::new(),
        lifeline: lifeline.clone(),
    })
}

fn draft(user: i64, key: &str, text: &str) -> MessageDraft {
    let key = ClientKey::new(&[], key.to_owned()).expect("a key");
    let text = MessageText::new(&[], text.to_owned()).expect("a text");
    MessageDraft::new(group(), UserId(user), key, text, Mentions::default(), None)
}

/// As another process has stored it.
fn stored(user: i64, key: &str, text: &str, seq: i32) -> Message {
    Message {
        id: MessageId(i64::from(seq)),
        conversation: group(),
        seq,
        rev: seq + 1,
        created_rev: seq + 1,
        pos: 0,
        sender: Some(UserId(user)),
        client_key: Some(ClientKey::new(&[], key.to_owned()).expect("a key")),
        content_hash: content_hash("text", text.as_bytes()),
        content: Content::Text(text.into()),
        mentions: Mentions::default(),
        created_at: Timestamp(1),
        countable: seq,
    }
}

/// Sends that wait together, so that they are one batch; one before them holds the committer.
async fn send_together(
    log: &Arc<FakeLog>,
    committers: &Committers,
    drafts: Vec<MessageDraft>,
) -> Vec<ServiceResult<Arc<Message>>> {
    log.close();
    let sends: Vec<_> =
        drafts.into_iter().map(|draft| committers.send(draft).expect("room in the queue")).collect();
    log.open();
    join_all(sends).await
}

fn users(count: i64) -> impl Iterator<Item = UserId> {
    (1..=count).map(UserId)
}

fn assert_bounded(portions: &[Portion]) {
    for portion in portions {
        assert!(portion.texts.len() + portion.reads <= 256, "{} items", portion.texts.len() + portion.reads);
        assert!(portion.bytes() <= 1024 * 1024, "{} bytes", portion.bytes());
    }
}

#[tokio::test]
async fn a_batch_of_long_messages_stays_within_its_bytes() {
    let log = FakeLog::new(group(), users(1));
    let committers = start(&log, &Lifeline::default());
    // 79 of them fit, and the next one makes a number that would not be cut for its own sake.
    let text = "x".repeat(13_200);
    let drafts = (0..500).map(|index| draft(1, &format!("k{index}"), &text)).collect();
    let answers = send_together(&log, &committers, drafts).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_bounded(&log.portions());
    let seqs: Vec<i32> = answers.iter().flatten().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>(), "in the order they came");
}

#[tokio::test]
async fn a_batch_of_marks_that_are_due_together_stays_within_its_items() {
    let log = FakeLog::new(group(), users(700));
    let committers = start(&log, &Lifeline::default());
    let first = (0..9).map(|index| draft(1, &format!("k{index}"), "x")).collect();
    assert!(send_together(&log, &committers, first).await.iter().all(Result::is_ok));
    let mark = |seq| {
        join_all(users(700).map(move |user| (user, seq)).map(|(user, seq)| {
            let committers = committers.clone();
            async move { committers.mark_read(MemberId { conversation: group(), user }, seq).await }
        }))
    };
    assert!(mark(3).await.iter().all(Result::is_ok));
    let before = log.portions().len();
    // Too soon: all of them wait for the rest of the second, and are due at once.
    assert!(mark(5).await.iter().all(Result::is_ok));
    let portions = log.portions().split_off(before);
    assert_bounded(&portions);
    // The sender of the messages has read further than that.
    assert_eq!(portions.iter().map(|portion| portion.reads).sum::<usize>(), 699);
}

#[tokio::test]
async fn one_poisonous_message_costs_the_others_nothing() {
    let log = FakeLog::new(group(), users(3));
    let committers = start(&log, &Lifeline::default());
    let drafts = (0..64)
        .map(|index| draft(1 + index % 3, &format!("k{index}"), if index == 21 { POISON } else { "fine" }));
    let mut answers = send_together(&log, &committers, drafts.collect()).await;
    let poisoned = answers.remove(21).expect_err("it cannot be stored");
    assert_eq!(poisoned.code(), ErrorCode::Internal);
    let seqs: Vec<i32> = answers.into_iter().map(|answer| answer.expect("stored").seq).collect();
    assert_eq!(seqs, (1..=63).collect::<Vec<_>>(), "without a hole, in the order they came");
    let failed = log.portions().iter().filter(|portion| !portion.committed).count();
    // Seven parts, each perhaps once more in a transaction that takes nothing for granted.
    assert!(failed <= 14, "halved until it stands alone, not each tried by itself: {failed} failed");
}

#[tokio::test]
async fn a_transaction_that_meets_another_one_runs_again_as_a_whole() {
    let log = FakeLog::new(group(), users(1));
    let committers = start(&log, &Lifeline::default());
    // As often as it is tried again by default.
    log.conflicts.store(5, Ordering::Relaxed);
    let drafts = (0..8).map(|index| draft(1, &format!("k{index}"), &format!("text{index}"))).collect();
    let answers = send_together(&log, &committers, drafts).await;
    let seqs: Vec<i32> = answers.into_iter().map(|answer| answer.expect("stored").seq).collect();
    assert_eq!(seqs, (1..=8).collect::<Vec<_>>(), "nothing of the tries before counts");
    let (committed, failed): (Vec<_>, Vec<_>) = log.portions().into_iter().partition(|one| one.committed);
    assert_eq!(failed.len(), 5);
    let again = &committed[0].texts;
    assert!(failed.iter().all(|one| one.texts == *again), "each try writes everything: {failed:?}");
}

#[tokio::test]
async fn a_transaction_that_meets_another_one_every_time_is_unavailable_and_stores_nothing() {
    let log = FakeLog::new(group(), users(1));
    let committers = start(&log, &Lifeline::default());
    log.conflicts.store(6, Ordering::Relaxed);
    let refusal = committers.send(draft(1, "k", "x")).expect("room").await.expect_err("not stored");
    assert_eq!((refusal.code(), refusal.retryable()), (ErrorCode::Unavailable, true));
    assert!(log.messages().is_empty());
    let again = committers.send(draft(1, "k", "x")).expect("room").await.expect("stored");
    assert_eq!(again.seq, 1);
}

#[tokio::test]
async fn who_spoils_batches_again_and_again_is_committed_alone() {
    let log = FakeLog::new(group(), users(2));
    let committers = start(&log, &Lifeline::default());
    for round in 0..4 {
        // Another process has committed this key; here it seems new.
        let (taken, other) = (format!("taken{round}"), format!("other{round}"));
        let seq = i32::try_from(log.messages().len()).expect("few") + 1;
        log.commit_elsewhere(stored(2, &taken, "again", seq));
        let before = log.portions().len();
        let both = vec![draft(2, &taken, "again"), draft(1, &other, "fine")];
        let answers = send_together(&log, &committers, both).await;
        assert_eq!(answers[0].as_ref().expect("known").seq, seq, "the message that was committed first");
        assert_eq!(answers[1].as_ref().expect("stored").seq, seq + 1);
        let portions = log.portions().split_off(before);
        let spoiled = portions.iter().any(|portion| !portion.committed && portion.texts.len() == 2);
        assert_eq!(spoiled, round < 3, "round {round}: {portions:?}");
    }
}

#[tokio::test]
async fn a_batch_that_finds_out_late_that_others_have_committed_comes_again() {
    let log = FakeLog::new(group(), users(2));
    let committers = start(&log, &Lifeline::default());
    for round in 0..3 {
        let seq = 1 + 3 * round;
        for (key, expected) in [("first", seq), ("second", seq + 1)] {
            let draft = draft(1, &format!("{key}{round}"), "here");
            assert_eq!(committers.send(draft).expect("room").await.expect("stored").seq, expected);
        }
        log.commit_elsewhere(stored(2, &format!("elsewhere{round}"), "there", seq + 2));
    }
    let portions = log.portions();
    let (committed, behind): (Vec<_>, Vec<_>) = portions.iter().partition(|portion| portion.committed);
    assert_eq!(committed.len(), 6);
    let behind: Vec<_> = behind.iter().map(|portion| &portion.texts).collect();
    assert_eq!(behind, [&["here"]; 2], "once after each of the first two that came from elsewhere");
}

/// It is read without a lock.
#[tokio::test]
async fn what_was_looked_up_counts_only_if_nobody_has_committed_since() {
    let log = FakeLog::new(group(), users(4));
    let committers = start(&log, &Lifeline::default());
    let send = async |user: i64, look_ups: u32| {
        let sent = committers.send(draft(user, "k", &format!("of {user}"))).expect("room").await;
        assert_eq!(log.look_ups.load(Ordering::Relaxed), look_ups, "of {user}");
        sent.expect("stored").seq
    };
    // How far the lane is has to be known first.
    assert_eq!(send(1, 0).await, 1);
    assert_eq!(send(2, 1).await, 2);
    *log.intruder.lock().expect("a lock") = Some(stored(4, "elsewhere", "there", 3));
    assert_eq!(send(3, 2).await, 4);
    let failed: Vec<_> = log.portions().into_iter().filter(|portion| !portion.committed).collect();
    assert!(matches!(&failed[..], [one] if one.texts == ["of 3"]), "once, when it was too late: {failed:?}");
    assert_eq!(log.messages().len(), 4);
}

#[tokio::test]
async fn a_commit_of_which_nobody_is_told_is_found_by_its_keys() {
    let log = FakeLog::new(group(), users(2));
    let committers = start(&log, &Lifeline::default());
    for round in 0..5 {
        let first = 1 + 9 * round;
        let before = committers.send(draft(1, &format!("before{round}"), "x")).expect("room").await;
        assert_eq!(before.expect("stored").seq, first);
        log.lost_answers.store(1, Ordering::Relaxed);
        let drafts = (0..8).map(|index| draft(1, &format!("{round}-{index}"), "y")).collect();
        let answers = send_together(&log, &committers, drafts).await;
        let seqs: Vec<i32> = answers.into_iter().map(|answer| answer.expect("stored").seq).collect();
        assert_eq!(seqs, (first + 1..=first + 8).collect::<Vec<_>>(), "as they were committed");
        assert_eq!(log.lost_answers.load(Ordering::Relaxed), 0, "an answer was lost");
        // It is nobody's offence, for which they would be committed one by one.
        let together = log.portions().into_iter().filter(|one| one.committed && one.texts.len() == 8).count();
        assert_eq!(i32::try_from(together), Ok(round + 1));
    }
    assert_eq!(log.messages().len(), 45, "each once");
}

/// With `InnoDB` a commit is seen before it is on disk; the next one flushes it.
#[tokio::test]
async fn what_is_known_already_is_acknowledged_after_a_commit() {
    let log = FakeLog::new(group(), users(1));
    let committers = start(&log, &Lifeline::default());
    for committed in 1..=3 {
        let message = committers.send(draft(1, "k", "x")).expect("room").await.expect("stored");
        assert_eq!(message.seq, 1);
        assert_eq!(log.portions().iter().filter(|portion| portion.committed).count(), committed);
    }
    assert_eq!(log.messages().len(), 1);
}

#[tokio::test]
async fn a_mark_of_which_nobody_is_told_moves_the_conversation_once() {
    let log = FakeLog::new(group(), users(2));
    let committers = start(&log, &Lifeline::default());
    for number in 1..=2 {
        committers.send(draft(1, &format!("k{number}"), "x")).expect("room").await.expect("stored");
    }
    let reader = MemberId { conversation: group(), user: UserId(2) };
    log.lost_answers.store(1, Ordering::Relaxed);
    let view = committers.mark_read(reader, 1).await.expect("read");
    assert_eq!(log.lost_answers.load(Ordering::Relaxed), 0, "an answer was lost");
    // A group begins with `rev` 1, each message is one more, and so is the mark.
    assert_eq!((view.viewer.read_seq, view.conversation.rev), (1, 4));
    let marks = log.portions().into_iter().filter(|one| one.committed && one.reads > 0);
    assert_eq!(marks.map(|one| one.reads).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn nobody_is_answered_from_what_a_committer_knew_before_others_committed() {
    let log = FakeLog::new(group(), users(2));
    let committers = start(&log, &Lifeline::default());
    let reader = MemberId { conversation: group(), user: UserId(2) };
    assert_eq!(committers.send(draft(1, "k", "here")).expect("room").await.expect("stored").seq, 1);
    committers.mark_read(reader, 1).await.expect("read");
    log.commit_elsewhere(stored(1, "elsewhere", "there", 2));
    // Nothing moves: of what is read already.
    let view = committers.mark_read(reader, 1).await.expect("known");
    assert_eq!(view.conversation.last_seq, 2);
    log.commit_elsewhere(stored(1, "again", "there", 3));
    let view = committers.mark_read(reader, 3).await.expect("there is such a message");
    assert_eq!(view.viewer.read_seq, 3);
}

#[tokio::test]
async fn a_committer_that_panics_ends_the_process_and_answers_who_waits() {
    let log = FakeLog::new(group(), users(1));
    let lifeline = Lifeline::default();
    let committers = start(&log, &lifeline);
    log.panics.store(true, Ordering::Relaxed);
    let refusal = committers.send(draft(1, "k", "x")).expect("room").await.expect_err("nobody commits it");
    assert_eq!((refusal.code(), refusal.retryable()), (ErrorCode::Unavailable, true));
    assert_eq!(lifeline.broken().await, "committer");
}

/// What an id says of where it comes from: milliseconds and machine.
fn origin(id: i64) -> (i64, u16) {
    (id >> 22, u16::try_from((id >> 12) & 0x3ff).expect("10 bits"))
}

/// A process, and the ids it took.
struct Process {
    clock: Arc<ManualClock>,
    ids: IdSource,
    taken: Vec<i64>,
}

impl Process {
    fn start(log: &Arc<FakeLog>) -> Self {
        let clock = Arc::new(ManualClock::at(1_900_000_000));
        let as_port: Arc<dyn Clock> = clock.clone();
        Self { ids: IdSource::new(Arc::new(Handle(log.clone())), as_port), clock, taken: Vec::new() }
    }

    /// Takes some, and answers which leases that took.
    async fn take(&mut self, log: &FakeLog, count: usize) -> usize {
        let before = log.leases().len();
        self.taken.extend(self.ids.take(count).await.expect("ids"));
        log.leases().len() - before
    }
}

#[tokio::test]
async fn ids_stay_unique_and_within_ones_own_ranges_whatever_clocks_do() {
    let log = FakeLog::new(group(), []);
    let (mut here, mut there) = (Process::start(&log), Process::start(&log));
    let mut owned = [BTreeSet::new(), BTreeSet::new()];
    for step in 0..60 {
        match step % 6 {
            // Forward within a lease, beyond it as after a pause, back within it, and back before everything.
            0 => here.clock.advance(Duration::from_secs(3)),
            1 => here.clock.advance(Duration::from_mins(1)),
            2 => here.clock.set(1_900_000_000 - step),
            3 => there.clock.advance(Duration::from_secs(15)),
            4 => there.clock.set(1_899_999_000),
            _ => {}
        }
        for (process, owned) in [&mut here, &mut there].into_iter().zip(&mut owned) {
            let before = log.leases().len();
            // More than one millisecond holds.
            process.take(&log, 5000).await;
            owned.extend(before..log.leases().len());
        }
    }
    let leases = log.leases();
    let mut all = BTreeSet::new();
    for (process, owned) in [&here, &there].into_iter().zip(&owned) {
        for id in &process.taken {
            assert!(all.insert(*id), "{id} was given twice");
            let (ms, machine) = origin(*id);
            let holds = |lease: &usize| {
                let lease = leases[*lease];
                lease.machine == machine && (lease.from_ms..lease.until_ms).contains(&ms)
            };
            assert!(owned.iter().any(holds), "{id} comes from a range of another process");
        }
    }
    assert_eq!(all.len(), 2 * 60 * 5000);
}

#[tokio::test]
async fn a_clock_that_steps_back_gives_later_ids_from_the_same_lease() {
    let log = FakeLog::new(group(), []);
    let mut process = Process::start(&log);
    assert_eq!(process.take(&log, 10).await, 1);
    process.clock.set(1_800_000_000);
    assert_eq!(process.take(&log, 10).await, 0, "no new lease");
    assert!(process.taken.is_sorted_by(|a, b| a < b), "{:?}", process.taken);
}

#[tokio::test]
async fn a_process_paused_beyond_its_lease_leaves_the_rest_of_it_unused() {
    let log = FakeLog::new(group(), []);
    let mut process = Process::start(&log);
    process.take(&log, 1).await;
    process.clock.advance(Duration::from_mins(5));
    assert_eq!(process.take(&log, 1).await, 1, "a new lease");
    let lease = log.leases()[1];
    assert!(origin(process.taken[1]).0 >= lease.from_ms);
}
