//! The task that tells one subscription to `activity` what it may hear, at its reader's pace. Of a user who changes while the reader is slow
//! the last state is told.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_graphql::{Request, Response, ServerError};
use domain::{
    Caller, Contact, ConversationId, ErrorCode, Presence, ServiceError, ServiceResult, UserId, measure,
};
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    Shared,
    arguments::Arguments,
    listener::{Inbox, Kind, Listener, Scope, Trust},
};
use crate::{
    executor::Subscription,
    refusal::{Refusal, complete_errors},
    schema::{self, ActivityFeed, execute_stream, request_data, types::activity::ActivityItem},
    websocket::{About, Closed, serialise_response},
};

/// Between two tries to find out what may be heard.
const CHECK_PAUSE: Duration = Duration::from_millis(250);

/// Why a subscription ends.
enum End {
    /// Told to the client as an `error` message.
    Refused(Vec<ServerError>),
    /// The client is gone, or no longer interested.
    Gone,
}

impl From<ServiceError> for End {
    fn from(error: ServiceError) -> Self {
        Self::Refused(vec![schema::error::Failure::from(error).without_place()])
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal.into()])
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

/// Until the subscription ends.
pub(super) async fn run(shared: &Shared, listener: Arc<Listener>, subscription: Subscription) {
    let request_id = subscription.trace.id;
    if let Err(End::Refused(errors)) = listen(shared, &listener, subscription).await {
        let mut response = Response::from_errors(errors);
        complete_errors(&mut response, &request_id.to_string());
        listener.outbound.error(&listener.id, &response.errors);
    }
}

async fn listen(shared: &Shared, listener: &Arc<Listener>, subscription: Subscription) -> Result<(), End> {
    let caller =
        subscription.caller.ok_or_else(|| ServiceError::unauthenticated("this needs a signed-in caller"))?;
    let (_, operation) = subscription.document.operation(subscription.operation_name.as_deref())?;
    let arguments = Arguments::read(&operation.node, &subscription.variables, shared.chat.limits().ids_max)?;
    shared.board.admit(listener);
    let mut teller = Teller {
        shared,
        listener,
        caller,
        arguments,
        answers: Answers::of(shared, &subscription, caller),
        told: HashMap::new(),
        typing: HashSet::new(),
    };
    teller.open().await?;
    teller.go_on().await
}

/// Tells one subscription; forgets it when dropped.
struct Teller<'a> {
    shared: &'a Shared,
    listener: &'a Arc<Listener>,
    caller: Caller,
    arguments: Arguments,
    answers: Answers,
    told: HashMap<UserId, Presence>,
    typing: HashSet<(ConversationId, UserId)>,
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        // Whoever waits for the answer may go on: nothing may be heard.
        let over = Inbox { trust: Trust::Over, ..Inbox::default() };
        let scope = std::mem::replace(&mut *self.listener.inbox(), over).scope;
        self.listener.settled.notify_waiters();
        self.shared.board.leave(self.listener, &scope);
    }
}

impl Teller<'_> {
    async fn open(&mut self) -> Result<(), End> {
        self.listener.inbox().trust = Trust::Asked;
        let found = find(self.shared, &self.caller, &self.arguments).await?;
        let Arguments { users, conversations } = &self.arguments;
        let known: HashSet<UserId> = found.contacts.iter().map(|contact| contact.user).collect();
        let missing = users.iter().any(|user| !known.contains(user));
        if missing || found.conversations.len() < conversations.len() {
            return Err(ServiceError::new(ErrorCode::NotFound, "no such user or conversation").into());
        }
        if found.too_many {
            let message = format!("at most {} people in one subscription", self.shared.limits.users_max);
            return Err(ServiceError::new(ErrorCode::LimitExceeded, message).into());
        }
        self.settle(&found)?;
        let shown: Vec<UserId> =
            found.contacts.iter().filter(|contact| contact.shows).map(|contact| contact.user).collect();
        if self.shared.chat.switches().borrow().presence {
            let standings = self.shared.chat.standings(&shown).await;
            self.shared.board.found(&shown, &standings, self.shared.chat.clock().now());
        }
        for user in shown {
            if let Some(presence) = self.shared.board.presence(user) {
                self.told.insert(user, presence);
            }
        }
        let mut presences: Vec<(UserId, Presence)> =
            self.told.iter().map(|(user, presence)| (*user, *presence)).collect();
        presences.sort_unstable_by_key(|(user, _)| *user);
        let about = About { conversation: ConversationId::group(0), rev: Kind::Opened as i32 };
        self.say(ActivityItem::Opened { presences }, Some(about)).await
    }

    /// From now on this may be heard.
    fn settle(&self, found: &domain::ActivityScope) -> ServiceResult<()> {
        let users = |contacts: &[Contact]| contacts.iter().map(|contact| contact.user).collect();
        let shown = found.contacts.iter().filter(|contact| contact.shows).copied().collect::<Vec<_>>();
        let scope = Scope {
            users: users(&found.contacts),
            shown: users(&shown),
            rooms: found.conversations.iter().map(|head| head.id).collect(),
        };
        let before = self.listener.inbox().scope.clone();
        self.shared.board.watch(self.listener, &before, &scope, &found.contacts, &found.conversations)?;
        let mut inbox = self.listener.inbox();
        let users = inbox.scope.shown.symmetric_difference(&scope.shown).copied().collect::<Vec<_>>();
        inbox.users.extend(users);
        let is_all = inbox.scope.shown.is_subset(&scope.shown) && inbox.scope.rooms.is_subset(&scope.rooms);
        inbox.has_shrunk |= !is_all;
        inbox.scope = scope;
        // Otherwise it was lost again meanwhile.
        if inbox.trust == Trust::Asked {
            inbox.trust = Trust::Known;
        }
        drop(inbox);
        self.listener.settled.notify_waiters();
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), End> {
        loop {
            if self.listener.has_ended() {
                return Ok(());
            }
            let (check, users, typing) = {
                let mut inbox = self.listener.inbox();
                if inbox.trust == Trust::Known {
                    (false, std::mem::take(&mut inbox.users), std::mem::take(&mut inbox.typing))
                } else {
                    inbox.trust = Trust::Asked;
                    (true, BTreeSet::new(), BTreeSet::new())
                }
            };
            if check {
                self.check().await?;
            } else if users.is_empty() && typing.is_empty() {
                self.listener.changed.notified().await;
            }
            for user in users {
                self.tell_of(user).await?;
            }
            for (conversation, user) in typing {
                self.tell_typing(conversation, user).await?;
            }
        }
    }

    async fn check(&mut self) -> Result<(), End> {
        match find(self.shared, &self.caller, &self.arguments).await {
            // What is too much now is left out.
            Ok(found) => Ok(self.settle(&found)?),
            Err(error) if error.retryable() => {
                sleep(CHECK_PAUSE).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn tell_of(&mut self, user: UserId) -> Result<(), End> {
        let is_shown = self.listener.inbox().scope.shown.contains(&user);
        let presence = self.shared.board.presence(user).filter(|_| is_shown);
        let told = self.told.get(&user);
        if told.map(|told| told.state) == presence.map(|presence| presence.state) {
            return Ok(());
        }
        match presence {
            Some(presence) => drop(self.told.insert(user, presence)),
            None => drop(self.told.remove(&user)),
        }
        measure::count(measure::ACTIVITY_DELIVERIES, &[("kind", "presence")], 1);
        // That nothing is told any more may be told whenever.
        let pair = ConversationId::direct(self.caller.user, user).filter(|_| presence.is_some());
        let about = pair.map(|conversation| About { conversation, rev: Kind::Presence as i32 });
        self.say(ActivityItem::Presence { user, presence }, about).await
    }

    async fn tell_typing(&mut self, conversation: ConversationId, user: UserId) -> Result<(), End> {
        if user == self.caller.user || !self.listener.inbox().scope.rooms.contains(&conversation) {
            return Ok(());
        }
        let Some((head, typing)) = self.shared.board.typing(conversation, user) else { return Ok(()) };
        let changed = match typing {
            true => self.typing.insert((conversation, user)),
            false => self.typing.remove(&(conversation, user)),
        };
        if !changed {
            return Ok(());
        }
        measure::count(measure::ACTIVITY_DELIVERIES, &[("kind", "typing")], 1);
        let about = About { conversation, rev: Kind::Typing as i32 };
        self.say(ActivityItem::Typing { conversation: head, user, typing }, Some(about)).await
    }

    async fn say(&mut self, item: ActivityItem, about: Option<About>) -> Result<(), End> {
        let mut response = self.answers.next(item, self.shared.limits.execution_timeout).await;
        complete_errors(&mut response, "activity");
        if response.data == async_graphql::Value::Null {
            return Err(End::Refused(response.errors));
        }
        if self.listener.has_ended() {
            return Err(End::Gone);
        }
        let bytes = serialise_response(&response);
        Ok(self.listener.outbound.next_paced(&self.listener.id, bytes, about).await?)
    }
}

/// What of this may be heard now.
async fn find(shared: &Shared, caller: &Caller, asked: &Arguments) -> ServiceResult<domain::ActivityScope> {
    // Never closed.
    let _turn = shared.checks.acquire().await;
    shared.chat.activity_scope(caller, &asked.users, &asked.conversations, shared.limits.users_max).await
}

/// The executor's stream of one subscription.
struct Answers {
    items: mpsc::Sender<ActivityItem>,
    responses: BoxStream<'static, Response>,
}

impl Answers {
    fn of(shared: &Shared, subscription: &Subscription, caller: Caller) -> Self {
        // The text is not needed: the document is parsed.
        let mut request = Request::new("").variables(subscription.variables.clone());
        if let Some(name) = &subscription.operation_name {
            request = request.operation_name(name);
        }
        request.set_parsed_query(subscription.document.parsed.clone());
        let (items, told) = mpsc::channel(1);
        let feed = futures_util::stream::unfold(told, |mut told| async move {
            told.recv().await.map(|item| (item, told))
        });
        let request = request_data(request, &shared.chat, Some(caller), None);
        let responses = execute_stream(&shared.schema, request.data(ActivityFeed::new(feed.boxed())));
        Self { items, responses }
    }

    async fn next(&mut self, item: ActivityItem, limit: Duration) -> Response {
        let told = async {
            // Nobody takes it when the document cannot be executed; the answer says why.
            let _ = self.items.send(item).await;
            self.responses.next().await
        };
        let told = timeout(limit, std::panic::AssertUnwindSafe(told).catch_unwind()).await;
        told.ok().and_then(Result::ok).flatten().unwrap_or_else(|| {
            let failure =
                schema::error::Failure::from(ServiceError::internal("an event could not be executed"));
            Response::from_errors(vec![failure.without_place()])
        })
    }
}
