//! Sessions end through the log, so that every node hears of it.

use async_trait::async_trait;

use crate::{
    Chat, Event, Fact, ServiceResult, SessionId, Timestamp, UserId,
    commit::{Change, ChangeError, Changed},
    ended_sessions::EndedSessions,
    port::{LaneTransaction, log::EndSessions},
};

impl Chat {
    /// Ends sessions of a user; answers those that were still alive.
    pub(super) async fn end_sessions(
        &self,
        user: UserId,
        which: EndSessions,
        password_hash: Option<String>,
    ) -> ServiceResult<Vec<SessionId>> {
        let lane = self.layout().of_user(user);
        let ended = self.change(lane, EndOfSessions { user, which, password_hash }).await?;
        for session in &ended {
            self.note_session_ended(*session);
        }
        Ok(ended)
    }

    /// From now on this node refuses the session's access tokens. The hub tells what the log says.
    pub fn note_session_ended(&self, session: SessionId) {
        let now = self.services.clock.now();
        self.services.ended_sessions.add([(session, now)], now);
    }

    /// Learns which sessions ended lately. At the start, once the log is being followed and before the first caller.
    pub async fn load_ended_sessions(&self) -> ServiceResult<()> {
        let now = self.services.clock.now();
        let ended = self.services.accounts.ended_sessions(EndedSessions::horizon(now)).await?;
        self.services.ended_sessions.add(ended, now);
        Ok(())
    }
}

/// The end of sessions, and with it a new password.
struct EndOfSessions {
    user: UserId,
    which: EndSessions,
    password_hash: Option<String>,
}

#[async_trait]
impl Change for EndOfSessions {
    type Output = Vec<SessionId>;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<Vec<SessionId>>, ChangeError> {
        if let Some(hash) = &self.password_hash {
            tx.set_password_hash(self.user, hash).await?;
        }
        let ended = tx.end_sessions(self.which, now).await?;
        let event = |session: &SessionId| Event {
            fact: Fact::SessionEnded { user: self.user, session: *session },
            conversation: None,
            message: None,
            member: None,
        };
        Ok(Changed { events: ended.iter().map(event).collect(), output: ended })
    }

    fn writes_without_events(&self) -> bool {
        self.password_hash.is_some()
    }
}
