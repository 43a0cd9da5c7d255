//! What clients did and saw, and what there was at the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bench::cluster::Resources;

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
