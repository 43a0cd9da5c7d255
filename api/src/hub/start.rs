//! The opening of a subscription: `StreamOpened`, what was missed, then over to the actor, which makes it live.

use std::{collections::HashMap, pin::pin, sync::Arc, task::Poll};

use async_graphql::{Response, ServerError};
use axum::extract::ws::Utf8Bytes;
use domain::{
    Caller, ConversationId, CursorError, CursorPosition, ErrorCode, Positions, ServiceError, ServiceResult,
    model::cursor::ReplayMark,
    port::conversations::{Missed, MissedInConversation},
};
use futures_util::poll;
use tokio::sync::oneshot;

use super::{
    Open, Shared,
    actor::{Command, GoLive, WentLive},
    arguments::Arguments,
    group::{Plan, Running},
    replay::events_of,
    sharing::is_shared,
    view::about,
};
use crate::{
    executor::Subscription,
    refusal::{Refusal, complete_errors},
    schema::{
        self,
        error::bad_request,
        types::event::{EventBody, EventItem},
    },
    websocket::{About, Closed},
};

/// Why everything is to be fetched anew while a subscription is open.
const RESTORED: &str = "the database was restored";

/// Why a subscription did not open.
enum Failure {
    /// Told to the client as an `error` message.
    Refused(Vec<ServerError>),
    /// The client is gone, or no longer interested.
    Gone,
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Refused(vec![schema::error::Failure::from(error).without_place()])
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal.into()])
    }
}

impl From<Closed> for Failure {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

pub(super) async fn run(shared: &Shared, open: Arc<Open>, subscription: Subscription) {
    let request_id = subscription.trace.id;
    match begin(shared, open.clone(), subscription).await {
        Ok(()) | Err(Failure::Gone) => {}
        Err(Failure::Refused(errors)) => {
            let mut response = Response::from_errors(errors);
            complete_errors(&mut response, &request_id.to_string());
            open.outbound.error(&open.id, &response.errors);
        }
    }
}

/// Tells an open subscription that the log is another one, and makes it live again from there.
pub(super) async fn restart(
    shared: &Shared,
    open: Arc<Open>,
    plan: Arc<Plan>,
    conversations: Option<Arc<[ConversationId]>>,
) {
    let receipts_members_max = shared.chat.limits().receipts_members_max;
    let _entered = shared.openings.enter(plan.caller.user, &open);
    let opening = Opening { shared, open: open.clone(), plan, conversations, receipts_members_max };
    match opening.resynchronise().await {
        Ok(()) | Err(Failure::Gone) => {}
        // Whoever comes back finds out whether it was for a moment or for good.
        Err(Failure::Refused(_)) => open.outbound.close(1013, "try again later"),
    }
}

/// A subscription that is opening.
struct Opening<'a> {
    shared: &'a Shared,
    open: Arc<Open>,
    plan: Arc<Plan>,
    conversations: Option<Arc<[ConversationId]>>,
    /// The receipts bound of the domain.
    receipts_members_max: i32,
}

/// Where a subscription resumes.
struct Resume {
    seen: Positions,
    replay: Option<ReplayMark>,
}

async fn begin(shared: &Shared, open: Arc<Open>, subscription: Subscription) -> Result<(), Failure> {
    let Subscription { document, operation_name, variables, caller, .. } = subscription;
    let caller = caller.ok_or_else(|| ServiceError::unauthenticated("this needs a signed-in caller"))?;
    let (_, operation) = document.operation(operation_name.as_deref())?;
    let limits = shared.chat.limits();
    let arguments = Arguments::read(&operation.node, &variables, limits.ids_max)?;
    let filter = arguments.filter();
    let plan = Plan {
        shared: is_shared(&document, &operation.node, &shared.types),
        document: document.clone(),
        operation_name,
        variables,
        argument_variables: arguments.variables,
        caller,
        filter,
    };
    let _entered = shared.openings.enter(caller.user, &open);
    let opening = Opening {
        shared,
        open,
        plan: Arc::new(plan),
        conversations: arguments.conversations.map(Arc::from),
        receipts_members_max: limits.receipts_members_max,
    };
    opening.run(arguments.after).await
}

impl Opening<'_> {
    async fn run(&self, after: Option<String>) -> Result<(), Failure> {
        let cursor = after.as_deref().map(|after| self.open_cursor(after)).transpose()?;
        let (missed, resume, resync) = match cursor {
            None => (self.missed(None).await?, None, None),
            Some(Ok(position)) => self.resumed(position).await?,
            Some(Err(reason)) => (self.missed(None).await?, None, Some(reason)),
        };
        let opened = match &resume {
            Some(resume) => self.position(&missed, &resume.seen, resume.replay.clone()),
            None => self.position(&missed, &missed.heads.positions, None),
        };
        self.send_first(opened.clone()).await?;
        match (resync, resume) {
            (Some(reason), _) => {
                let body = EventBody::ResyncRequired { reason: reason.into() };
                self.send(EventItem { cursor: opened, body }).await?;
            }
            (None, Some(resume)) => self.replay(&missed, &resume).await?,
            (None, None) => {}
        }
        self.finish(missed).await
    }

    /// From another log on, which has nothing to do with what was seen before.
    async fn resynchronise(&self) -> Result<(), Failure> {
        let missed = {
            // Never closed.
            let _turn = self.shared.restarts.acquire().await;
            self.missed(None).await?
        };
        self.resync(&missed, RESTORED).await?;
        self.finish(missed).await
    }

    /// Over to the actor, with what happened meanwhile.
    async fn finish(&self, mut missed: Missed) -> Result<(), Failure> {
        loop {
            let seen = missed.heads.positions.clone();
            match self.go_live(&missed).await? {
                WentLive::Yes => return Ok(()),
                WentLive::ReplayMore => {
                    missed = self.missed(Some(&seen)).await?;
                    if missed.too_much {
                        self.resync(&missed, "too much happened during the replay").await?;
                    } else {
                        self.replay(&missed, &Resume { seen, replay: None }).await?;
                    }
                }
                WentLive::Resync => {
                    missed = self.missed(None).await?;
                    self.resync(&missed, RESTORED).await?;
                }
            }
        }
    }

    /// `Err` holds the reason why a genuine cursor is void.
    fn open_cursor(&self, after: &str) -> ServiceResult<Result<CursorPosition, &'static str>> {
        match self.shared.chat.open_cursor(after) {
            Ok(position) => {
                let unfiltered = domain::FilterHash::default();
                if position.filter != unfiltered && position.filter != self.plan.filter {
                    return Err(bad_request("`after` comes from a subscription with another filter"));
                }
                Ok(Ok(position))
            }
            Err(CursorError::KeyRetired) => Ok(Err("the cursor's key is retired")),
            Err(CursorError::Altered) => Err(bad_request("`after` is not a cursor of this service")),
        }
    }

    /// What was missed since the cursor, and where it resumes or why it cannot; the same snapshot tells all of it.
    async fn resumed(
        &self,
        position: CursorPosition,
    ) -> Result<(Missed, Option<Resume>, Option<&'static str>), Failure> {
        let chat = &self.shared.chat;
        let missed = self.read(Some(&position.seen)).await?;
        let heads = &missed.heads;
        let void = if position.epoch != heads.epoch {
            Some("the database was restored since the cursor")
        } else if !heads.positions.covers(&position.seen) {
            // Positions that never were: the database lost a tail. Every cursor is void from now on.
            chat.raise_epoch(heads.epoch).await?;
            Some("the database lost what the cursor has seen")
        } else {
            (!position.seen.covers(&missed.resumable_from)).then_some("the cursor is too old")
        };
        if void.is_some() {
            // Its positions mean nothing here, and the epoch may be another by now.
            return Ok((self.missed(None).await?, None, void));
        }
        let missed = self.known(missed)?;
        if missed.too_much {
            return Ok((missed, None, Some("too much happened since the cursor")));
        }
        Ok((missed, Some(Resume { seen: position.seen, replay: position.replay }), None))
    }

    async fn missed(&self, since: Option<&Positions>) -> Result<Missed, Failure> {
        self.known(self.read(since).await?)
    }

    async fn read(&self, since: Option<&Positions>) -> Result<Missed, Failure> {
        let caller: &Caller = &self.plan.caller;
        Ok(self.shared.chat.missed(caller, since, self.conversations.as_deref()).await?)
    }

    fn known(&self, missed: Missed) -> Result<Missed, Failure> {
        // A filter may name only conversations that the viewer is in, or was told to be removed from just now.
        let foreign = self.conversations.iter().flat_map(|wanted| wanted.iter()).any(|wanted| {
            !missed.memberships.iter().any(|(id, _)| id == wanted)
                && !missed.conversations.iter().any(|one| one.conversation.id == *wanted)
        });
        if foreign {
            return Err(ServiceError::new(ErrorCode::NotFound, "no such conversation").into());
        }
        Ok(missed)
    }

    /// The first event finds out whether the document can be executed at all.
    async fn send_first(&self, cursor: Arc<str>) -> Result<(), Failure> {
        let item = EventItem { cursor, body: EventBody::StreamOpened };
        if let Some(key) = self.plan.shared_key(0, &item.body)
            && let Some(bytes) = Running::new(self.shared, &self.plan).shared(key, &item).await
        {
            return self.put(bytes, None).await;
        }
        let bytes = self.plan.execute_once(self.shared, item).await;
        self.put(bytes.map_err(Failure::Refused)?, None).await
    }

    async fn send(&self, item: EventItem) -> Result<(), Failure> {
        let about = about(&item);
        let bytes = self.wait_for(self.plan.execute_once(self.shared, item)).await;
        self.put(bytes.map_err(Failure::Refused)?, about).await
    }

    /// With all that comes before the subscription is live, in one flush if nothing has to be waited for: `StreamLive` wakes the writer.
    async fn put(&self, bytes: Utf8Bytes, about: Option<About>) -> Result<(), Failure> {
        if self.open.has_ended() {
            return Err(Failure::Gone);
        }
        Ok(self.open.outbound.place_paced(&self.open.id, bytes, about).await?)
    }

    /// What takes its time holds up nothing that was put in before.
    async fn wait_for<T>(&self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        match poll!(&mut something) {
            Poll::Ready(there) => there,
            Poll::Pending => {
                self.open.outbound.wake();
                something.await
            }
        }
    }

    async fn resync(&self, missed: &Missed, reason: &'static str) -> Result<(), Failure> {
        let cursor = self.position(missed, &missed.heads.positions, None);
        self.send(EventItem { cursor, body: EventBody::ResyncRequired { reason: reason.into() } }).await
    }

    fn position(&self, missed: &Missed, seen: &Positions, replay: Option<ReplayMark>) -> Arc<str> {
        let position = CursorPosition {
            epoch: missed.heads.epoch,
            filter: self.plan.filter,
            seen: seen.clone(),
            replay,
        };
        self.shared.chat.seal_cursor(&position).into()
    }

    /// Sends what was missed, conversation by conversation. Each cursor says "the old position, and this far".
    async fn replay(&self, missed: &Missed, resume: &Resume) -> Result<(), Failure> {
        let layout = self.shared.chat.layout();
        let mut conversations: Vec<&MissedInConversation> = missed.conversations.iter().collect();
        conversations.sort_unstable_by_key(|one| one.conversation.id);
        let until = &missed.heads.positions;
        // Validated once at most for all of them.
        let mut running = Running::new(self.shared, &self.plan);
        let epoch = missed.heads.epoch;
        for one in conversations {
            let id = one.conversation.id;
            let since = resume.seen.get(layout.of_conversation(id));
            for event in events_of(one, since, self.receipts_members_max) {
                let rev = event.event.fact.rev();
                if resume.replay.as_ref().is_some_and(|mark| mark.has(id, rev, event.pos, layout)) {
                    continue;
                }
                let mark = ReplayMark { until: until.clone(), conversation: id, rev };
                let cursor = self.position(missed, &resume.seen, Some(mark));
                let body = EventBody::Durable { event: Arc::new(event.event), as_seen: event.as_seen };
                let item = EventItem { cursor, body };
                match self.wait_for(self.told(&mut running, epoch, &item)).await {
                    Some(bytes) => self.put(bytes, about(&item)).await?,
                    None => self.send(item).await?,
                }
            }
        }
        Ok(())
    }

    /// An event of the replay; `None` when it failed, and is to be executed alone.
    async fn told(&self, running: &mut Running<'_>, epoch: i64, item: &EventItem) -> Option<Utf8Bytes> {
        match self.plan.shared_key(epoch, &item.body) {
            Some(key) => running.shared(key, item).await,
            None => running.whole(item).await,
        }
    }

    async fn go_live(&self, missed: &Missed) -> Result<WentLive, Failure> {
        let (reply, went) = oneshot::channel();
        let memberships: HashMap<_, _> = missed.memberships.iter().copied().collect();
        let request = GoLive {
            open: self.open.clone(),
            plan: self.plan.clone(),
            conversations: self.conversations.clone(),
            epoch: missed.heads.epoch,
            seen: missed.heads.positions.clone(),
            memberships,
            reply,
        };
        let _ = self.shared.commands.send(Command::GoLive(Box::new(request)));
        let went = went.await.map_err(|_| Failure::Gone)?;
        if !matches!(went, WentLive::Yes) {
            self.open.outbound.wake();
        }
        Ok(went)
    }
}
