//! The live delivery of one node: every durable event, in the order of its lane, to the subscriptions it concerns.
//!
//! `feed` follows the lanes: the bus is a shortcut, the log in SQL the truth. `actor` is the one task that routes, in
//! one order for all sockets; it keeps who is in which conversation. `group` executes an event once for all subscriptions
//! that would see the same bytes, which `sharing` decides. `view` has the last look before it is written. `start` opens a subscription: what was missed (`replay`), of which `answers` are shared, then live.
//!
//! A subscription's life: [`Hub::subscribe`] spawns `start`, which reads a snapshot at the lanes' heads H and replays; the
//! actor then rolls its recent batches forward from H to its own position V, and from there on the subscription is live.

mod actor;
mod answers;
mod arguments;
mod audience;
mod feed;
mod group;
mod recent;
mod replay;
mod roster;
mod sharing;
mod start;
mod view;
mod wakes;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{Chat, Event, ServiceError, SessionId, trace};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    executor::Subscription,
    schema::ChatSchema,
    typesystem::TypeSystem,
    websocket::{About, Outbound, Sight, Watched},
};
use actor::{Actor, Command};
use answers::Answers;
use view::{Openings, Removals, View};
use wakes::Wakes;

/// Bounds of the hub, each a setting.
#[derive(Clone, Debug)]
pub struct HubLimits {
    /// How often the lanes' heads are read from SQL, whatever the bus says.
    pub heads_interval: Duration,
    /// How long a hole in a lane may wait for the bus before it is read from SQL.
    pub gap_timeout: Duration,
    /// Nothing is delivered while the view of SQL is older than this.
    pub view_age_max: Duration,
    /// Sockets are closed, with cursors that resume, when the view of SQL has been older than this.
    pub view_lost_after: Duration,
    /// Batches kept for subscriptions that are about to go live.
    pub recent_batches_max: usize,
    /// Bytes of them.
    pub recent_batches_bytes_max: usize,
    /// Batches of a lane that came before their turn; what does not fit is read from SQL.
    pub ahead_batches_max: usize,
    /// Bytes of them, of all lanes together.
    pub ahead_batches_bytes_max: usize,
    /// Bytes of batches on their way to the task that routes; behind them the feed waits, and SQL keeps the rest.
    pub feed_bytes_max: usize,
    /// How long the execution of one event may take.
    pub execution_timeout: Duration,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            heads_interval: Duration::from_millis(300),
            gap_timeout: Duration::from_millis(20),
            view_age_max: Duration::from_secs(1),
            view_lost_after: Duration::from_secs(10),
            recent_batches_max: 4096,
            recent_batches_bytes_max: 64 * 1024 * 1024,
            ahead_batches_max: 1024,
            ahead_batches_bytes_max: 16 * 1024 * 1024,
            feed_bytes_max: 16 * 1024 * 1024,
            execution_timeout: Duration::from_secs(5),
        }
    }
}

/// How often events were executed and delivered since the start, and what is kept of them.
#[derive(Debug, Default)]
pub struct HubMetrics {
    executions: AtomicU64,
    deliveries: AtomicU64,
    recent_bytes: AtomicUsize,
}

impl HubMetrics {
    pub fn executions_total(&self) -> u64 {
        self.executions.load(Ordering::Relaxed)
    }

    pub fn deliveries_total(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Bytes of the batches that are remembered now.
    pub fn recent_bytes(&self) -> usize {
        self.recent_bytes.load(Ordering::Relaxed)
    }
}

/// What a hub is made of.
pub struct HubSetup {
    pub chat: Chat,
    pub schema: ChatSchema,
    pub types: Arc<TypeSystem>,
    pub limits: HubLimits,
    pub tasks: TaskTracker,
    /// Called when a session has ended, with the session whose sockets must close.
    pub on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// Called with each event as soon as it is seen, in the order of its lane, and with nothing when the log is another one.
    pub on_event: OnEvent,
    pub stop: CancellationToken,
}

/// Hears of every event, or that the log is another one.
pub type OnEvent = Arc<dyn Fn(Option<&Event>) + Send + Sync>;

/// The live delivery of this node. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// By ids that the server makes: nobody can choose them so that they collide, and a delivery looks up several.
type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

struct Shared {
    chat: Chat,
    schema: ChatSchema,
    types: Arc<TypeSystem>,
    limits: HubLimits,
    tasks: TaskTracker,
    metrics: HubMetrics,
    commands: mpsc::UnboundedSender<Command>,
    view: Arc<View>,
    openings: Openings,
    wakes: Arc<Wakes>,
    answers: Answers,
    /// Bounds how many subscriptions start anew at once when the log is another one.
    restarts: Semaphore,
}

/// Subscriptions that start anew at once. Each reads a snapshot; the rest wait their turn.
const RESTARTS_MAX: usize = 32;

/// An open subscription, as the tasks of the hub know it.
struct Open {
    id: Arc<str>,
    outbound: Outbound,
    ended: AtomicBool,
    removals: Removals,
}

impl Open {
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.outbound.is_closed()
    }
}

/// Ends a subscription when dropped.
struct Ending {
    open: Arc<Open>,
    commands: mpsc::UnboundedSender<Command>,
    view: Arc<View>,
}

impl Watched for Ending {
    fn sight(&self, about: About) -> Sight {
        // In this order: a fresh view knows the removals.
        if !self.view.is_fresh() {
            let view = self.view.clone();
            return Sight::Unknown(Box::pin(async move { view.fresh().await }));
        }
        if self.open.removals.hide(about) { Sight::Hidden } else { Sight::Shown }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.open.ended.store(true, Ordering::Release);
        // The actor is gone when the hub has stopped, and its subscriptions with it.
        let _ = self.commands.send(Command::Leave(self.open.clone()));
    }
}

impl Hub {
    /// Reads where the lanes stand and follows them from there. Fails when the database cannot be read.
    pub async fn start(setup: HubSetup) -> Result<Self, ServiceError> {
        let heads = setup.chat.heads().await?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let view = Arc::new(View::new(setup.limits.view_age_max));
        let mut mark = [0; 16];
        setup.chat.random().fill(&mut mark);
        let answers = Answers::new(mark);
        let shared = Arc::new(Shared {
            chat: setup.chat,
            schema: setup.schema,
            types: setup.types,
            limits: setup.limits,
            tasks: setup.tasks.clone(),
            metrics: HubMetrics::default(),
            commands,
            view,
            openings: Openings::default(),
            wakes: Arc::default(),
            answers,
            restarts: Semaphore::new(RESTARTS_MAX),
        });
        let feed = feed::follow(&shared, heads.clone(), &setup.stop);
        let actor = Actor::new(&shared, heads, setup.on_session_ended, setup.on_event);
        let acting = actor.run(inbox, feed, setup.stop.clone());
        setup.tasks.spawn(shared.chat.lifeline().hold_until(&setup.stop, "hub", acting));
        let (wakes, stop) = (shared.wakes.clone(), setup.stop.clone());
        let waking = async move {
            stop.run_until_cancelled(wakes.run()).await;
        };
        setup.tasks.spawn(shared.chat.lifeline().hold("wakes", waking));
        Ok(Self { shared })
    }

    /// Opens a subscription; what it says goes to the socket's queue. It ends when what this returns is dropped.
    pub fn subscribe(&self, subscription: Subscription) -> Box<dyn Watched> {
        let id = subscription.operation_id.clone();
        let outbound = subscription.outbound.clone();
        let open =
            Arc::new(Open { id, outbound, ended: AtomicBool::new(false), removals: Removals::default() });
        let (commands, view) = (self.shared.commands.clone(), self.shared.view.clone());
        let ending = Ending { open: open.clone(), commands, view };
        let hub = self.clone();
        let trace = subscription.trace;
        let opening = async move { start::run(&hub.shared, open, subscription).await };
        self.shared.tasks.spawn(trace::scope(trace, opening));
        Box::new(ending)
    }

    /// Whether all that was committed a second ago has been seen.
    pub fn is_fresh(&self) -> bool {
        self.shared.view.is_fresh()
    }

    /// Resolves when it has.
    pub async fn fresh(&self) {
        self.shared.view.fresh().await;
    }

    pub fn metrics(&self) -> &HubMetrics {
        &self.shared.metrics
    }
}
