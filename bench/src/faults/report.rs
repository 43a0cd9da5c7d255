//! What is printed at the end of a run.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use crate::{
    actors::Stage,
    checker::{self, Violation},
    fault::Fault,
    journal::{Growth, Holding, Journal, Moment, Outcome, longest},
};

/// A call that a process answers at all is answered within `operation_timeout_ms`, and the time that a loaded machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(12);

/// What a fault did to those who chat, in all its cycles.
pub struct Tally {
    pub fault: Fault,
    pub spans: Vec<(Moment, Moment)>,
    pub unknown: u64,
    pub back_after: Duration,
}

/// Prints what happened; whether nothing was violated.
pub fn report(stage: &Stage, journal: &Journal, tallies: &[Tally]) -> bool {
    let mut violations = checker::check(journal);
    for Holding { process, first, last } in &journal.holdings {
        println!(
            "{process}: {} MiB, {} descriptors (first {}, {})",
            last.memory_kib / 1024,
            last.descriptors,
            first.memory_kib / 1024,
            first.descriptors
        );
    }
    for growth in &journal.growths {
        let Growth { process, samples, memory_kib_a_minute, descriptors_a_minute, most } = growth;
        println!(
            "{process}: {memory_kib_a_minute:+.1} KiB and {descriptors_a_minute:+.3} descriptors a minute in {samples} samples, at most {} MiB, {} descriptors",
            most.memory_kib / 1024,
            most.descriptors
        );
    }
    println!(
        "{:<16} {:>7} {:>8} {:>11} {:>17} {:>15}",
        "fault", "cycles", "unknown", "back after", "slowest delivery", "slowest answer"
    );
    let (deliveries, answers) = (journal.deliveries(), journal.answers());
    for Tally { fault, spans, unknown, back_after } in tallies {
        let (back_after, cycles) = (back_after.as_secs_f64(), spans.len());
        let delivery = longest(&deliveries, spans).as_secs_f64();
        let answer = longest(&answers, spans);
        if fault.answers() && answer > ANSWERED_WITHIN {
            let what = format!("{fault:?}: an answer came after {:.1} s", answer.as_secs_f64());
            violations.push(Violation { invariant: "run", what });
        }
        let (fault, answer) = (format!("{fault:?}"), answer.as_secs_f64());
        println!(
            "{fault:<16} {cycles:>7} {unknown:>8} {back_after:>9.1} s {delivery:>15.1} s {answer:>13.1} s"
        );
    }
    println!(
        "{} acked, {} tries, {} deliveries, {} removals, {} rows",
        stage.acks.load(Ordering::Relaxed),
        journal.attempts.len(),
        journal.seen.len(),
        journal.absences.len(),
        journal.rows.len()
    );
    clients(stage, journal);
    races(journal, tallies);
    for violation in violations.iter().take(50) {
        println!("VIOLATION {}: {}", violation.invariant, violation.what);
    }
    println!("{} violations", violations.len());
    violations.is_empty()
}

/// How connections ended, and what devices made of what they were told.
fn clients(stage: &Stage, journal: &Journal) {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for end in &journal.ends {
        *ends.entry(format!("{:?}", end.ended)).or_default() += 1;
    }
    let refused = journal.attempts.iter().filter(|one| matches!(one.outcome, Outcome::Refused(_))).count();
    let conversations: usize = journal.folds.iter().map(|fold| fold.conversations.len()).sum();
    let messages: usize =
        journal.folds.iter().flat_map(|fold| fold.conversations.values()).map(|one| one.messages.len()).sum();
    println!(
        "{} events committed, {} lists fetched meanwhile; {refused} sends refused",
        stage.events(),
        stage.overviews.load(Ordering::Relaxed)
    );
    println!(
        "{} disconnects ({ends:?}), {} resumed at another node",
        stage.disconnects.load(Ordering::Relaxed),
        stage.elsewhere.load(Ordering::Relaxed)
    );
    println!(
        "{} devices folded {messages} messages in {conversations} places; {} repeats, {} of them not to be told apart",
        journal.folds.len(),
        journal.folds.iter().map(|fold| fold.repeats).sum::<u64>(),
        journal.folds.iter().map(|fold| fold.confusions.len()).sum::<usize>()
    );
}

/// How late the last thing came to whom it must not come any more.
fn races(journal: &Journal, tallies: &[Tally]) {
    let (removals, revocations) = (journal.after_removals(), journal.after_revocations());
    for Tally { fault, spans, .. } in tallies {
        let within = |at: Moment| spans.iter().any(|(from, to)| (*from..*to).contains(&at));
        let removed = journal.absences.iter().filter(|absence| within(absence.from)).count();
        let revoked: Vec<_> = journal.revocations.iter().filter(|one| within(one.acked)).collect();
        let closed = revoked.iter().filter(|one| one.end.is_some()).count();
        println!(
            "{fault:?}: {removed} removals, the last delivery {:.3} s after the ack; {} revocations, {closed} closed at most {:.3} s after it, \
             {} events before",
            longest(&removals, spans).as_secs_f64(),
            revoked.len(),
            longest(&revocations, spans).as_secs_f64(),
            revoked.iter().map(|one| one.events).sum::<u64>()
        );
    }
}
