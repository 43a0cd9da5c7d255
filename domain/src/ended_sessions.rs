//! Sessions that ended while access tokens of theirs may still live.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{SessionId, Timestamp, tokens::ACCESS_TOKEN_LIFETIME};

/// Bounded by nature: an entry goes when the last token of its session has expired.
#[derive(Clone, Default)]
pub struct EndedSessions {
    until: Arc<RwLock<HashMap<SessionId, Timestamp>>>,
}

impl EndedSessions {
    pub fn note(&self, session: SessionId, ended_at: Timestamp) {
        let mut until = self.until.write().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, last| *last > ended_at);
        until.insert(session, ended_at + ACCESS_TOKEN_LIFETIME);
    }

    pub fn contains(&self, session: SessionId) -> bool {
        self.until.read().unwrap_or_else(PoisonError::into_inner).contains_key(&session)
    }
}
