//! Budgets that are spent by several: a bucket of tokens for each owner.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Network, Refill, Taken, Timestamp, UserId};

/// Whose budget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    User(UserId),
    Network(Network),
}

/// What is asked of a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub owner: Owner,
    pub refill: Refill,
    /// At least so many tokens.
    pub needed: u32,
    /// At most so many.
    pub wanted: u32,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// There will be enough after so long.
    Wait(Duration),
    /// Nobody can tell. It has been said in the log.
    Away,
}

#[async_trait]
pub trait Buckets: Send + Sync {
    /// `now` is for those who have no clock of their own.
    async fn take(&self, ask: Ask, now: Timestamp) -> Result<Taken, NotTaken>;
}
