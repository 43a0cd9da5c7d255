//! [`Chat`]: everything Confab does, in this process or behind gRPC.

mod presence;
mod users;

use std::{collections::HashMap, sync::Arc};

use futures_util::future::Either;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use crate::{
    ActivityScope, Caller, ConversationId, ConversationView, Credentials, CursorError, CursorPosition,
    DeadTask, Direction, LaneId, LaneLayout, Limits, LoggedBatch, Member, MemberId, Message, MessageId, Page,
    PageRequest, Positions, PresenceVisibility, PushAddress, PushBatch, PushProvider, PushRange, PushTask,
    Pushed, QuietHours, RelayBacklog, RelayLane, ServiceError, ServiceResult, Session, SessionId, Switches,
    Timestamp, User, UserId, WorkerId,
    attempts::rates::Rates,
    budget::Budgets,
    contract::{proto, wire::Wire},
    cursor,
    departures::Departures,
    documents::SharedDocuments,
    ended_sessions::EndedSessions,
    grpc::{
        Remote,
        calls::calls,
        convert::{Reply, address_to_proto, page_to_proto},
        remote::{Again, Ask, Route},
    },
    keys::KeyRing,
    lifeline::Lifeline,
    measure,
    port::{
        Bus, Cache, Clock, Presence, Random, Whispers,
        conversations::{HistoryPage, ListCursor, Missed},
        log::Heads,
    },
    service::{
        Domain, add_members::AddMembers, change_password::ChangePassword, create_group::CreateGroup,
        mark_read::MarkRead, register::Register, register::SignedIn, remove_member::RemoveMember,
        send_message::SendMessage, set_member_role::SetMemberRole, sign_in::SignIn,
        update_group::UpdateGroup,
    },
    tokens::AccessTokens,
};

/// Everything Confab does. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    pub(crate) local: Arc<Local>,
    pub(crate) backend: Backend,
}

/// What every process does by itself: reading tokens and cursors, hearing of commits.
pub(crate) struct Local {
    pub installation: String,
    pub layout: LaneLayout,
    pub limits: Limits,
    pub keys: KeyRing,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub tokens: Arc<AccessTokens>,
    pub ended_sessions: Arc<EndedSessions>,
    pub bus: Arc<dyn Bus>,
    pub presence: Arc<dyn Presence>,
    pub whispers: Arc<dyn Whispers>,
    pub departures: Departures,
    /// How often each user may say that they are typing, here.
    pub typing: Rates<UserId>,
    pub switches: watch::Receiver<Switches>,
    pub documents: SharedDocuments,
    pub budgets: Arc<Budgets>,
    pub lifeline: Lifeline,
    /// What other processes have said of users; `None` where the domain is here, which keeps copies of its own.
    pub users: Option<Arc<dyn Cache>>,
}

/// Where the domain runs.
#[derive(Clone)]
pub(crate) enum Backend {
    Here(Domain),
    There(Arc<Remote>),
}

macro_rules! methods {
    ($($(#[$doc:meta])* $vis:vis $name:ident $([$caller:ident])? ($($arg:ident: $kind:ty),*) -> $output:ty
        = $rpc:ident($message:ident { $($field:ident: $value:expr),* $(,)? }) | $request:ident => ($($given:expr),*)
        by $route:expr, again $again:ident;)*) => {
        impl Chat {
            $($(#[$doc])*
            $vis async fn $name(&self, $($caller: &Caller,)? $($arg: $kind),*) -> ServiceResult<$output> {
                let begun = Instant::now();
                let outcome = match &self.backend {
                    Backend::Here(domain) => domain.$name($($caller,)? $($arg),*).await,
                    Backend::There(remote) => {
                        let caller = None$(.or(Some($caller)))?;
                        let ask =
                            Ask { name: stringify!($rpc), caller, route: $route, again: Again::$again };
                        let request = proto::$message { $($field: $value),* };
                        let reply = remote.call(ask, request, |mut client, request| {
                            Box::pin(async move { client.$rpc(request).await })
                        });
                        let read = |reply| <$output>::from_reply(reply).map_err(ServiceError::internal);
                        // Apart, or a call that stays in this process would be as large as one that does not.
                        Box::pin(reply).await.and_then(read)
                    }
                };
                measured(stringify!($name), begun, &outcome);
                outcome
            })*
        }
    };
}

calls!(methods);

fn measured<T>(call: &'static str, begun: Instant, outcome: &ServiceResult<T>) {
    let code = outcome.as_ref().err().map_or("ok", |error| error.code().name());
    measure::count(measure::CALLS, &[("call", call), ("outcome", code)], 1);
    measure::latency(measure::CALL_SECONDS, &[("call", call)], begun);
}

impl Chat {
    pub fn limits(&self) -> &Limits {
        &self.local.limits
    }

    pub fn layout(&self) -> LaneLayout {
        self.local.layout
    }

    /// What tells this installation from others: random, made at install.
    pub fn installation(&self) -> &str {
        &self.local.installation
    }

    /// The keys that sign tokens and cursors; whoever runs the process reloads them now and then.
    pub fn keys(&self) -> &KeyRing {
        &self.local.keys
    }

    /// What the tasks of this process are held by.
    pub fn lifeline(&self) -> &Lifeline {
        &self.local.lifeline
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.local.clock
    }

    pub fn random(&self) -> &Arc<dyn Random> {
        &self.local.random
    }

    /// The shortcut from commits; a hint.
    pub fn live(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        self.local.bus.subscribe()
    }

    pub fn seal_cursor(&self, position: &CursorPosition) -> String {
        cursor::seal(position, &self.local.keys, self.local.clock.now())
    }

    pub fn open_cursor(&self, cursor: &str) -> Result<CursorPosition, CursorError> {
        cursor::open(cursor, &self.local.keys)
    }

    /// Verifies an access token and that its session has not been ended. `UNAUTHENTICATED` otherwise.
    pub fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        let caller = self.local.tokens.verify(access_token)?;
        if self.local.ended_sessions.contains(caller.session) {
            return Err(ServiceError::unauthenticated("the session has ended"));
        }
        Ok(caller)
    }

    /// From now on this node refuses the session's access tokens. The hub tells what the log says.
    pub fn note_session_ended(&self, session: SessionId) {
        let now = self.local.clock.now();
        self.local.ended_sessions.add([(session, now)], now);
    }

    /// Learns which sessions ended lately. At the start, once the log is being followed and before the first caller.
    pub async fn load_ended_sessions(&self) -> ServiceResult<()> {
        let now = self.local.clock.now();
        let ended = self.ended_sessions(EndedSessions::horizon(now)).await?;
        self.local.ended_sessions.add(ended, now);
        Ok(())
    }

    /// Ends one of the caller's sessions; `None` is the one that calls. One that ended before stays ended.
    pub async fn sign_out(&self, caller: &Caller, session: Option<SessionId>) -> ServiceResult<()> {
        for ended in self.end_session(caller, session).await? {
            self.note_session_ended(ended);
        }
        Ok(())
    }

    /// Sets the password and ends the caller's other sessions, both or neither.
    pub async fn change_password(&self, caller: &Caller, command: ChangePassword) -> ServiceResult<()> {
        for ended in self.replace_password(caller, command).await? {
            self.note_session_ended(ended);
        }
        Ok(())
    }

    /// As [`Chat::send_message`], but takes the message's place in its lane's queue at once, so that two calls in a row stay in
    /// order; the future waits for the commit.
    pub fn enqueue_message(
        &self,
        caller: &Caller,
        command: SendMessage,
    ) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
        let begun = Instant::now();
        let pending = match &self.backend {
            Backend::Here(domain) => domain.enqueue_message(caller, command).map(Either::Left),
            // Apart, or a send that stays in this process would be as large as one that does not.
            Backend::There(remote) => remote.enqueue(caller, command).map(Box::pin).map(Either::Right),
        };
        let pending =
            pending.inspect_err(|error| measured::<()>("send_message", begun, &Err(error.clone())))?;
        Ok(async move {
            let outcome = pending.await;
            measured("send_message", begun, &outcome);
            outcome
        })
    }
}
