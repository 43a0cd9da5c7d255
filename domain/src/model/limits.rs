//! Bounds of the domain. Each is a setting; see the sample configuration for units and meaning.

use std::time::Duration;

use super::Refill;

/// So many at once, then one more every `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub refill: Duration,
}

/// How many registered documents are kept; what was not asked for the longest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentBounds {
    pub documents_max: usize,
    /// Of their texts.
    pub bytes_max: usize,
}

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
    /// Sends and reads in one transaction of a committer.
    pub batch_messages_max: usize,
    /// Bytes of text in one transaction of a committer.
    pub batch_bytes_max: usize,
    /// How often a transaction that met another one is tried again as a whole.
    pub retries_max: u32,
    /// How long a send waits for its commit before it is told `UNAVAILABLE`.
    pub send_timeout: Duration,
    /// Missed events, of all conversations together, that a resumed subscription replays; more is `ResyncRequired`.
    pub replay_events_max: u32,
    /// How long the outbox and tombstones are kept, and so how old an event cursor may be.
    pub outbox_retention: Duration,
    /// Password hashes computed at once.
    pub password_hashes_max: usize,
    /// Callers that wait for a password hash; one more is told to come back.
    pub password_queue_max: usize,
    /// How long such a caller waits.
    pub password_wait: Duration,
    /// Sign-ins to one account from one address, and checks of a signed-in user's password.
    pub sign_in_pair_rate: Rate,
    /// Sign-ins from one address to any account.
    pub sign_in_address_rate: Rate,
    /// Sign-ins to one account from all unfamiliar addresses together.
    pub sign_in_account_rate: Rate,
    /// Registrations from one address.
    pub registration_rate: Rate,
    /// How often one user may say that they are typing.
    pub typing_rate: Rate,
    /// Documents that clients register, in this process and again in Redis.
    pub documents: DocumentBounds,
    /// What a user may spend on operations, as their cost is counted.
    pub user_budget: Refill,
    /// What all callers of one address together may.
    pub address_budget: Refill,
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
            batch_messages_max: 256,
            batch_bytes_max: 1024 * 1024,
            retries_max: 5,
            send_timeout: Duration::from_secs(5),
            replay_events_max: 1000,
            outbox_retention: Duration::from_hours(72),
            password_hashes_max: 2,
            password_queue_max: 256,
            password_wait: Duration::from_secs(2),
            // Five typing errors, then one every 30 s.
            sign_in_pair_rate: Rate { burst: 5, refill: Duration::from_secs(30) },
            // An office behind one address, but no dictionary.
            sign_in_address_rate: Rate { burst: 60, refill: Duration::from_secs(1) },
            // At most 8,640 guesses a day.
            sign_in_account_rate: Rate { burst: 30, refill: Duration::from_secs(10) },
            registration_rate: Rate { burst: 20, refill: Duration::from_secs(10) },
            // Somebody who types in several conversations, at several devices.
            typing_rate: Rate { burst: 20, refill: Duration::from_millis(500) },
            documents: DocumentBounds { documents_max: 10_000, bytes_max: 16 * 1024 * 1024 },
            // A minute of a busy client at once; then a hundred messages or a thousand objects a second.
            user_budget: Refill { burst: 60_000, per_second: 1000 },
            // An office behind one address.
            address_budget: Refill { burst: 600_000, per_second: 10_000 },
            rate_limits: true,
        }
    }
}
