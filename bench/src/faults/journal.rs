//! What clients did and saw, and what there was at the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bench::cluster::Resources;

use crate::fold::Fold;

/// Since the beginning of the run.
pub type Moment = Duration;

/// One try to send a message.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub user: String,
    pub conversation: String,
    pub key: String,
    pub invoked: Moment,
    pub answered: Moment,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked {
        id: String,
        seq: i64,
    },
    /// No answer, or one that says that it may have happened.
    Unknown,
    /// An answer that no fault explains.
    Refused(String),
}

/// A message that a subscription delivered, in the order of delivery.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Moment,
    pub user: String,
    pub conversation: String,
    pub rev: i64,
    pub seq: i64,
    pub id: String,
}

/// A message in SQL.
#[derive(Clone, Debug)]
pub struct Row {
    pub conversation: String,
    pub seq: i64,
    /// The conversation's revision that it made.
    pub rev: i64,
    pub id: String,
    /// Absent for system messages.
    pub sender: Option<String>,
    pub key: Option<String>,
}

/// A conversation as a member fetches it at the end.
#[derive(Clone, Debug)]
pub struct View {
    pub user: String,
    pub conversation: String,
    /// Ids by `seq`.
    pub messages: BTreeMap<i64, String>,
    pub read_seq: i64,
    pub unread: i64,
    pub title: String,
    pub members: BTreeSet<String>,
}

/// How a connection ended that a subscription ran over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By the server's word.
    Closed(u16),
    /// By nobody's word: cut, or the process is gone.
    Lost,
    /// It answered nothing any more.
    Silent,
    /// The operation was refused, or ended by the server; the connection was good.
    Refused,
    /// By the client, without a word.
    Aborted,
}

/// The end of a client's connection.
#[derive(Clone, Debug)]
pub struct End {
    pub at: Moment,
    pub user: String,
    pub ended: Ended,
}

/// A session that was ended while it listened.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub session: String,
    /// When whoever ended it was told that it was done.
    pub acked: Moment,
    /// When its socket ended and how; `None` when it did not as long as somebody waited.
    pub end: Option<(Moment, Ended)>,
    /// The last event that came.
    pub last_event: Option<Moment>,
    pub events: u64,
}

/// Whether a sender found their own message right after its ack.
#[derive(Clone, Debug)]
pub struct Probe {
    pub user: String,
    pub key: String,
    pub found: bool,
}

/// A membership that a subscription saw begin or end.
#[derive(Clone, Debug)]
pub struct Move {
    pub user: String,
    pub conversation: String,
    pub rev: i64,
    pub joined: bool,
}

/// The time between the ack of a removal and the call that brings the member back.
#[derive(Clone, Debug)]
pub struct Absence {
    pub user: String,
    pub conversation: String,
    pub from: Moment,
    pub to: Moment,
    /// When that call was acked.
    pub back: Moment,
}

/// A read position that was acked.
#[derive(Clone, Debug)]
pub struct Mark {
    pub user: String,
    pub conversation: String,
    pub seq: i64,
}

/// What a process held at the beginning and at the end.
#[derive(Clone, Debug)]
pub struct Holding {
    pub process: String,
    pub first: Resources,
    pub last: Resources,
}

/// How what a process holds changed in a long run.
#[derive(Clone, Debug)]
pub struct Growth {
    pub process: String,
    pub samples: usize,
    pub memory_kib_a_minute: f64,
    pub descriptors_a_minute: f64,
    /// As much as it held at most.
    pub most: Resources,
}

impl Growth {
    /// Of the samples from `warm` on; `None` for too few to say anything.
    pub fn of(process: String, samples: &[(Moment, Resources)], warm: Moment) -> Option<Self> {
        let samples: Vec<_> = samples.iter().filter(|(at, _)| *at >= warm).collect();
        let slope_of = |value: fn(&Resources) -> f64| {
            slope(samples.iter().map(|(at, held)| (at.as_secs_f64() / 60.0, value(held))))
        };
        let memory_kib = samples.iter().map(|(_, held)| held.memory_kib).max()?;
        let descriptors = samples.iter().map(|(_, held)| held.descriptors).max()?;
        #[expect(clippy::cast_precision_loss, reason = "kilobytes and descriptors of one process")]
        Some(Self {
            process,
            samples: samples.len(),
            memory_kib_a_minute: slope_of(|held| held.memory_kib as f64)?,
            descriptors_a_minute: slope_of(|held| held.descriptors as f64)?,
            most: Resources { memory_kib, descriptors },
        })
    }
}

/// Of the line that is nearest to some points, by the sum of squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let (mut count, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
    for (x, y) in points.clone() {
        (count, sum_x, sum_y) = (count + 1.0, sum_x + x, sum_y + y);
    }
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (above, below) = points.fold((0.0, 0.0), |(above, below), (x, y)| {
        (above + (x - mean_x) * (y - mean_y), below + (x - mean_x).powi(2))
    });
    (below > 0.0).then(|| above / below)
}

#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Those who are members at the end, and whoever else may have been for a while.
    pub members: BTreeMap<String, BTreeSet<String>>,
    pub attempts: Vec<Attempt>,
    pub seen: Vec<Seen>,
    pub probes: Vec<Probe>,
    pub moves: Vec<Move>,
    pub absences: Vec<Absence>,
    pub marks: Vec<Mark>,
    pub holdings: Vec<Holding>,
    /// Anything else that must not happen, as it was noticed.
    pub complaints: Vec<String>,
    pub rows: Vec<Row>,
    pub views: Vec<View>,
    /// What each device made of what it was told, once everything was.
    pub folds: Vec<Fold>,
    /// By user, what is unread in all conversations together, as they fetch it at the end.
    pub totals: BTreeMap<String, i64>,
    pub ends: Vec<End>,
    /// When all processes were restarted one after the other.
    pub restarts: Vec<(Moment, Moment)>,
    pub revocations: Vec<Revocation>,
    pub growths: Vec<Growth>,
}

impl Journal {
    /// For each acked message, when it was acked and how much later the last member was delivered it.
    pub fn deliveries(&self) -> Vec<(Moment, Duration)> {
        let acked = self.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Acked { id, .. } => Some((id.as_str(), attempt.answered)),
            _ => None,
        });
        let acked: HashMap<&str, Moment> = acked.collect();
        // A replay may repeat what was delivered before.
        let mut first: HashMap<(&str, &str), Moment> = HashMap::new();
        for seen in &self.seen {
            first.entry((&seen.user, &seen.id)).or_insert(seen.at);
        }
        let late = first.iter().filter_map(|((_, id), at)| {
            let acked = *acked.get(id)?;
            Some((acked, at.saturating_sub(acked)))
        });
        late.collect()
    }

    /// For each removal after whose ack something was delivered, when it was acked and how much later the last of that came.
    pub fn after_removals(&self) -> Vec<(Moment, Duration)> {
        let mut seen: HashMap<(&str, &str), Vec<Moment>> = HashMap::new();
        for one in &self.seen {
            seen.entry((&one.user, &one.conversation)).or_default().push(one.at);
        }
        let last = self.absences.iter().filter_map(|absence| {
            let seen = seen.get(&(absence.user.as_str(), absence.conversation.as_str()))?;
            let last = seen.iter().filter(|at| **at > absence.from && **at < absence.to).max()?;
            Some((absence.from, last.saturating_sub(absence.from)))
        });
        last.collect()
    }

    /// For each session that was ended, when that was acked and how much later its socket was closed.
    pub fn after_revocations(&self) -> Vec<(Moment, Duration)> {
        let closed = self.revocations.iter().filter_map(|one| {
            let (at, _) = one.end?;
            Some((one.acked, at.saturating_sub(one.acked)))
        });
        closed.collect()
    }

    /// For each call that was answered, when it began and how long it took.
    pub fn answers(&self) -> Vec<(Moment, Duration)> {
        let answered =
            self.attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Acked { .. }));
        answered.map(|attempt| (attempt.invoked, attempt.answered.saturating_sub(attempt.invoked))).collect()
    }
}

/// The longest of those that began in one of some spans of time.
pub fn longest(durations: &[(Moment, Duration)], spans: &[(Moment, Moment)]) -> Duration {
    let within = |at: Moment| spans.iter().any(|(from, to)| at >= *from && at < *to);
    durations.iter().filter(|(at, _)| within(*at)).map(|(_, time)| *time).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory_kib: fn(u64) -> u64) -> Vec<(Moment, Resources)> {
        let sample = |minute| {
            let held = Resources { memory_kib: memory_kib(minute), descriptors: 50 };
            (Duration::from_secs(60 * minute), held)
        };
        (0..30).map(sample).collect()
    }

    #[test]
    fn growth_is_a_slope_after_the_warm_up() {
        let grows = |memory_kib| Growth::of(String::new(), &samples(memory_kib), Duration::from_mins(10));
        let steady = grows(|minute| 90_000 + 700 * minute).expect("a slope");
        assert!((steady.memory_kib_a_minute - 700.0).abs() < 0.01, "{steady:?}");
        let filled_first = grows(|minute| 90_000 + 5000 * minute.min(10)).expect("a slope");
        assert!(filled_first.memory_kib_a_minute.abs() < 0.01, "{filled_first:?}");
        assert!(filled_first.descriptors_a_minute.abs() < 0.01);
        assert_eq!(filled_first.samples, 20);
        assert!(Growth::of(String::new(), &[], Duration::ZERO).is_none());
    }
}
