//! Which sessions have an open subscription, on whatever node. A hint: nothing but pushes and what people see depends on it.

use std::collections::HashSet;

use async_trait::async_trait;

use crate::{NodeId, SessionId, Standings, UserId};

#[async_trait]
pub trait Presence: Send + Sync {
    /// A session's first subscription on this node went live, or its last one ended.
    fn announce(&self, user: UserId, session: SessionId, live: bool);

    /// Nobody looks at this session's device, or somebody does again. Forgotten when the session has gone for longer than the grace.
    fn set_away(&self, user: UserId, session: SessionId, away: bool);

    /// Lets go of sessions whose grace has passed. To be called about once a second.
    fn expire(&self) {}

    /// The sessions of these users that are live somewhere; none when that cannot be known.
    async fn live_sessions(&self, users: &[UserId]) -> HashSet<SessionId>;

    /// Who of these users is there. Sessions that left within the grace count.
    async fn standings(&self, users: &[UserId]) -> Standings;

    /// Those of the nodes whose lease has run out; `None` when that cannot be known.
    async fn fallen(&self, nodes: &[NodeId]) -> Option<Vec<NodeId>>;
}
