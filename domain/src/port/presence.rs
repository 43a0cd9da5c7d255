//! Which sessions have an open subscription, on whatever node. A hint: nothing but pushes and what people see depends on it.

use std::collections::HashSet;

use async_trait::async_trait;

use crate::{SessionId, UserId};

#[async_trait]
pub trait Presence: Send + Sync {
    /// A session's first subscription on this node went live, or its last one ended.
    fn announce(&self, user: UserId, session: SessionId, live: bool);

    /// The sessions of these users that are live somewhere; none when that cannot be known.
    async fn live_sessions(&self, users: &[UserId]) -> HashSet<SessionId>;
}
