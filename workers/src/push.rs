//! Pushes: each device that is due one gets it from its provider, once.
//!
//! Whom and what, the domain says; a push that its provider took is noted before the task ends, so that a repeated task finds nothing
//! due. Between the two a crash may repeat a request: it then has the same id and replaces what the device shows (P5, I8).

mod apns;
mod fcm;
mod http;
mod web;

use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    Chat, ConversationId, MessageId, PushAddress, PushBatch, PushProvider, PushRange, PushTarget, Pushed,
    measure,
    port::{Clock, Random},
    trace::{ExportedSpan, TARGET},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::Span;

use crate::tasks::Trouble;

/// Requests at the same time, and devices noted at once.
const AT_ONCE: usize = 64;
/// How long a provider is left alone that asks for it without saying how long.
const LATER: Duration = Duration::from_secs(10);
const LATER_MAX: Duration = Duration::from_mins(10);

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
    apns: Option<Gated<apns::Apns>>,
    fcm: Option<Gated<fcm::Fcm>>,
    web: Option<Gated<web::WebPush>>,
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
    /// Not now, and nothing else from us for so long.
    Later(String, Option<Duration>),
    /// Not now, for this device.
    Failed(String),
}

impl Outcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Gone => "gone",
            Self::Refused(_) => "refused",
            Self::Later(..) | Self::Failed(_) => "later",
        }
    }
}

/// A provider that may ask to be left alone.
struct Gated<P> {
    name: &'static str,
    provider: P,
    closed_until: Mutex<Option<Instant>>,
}

impl<P> Gated<P> {
    const fn new(name: &'static str, provider: P) -> Self {
        Self { name, provider, closed_until: Mutex::new(None) }
    }

    /// How long it is still to be left alone.
    fn closed_for(&self) -> Option<Duration> {
        let until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    fn close_for(&self, time: Duration) {
        *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    async fn send(&self, sending: impl AsyncFnOnce(&P) -> Outcome) -> Outcome {
        if let Some(left) = self.closed_for() {
            return Outcome::Later("the provider asked to wait".to_owned(), Some(left));
        }
        let span = ExportedSpan::part(|| span_of(self.name));
        let told = span.clone();
        let outcome = span.around(sending(&self.provider)).await;
        if !matches!(outcome, Outcome::Sent) {
            told.fail(outcome.name());
        }
        if let Outcome::Later(_, wait) = &outcome {
            self.close_for(wait.unwrap_or(LATER).min(LATER_MAX));
        }
        outcome
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
            apns: apns.map(|apns| Gated::new("apns", apns)),
            fcm: fcm.map(|fcm| Gated::new("fcm", fcm)),
            web: web.transpose()?.map(|web| Gated::new("web_push", web)),
            shows_text: settings.shows_text,
        })
    }

    /// Pushes a message to those in the range that are due it.
    pub async fn push(&self, chat: &Chat, range: PushRange) -> Result<(), Trouble> {
        if self.apns.is_none() && self.fcm.is_none() && self.web.is_none() {
            return Ok(());
        }
        let batch = chat.due_pushes(range).await?;
        let targets: Vec<PushTarget> =
            batch.targets.iter().filter(|one| self.has(one.address.provider())).cloned().collect();
        let mut later = None;
        let mut failed = None;
        for targets in targets.chunks(AT_ONCE) {
            let mut sends = FuturesUnordered::new();
            for target in targets {
                sends.push(self.send(range.conversation, &batch, target));
            }
            let mut pushed = Pushed::default();
            while let Some((target, outcome)) = sends.next().await {
                match outcome {
                    Outcome::Sent => pushed.sent.push(target.session),
                    Outcome::Gone => pushed.gone.push((target.session, target.address.text().to_owned())),
                    Outcome::Refused(why) => {
                        tracing::warn!(session = target.session.0, why, "a provider refuses a push");
                        pushed.sent.push(target.session);
                    }
                    Outcome::Later(why, wait) => later = Some((why, wait)),
                    Outcome::Failed(why) => failed = Some(why),
                }
            }
            if pushed != Pushed::default() {
                chat.note_pushed(range.conversation, range.seq, pushed).await?;
            }
        }
        match (later, failed) {
            (Some((why, wait)), _) => Err(Trouble::Away(why, wait.map(|wait| wait.min(LATER_MAX)))),
            (None, Some(why)) => Err(Trouble::Failed(why)),
            (None, None) => Ok(()),
        }
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
        let absent = || Outcome::Refused("there is no such provider".to_owned());
        let (name, outcome) = match &target.address {
            PushAddress::Apns(token) => (
                "apns",
                match &self.apns {
                    Some(apns) => apns.send(async |apns| apns.send(token, &note).await).await,
                    None => absent(),
                },
            ),
            PushAddress::Fcm(token) => (
                "fcm",
                match &self.fcm {
                    Some(fcm) => fcm.send(async |fcm| fcm.send(token, &note).await).await,
                    None => absent(),
                },
            ),
            PushAddress::WebPush(subscription) => (
                "web_push",
                match &self.web {
                    Some(web) => web.send(async |web| web.send(subscription, &note).await).await,
                    None => absent(),
                },
            ),
        };
        measure::count(measure::PUSHES, &[("provider", name), ("outcome", outcome.name())], 1);
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
