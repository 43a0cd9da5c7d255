//! Pushes: each device that is due one gets it from its provider, once.
//!
//! Whom and what, the domain says, a few devices at a time; what their providers took is noted before it is asked for more, so that a
//! repeated task finds nothing due. Between the two a crash may repeat a request: it then has the same id and replaces what the device
//! shows (P5, I8). A provider that is away holds up nobody: what it did not take is parked, and comes again as a task of its own.
//! Tasks of different conversations run side by side and ask and note together, so that the domain has few calls for many of them.

mod apns;
mod fcm;
mod gates;
mod http;
mod settings;
mod web;

use std::{collections::HashMap, error::Error, mem, sync::Arc, time::Duration};

use domain::{
    Chat, ConversationId, MessageId, PushAddress, PushBatch, PushProvider, PushRange, PushTarget, PushTask,
    Pushed, ServiceError, SessionId, measure,
    trace::{self, ExportedSpan, TARGET, TraceContext},
};
use futures_util::{
    FutureExt as _,
    future::{join_all, try_join_all},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;
use tracing::Span;

use self::gates::Gates;
use crate::{
    tasks::Trouble,
    together::{Bounds, Together},
};

/// How long pushes are parked whose provider does not say when to come again: doubled each time.
const PARKED_MIN: Duration = Duration::from_secs(2);
const PARKED_MAX: Duration = Duration::from_mins(10);
/// Requests to one provider at the same time; for browsers, to all of their push services.
const REQUESTS_AT_ONCE: usize = 256;
/// Ranges that are asked about in one call, as many as the domain answers at once.
const RANGES_AT_ONCE: usize = 256;
/// Calls about ranges on their way: one is read while another is written.
const ASKING_AT_ONCE: usize = 2;
/// Of what is noted in one call: half of what a request may have.
const NOTED_BYTES_MAX: usize = 512 * 1024;
/// A mark on the wire, with what is around it.
const MARK_BYTES: usize = 32;
/// Between two tries to note what providers took.
const NOTE_PAUSE: Duration = Duration::from_millis(500);

type Failure = Box<dyn Error + Send + Sync>;

pub use settings::{ApnsSettings, FcmSettings, PushSettings, WebPushSettings};
/// The key of [`WebPushSettings`] as browsers take it: an uncompressed point in base64url.
pub use web::public_key;

pub struct Pusher {
    apns: Option<apns::Apns>,
    fcm: Option<fcm::Fcm>,
    web: Option<web::WebPush>,
    gates: Gates,
    turns: Turns,
    asking: Arc<Together<PushRange, PushBatch>>,
    noting: Arc<Together<Pushed, ()>>,
    chat: Chat,
    shows_text: bool,
}

/// A task with where it belongs in its trace.
pub struct Push {
    pub task: PushTask,
    pub trace: Option<TraceContext>,
    /// Around all that is done for it.
    pub span: ExportedSpan,
}

/// What providers took of one conversation's messages, one after the other.
#[derive(Default)]
struct Run {
    unnoted: Vec<Pushed>,
    /// The newest message that each device was told of; for one that is gone there is none newer.
    told: HashMap<SessionId, i32>,
}

/// Whose turn it is to ask a provider, for each by itself.
struct Turns {
    apns: Semaphore,
    fcm: Semaphore,
    web: Semaphore,
}

impl Turns {
    const fn at(&self, provider: PushProvider) -> &Semaphore {
        match provider {
            PushProvider::Apns => &self.apns,
            PushProvider::Fcm => &self.fcm,
            PushProvider::WebPush => &self.web,
        }
    }
}

/// What a device is to show.
struct Note {
    /// The same for each try.
    id: [u8; 16],
    conversation: ConversationId,
    message: MessageId,
    title: String,
    body: String,
    badge: i32,
}

/// What a provider said.
enum Outcome {
    Sent,
    /// The device is gone.
    Gone,
    /// It will not take this, ever.
    Refused(String),
    /// Not now, and nothing else from us either for a while.
    Closed(String, Option<Duration>),
    /// Not now, for this device.
    Later(String, Option<Duration>),
}

impl Outcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Gone => "gone",
            Self::Refused(_) => "refused",
            Self::Closed(..) | Self::Later(..) => "later",
        }
    }
}

impl Pusher {
    /// Reads keys; a file that is none is an error. Calls of the domain run among the tasks.
    pub fn new(settings: &PushSettings, chat: &Chat, tasks: &TaskTracker) -> Result<Self, Failure> {
        let (clock, random) = (chat.clock(), chat.random());
        let apns = settings.apns.as_ref().map(|apns| apns::Apns::new(apns, clock.clone())).transpose()?;
        let fcm = settings.fcm.as_ref().map(|fcm| fcm::Fcm::new(fcm, clock.clone())).transpose()?;
        let private = settings.private_endpoints;
        let web =
            settings.web.as_ref().map(|web| web::WebPush::new(web, private, clock.clone(), random.clone()));
        Ok(Self {
            apns,
            fcm,
            web: web.transpose()?,
            gates: Gates::default(),
            turns: Turns {
                apns: Semaphore::new(REQUESTS_AT_ONCE),
                fcm: Semaphore::new(REQUESTS_AT_ONCE),
                web: Semaphore::new(REQUESTS_AT_ONCE),
            },
            asking: asking(chat.clone(), tasks.clone()),
            noting: noting(chat.clone(), tasks.clone()),
            chat: chat.clone(),
            shows_text: settings.shows_text,
        })
    }

    /// Pushes a message to those in the range that are due it. What a provider does not take now is parked.
    pub async fn push(&self, task: PushTask) -> Result<(), Trouble> {
        if self.has_any() {
            let batch = self.asking.ask(task.range).await?;
            let mut run = Run::default();
            let outcome = self.push_on(task, batch, &mut run).await;
            self.note_all(run.unnoted).await?;
            outcome?;
        }
        Ok(())
    }

    /// Pushes several messages of one conversation in their order: they are asked about and noted together.
    pub async fn push_all(&self, pushes: &[Push]) -> Result<(), Trouble> {
        if self.has_any() {
            let asking =
                pushes.iter().map(|push| trace::scope_of(push.trace, self.asking.ask(push.task.range)));
            let batches = try_join_all(asking).await?;
            let mut run = Run::default();
            let outcome = self.push_in_order(pushes, batches, &mut run).await;
            // Also when one of them failed: what providers took is not to be asked again.
            self.note_all(run.unnoted).await?;
            outcome?;
        }
        Ok(())
    }

    async fn push_in_order(
        &self,
        pushes: &[Push],
        batches: Vec<PushBatch>,
        run: &mut Run,
    ) -> Result<(), Trouble> {
        for (push, batch) in pushes.iter().zip(batches) {
            let pushing = async {
                self.push_on(push.task, batch, run).await?;
                tracing::debug!(seq = push.task.range.seq, "a message is pushed with others");
                Ok::<(), Trouble>(())
            };
            trace::scope_of(push.trace, pushing).await?;
        }
        Ok(())
    }

    /// From its first devices to the last ones of its range.
    async fn push_on(&self, task: PushTask, first: PushBatch, run: &mut Run) -> Result<(), Trouble> {
        let PushTask { mut range, tries } = task;
        let mut waits = Vec::new();
        let mut batch = first;
        loop {
            waits.extend(self.push_batch(range, &batch, run).await);
            let Some(user) = batch.next else { break };
            range.after = user;
            self.note_all(mem::take(&mut run.unnoted)).await?;
            batch = self.asking.ask(range).await?;
        }
        // The shortest; `None` is less than all of them, so that one who does not say how long counts first.
        let Some(wait) = waits.into_iter().min() else { return Ok(()) };
        let longer = PARKED_MIN * 2_u32.saturating_pow(tries.min(16));
        let parked = PushTask { tries: tries + 1, ..task };
        let wait = wait.unwrap_or(longer).clamp(PARKED_MIN, PARKED_MAX);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Ok(self.chat.park_push(parked, wait_ms).await?)
    }

    /// Answers what has to wait, and for how long if that was said.
    async fn push_batch(&self, range: PushRange, batch: &PushBatch, run: &mut Run) -> Vec<Option<Duration>> {
        let PushRange { conversation, seq, .. } = range;
        let targets = batch.targets.iter().filter(|one| self.has(one.address.provider()));
        // The same record may come twice in a run, and was asked about before anything of the run was noted.
        let targets = targets.filter(|one| run.told.get(&one.session).is_none_or(|told| *told < seq));
        let sends: Vec<_> = targets.map(|target| self.send(conversation, batch, target)).collect();
        let mut pushed = Pushed { conversation, seq, sent: Vec::new(), gone: Vec::new() };
        let mut waits = Vec::new();
        for (target, outcome) in join_all(sends).await {
            match outcome {
                Outcome::Sent => {
                    run.told.insert(target.session, seq);
                    pushed.sent.push(target.session);
                }
                Outcome::Gone => {
                    run.told.insert(target.session, i32::MAX);
                    pushed.gone.push((target.session, target.address.text().to_owned()));
                }
                Outcome::Refused(why) => {
                    tracing::warn!(session = target.session.0, why, "a provider refuses a push");
                    run.told.insert(target.session, seq);
                    pushed.sent.push(target.session);
                }
                Outcome::Closed(_, wait) | Outcome::Later(_, wait) => waits.push(wait),
            }
        }
        if !pushed.sent.is_empty() || !pushed.gone.is_empty() {
            run.unnoted.push(pushed);
        }
        waits
    }

    async fn note_all(&self, pushed: Vec<Pushed>) -> Result<(), ServiceError> {
        let noting = pushed.into_iter().map(|pushed| self.note_pushed(pushed));
        try_join_all(noting).await.map(drop)
    }

    /// Notes what providers took, however long that takes: to ask them again would be to push twice.
    async fn note_pushed(&self, pushed: Pushed) -> Result<(), ServiceError> {
        loop {
            match self.noting.ask(pushed.clone()).await {
                Err(error) if error.code().retryable() => sleep(NOTE_PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    const fn has_any(&self) -> bool {
        self.apns.is_some() || self.fcm.is_some() || self.web.is_some()
    }

    const fn has(&self, provider: PushProvider) -> bool {
        match provider {
            PushProvider::Apns => self.apns.is_some(),
            PushProvider::Fcm => self.fcm.is_some(),
            PushProvider::WebPush => self.web.is_some(),
        }
    }

    async fn send<'a>(
        &self,
        conversation: ConversationId,
        batch: &PushBatch,
        target: &'a PushTarget,
    ) -> (&'a PushTarget, Outcome) {
        let note = self.note(conversation, batch, target);
        let provider = target.address.provider();
        let gate = gates::name(&target.address);
        let device = format!("session {}", target.session.0);
        // Whoever waited long for a turn may find the gate closed.
        let _turn = self.turns.at(provider).acquire().await;
        let now = Instant::now();
        let closed = self.gates.closed_for(&gate, now).or_else(|| self.gates.closed_for(&device, now));
        if let Some(left) = closed {
            return (target, Outcome::Later("it asked to wait".to_owned(), Some(left)));
        }
        let absent = || Outcome::Refused("there is no such provider".to_owned());
        let sending = async {
            match &target.address {
                PushAddress::Apns(token) => match &self.apns {
                    Some(apns) => apns.send(token, &note).await,
                    None => absent(),
                },
                PushAddress::Fcm(token) => match &self.fcm {
                    Some(fcm) => fcm.send(token, &note).await,
                    None => absent(),
                },
                PushAddress::WebPush(subscription) => match &self.web {
                    Some(web) => web.send(subscription, &note).await,
                    None => absent(),
                },
            }
        };
        let span = ExportedSpan::part(|| span_of(name(provider)));
        let told = span.clone();
        let outcome = span.around(sending).await;
        if !matches!(outcome, Outcome::Sent) {
            told.fail(outcome.name());
        }
        match &outcome {
            Outcome::Closed(why, wait) => {
                let wait = self.gates.close(&gate, *wait, Instant::now());
                tracing::warn!(provider = name(provider), why, seconds = wait.as_secs(), "pushes wait");
            }
            Outcome::Later(why, wait) => {
                let wait = self.gates.close(&device, *wait, Instant::now());
                tracing::debug!(provider = name(provider), why, seconds = wait.as_secs(), "a push waits");
            }
            _ => self.gates.open(&gate, &device),
        }
        measure::count(measure::PUSHES, &[("provider", name(provider)), ("outcome", outcome.name())], 1);
        (target, outcome)
    }

    fn note(&self, conversation: ConversationId, batch: &PushBatch, target: &PushTarget) -> Note {
        let text = if self.shows_text { batch.text.as_str() } else { "New message" };
        let (title, body) = match &batch.title {
            Some(title) => (title.to_string(), format!("{}: {text}", batch.sender)),
            None => (batch.sender.to_string(), text.to_owned()),
        };
        let mut hash = Sha256::new();
        hash.update(batch.message.0.to_be_bytes());
        hash.update(target.session.0.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Note { id, conversation, message: batch.message, title, body, badge: target.badge }
    }
}

fn asking(chat: Chat, tasks: TaskTracker) -> Arc<Together<PushRange, PushBatch>> {
    let call = move |ranges| {
        let chat = chat.clone();
        async move { chat.due_pushes(ranges).await }.boxed()
    };
    let bounds = Bounds { calls: ASKING_AT_ONCE, weight: RANGES_AT_ONCE, weight_of: |_| 1 };
    Together::new(Box::new(call), bounds, tasks)
}

/// One call at a time: two would wait for each other's rows.
fn noting(chat: Chat, tasks: TaskTracker) -> Arc<Together<Pushed, ()>> {
    let call = move |pushed: Vec<Pushed>| {
        let (chat, count) = (chat.clone(), pushed.len());
        async move { chat.note_pushed(pushed).await.map(|()| vec![(); count]) }.boxed()
    };
    let weight_of = |pushed: &Pushed| {
        let gone = pushed.gone.iter().map(|(_, address)| address.len() + MARK_BYTES).sum::<usize>();
        (pushed.sent.len() + 1) * MARK_BYTES + gone
    };
    Together::new(Box::new(call), Bounds { calls: 1, weight: NOTED_BYTES_MAX, weight_of }, tasks)
}

const fn name(provider: PushProvider) -> &'static str {
    match provider {
        PushProvider::Apns => "apns",
        PushProvider::Fcm => "fcm",
        PushProvider::WebPush => "web_push",
    }
}

/// One request to a provider.
fn span_of(provider: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "push",
        otel.name = %format_args!("push {provider}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        confab.push.provider = provider,
    )
}

impl Note {
    /// As a random UUID is written (RFC 9562, version 8: of our own making).
    fn uuid(&self) -> String {
        let mut id = u128::from_be_bytes(self.id);
        id = (id & !(0xf << 76)) | (0x8 << 76);
        id = (id & !(0x3 << 62)) | (0x2 << 62);
        let hex = format!("{id:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}
