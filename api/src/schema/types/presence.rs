//! Whether people are there.

use async_graphql::{Enum, SimpleObject};

use super::scalars::DateTime;

/// Whether somebody is there, on the best of their devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::PresenceState")]
pub enum PresenceState {
    /// A device has a subscription to `events` open, or had one within the last 10 seconds.
    Online,
    /// Connected, and every device said by `setPresence` that nobody looks at it.
    Away,
    /// No device has a subscription to `events` open. A server that died is noticed within 25 seconds.
    Offline,
}

/// Who may know whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::PresenceVisibility")]
pub enum PresenceVisibility {
    /// Those with whom the user shares a direct conversation, or a group that is not large (500 members, unless the operator says
    /// otherwise).
    EveryoneITalkTo,
    /// Nobody else.
    Nobody,
}

/// Whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SimpleObject)]
pub struct Presence {
    /// Whether they are there now.
    state: PresenceState,
    /// When their last device went, to about 15 seconds; to 15 minutes when its server or its network died. Null while one is there, and when
    /// it is not known.
    last_seen_at: Option<DateTime>,
}

impl From<domain::Presence> for Presence {
    fn from(presence: domain::Presence) -> Self {
        Self { state: presence.state.into(), last_seen_at: presence.last_seen_at.map(DateTime::from) }
    }
}
