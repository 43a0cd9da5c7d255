//! Copies of what SQL holds, for reads that may be a moment late. A hint: what is not here in time is read from SQL, and nothing
//! that somebody may do or see is decided by it alone.

use std::time::Duration;

use async_trait::async_trait;

use crate::{ConversationId, MemberId, User, UserId};

/// What a copy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheKey {
    User(UserId),
    Membership(MemberId),
    Head(ConversationId),
}

/// A copy's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    User(User),
    /// Of somebody who is a member.
    Membership {
        read_seq: i32,
    },
    Head {
        last_seq: i32,
    },
}

/// A copy to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub key: CacheKey,
    /// As of which change it is; `rev` of the conversation, or 0 for what counts no changes.
    pub rev: i32,
    pub value: Cached,
    pub life: Duration,
}

/// The cache cannot tell in time. It has said so in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache is away")]
pub struct CacheAway;

#[async_trait]
pub trait Cache: Send + Sync {
    /// What is kept under each of these keys, if anything is.
    async fn get(&self, keys: &[CacheKey]) -> Result<Vec<Option<Cached>>, CacheAway>;

    /// Keeps copies; each unless one of a later `rev` is known under its key.
    async fn put(&self, copies: Vec<Kept>);

    /// Forgets what is older than `rev`, and keeps nothing older for [`VOID_LIFE`]: a reader that read before the change may come
    /// late with what it read.
    async fn void(&self, keys: &[(CacheKey, i32)]);
}

/// How long a void is remembered: much longer than anybody takes from reading to keeping.
pub const VOID_LIFE: Duration = Duration::from_mins(1);
