//! Servers that speak as the push services of Apple, Google and browsers do: strict in what they take, and answering as a test says.
//!
//! One address has them all. What a service would refuse is refused in its own words and kept as a fault, which fails the test at its
//! end. A push counts as taken when it was asked for and not refused, whether or not the asker lived to hear so.

mod apns;
mod fcm;
mod web;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State as Extracted},
    http::{HeaderMap, Method, StatusCode, Version},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    adapter::ambient::{SystemClock, SystemRandom},
    port::{Clock as _, Random as _},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use p256::{
    SecretKey,
    elliptic_curve::sec1::ToEncodedPoint as _,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
};
use rsa::RsaPrivateKey;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// What all three take at most, token and encryption aside.
const BODY_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Apns,
    Fcm,
    Web,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Apns, Self::Fcm, Self::Web];
}

/// A push as its device would show it.
#[derive(Clone, Debug)]
pub struct Push {
    pub kind: Kind,
    /// The name that the test gave the device.
    pub device: String,
    /// The same for a push that is sent again: `apns-id`, or `pushId`.
    pub id: String,
    pub message: String,
    pub conversation: String,
    /// It takes the place of what the device shows under the same name.
    pub collapse: String,
    pub title: String,
    pub body: String,
    pub badge: i64,
    pub at: Instant,
}

/// What a service says, each in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// Taken, and said so after a while.
    Slowly(Duration),
    /// The device is gone.
    Gone,
    /// There never was such a device.
    Unknown,
    /// Too many requests; again after so many seconds.
    Busy(u64),
    /// Out of order; again after so many seconds.
    Away(u64),
    /// The sender's token has expired.
    Expired,
    /// Nothing, ever.
    Silence,
}

impl Answer {
    const fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::Slowly(_))
    }
}

/// A request that breaks the protocol: what the service answers, and what for.
type Refusal = (StatusCode, String);

type Answers = Box<dyn FnMut(&Push) -> Answer + Send>;

pub struct Providers {
    pub url: String,
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    heard: watch::Receiver<usize>,
    _serving: JoinSet<()>,
}

struct Shared {
    url: String,
    apns: SecretKey,
    vapid: SecretKey,
    state: Mutex<State>,
    heard: watch::Sender<usize>,
}

struct State {
    answers: Answers,
    asked: Vec<(Push, Answer)>,
    faults: Vec<String>,
    /// Of Google's, those that hold.
    bearers: Vec<String>,
    bearers_made: usize,
    browsers: HashMap<String, web::Browser>,
}

impl Providers {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = State {
            answers: Box::new(|_| Answer::Taken),
            asked: Vec::new(),
            faults: Vec::new(),
            bearers: Vec::new(),
            bearers_made: 0,
            browsers: HashMap::new(),
        };
        let (heard, receiver) = watch::channel(0);
        let shared = Arc::new(Shared {
            url: url.clone(),
            apns: new_key(),
            vapid: new_key(),
            state: Mutex::new(state),
            heard,
        });
        let folder = tempfile::tempdir().expect("a folder");
        for (name, key) in [("apns.p8", &shared.apns), ("vapid.pem", &shared.vapid)] {
            let pem = key.to_pkcs8_pem(LineEnding::LF).expect("a file");
            fs::write(folder.path().join(name), pem.as_bytes()).expect("writes");
        }
        let account = fcm::account(&url).to_string();
        fs::write(folder.path().join("account.json"), account).expect("writes");
        let app = Router::new().fallback(serve).with_state(shared.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { url, folder, shared, heard: receiver, _serving: serving }
    }

    /// Settings of a process that pushes through these.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            ("CONFAB_PUSH_APNS_KEY", file("apns.p8")),
            ("CONFAB_PUSH_APNS_KEY_ID", apns::KEY_ID.to_owned()),
            ("CONFAB_PUSH_APNS_TEAM_ID", apns::TEAM_ID.to_owned()),
            ("CONFAB_PUSH_APNS_TOPIC", apns::TOPIC.to_owned()),
            ("CONFAB_PUSH_APNS_URL", self.url.clone()),
            ("CONFAB_PUSH_FCM_ACCOUNT", file("account.json")),
            ("CONFAB_PUSH_FCM_URL", self.url.clone()),
            ("CONFAB_PUSH_VAPID_KEY", file("vapid.pem")),
            ("CONFAB_PUSH_VAPID_SUBJECT", web::SUBJECT.to_owned()),
            ("CONFAB_PUSH_PRIVATE_ENDPOINTS", "on".to_owned()),
        ]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new device of that name, as `registerDevice` takes it.
    pub fn device(&self, kind: Kind, name: &str) -> Value {
        match kind {
            Kind::Apns => json!({ "apns": { "token": apns::token_of(name) } }),
            Kind::Fcm => json!({ "fcm": { "token": name } }),
            Kind::Web => {
                let browser = web::Browser::new();
                let input = json!({ "webPush": {
                    "endpoint": format!("{}/web/{name}", self.url),
                    "p256dh": URL_SAFE_NO_PAD.encode(browser.public()),
                    "auth": URL_SAFE_NO_PAD.encode(browser.auth),
                } });
                self.shared.lock().browsers.insert(name.to_owned(), browser);
                input
            }
        }
    }

    /// How pushes are answered from now on.
    pub fn answer(&self, answers: impl FnMut(&Push) -> Answer + Send + 'static) {
        self.shared.lock().answers = Box::new(answers);
    }

    /// Everything that was asked, in order, and the answer.
    pub fn asked(&self) -> Vec<(Push, Answer)> {
        self.shared.lock().asked.clone()
    }

    pub fn taken(&self) -> Vec<Push> {
        let asked = self.asked().into_iter();
        asked.filter(|(_, answer)| answer.is_taken()).map(|(push, _)| push).collect()
    }

    /// The names of the devices that were shown the message, in order of the alphabet; a name as often as it was pushed.
    pub fn devices_shown(&self, message: &str) -> Vec<String> {
        let taken = self.taken().into_iter().filter(|push| push.message == message);
        let mut devices: Vec<String> = taken.map(|push| push.device).collect();
        devices.sort();
        devices
    }

    /// Waits until so many pushes about the message were taken.
    pub async fn until_shown(&self, message: &str, count: usize) {
        let of = |asked: &[(Push, Answer)]| {
            let about = asked.iter().filter(|(push, answer)| push.message == message && answer.is_taken());
            about.count()
        };
        self.until(DEADLINE, &format!("{count} devices are shown {message}"), |asked| of(asked) >= count)
            .await;
    }

    pub async fn until(&self, within: Duration, what: &str, done: impl Fn(&[(Push, Answer)]) -> bool) {
        let deadline = Instant::now() + within;
        let mut heard = self.heard.clone();
        while !done(&self.shared.lock().asked) {
            let more = timeout_at(deadline, heard.changed()).await;
            if more.is_err() {
                let asked = self.asked();
                let last = asked.iter().rev().take(10);
                let last: Vec<_> =
                    last.map(|(push, answer)| (&push.device, &push.body, &push.badge, answer)).collect();
                panic!("not within {within:?}: {what}; {} asked, the last of them {last:?}", asked.len());
            }
        }
    }
}

/// Long enough for a machine that does other work as well.
pub const DEADLINE: Duration = Duration::from_secs(30);

impl Drop for Providers {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let faults = std::mem::take(&mut self.shared.lock().faults);
            assert!(faults.is_empty(), "{} requests were no sound ones: {faults:?}", faults.len());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, what: &str, refusal: &Refusal) {
        self.lock().faults.push(format!("{what}: {} {}", refusal.0, refusal.1));
    }

    fn answer(&self, push: Push) -> Answer {
        let mut state = self.lock();
        let answer = (state.answers)(&push);
        state.asked.push((push, answer));
        drop(state);
        self.heard.send_modify(|count| *count += 1);
        answer
    }
}

/// A request that has come whole.
struct Asked {
    version: Version,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn header(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("no {name}")))
    }

    fn bearer(&self) -> Result<&str, Refusal> {
        let value = self.header("authorization").ok().and_then(|value| value.strip_prefix("Bearer "));
        value.ok_or_else(|| (StatusCode::FORBIDDEN, "no bearer token".to_owned()))
    }

    fn json(&self) -> Result<Value, Refusal> {
        require(self.header("content-type")? == "application/json", "the type of the content")?;
        require(self.body.len() <= BODY_BYTES_MAX, "too large")?;
        serde_json::from_slice(&self.body)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("no JSON: {error}")))
    }
}

async fn serve(Extracted(shared): Extracted<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Whoever asks may die half way.
    let Ok(body) = to_bytes(body, 4 * BODY_BYTES_MAX).await else {
        return answered(StatusCode::BAD_REQUEST, &Value::Null);
    };
    let path = parts.uri.path().to_owned();
    let asked = Asked { version: parts.version, method: parts.method, headers: parts.headers, body };
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["3", "device", token] => apns::serve(&shared, token, &asked).await,
        ["token"] => fcm::token(&shared, &asked),
        ["v1", "projects", project, "messages:send"] => fcm::serve(&shared, project, &asked).await,
        ["web", name] => web::serve(&shared, name, &asked).await,
        _ => {
            let refusal = (StatusCode::NOT_FOUND, "no such path".to_owned());
            shared.refused(&path, &refusal);
            answered(StatusCode::NOT_FOUND, &Value::Null)
        }
    }
}

/// Waits as long as the answer says.
async fn take_time(answer: Answer) {
    match answer {
        Answer::Slowly(time) => sleep(time).await,
        Answer::Silence => std::future::pending().await,
        _ => {}
    }
}

fn require(holds: bool, what: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err((StatusCode::BAD_REQUEST, what.to_owned())) }
}

fn text(value: &Value, what: &str) -> Result<String, Refusal> {
    let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    text.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("no {what}")))
}

fn answered(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(if body.is_null() { String::new() } else { body.to_string() }.into());
    *response.status_mut() = status;
    response
}

fn with_retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

/// The claims of a token, if the key signed it; when they hold is the caller's business.
fn claims(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<(Option<String>, Value), String> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode::<Value>(token, key, &validation).map_err(|error| error.to_string())?;
    Ok((token.header.kid, token.claims))
}

fn verifying(key: &SecretKey) -> DecodingKey {
    let pem = key.public_key().to_public_key_pem(LineEnding::LF).expect("a public key");
    DecodingKey::from_ec_pem(pem.as_bytes()).expect("a key")
}

fn point(key: &SecretKey) -> Vec<u8> {
    key.public_key().to_encoded_point(false).as_bytes().to_vec()
}

fn now() -> i64 {
    SystemClock.now().seconds()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom.fill(&mut bytes);
    bytes
}

fn new_key() -> SecretKey {
    std::iter::repeat_with(|| SecretKey::from_slice(&random::<32>())).flatten().next().expect("a key")
}

/// One for all tests: making one takes a while.
fn account_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, fcm::KEY_BITS).expect("a key"))
}
