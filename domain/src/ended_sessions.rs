//! Sessions that ended while access tokens of theirs may still live: what a node refuses without asking the database.
//!
//! Filled from storage at the start, by this node's own changes, and by what the log says of the others'. As large as the
//! number of sessions that ended within the lifetime of an access token.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use crate::{SessionId, Timestamp, tokens::ACCESS_TOKEN_LIFETIME};

/// How far the clocks of two nodes may differ: a token is honoured by the clock of whoever reads it.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);
/// How often old entries are looked for.
const SWEEP_PERIOD: Duration = Duration::from_mins(1);

#[derive(Default)]
pub(crate) struct EndedSessions {
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    ended_at: HashMap<SessionId, Timestamp>,
    swept_at: Timestamp,
}

impl EndedSessions {
    /// Sessions that ended before this have no living tokens.
    pub fn horizon(now: Timestamp) -> Timestamp {
        now.minus(ACCESS_TOKEN_LIFETIME + CLOCK_SKEW_MAX)
    }

    /// Remembers sessions with the time of their end.
    pub fn add(&self, ended: impl IntoIterator<Item = (SessionId, Timestamp)>, now: Timestamp) {
        let mut entries = self.write();
        entries.ended_at.extend(ended);
        if now.since(entries.swept_at) >= SWEEP_PERIOD {
            entries.swept_at = now;
            let horizon = Self::horizon(now);
            entries.ended_at.retain(|_, ended_at| *ended_at >= horizon);
        }
    }

    pub fn contains(&self, session: SessionId) -> bool {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).ended_at.contains_key(&session)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_until_its_last_token_is_dead() {
        let ended = EndedSessions::default();
        let start = Timestamp(1_000_000_000_000);
        ended.add([(SessionId(1), start)], start);
        assert!(ended.contains(SessionId(1)) && !ended.contains(SessionId(2)));
        let dead = start + ACCESS_TOKEN_LIFETIME;
        ended.add([(SessionId(2), dead)], dead);
        assert!(ended.contains(SessionId(1)), "another node's clock may be behind");
        let forgotten = dead + CLOCK_SKEW_MAX + SWEEP_PERIOD;
        ended.add([(SessionId(3), forgotten)], forgotten);
        assert!(
            !ended.contains(SessionId(1)) && ended.contains(SessionId(2)) && ended.contains(SessionId(3))
        );
    }
}
