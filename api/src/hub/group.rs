//! Executions: a subscription's document, run once an event.
//!
//! One long-lived stream of the executor serves a whole group of subscriptions: the document is validated once, and each
//! event fed into it comes out as one serialised result that all sockets share.

use std::{
    hash::{Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use async_graphql::{Request, Response, ServerError, Variables};
use bytes::Bytes;
use domain::{Caller, FilterHash, UserId};
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::Xxh3Default;

use super::Shared;
use crate::{
    document::Document,
    schema::{EventFeed, execute_stream, request_data, types::event::EventItem},
    refusal::{complete_errors, is_request_error},
    websocket::{PendingPayload, serialise_response},
};

/// Subscriptions with the same key see the same bytes for the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    document: u128,
    /// Of the operation's name and its variables, except those of the root field's arguments, which shape no answer.
    selection: u64,
    pub filter: FilterHash,
    /// `None` when every viewer sees the same.
    viewer: Option<UserId>,
}

/// What a subscription executes.
#[derive(Clone)]
pub(super) struct Plan {
    pub document: Arc<Document>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    /// Variables that only the root field's arguments use.
    pub argument_variables: Vec<String>,
    pub caller: Caller,
    pub filter: FilterHash,
    pub shared: bool,
}

impl Plan {
    pub fn key(&self) -> GroupKey {
        let mut hasher = Xxh3Default::new();
        self.operation_name.hash(&mut hasher);
        let mut variables: Vec<_> =
            self.variables.iter().filter(|(name, _)| !self.argument_variables.iter().any(|own| own == name.as_str())).collect();
        variables.sort_by(|a, b| a.0.cmp(b.0));
        for (name, value) in variables {
            name.as_str().hash(&mut hasher);
            value.to_string().hash(&mut hasher);
        }
        GroupKey {
            document: self.document.hash,
            selection: hasher.finish(),
            filter: self.filter,
            viewer: (!self.shared).then_some(self.caller.user),
        }
    }

    /// The executor's stream over a stream of events.
    pub fn responses(&self, shared: &Shared, events: BoxStream<'static, EventItem>) -> BoxStream<'static, Response> {
        // The text is not needed: the document is parsed.
        let mut request = Request::new("").variables(self.variables.clone());
        if let Some(name) = &self.operation_name {
            request = request.operation_name(name);
        }
        request.set_parsed_query(self.document.parsed.clone());
        let request = request_data(request, &shared.chat, Some(self.caller), None).data(EventFeed::new(events));
        execute_stream(&shared.schema, request)
    }

    /// One event alone. `Err` holds the errors of a request that cannot be executed at all.
    pub async fn execute_once(&self, shared: &Shared, item: EventItem) -> Result<Bytes, Vec<ServerError>> {
        let mut responses = self.responses(shared, futures_util::stream::once(async { item }).boxed());
        let response = AssertUnwindSafe(responses.next()).catch_unwind().await.ok().flatten();
        shared.metrics.executions.fetch_add(1, Ordering::Relaxed);
        let response = response.unwrap_or_else(internal);
        if is_request_error(&response) {
            let mut response = response;
            complete_errors(&mut response, "event");
            return Err(response.errors);
        }
        Ok(serialise(response))
    }
}

type Job = (EventItem, oneshot::Sender<Bytes>);

/// The running execution of a group.
#[derive(Clone)]
pub(super) struct Execution {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Execution {
    /// Starts the group's stream; it ends with the last handle. Its queue is bounded by those of the sockets behind it.
    pub fn start(shared: &Arc<Shared>, plan: Plan) -> Self {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let owned = shared.clone();
        shared.tasks.spawn(async move { run(&owned, &plan, inbox).await });
        Self { jobs }
    }

    /// Hands in an event; the result can be shared before it is there.
    pub fn submit(&self, item: EventItem) -> PendingPayload {
        let (reply, result) = oneshot::channel();
        // A group that is gone drops the reply, and the socket that waits for it closes.
        let _ = self.jobs.send((item, reply));
        result.shared()
    }
}

async fn run(shared: &Shared, plan: &Plan, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let (feed, events) = mpsc::unbounded_channel();
    let mut feed = feed;
    let mut responses = plan.responses(shared, unfold(events));
    while let Some((item, reply)) = jobs.recv().await {
        let result = if feed.send(item.clone()).is_ok() {
            let next = tokio::time::timeout(shared.limits.execution_timeout, AssertUnwindSafe(responses.next()).catch_unwind());
            next.await.ok().and_then(Result::ok).flatten()
        } else {
            None
        };
        shared.metrics.executions.fetch_add(1, Ordering::Relaxed);
        let Some(response) = result else {
            // The stream panicked, stalled or ended: the next event gets a fresh one.
            let (fresh, events) = mpsc::unbounded_channel();
            feed = fresh;
            responses = plan.responses(shared, unfold(events));
            let _ = reply.send(serialise(internal()));
            continue;
        };
        let _ = reply.send(serialise(response));
    }
}

fn unfold(events: mpsc::UnboundedReceiver<EventItem>) -> BoxStream<'static, EventItem> {
    futures_util::stream::unfold(events, |mut events| async move { events.recv().await.map(|item| (item, events)) }).boxed()
}

fn internal() -> Response {
    let failure = crate::schema::error::Failure::from(domain::ServiceError::internal("an event could not be executed"));
    let error = async_graphql::Error::from(failure);
    Response::from_errors(vec![error.into_server_error(async_graphql::Pos::default())])
}

/// Events are executed outside of a request: the trace of the change that caused them is in its own log lines.
fn serialise(mut response: Response) -> Bytes {
    complete_errors(&mut response, "event");
    serialise_response(&response)
}
