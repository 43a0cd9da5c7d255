//! The end of a session, on every node.

use async_trait::async_trait;

use crate::{
    Caller, Chat, Event, Fact, ServiceError, ServiceResult, SessionId, Timestamp, UserId,
    commit::{Change, ChangeError, Changed},
    port::{LaneTransaction, log::EndSessions},
};

impl Chat {
    /// Ends one of the caller's sessions; `None` is the one that calls. Ending one again succeeds.
    pub async fn sign_out(&self, caller: &Caller, session: Option<SessionId>) -> ServiceResult<()> {
        let session = session.unwrap_or(caller.session);
        if session != caller.session
            && self.services.accounts.session_owner(session).await? != Some(caller.user)
        {
            return Err(ServiceError::not_found("session").at(&["sessionId"]));
        }
        self.end_session(caller.user, session).await
    }

    pub(super) async fn end_session(&self, user: UserId, session: SessionId) -> ServiceResult<()> {
        self.end_sessions(EndSessions::One { user, session }, None).await
    }

    /// Ends sessions in the user's lane, so that every hub hears of it, and sets a new password hash with it.
    pub(super) async fn end_sessions(
        &self,
        which: EndSessions,
        password_hash: Option<String>,
    ) -> ServiceResult<()> {
        let (EndSessions::One { user, .. } | EndSessions::AllBut { user, .. }) = which;
        let lane = self.layout().of_user(user);
        let ended = self.change(lane, End { which, user, password_hash }).await?;
        for session in ended {
            self.note_session_ended(session);
        }
        Ok(())
    }

    /// From now on access tokens of the session are refused here.
    pub fn note_session_ended(&self, session: SessionId) {
        self.services.ended.note(session, self.services.clock.now());
    }
}

struct End {
    which: EndSessions,
    user: UserId,
    password_hash: Option<String>,
}

#[async_trait]
impl Change for End {
    type Output = Vec<SessionId>;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<Vec<SessionId>>, ChangeError> {
        let ended = tx.end_sessions(self.which, now).await?;
        let event = |session| Event {
            fact: Fact::SessionEnded { user: self.user, session },
            conversation: None,
            message: None,
            member: None,
        };
        let events = ended.iter().copied().map(event).collect();
        if let Some(hash) = &self.password_hash {
            tx.set_password_hash(self.user, hash).await?;
        }
        Ok(Changed { events, output: ended, writes_without_events: self.password_hash.is_some() })
    }
}
