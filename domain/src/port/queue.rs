//! Records for other processes: everything durable that happened, and tasks for workers.

use std::error::Error;

use async_trait::async_trait;

/// Where records of one kind go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Everything durable that happened, for integrators: by conversation, or by user for what belongs to none.
    Events,
}

impl Topic {
    pub const ALL: &'static [Self] = &[Self::Events];

    /// The name behind the prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
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

#[async_trait]
pub trait Queue: Send + Sync {
    /// Answers once all records are where no crash loses them, in the order given for each key.
    async fn deliver(&self, records: Vec<Record>) -> Result<(), QueueError>;
}
