//! Sessions end through the log, so that every node hears of it.

use async_trait::async_trait;

use crate::{
    Domain, Event, Fact, ServiceResult, SessionId, Timestamp, UserId,
    commit::{Change, ChangeError, Changed},
    port::{LaneTransaction, log::EndSessions},
};

impl Domain {
    /// Ends sessions of a user; answers those that were still alive.
    pub(super) async fn end_sessions(
        &self,
        user: UserId,
        which: EndSessions,
        password_hash: Option<String>,
    ) -> ServiceResult<Vec<SessionId>> {
        let lane = self.layout().of_user(user);
        let ended = self.change(lane, EndOfSessions { user, which, password_hash }).await?;
        let now = self.services.clock.now();
        self.services.ended_sessions.add(ended.iter().map(|session| (*session, now)), now);
        Ok(ended)
    }

    /// Sessions that ended since a point in time, with that time.
    pub async fn ended_sessions(&self, since: Timestamp) -> ServiceResult<Vec<(SessionId, Timestamp)>> {
        Ok(self.services.accounts.ended_sessions(since).await?)
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
            trace: None,
        };
        Ok(Changed { events: ended.iter().map(event).collect(), output: ended })
    }
}
