//! Sessions whose last subscription here has ended, until SQL knows when.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Chat, PRESENCE_GRACE, ServiceResult, SessionId, Timestamp};

/// Sessions in one statement.
const AT_ONCE: usize = 500;
/// Sessions that wait, about 50 bytes each. Of more SQL keeps what it knows: when they last refreshed their tokens.
const WAITING_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Departures(Mutex<HashMap<SessionId, Timestamp>>);

impl Departures {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, session: SessionId, now: Timestamp) {
        let mut waiting = self.lock();
        if waiting.len() < WAITING_MAX {
            waiting.insert(session, now);
        }
    }

    /// It is here again.
    pub fn forget(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// Writes those who stayed away for the grace. What cannot be written waits.
    pub async fn write(&self, chat: &Chat) -> ServiceResult<()> {
        let before = chat.clock().now().minus(PRESENCE_GRACE);
        let mut gone: Vec<(Timestamp, SessionId)> = {
            let waiting = self.lock();
            let gone = waiting.iter().filter(|(_, at)| **at <= before);
            gone.map(|(session, at)| (*at, *session)).collect()
        };
        gone.sort_unstable();
        for some in gone.chunks(AT_ONCE) {
            let Some((until, _)) = some.last() else { break };
            chat.note_seen(some.iter().map(|(_, session)| *session).collect(), *until).await?;
            let mut waiting = self.lock();
            for (at, session) in some {
                if waiting.get(session) == Some(at) {
                    waiting.remove(session);
                }
            }
        }
        Ok(())
    }
}
