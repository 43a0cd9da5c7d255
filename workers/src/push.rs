//! Pushes: each device that is due one gets it from its provider, once.
//!
//! Whom and what, the domain says, a few devices at a time; what their providers took is noted before it is asked for more, so that a
//! repeated task finds nothing due. Between the two a crash may repeat a request: it then has the same id and replaces what the device
//! shows (P5, I8). A provider that is away holds up nobody: what it did not take is parked, and comes again as a task of its own.

mod apns;
mod fcm;
mod gates;
mod http;
mod web;

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use domain::{
    Chat, ConversationId, MessageId, PushAddress, PushBatch, PushProvider, PushTarget, PushTask, Pushed,
    ServiceError, measure,
    port::{Clock, Random},
    trace::{ExportedSpan, TARGET},
};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tracing::Span;

use self::gates::Gates;
use crate::tasks::Trouble;

/// How long pushes are parked whose provider does not say when to come again: doubled each time.
const PARKED_MIN: Duration = Duration::from_secs(2);
const PARKED_MAX: Duration = Duration::from_mins(10);
/// Between two tries to note what providers took.
const NOTE_PAUSE: Duration = Duration::from_millis(500);

type Failure = Box<dyn Error + Send + Sync>;

/// Which providers there are; none is fine.
#[derive(Clone, Debug, Default)]
pub struct PushSettings {
    pub apns: Option<ApnsSettings>,
    pub fcm: Option<FcmSettings>,
    pub web: Option<WebPushSettings>,
    /// Whether a push shows what was written.
    pub shows_text: bool,
    /// Whether browsers' endpoints may have private addresses.
    pub private_endpoints: bool,
}

impl PushSettings {
    pub const fn is_any(&self) -> bool {
        self.apns.is_some() || self.fcm.is_some() || self.web.is_some()
    }
}

#[derive(Clone, Debug)]
pub struct ApnsSettings {
    pub url: String,
    /// A `.p8` file: PKCS #8 in PEM.
    pub key: PathBuf,
    pub key_id: String,
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
}

#[derive(Clone, Debug)]
pub struct FcmSettings {
    pub url: String,
    /// The JSON file of a service account.
    pub account: PathBuf,
}

#[derive(Clone, Debug)]
pub struct WebPushSettings {
    /// PKCS #8 in PEM, of the curve P-256.
    pub key: PathBuf,
    /// `mailto:` or `https:`: whom a push service asks about us.
    pub subject: String,
}

/// The key of [`WebPushSettings`] as browsers take it: an uncompressed point in base64url.
pub use web::public_key;

pub struct Pusher {
    apns: Option<apns::Apns>,
    fcm: Option<fcm::Fcm>,
    web: Option<web::WebPush>,
    gates: Gates,
    shows_text: bool,
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
    /// Reads keys; a file that is none is an error.
    pub fn new(
        settings: &PushSettings,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, Failure> {
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
            shows_text: settings.shows_text,
        })
    }

    /// Pushes a message to those in the range that are due it. What a provider does not take now is parked.
    pub async fn push(&self, chat: &Chat, task: PushTask) -> Result<(), Trouble> {
        if self.apns.is_none() && self.fcm.is_none() && self.web.is_none() {
            return Ok(());
        }
        let mut range = task.range;
        let mut left: Option<Option<Duration>> = None;
        loop {
            let batch = chat.due_pushes(range).await?;
            let targets = batch.targets.iter().filter(|one| self.has(one.address.provider()));
            let sends = targets.map(|target| self.send(range.conversation, &batch, target));
            let mut pushed = Pushed::default();
            for (target, outcome) in join_all(sends).await {
                match outcome {
                    Outcome::Sent => pushed.sent.push(target.session),
                    Outcome::Gone => pushed.gone.push((target.session, target.address.text().to_owned())),
                    Outcome::Refused(why) => {
                        tracing::warn!(session = target.session.0, why, "a provider refuses a push");
                        pushed.sent.push(target.session);
                    }
                    Outcome::Closed(_, wait) | Outcome::Later(_, wait) => {
                        left = Some(left.map_or(wait, |known| known.zip(wait).map(|(a, b)| a.min(b))));
                    }
                }
            }
            if pushed != Pushed::default() {
                note(chat, &task, pushed).await?;
            }
            match batch.next {
                Some(user) => range.after = user,
                None => break,
            }
        }
        let Some(wait) = left else { return Ok(()) };
        let longer = PARKED_MIN * 2_u32.saturating_pow(task.tries.min(16));
        let parked = PushTask { tries: task.tries + 1, ..task };
        let wait = wait.unwrap_or(longer).clamp(PARKED_MIN, PARKED_MAX);
        Ok(chat.park_push(parked, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).await?)
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

/// Notes what providers took, however long that takes: to ask them again would be to push twice.
async fn note(chat: &Chat, task: &PushTask, pushed: Pushed) -> Result<(), ServiceError> {
    let PushTask { range, .. } = task;
    loop {
        match chat.note_pushed(range.conversation, range.seq, pushed.clone()).await {
            Err(error) if error.code().retryable() => sleep(NOTE_PAUSE).await,
            outcome => return outcome,
        }
    }
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
