//! What clients did and saw, and what there was at the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

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

#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub members: BTreeMap<String, BTreeSet<String>>,
    pub attempts: Vec<Attempt>,
    pub seen: Vec<Seen>,
    pub probes: Vec<Probe>,
    /// Anything else that must not happen, as it was noticed.
    pub complaints: Vec<String>,
    pub rows: Vec<Row>,
    pub views: Vec<View>,
}

impl Journal {
    /// The longest time from an ack to the message's delivery, among the messages acked in a span of time.
    pub fn slowest_delivery(&self, from: Moment, to: Moment) -> Duration {
        let acked: HashMap<&str, Moment> = self
            .attempts
            .iter()
            .filter(|attempt| attempt.answered >= from && attempt.answered < to)
            .filter_map(|attempt| match &attempt.outcome {
                Outcome::Acked { id, .. } => Some((id.as_str(), attempt.answered)),
                _ => None,
            })
            .collect();
        // A replay may repeat what was delivered before.
        let mut first: HashMap<(&str, &str), Moment> = HashMap::new();
        for seen in &self.seen {
            first.entry((&seen.user, &seen.id)).or_insert(seen.at);
        }
        let late = first.iter().filter_map(|((_, id), at)| Some(at.saturating_sub(*acked.get(id)?)));
        late.max().unwrap_or_default()
    }
}
