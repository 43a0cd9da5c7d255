//! Executions: a subscription's document, run once an event.
//!
//! One long-lived stream of the executor serves a whole group of subscriptions, and a few more while events wait for names. A stream
//! validates the document once, and each event fed into it comes out as one serialised result that all sockets share. When that fails,
//! each socket executes the event for itself.

use std::{
    hash::{Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_graphql::{Request, Response, ServerError, Variables};
use axum::extract::ws::Utf8Bytes;
use domain::{Caller, ErrorCode, FilterHash, ServiceError, UserId};
use futures_util::{
    FutureExt, StreamExt,
    future::ready,
    stream::{BoxStream, FuturesUnordered},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use xxhash_rust::xxh3::Xxh3Default;

use super::{Open, Shared, answers::Key, wakes::Wakes};
use crate::{
    document::Document,
    refusal::complete_errors,
    schema::{
        EventFeed, execute_stream, request_data,
        types::event::{EventBody, EventItem},
    },
    websocket::{About, Alone, Closed, Made, Outbound, PendingPayload, serialise_response},
};

/// Between two tries of an event whose answer needs something that is away.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Events of a group that are executed at the same time. A name comes from another process within a few milliseconds, so that a group has
/// some thousand events a second all the same.
const UNDER_WAY_MAX: usize = 16;

/// Subscriptions with the same key see the same bytes for the same event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
        let mut variables: Vec<_> = self
            .variables
            .iter()
            .filter(|(name, _)| !self.argument_variables.iter().any(|own| own == name.as_str()))
            .collect();
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

    /// Under which an answer is shared with others who subscribe; `None` when it is this viewer's alone.
    pub fn shared_key(&self, epoch: i64, body: &EventBody) -> Option<Key> {
        if self.shared { Key::of(self.key(), epoch, body) } else { None }
    }

    /// The executor's stream over a stream of events.
    pub fn responses(
        &self,
        shared: &Shared,
        events: BoxStream<'static, EventItem>,
    ) -> BoxStream<'static, Response> {
        // The text is not needed: the document is parsed.
        let mut request = Request::new("").variables(self.variables.clone());
        if let Some(name) = &self.operation_name {
            request = request.operation_name(name);
        }
        request.set_parsed_query(self.document.parsed.clone());
        let request =
            request_data(request, &shared.chat, Some(self.caller), None).data(EventFeed::new(events));
        execute_stream(&shared.schema, request)
    }

    /// One event alone. `Err` holds the errors of one that cannot be executed at all, or not now: an answer without data has no cursor,
    /// and the next one's would step over it.
    pub async fn execute_once(
        &self,
        shared: &Shared,
        item: EventItem,
    ) -> Result<Utf8Bytes, Vec<ServerError>> {
        let begun = Instant::now();
        loop {
            let event = item.clone();
            let mut responses = self.responses(shared, futures_util::stream::once(async { event }).boxed());
            let response = next(shared, &mut responses).await;
            let mut response = response.unwrap_or_else(failed);
            let away = is_away(&response.errors);
            if away && is_worth_another_try(shared, begun) {
                sleep(RETRY_PAUSE).await;
                continue;
            }
            if away || !has_data(&response) {
                complete_errors(&mut response, "event");
                return Err(response.errors);
            }
            return Ok(serialise(response));
        }
    }

    /// How those who shared an execution that failed get the event all the same: each by one of its own.
    fn alone(self: &Arc<Self>, shared: &Arc<Shared>, item: EventItem, mut failed: Response) -> Alone {
        complete_errors(&mut failed, "event");
        let (plan, shared, errors) = (self.clone(), shared.clone(), failed.errors);
        Arc::new(move |caller| {
            if !plan.shared {
                return ready(Some(Err(errors.clone()))).boxed();
            }
            let (own, shared, item) = (Self { caller, ..(*plan).clone() }, shared.clone(), item.clone());
            async move {
                match own.execute_once(&shared, item).await {
                    Err(errors) if is_away(&errors) => None,
                    outcome => Some(outcome),
                }
            }
            .boxed()
        })
    }
}

/// An event to be executed, whose result has places in sockets' queues before it is there.
pub(super) struct Job {
    item: EventItem,
    waiting: Waiting,
}

impl Job {
    pub fn new(item: EventItem, wakes: &Arc<Wakes>) -> Self {
        let waiting = Waiting { payload: Arc::default(), sockets: Vec::new(), wakes: wakes.clone() };
        Self { item, waiting }
    }

    /// Takes a place in a socket's queue.
    pub fn place(&mut self, open: &Open, about: Option<About>) -> Result<(), Closed> {
        open.outbound.place(&open.id, self.waiting.payload.clone(), about)?;
        self.waiting.sockets.push(open.outbound.clone());
        Ok(())
    }
}

/// Who has a place for a payload that is being made, and is woken when it is there, or will never be: when this is dropped.
struct Waiting {
    payload: PendingPayload,
    sockets: Vec<Outbound>,
    wakes: Arc<Wakes>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Unless it was made.
        let _ = self.payload.set(Made::Never);
        self.wakes.wake(std::mem::take(&mut self.sockets));
    }
}

/// The running execution of a group.
#[derive(Clone)]
pub(super) struct Execution {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Execution {
    /// Starts the group's stream; it ends with the last handle. Its queue is bounded by those of the sockets behind it.
    pub fn start(shared: &Arc<Shared>, plan: Arc<Plan>) -> Self {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let owned = shared.clone();
        shared.tasks.spawn(async move { run(&owned, &plan, inbox).await });
        Self { jobs }
    }

    pub fn submit(&self, job: Job) {
        // A group that is gone drops it, and the sockets that wait for it close.
        let _ = self.jobs.send(job);
    }
}

/// Begins events in their order, and the next one while an earlier one still waits for what its answer needs: reading a name from another
/// process must not set the pace of a group. Each has its place in the queues already, so it does not matter which is answered first.
async fn run(shared: &Arc<Shared>, plan: &Arc<Plan>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut idle: Vec<Running<'_>> = Vec::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(running) = under_way.next() => {
                idle.extend(Some(running).filter(Running::has_begun));
                if under_way.is_empty() {
                    idle.truncate(1);
                }
            }
            job = jobs.recv(), if under_way.len() < UNDER_WAY_MAX => {
                let Some(job) = job else { break };
                let running = idle.pop().unwrap_or_else(|| Running::new(shared, plan));
                under_way.push(execute(shared, plan, running, job));
            }
        }
    }
    under_way.map(drop).collect::<()>().await;
}

/// Makes an event's payload, and gives back what it was made with.
async fn execute<'a>(
    shared: &Arc<Shared>,
    plan: &Arc<Plan>,
    mut running: Running<'a>,
    Job { item, waiting }: Job,
) -> Running<'a> {
    let begun = Instant::now();
    // What is told to everybody who comes is made once; an event is this group's alone as it is.
    if matches!(item.body, EventBody::StreamLive)
        && let Some(key) = plan.shared_key(0, &item.body)
        && let Some(bytes) = running.shared(key, &item).await
    {
        let _ = waiting.payload.set(Made::Whole(bytes));
        return running;
    }
    let answer = loop {
        let response = running.next(&item).await;
        if !is_away(&response.errors) {
            break Some(response);
        }
        if !is_worth_another_try(shared, begun) {
            break None;
        }
        sleep(RETRY_PAUSE).await;
    };
    // An event is answered whole or not at all: a socket that waits for what will not come closes, and resumes before it.
    if let Some(response) = answer {
        let made = match has_data(&response) {
            true => Made::Whole(serialise(response)),
            false => Made::Failed(plan.alone(shared, item, response)),
        };
        let _ = waiting.payload.set(made);
    }
    running
}

/// The stream of a group or of a replay: begun with the first event that nobody has executed yet, and anew when it fails.
pub(super) struct Running<'a> {
    shared: &'a Shared,
    plan: &'a Plan,
    stream: Option<Stream>,
}

struct Stream {
    feed: mpsc::UnboundedSender<EventItem>,
    responses: BoxStream<'static, Response>,
}

impl<'a> Running<'a> {
    pub const fn new(shared: &'a Shared, plan: &'a Plan) -> Self {
        Self { shared, plan, stream: None }
    }

    /// Whether it has a stream, in which the document is validated.
    const fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    /// The event's payload; `None` when it failed, and is to be executed alone.
    pub async fn whole(&mut self, item: &EventItem) -> Option<Utf8Bytes> {
        let response = self.next(item).await;
        (!is_away(&response.errors) && has_data(&response)).then(|| serialise(response))
    }

    /// The payload of what others are told as well, made once for all of them but for the cursor; `None` when it failed, and is to be
    /// executed alone.
    pub async fn shared(&mut self, key: Key, item: &EventItem) -> Option<Utf8Bytes> {
        let answers = &self.shared.answers;
        let marked = EventItem { cursor: answers.mark().clone(), body: item.body.clone() };
        let answer = answers.get(key, self.clean(&marked)).await?;
        Some(answer.with(&item.cursor))
    }

    /// The event's payload if there is nothing wrong with it, so that it can be others' too.
    async fn clean(&mut self, item: &EventItem) -> Option<Utf8Bytes> {
        let response = self.next(item).await;
        (response.errors.is_empty() && has_data(&response)).then(|| serialise(response))
    }

    async fn next(&mut self, item: &EventItem) -> Response {
        let stream = self.stream.get_or_insert_with(|| {
            let (feed, events) = mpsc::unbounded_channel();
            Stream { feed, responses: self.plan.responses(self.shared, unfold(events)) }
        });
        let fed = stream.feed.send(item.clone()).is_ok();
        let response = if fed { next(self.shared, &mut stream.responses).await } else { Err(broken()) };
        response.unwrap_or_else(|error| {
            self.stream = None;
            failed(error)
        })
    }
}

/// The next answer of the executor. What takes too long waits for something that is away; who panics or ends is broken.
async fn next(
    shared: &Shared,
    responses: &mut BoxStream<'static, Response>,
) -> Result<Response, ServiceError> {
    let next = AssertUnwindSafe(responses.next()).catch_unwind();
    let response = timeout(shared.limits.execution_timeout, next).await;
    shared.metrics.executions.fetch_add(1, Ordering::Relaxed);
    match response {
        Ok(response) => response.ok().flatten().ok_or_else(broken),
        Err(_) => Err(ServiceError::unavailable("an event could not be executed in time")),
    }
}

fn broken() -> ServiceError {
    ServiceError::internal("an event could not be executed")
}

fn failed(error: ServiceError) -> Response {
    Response::from_errors(vec![crate::schema::error::Failure::from(error).without_place()])
}

/// The root field is not nullable: without it there is nothing at all.
fn has_data(response: &Response) -> bool {
    response.data != async_graphql::Value::Null
}

/// Whether something that the answer needs is away.
fn is_away(errors: &[ServerError]) -> bool {
    let unavailable = async_graphql::Value::from(ErrorCode::Unavailable.name());
    errors.iter().any(|error| {
        error.extensions.as_ref().and_then(|extensions| extensions.get("code")) == Some(&unavailable)
    })
}

/// As long as who gets it is known to be a member (P7).
fn is_worth_another_try(shared: &Shared, begun: Instant) -> bool {
    begun.elapsed() < shared.limits.view_age_max
}

fn unfold(events: mpsc::UnboundedReceiver<EventItem>) -> BoxStream<'static, EventItem> {
    futures_util::stream::unfold(events, |mut events| async move {
        events.recv().await.map(|item| (item, events))
    })
    .boxed()
}

/// Events are executed outside of a request: the trace of the change that caused them is in its own log lines.
fn serialise(mut response: Response) -> Utf8Bytes {
    complete_errors(&mut response, "event");
    serialise_response(&response)
}
