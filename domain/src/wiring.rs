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
    commit::{Committers, CommittersSetup, IdSource},
    port::{Bus, Clock, Log, Random},
    service::Services,
};

/// What a domain is made of, beside its storage. Tests replace the clock.
pub struct Wiring {
    pub store: SqlStore,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub tasks: TaskTracker,
}

impl Wiring {
    pub fn new(store: SqlStore, limits: Limits) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        Self { store, limits, clock, random, tasks: TaskTracker::new() }
    }

    /// A domain in this process, in dependency order.
    pub fn build(self) -> Chat {
        let Self { store, limits, clock, random, tasks } = self;
        let store = Arc::new(store);
        let log: Arc<dyn Log> = store.clone();
        let bus: Arc<dyn Bus> = Arc::new(InProcessBus::default());
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
