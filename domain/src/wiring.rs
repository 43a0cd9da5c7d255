//! The one place that names concrete adapters.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{
    Chat, Limits,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        in_process::InProcessBus,
        sql::SqlStore,
    },
    attempts::Attempts,
    commit::{Committers, CommittersSetup, IdSource},
    ended_sessions::EndedSessions,
    keys::KeyRing,
    passwords::Passwords,
    port::{Bus, Clock, Log, Random},
    service::Services,
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
    pub tasks: TaskTracker,
}

impl Wiring {
    pub fn new(store: SqlStore, keys: KeyRing, limits: Limits) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let bus = Arc::new(InProcessBus::default());
        Self { store, keys, limits, clock, random, bus, tasks: TaskTracker::new() }
    }

    /// A domain in this process, in dependency order.
    pub fn build(self) -> Chat {
        let Self { store, keys, limits, clock, random, bus, tasks } = self;
        let store = Arc::new(store);
        let log: Arc<dyn Log> = store.clone();
        let ids = Arc::new(IdSource::new(log.clone(), clock.clone()));
        let committers = Committers::start(CommittersSetup {
            log: log.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            random: random.clone(),
            ids: ids.clone(),
            queue_max: limits.commit_queue_max,
            timeout: limits.send_timeout,
            receipts_members_max: limits.receipts_members_max,
            tasks: tasks.clone(),
        });
        let services = Services {
            tokens: AccessTokens::new(keys.clone(), clock.clone()),
            passwords: Passwords::new(limits.password_hashes_max, random.clone()),
            attempts: Attempts::new(clock.clone(), limits.rate_limits),
            ended_sessions: EndedSessions::default(),
            keys,
            clock,
            random,
            ids,
            log,
            accounts: store.clone(),
            conversations: store,
            bus,
            committers,
            limits,
            tasks,
        };
        Chat { services: Arc::new(services) }
    }
}
