//! A whole node on a private database and a free port, and what a client sees of it. With `CONFAB_TEST_DOMAIN=grpc` the node reaches
//! its domain over gRPC.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use api::{
    activity::ActivityLimits,
    app::{self, ApiSetup},
    hub::{Hub, HubLimits},
    settings::Settings,
};
use domain::{
    Chat, Limits, Switches, Timestamp,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        in_process::InProcessBus,
        sql::{PoolSettings, SqlStore},
    },
    grpc::{
        Remote, RemoteSetup,
        metadata::ServiceSecret,
        server::{self, ServerSetup},
    },
    keys::KeyRing,
    lifeline::{Held, Lifeline},
    port::{Buckets, Cache, Clock, Documents},
    wiring::{RemoteWiring, Wiring},
};
use migration::{Migrator, MigratorTrait, SCHEMA_VERSION};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{self, HeaderMap},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub const JSON: &str = "application/json";
pub const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// Without TLS; but in one build with others, its provider has to be chosen (see `workers`).
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The system's clock, moved.
#[derive(Default)]
pub struct MovedClock(AtomicI64);

impl MovedClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).expect("small"), Ordering::Relaxed);
    }

    pub fn step_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_micros()).expect("small"), Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::Relaxed))
    }
}

/// Whom one subscription to `activity` may watch here.
pub const USERS_MAX: u32 = 10;

/// What nodes share through Redis.
#[derive(Clone, Default)]
pub struct Shared {
    pub cache: Option<Arc<dyn Cache>>,
    pub documents: Option<Arc<dyn Documents>>,
    pub buckets: Option<Arc<dyn Buckets>>,
}

pub struct TestServer {
    pub address: SocketAddr,
    pub chat: Chat,
    pub hub: Hub,
    pub stop: CancellationToken,
    /// Where the node hears of commits.
    pub bus: Arc<InProcessBus>,
    /// The domain's storage, and the keys that everything is signed with.
    pub store: SqlStore,
    pub keys: KeyRing,
    /// What may change while the node runs.
    pub switches: watch::Sender<Switches>,
    client: reqwest::Client,
    _domain: DropGuard,
    _folder: tempfile::TempDir,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::at(Arc::new(SystemClock), settings).await
    }

    /// With a clock of the test's own.
    pub async fn at(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let limits = Limits { rate_limits: false, ..Limits::default() };
        Self::of(clock, settings, HubLimits::default(), limits).await
    }

    /// With bounds of the test's own.
    pub async fn of(clock: Arc<dyn Clock>, settings: Settings, hub: HubLimits, limits: Limits) -> Self {
        Box::pin(Self::sharing(clock, settings, hub, limits, Shared::default())).await
    }

    /// With what it shares with other nodes.
    pub async fn sharing(
        clock: Arc<dyn Clock>,
        settings: Settings,
        hub: HubLimits,
        limits: Limits,
        shared: Shared,
    ) -> Self {
        let Shared { cache, documents, buckets } = shared;
        let folder = tempfile::tempdir().expect("a folder for the database and the keys");
        let url = format!("sqlite://{}/confab.sqlite?mode=rwc", folder.path().display());
        let raw = SqlStore::connect_raw(&url, PoolSettings::default()).await.expect("connects");
        Migrator::up(&raw, None).await.expect("migrates");
        raw.close().await.expect("closes");
        let store = SqlStore::open(&url, PoolSettings::default(), SCHEMA_VERSION).await.expect("opens");
        let keys = folder.path().join("keys");
        KeyRing::create(&keys, &SystemClock, &SystemRandom).expect("a key");
        let keys = KeyRing::open(&keys).expect("opens");
        let bus = Arc::new(InProcessBus::default());
        let wiring = Wiring::new(store.clone(), keys.clone(), limits.clone());
        let (of_domain, of_buckets) = (documents.clone(), buckets.clone());
        let wiring = Wiring { cache, documents: of_domain, buckets: of_buckets, ..wiring };
        let (switches, live) = watch::channel(Switches::default());
        let wiring = Wiring { switches: live.clone(), ..wiring };
        let domain = Wiring { clock: clock.clone(), bus: bus.clone(), ..wiring }.build();
        let stop = CancellationToken::new();
        // The domain's process is another one, and outlives the node's.
        let domain_stop = CancellationToken::new();
        let chat = if env::var("CONFAB_TEST_DOMAIN").is_ok_and(|how| how == "grpc") {
            let remote = behind_grpc(domain, &domain_stop).await;
            let wiring = RemoteWiring::new(remote, keys.clone(), limits);
            let bus = bus.clone();
            RemoteWiring { clock, bus, documents, buckets, switches: live, ..wiring }.build()
        } else {
            domain
        };
        let setup = ApiSetup {
            chat: chat.clone(),
            settings: Settings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..settings },
            web_push_key: None,
            hub,
            activity: ActivityLimits { users_max: USERS_MAX, ..ActivityLimits::default() },
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let (server, hub) = app::start(setup).await.expect("starts");
        let address = server.address().expect("bound");
        TaskTracker::new().spawn(server.serve(stop.clone()));
        Self {
            address,
            chat,
            hub,
            stop,
            bus,
            store,
            keys,
            switches,
            client: client(),
            _domain: domain_stop.drop_guard(),
            _folder: folder,
        }
    }

    /// A request as a client without a framework sends it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// A `POST` of a body, taking this type.
    pub fn post(&self, accept: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, "/graphql")
            .header(header::CONTENT_TYPE, JSON)
            .header(header::ACCEPT, accept)
            .body(body)
    }

    pub async fn query(&self, accept: &str, query: &str, variables: Value) -> Answer {
        let body = json!({ "query": query, "variables": variables }).to_string();
        answer(self.post(accept, body)).await
    }

    /// Registers somebody; their access token.
    pub async fn register(&self, username: &str) -> String {
        let query = "mutation($input: RegisterInput!) {
            register(input: $input) { credentials { accessToken } userErrors { message } } }";
        let input = json!({ "username": username, "password": "correct horse", "displayName": username });
        let answer = self.query(JSON, query, json!({ "input": input })).await.json();
        let token = &answer["data"]["register"]["credentials"]["accessToken"];
        token.as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }
}

/// The same domain, reached as by `confab api`.
async fn behind_grpc(chat: Chat, stop: &CancellationToken) -> Remote {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let secret = ServiceSecret::new("a-secret-of-the-tests-and-nobody-else").expect("long enough");
    let (tasks, timeout) = (TaskTracker::new(), Duration::from_secs(10));
    let (served, stopped) = (tasks.clone(), stop.clone());
    let setup = ServerSetup { chat, listener, secret: secret.clone(), timeout, tasks: served, stop: stopped };
    tasks.spawn(async move { server::serve(setup).await.expect("serves") });
    let endpoints = vec![format!("http://{address}")];
    let held = Held { tasks, stop: stop.clone(), lifeline: Lifeline::default() };
    let setup = RemoteSetup { endpoints, secret, timeout, held };
    Remote::connect(setup).await.expect("connects")
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response: Response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("text") }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}: {:?}", self.status, self.text))
    }

    /// The code of the first error; empty without errors.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn media(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default()
    }
}
