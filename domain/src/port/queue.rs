//! Records for other processes: everything durable that happened, and tasks for workers.

use std::{error::Error, time::Duration};

use async_trait::async_trait;

/// Where records of one kind go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Everything durable that happened, for integrators: by conversation, or by user for what belongs to none.
    Events,
    /// Work in proportion to the members of a large group: by conversation.
    Fanout,
    /// Pushes to some members of a conversation: by conversation.
    Push,
    /// What could not be done, as it came, with the reason.
    FanoutDead,
    PushDead,
}

impl Topic {
    pub const ALL: &'static [Self] =
        &[Self::Events, Self::Fanout, Self::Push, Self::FanoutDead, Self::PushDead];
    /// Work for workers.
    pub const TASKS: &'static [Self] = &[Self::Fanout, Self::Push];

    /// The name behind the prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Fanout => "task.fanout",
            Self::Push => "task.push",
            Self::FanoutDead => "task.fanout.dead",
            Self::PushDead => "task.push.dead",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.name() == name)
    }

    /// Where a task goes that cannot be done.
    pub const fn dead(self) -> Option<Self> {
        match self {
            Self::Fanout => Some(Self::FanoutDead),
            Self::Push => Some(Self::PushDead),
            Self::Events | Self::FanoutDead | Self::PushDead => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: Topic,
    /// Records of one key stay in order.
    pub key: Vec<u8>,
    /// `domain::contract::envelope`.
    pub payload: Vec<u8>,
}

/// Not all records arrived; the same again is safe, as readers know repeats by their place.
#[derive(Debug, thiserror::Error)]
#[error("records cannot be delivered")]
pub struct QueueError(#[source] pub Box<dyn Error + Send + Sync>);

/// A task that has died, as people look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRecord {
    /// The topic it came from.
    pub topic: Topic,
    /// Tells it from others of its topic.
    pub place: String,
    pub reason: String,
    pub payload: Vec<u8>,
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    /// Nothing is left to do about it: it is done, waits elsewhere, or has been buried.
    Done,
    /// Not now; again after a while.
    Again(Duration),
}

/// What a worker does with tasks.
#[async_trait]
pub trait Work: Send + Sync {
    /// Tries a task that was tried so often before. What is not `Done` comes again, also after a crash.
    async fn work(&self, topic: Topic, record: &[u8], tries: u32) -> Worked;

    /// Does several tasks of one key that follow each other, where that costs less than one after the other. Answers how many of the
    /// first are done; the others are tried by themselves.
    async fn work_together(&self, topic: Topic, records: &[&[u8]]) -> usize;
}

#[async_trait]
pub trait Queue: Send + Sync {
    /// Answers once all records are where no crash loses them, in the order given for each key.
    async fn deliver(&self, records: Vec<Record>) -> Result<(), QueueError>;

    /// Keeps a task that cannot be done, with the reason.
    async fn bury(&self, topic: Topic, key: &[u8], payload: &[u8], reason: &str) -> Result<(), QueueError>;
}
