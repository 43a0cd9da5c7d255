//! The roles, composed in dependency order: all in one process, or one of api, domain and worker. `redis` is what several nodes share.

mod redis;

use std::{
    error::Error,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use api::app::{ApiSetup, StartError};
use domain::{
    Chat, Switches, WorkerId,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        in_process::InProcessBus,
        kafka::{ConsumerSetup, KafkaQueue, consume},
        sql::SqlStore,
    },
    grpc::{Remote, RemoteSetup, server, server::ServerSetup},
    keys::{KeyError, KeyRing},
    lifeline::{Held, Lifeline},
    port::{Log as _, Queue, Random as _},
    wiring::{RemoteWiring, Wiring},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use workers::{
    outbox_queue::OutboxQueue,
    push::{self, Pusher},
    relay::{self, RelaySetup},
    tasks::Tasks,
};

use crate::{admin, database, housekeeping, live::Live, metrics, readiness::Readiness, settings::Settings};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Serve,
    /// GraphQL; the domain in process, or elsewhere by `CONFAB_DOMAIN_URL`.
    Api,
    /// The domain behind gRPC.
    Domain,
    /// The relay to Kafka; the domain as for `Api`.
    Worker,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Api => "api",
            Self::Domain => "domain",
            Self::Worker => "worker",
        }
    }

    /// Whether the domain may run elsewhere.
    const fn calls_the_domain(self) -> bool {
        matches!(self, Self::Api | Self::Worker)
    }
}

/// `file` is where the settings came from, to be read again.
pub async fn run(settings: Arc<Settings>, file: Option<PathBuf>, role: Role) -> Outcome<()> {
    let told = Told::new()?;
    Process::start(settings, file, role).await?.run(role, told).await
}

/// What is left to end has so long when the drain took all its time.
const FAREWELL: Duration = Duration::from_secs(2);

/// The signals that end a process.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What every role has.
struct Process {
    settings: Arc<Settings>,
    readiness: Arc<Readiness>,
    /// Work that ends with the process.
    background: TaskTracker,
    /// Two steps at the end: first no new work, then what serves the work that is left.
    stop_serving: CancellationToken,
    stop_rest: CancellationToken,
    /// Broken when a task fails that the process cannot do without.
    lifeline: Lifeline,
    /// What may change while it runs.
    switches: watch::Receiver<Switches>,
    _folder: Option<database::DataFolder>,
}

impl Process {
    async fn start(settings: Arc<Settings>, file: Option<PathBuf>, role: Role) -> Outcome<Self> {
        let keeps_data =
            settings.is_embedded() && (!role.calls_the_domain() || settings.domain_url.is_none());
        let folder = if keeps_data { Some(database::take_data_folder(&settings)?) } else { None };
        if role == Role::Worker && settings.kafka_brokers.is_none() && !settings.push().is_any() {
            return Err(
                "`confab worker` has nothing to do: set CONFAB_KAFKA_BROKERS, or a provider of pushes".into(),
            );
        }
        let live = Live::new(file, &settings)?;
        let process = Self {
            settings,
            readiness: Arc::default(),
            background: TaskTracker::new(),
            stop_serving: CancellationToken::new(),
            stop_rest: CancellationToken::new(),
            lifeline: Lifeline::default(),
            switches: live.switches(),
            _folder: folder,
        };
        let stop = process.stop_rest.clone();
        let following = async move { stop.run_until_cancelled_owned(live.follow()).await };
        process.vital(&process.stop_rest, "live settings", following);
        if let Some(address) = process.settings.admin_listen {
            let (readiness, stop) = (process.readiness.clone(), process.stop_rest.clone());
            let recorded = metrics::install()?;
            process.vital(
                &process.stop_rest,
                "upkeep of metrics",
                metrics::upkeep(recorded.clone(), stop.clone()),
            );
            let bound = admin::start(address, readiness, recorded, &process.background, stop).await;
            let (bound, serving) =
                bound.map_err(|error| format!("cannot listen on {address} (admin): {error}"))?;
            process.vital(&process.stop_rest, "admin listener", serving);
            tracing::info!(admin.address = %bound, "admin endpoints");
        }
        Ok(process)
    }

    /// Until it is told to stop, or fails.
    async fn run(self, role: Role, mut told: Told) -> Outcome<()> {
        let (listener, storage) = tokio::select! {
            begun = self.begin(role) => begun?,
            () = told.stop() => return Ok(()),
        };
        let failed = tokio::select! {
            task = self.lifeline.broken() => Some(task),
            () = told.stop() => None,
        };
        tracing::info!("stopping: finishing what runs");
        let drained = Instant::now() + self.settings.stop_timeout();
        self.readiness.stopping();
        self.stop_serving.cancel();
        let _ = listener.await;
        self.end(storage, drained.max(Instant::now() + FAREWELL)).await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), |task| Err(format!("a task failed that this process lives by: {task}").into()))
    }

    /// Spawns a task that has to go on until `stop`; its end before that ends the process.
    fn vital(
        &self,
        stop: &CancellationToken,
        task: &'static str,
        work: impl Future + Send + 'static,
    ) -> JoinHandle<()> {
        self.background.spawn(self.lifeline.hold_until(stop, task, work))
    }

    /// Where parts spawn their own tasks.
    fn held(&self, stop: &CancellationToken) -> Held {
        Held { tasks: self.background.clone(), stop: stop.clone(), lifeline: self.lifeline.clone() }
    }

    /// Composes the role and begins to serve; waits for back ends that are away.
    async fn begin(&self, role: Role) -> Outcome<(JoinHandle<()>, Option<Storage>)> {
        let (chat, storage) = match self.settings.domain_url.clone().filter(|_| role.calls_the_domain()) {
            Some(endpoints) => (self.remote(endpoints.0).await?, None),
            None => self.local().await.map(|(chat, storage)| (chat, Some(storage)))?,
        };
        let keeping = housekeeping::run(chat.clone(), storage.is_some(), self.stop_rest.clone());
        self.vital(&self.stop_rest, "housekeeping", keeping);
        if matches!(role, Role::Serve | Role::Worker) {
            self.work(&chat)?;
        }
        let serving = match role {
            Role::Serve | Role::Api => Some(self.serve_api(chat.clone()).await?),
            Role::Domain => Some(self.serve_domain(chat.clone()).await?),
            Role::Worker => None,
        };
        // Not before it can be reached.
        self.readiness.running(chat, storage.as_ref().map(|storage| storage.store.clone()));
        let listener = match serving {
            Some((address, listener)) => {
                let scheme = if self.settings.tls_certificate.is_some() { "https" } else { "http" };
                println!("listening on {scheme}://{address}");
                listener
            }
            None => {
                println!("working");
                self.background.spawn(self.stop_serving.clone().cancelled_owned())
            }
        };
        io::stdout().flush()?;
        Ok((listener, storage))
    }

    /// The domain in this process.
    async fn local(&self) -> Outcome<(Chat, Storage)> {
        let store = database::open_patiently(&self.settings, &self.readiness).await?;
        let keys = open_keys(&self.settings)?;
        let mut wiring = Wiring::new(store.clone(), keys, self.settings.domain_limits());
        wiring.lifeline = self.lifeline.clone();
        wiring.switches = self.switches.clone();
        if let Some(shared) = self.redis(store.installation(), store.layout())? {
            (wiring.bus, wiring.presence, wiring.cache) = (shared.bus, shared.presence, Some(shared.cache));
            (wiring.documents, wiring.buckets) = (Some(shared.documents), Some(shared.buckets));
            wiring.whispers = shared.whispers;
        } else {
            wiring.bus = Arc::new(InProcessBus::new(self.settings.bus_backlog_bytes_max));
        }
        let tasks = wiring.tasks.clone();
        Ok((wiring.build(), Storage { store, tasks }))
    }

    /// The domain in others.
    async fn remote(&self, endpoints: Vec<String>) -> Outcome<Chat> {
        self.readiness.waiting_for("domain");
        let setup = RemoteSetup {
            endpoints,
            secret: self.settings.secret()?,
            timeout: self.settings.call_timeout(),
            held: self.held(&self.stop_rest),
        };
        let remote = Remote::connect(setup).await?;
        let shared = self.redis(&remote.installation, remote.layout)?;
        let keys = open_keys(&self.settings)?;
        let mut wiring = RemoteWiring::new(remote, keys, self.settings.domain_limits());
        wiring.lifeline = self.lifeline.clone();
        wiring.switches = self.switches.clone();
        // Copies are kept by the domain, which reads SQL.
        if let Some(shared) = shared {
            (wiring.bus, wiring.presence) = (shared.bus, shared.presence);
            (wiring.documents, wiring.buckets) = (Some(shared.documents), Some(shared.buckets));
            wiring.whispers = shared.whispers;
        }
        Ok(wiring.build())
    }

    /// What happens after a commit: the outbox to Kafka and tasks from there; without Kafka, tasks from the outbox itself.
    fn work(&self, chat: &Chat) -> Outcome<()> {
        let (settings, kafka) = (self.settings.push(), self.settings.kafka());
        let pusher = Arc::new(Pusher::new(&settings, chat, &self.background)?);
        let is_embedded = kafka.is_none();
        let queue: Arc<dyn Queue> = match kafka {
            Some(kafka) => {
                let queue: Arc<dyn Queue> = Arc::new(KafkaQueue::new(kafka.clone())?);
                let tasks = Arc::new(Tasks { chat: chat.clone(), queue: queue.clone(), pusher });
                let (settings, work) = (kafka, tasks);
                let (connected, is_connected) = watch::channel(false);
                self.readiness.without("kafka", is_connected);
                let setup = ConsumerSetup { settings, work, held: self.held(&self.stop_serving), connected };
                self.vital(&self.stop_serving, "consumer of tasks", consume(setup));
                queue
            }
            None if settings.is_any() => {
                Arc::new(OutboxQueue::new(chat.clone(), pusher, self.background.clone()))
            }
            // Nobody waits for what happened.
            None => return Ok(()),
        };
        let setup = RelaySetup {
            chat: chat.clone(),
            queue,
            // Kafka's readers may want all that is kept; nobody wants pushes about what was before there were any.
            from_now: is_embedded,
            worker: self.settings.worker().unwrap_or_else(|| WorkerId::of_number(random_node())),
            tasks: self.background.clone(),
            stop: self.stop_serving.clone(),
        };
        self.vital(&self.stop_serving, "relay", relay::run(setup));
        Ok(())
    }

    async fn serve_api(&self, chat: Chat) -> Outcome<(SocketAddr, JoinHandle<()>)> {
        let setup = ApiSetup {
            chat,
            settings: self.settings.api(),
            web_push_key: self.settings.push_vapid_key.as_deref().map(push::public_key).transpose()?,
            hub: self.settings.hub_limits(),
            activity: self.settings.activity_limits(),
            tasks: self.background.clone(),
            stop: self.stop_rest.clone(),
        };
        let (server, _hub) = api::app::start(setup).await.map_err(|error| match error {
            StartError::Listen(error) => format!("cannot listen on {}: {error}", self.settings.listen).into(),
            other => Box::<dyn Error + Send + Sync>::from(other),
        })?;
        let (address, serving) = (server.address()?, server.serve(self.stop_serving.clone()));
        Ok((address, self.vital(&self.stop_serving, "listener", serving)))
    }

    async fn serve_domain(&self, chat: Chat) -> Outcome<(SocketAddr, JoinHandle<()>)> {
        let address = self.settings.domain_listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| format!("cannot listen on {address} (domain): {error}"))?;
        let bound = listener.local_addr()?;
        let setup = ServerSetup {
            chat,
            listener,
            secret: self.settings.secret()?,
            timeout: self.settings.call_timeout(),
            tasks: self.background.clone(),
            stop: self.stop_serving.clone(),
        };
        let served = async move {
            if let Err(error) = server::serve(setup).await {
                tracing::error!(error = &error as &dyn Error, "the domain's listener failed");
            }
        };
        Ok((bound, self.vital(&self.stop_serving, "listener of the domain", served)))
    }

    /// Finishes what is left, within the time for it.
    async fn end(&self, storage: Option<Storage>, deadline: Instant) {
        self.stop_rest.cancel();
        self.background.close();
        // The hub and the committers end with their last handle; nothing they do is worth waiting for longer.
        let _ = timeout_at(deadline, self.background.wait()).await;
        if let Some(Storage { store, tasks }) = storage {
            tasks.close();
            let _ = timeout_at(deadline, tasks.wait()).await;
            store.close().await;
        }
    }
}

/// The database of a domain in this process, and the work on it that nobody cancels.
struct Storage {
    store: SqlStore,
    tasks: TaskTracker,
}

/// The embedded default makes its first key by itself; elsewhere every node needs the same folder.
pub fn open_keys(settings: &Settings) -> Result<KeyRing, KeyError> {
    let folder = settings.keys_folder();
    match KeyRing::open(&folder) {
        Err(error) if error.is_none_yet() && makes_keys(settings) => {
            let id = KeyRing::create(&folder, &SystemClock, &SystemRandom)?;
            // Whoever meant another folder (CONFAB_KEYS_DIR) finds out here, and not by tokens that no other node takes.
            tracing::info!(keys.folder = %folder.display(), keys.id = id, "made the first signing key");
            KeyRing::open(&folder)
        }
        outcome => outcome,
    }
}

/// Whether the first start makes the signing key.
pub fn makes_keys(settings: &Settings) -> bool {
    settings.is_embedded() && settings.domain_url.is_none()
}

/// What tells this process apart on the bus.
fn random_node() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_vital_task_that_panics_ends_the_process_as_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Arc::new(Settings::for_test(&[
            ("listen", "127.0.0.1:0"),
            ("admin_listen", "off"),
            ("data_dir", folder.path().to_str().expect("UTF-8")),
        ]));
        let process = Process::start(settings, None, Role::Serve).await.expect("starts");
        let fall = CancellationToken::new();
        let falls = fall.clone();
        let falling = async move {
            falls.cancelled().await;
            panic!("as a defect would")
        };
        process.vital(&process.stop_rest, "something vital", falling);
        fall.cancel();
        let failure = process.run(Role::Serve, Told::new().expect("signals")).await.expect_err("fails");
        assert!(failure.to_string().ends_with("something vital"), "{failure}");
    }
}
