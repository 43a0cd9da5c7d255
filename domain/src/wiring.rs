//! The one place that names concrete adapters.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    Chat, Limits, Switches,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        in_process::{
            InProcessBuckets, InProcessBus, InProcessCache, InProcessDocuments, InProcessPresence,
            InProcessWhispers,
        },
        sql::SqlStore,
    },
    attempts::{Attempts, rates::Rates},
    budget::Budgets,
    cache::{Copies, CopiesSetup},
    chat::{Backend, Local},
    commit::{Committers, CommittersSetup, IdSource},
    departures::Departures,
    documents::SharedDocuments,
    grpc::Remote,
    keys::KeyRing,
    lifeline::Lifeline,
    passwords::Passwords,
    port::{Buckets, Bus, Cache, Clock, Documents, Log, Presence, Random, Whispers},
    service::{Domain, Services},
    tokens::AccessTokens,
};

/// What a domain is made of, beside its storage. Tests replace the clock; several nodes share a bus.
pub struct Wiring {
    pub store: SqlStore,
    pub keys: KeyRing,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// How hubs hear of commits at once.
    pub bus: Arc<dyn Bus>,
    /// Who is live, on whatever node.
    pub presence: Arc<dyn Presence>,
    /// What nodes say to each other in passing.
    pub whispers: Arc<dyn Whispers>,
    /// What may change while the process runs.
    pub switches: watch::Receiver<Switches>,
    /// Copies that processes share; `None` where each has only its own.
    pub cache: Option<Arc<dyn Cache>>,
    /// Registered documents that processes share.
    pub documents: Option<Arc<dyn Documents>>,
    /// Budgets that processes share.
    pub buckets: Option<Arc<dyn Buckets>>,
    pub tasks: TaskTracker,
    /// Broken when a task fails that nobody can do without.
    pub lifeline: Lifeline,
}

impl Wiring {
    pub fn new(store: SqlStore, keys: KeyRing, limits: Limits) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let bus = Arc::new(InProcessBus::default());
        let (whispers, presence, switches) = alone();
        let (tasks, lifeline) = (TaskTracker::new(), Lifeline::default());
        let (cache, documents, buckets) = (None, None, None);
        Self {
            store,
            keys,
            limits,
            clock,
            random,
            bus,
            presence,
            whispers,
            switches,
            cache,
            documents,
            buckets,
            tasks,
            lifeline,
        }
    }

    /// A domain in this process, in dependency order.
    pub fn build(self) -> Chat {
        let Self { store, keys, limits, clock, random, bus, presence, whispers, switches, .. } = self;
        let Self { cache, documents, buckets, tasks, lifeline, .. } = self;
        let installation = store.installation().to_owned();
        let store = Arc::new(store);
        let log: Arc<dyn Log> = store.clone();
        let ids = Arc::new(IdSource::new(log.clone(), clock.clone()));
        let committers = Committers::start(CommittersSetup {
            log: log.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            random: random.clone(),
            ids: ids.clone(),
            limits: limits.clone(),
            tasks: tasks.clone(),
            lifeline: lifeline.clone(),
        });
        let local = Local {
            installation,
            layout: log.layout(),
            limits: limits.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tokens: Arc::new(AccessTokens::new(keys.clone(), clock.clone())),
            ended_sessions: Arc::default(),
            bus: bus.clone(),
            presence: presence.clone(),
            whispers,
            departures: Departures::default(),
            typing: Rates::new(limits.typing_rate),
            switches,
            documents: shared_documents(&limits, documents),
            budgets: budgets(&clock, buckets),
            lifeline,
            users: None,
        };
        let copies = Copies::new(CopiesSetup {
            store: store.clone(),
            near: Arc::new(InProcessCache::default()),
            far: cache,
            random: random.clone(),
            heard: bus.subscribe(),
        });
        let services = Services {
            copies,
            tokens: local.tokens.clone(),
            passwords: Passwords::new(&limits, random.clone()),
            attempts: Attempts::new(clock.clone(), &limits),
            ended_sessions: local.ended_sessions.clone(),
            keys,
            clock,
            random,
            ids,
            log,
            accounts: store.clone(),
            conversations: store.clone(),
            contacts: store.clone(),
            devices: store.clone(),
            pushes: store.clone(),
            presence,
            relays: store,
            bus,
            committers,
            limits,
            tasks,
        };
        let domain = Domain { services: Arc::new(services) };
        Chat { local: Arc::new(local), backend: Backend::Here(domain) }
    }
}

/// What a process is made of whose domain runs in others.
pub struct RemoteWiring {
    pub remote: Remote,
    pub keys: KeyRing,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// How this process hears of commits at once.
    pub bus: Arc<dyn Bus>,
    pub presence: Arc<dyn Presence>,
    /// What nodes say to each other in passing.
    pub whispers: Arc<dyn Whispers>,
    /// What may change while the process runs.
    pub switches: watch::Receiver<Switches>,
    pub documents: Option<Arc<dyn Documents>>,
    pub buckets: Option<Arc<dyn Buckets>>,
    pub lifeline: Lifeline,
}

impl RemoteWiring {
    pub fn new(remote: Remote, keys: KeyRing, limits: Limits) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let (whispers, presence, switches) = alone();
        let (bus, lifeline) = (Arc::new(InProcessBus::default()), Lifeline::default());
        let (documents, buckets) = (None, None);
        Self {
            remote,
            keys,
            limits,
            clock,
            random,
            bus,
            presence,
            whispers,
            switches,
            documents,
            buckets,
            lifeline,
        }
    }

    pub fn build(self) -> Chat {
        let Self { remote, keys, limits, clock, random, bus, presence, whispers, switches, .. } = self;
        let Self { documents, buckets, lifeline, .. } = self;
        let local = Local {
            installation: remote.installation.clone(),
            layout: remote.layout,
            documents: shared_documents(&limits, documents),
            budgets: budgets(&clock, buckets),
            typing: Rates::new(limits.typing_rate),
            departures: Departures::default(),
            limits,
            tokens: Arc::new(AccessTokens::new(keys.clone(), clock.clone())),
            keys,
            clock,
            random,
            ended_sessions: Arc::default(),
            bus,
            presence,
            whispers,
            switches,
            lifeline,
            users: Some(Arc::new(InProcessCache::default())),
        };
        Chat { local: Arc::new(local), backend: Backend::There(Arc::new(remote)) }
    }
}

/// What a process says to itself when there is nobody else, with everything switched on.
fn alone() -> (Arc<dyn Whispers>, Arc<dyn Presence>, watch::Receiver<Switches>) {
    let whispers: Arc<dyn Whispers> = Arc::new(InProcessWhispers::default());
    let presence = Arc::new(InProcessPresence::new(whispers.clone()));
    // Nobody switches: the last value stays.
    (whispers, presence, watch::channel(Switches::default()).1)
}

fn shared_documents(limits: &Limits, far: Option<Arc<dyn Documents>>) -> SharedDocuments {
    SharedDocuments { near: Arc::new(InProcessDocuments::new(limits.documents)), far }
}

fn budgets(clock: &Arc<dyn Clock>, far: Option<Arc<dyn Buckets>>) -> Arc<Budgets> {
    Arc::new(Budgets::new(Arc::new(InProcessBuckets::default()), far, clock.clone()))
}
