//! Bounds of the domain. Each is a setting; see the sample configuration for units and meaning.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Members of a group, the owner included.
    pub group_members_max: u32,
    /// Ids in one list argument (`memberIds`, `userIds`, `conversationIds`, `nodes`).
    pub ids_max: usize,
    /// Conversations up to this many members show each member's reads to the others.
    pub receipts_members_max: i32,
    /// Groups above this many members are large: what is proportional to members is left to workers.
    pub fanout_inline_members_max: i32,
    /// Whether browsers' endpoints for pushes may have private addresses and no TLS; for tests.
    pub push_private_endpoints: bool,
    /// Sends and reads waiting in front of one committer.
    pub commit_queue_max: usize,
    /// How long a send waits for its commit before it is told `UNAVAILABLE`.
    pub send_timeout: Duration,
    /// Missed events of one conversation that a resumed subscription replays; more is `ResyncRequired`.
    pub replay_events_max: u32,
    /// How long the outbox and tombstones are kept, and so how old an event cursor may be.
    pub outbox_retention: Duration,
    /// Password hashes computed at once.
    pub password_hashes_max: usize,
    /// Lifts limits on rates, for load tests.
    pub rate_limits: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            group_members_max: 100_000,
            ids_max: 100,
            receipts_members_max: 50,
            fanout_inline_members_max: 500,
            push_private_endpoints: false,
            commit_queue_max: 4096,
            send_timeout: Duration::from_secs(5),
            replay_events_max: 1000,
            outbox_retention: Duration::from_hours(72),
            password_hashes_max: 2,
            rate_limits: true,
        }
    }
}
