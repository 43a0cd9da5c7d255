//! The presence of a deployment that is one process.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::attendance::{Attendance, Outcome, Stage};
use crate::{
    NodeId, SessionId, Standings, UserId, Whisper,
    port::{Presence, Whispers},
};

/// As many as there are sessions with an open subscription, which the sockets' bound limits.
pub struct InProcessPresence {
    here: Mutex<Attendance>,
    whispers: Arc<dyn Whispers>,
}

impl InProcessPresence {
    pub fn new(whispers: Arc<dyn Whispers>) -> Self {
        Self { here: Mutex::default(), whispers }
    }

    fn lock(&self) -> MutexGuard<'_, Attendance> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, user: UserId, outcome: Outcome) {
        if outcome.state_changed {
            self.whispers.say(Whisper::PresenceChanged(user));
        }
    }
}

#[async_trait]
impl Presence for InProcessPresence {
    fn announce(&self, user: UserId, session: SessionId, live: bool) {
        let outcome = self.lock().announce(user, session, live, Instant::now());
        self.tell(user, outcome);
        self.expire();
    }

    fn set_away(&self, user: UserId, session: SessionId, away: bool) {
        let outcome = self.lock().set_away(user, session, away, Instant::now());
        self.tell(user, outcome);
    }

    fn expire(&self) {
        let expired = self.lock().expire(Instant::now());
        for (user, outcome) in expired {
            self.tell(user, outcome);
        }
    }

    async fn live_sessions(&self, users: &[UserId]) -> HashSet<SessionId> {
        let here = self.lock();
        let sessions = users.iter().flat_map(|user| here.sessions(*user));
        sessions.filter(|(_, entry)| entry.stage == Stage::Live).map(|(session, _)| session).collect()
    }

    async fn standings(&self, users: &[UserId]) -> Standings {
        self.expire();
        Standings { there: self.lock().standings(users), complete: true }
    }

    async fn fallen(&self, _: &[NodeId]) -> Option<Vec<NodeId>> {
        Some(Vec::new())
    }
}
