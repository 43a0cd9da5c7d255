//! What is measured, by its names: the one list of metrics.
//!
//! Traffic, errors, latency and saturation of each role, and the figures that operators watch. `/metrics` shows them with these
//! descriptions; `docs/metrics.md` is made from the same list.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::Instant;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Seconds.
    Latency,
}

#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static str,
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$labels:literal] $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*

        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, labels: $labels, meaning: $meaning },)*
        ];
    };
}

metrics! {
    OPERATIONS = Counter "confab_operations_total" ["kind, outcome"] "GraphQL queries and mutations answered; outcome `ok`, `error` or `refused`.";
    OPERATION_SECONDS = Latency "confab_operation_seconds" ["kind"] "From a parsed GraphQL query or mutation to its answer.";
    OPERATIONS_RUNNING = Gauge "confab_operations_running" [""] "GraphQL queries and mutations running now.";
    CONNECTIONS_REFUSED = Counter "confab_connections_refused_total" [""] "Connections closed at once because their address had as many as it may.";
    SOCKETS = Gauge "confab_sockets" [""] "WebSockets open now.";
    SUBSCRIPTIONS = Gauge "confab_subscriptions" [""] "Subscriptions to events open now.";
    DELIVERIES = Counter "confab_deliveries_total" [""] "Events put into the queues of sockets.";
    SLOW_READERS = Counter "confab_slow_readers_total" [""] "Sockets closed because their client did not read.";
    EXECUTIONS = Counter "confab_executions_total" [""] "Executions of a subscription's selection for an event.";
    HUB_VERIFIED_AT = Gauge "confab_hub_verified_timestamp_seconds" [""] "When the hub last knew the log to its end, as Unix time; after 1 s it delivers nothing.";
    ACTIVITY_SUBSCRIPTIONS = Gauge "confab_activity_subscriptions" [""] "Subscriptions to activity open now.";
    ACTIVITY_DELIVERIES = Counter "confab_activity_deliveries_total" ["kind"] "Changes told to subscriptions to activity; kind `presence` or `typing`.";
    PRESENCE_WATCHED = Gauge "confab_presence_watched" [""] "Users whose presence somebody watches on this node.";
    PRESENCE_CHANGES = Counter "confab_presence_changes_total" [""] "Changes of users who are watched on this node.";
    CALLS = Counter "confab_calls_total" ["call, outcome"] "Calls of the domain; outcome `ok` or the error's code.";
    CALL_SECONDS = Latency "confab_call_seconds" ["call"] "Calls of the domain, from the caller's side.";
    ENDPOINT_UP = Gauge "confab_domain_endpoint_up" ["address"] "1 while a domain endpoint answers, else 0.";
    COMMITS = Counter "confab_commits_total" ["outcome"] "Group commits; outcome `ok` or `failed`.";
    COMMIT_SECONDS = Latency "confab_commit_seconds" [""] "One group commit, retries included.";
    COMMIT_ITEMS = Counter "confab_commit_items_total" [""] "Messages and read marks in group commits.";
    PASSWORD_HASHES = Counter "confab_password_hashes_total" [""] "Passwords hashed, to store them or to compare; an unknown user costs as many as a known one.";
    COMMITS_SPOILED = Counter "confab_commits_spoiled_total" [""] "Group commits tried again because one of their keys had been committed, and nobody here knew.";
    BUS_CONNECTED = Gauge "confab_bus_connected" [""] "1 while this process hears its own heartbeat over Redis, else 0.";
    BUS_LOST = Counter "confab_bus_lost_total" [""] "Batches that the bus did not take; the hubs find them in the log.";
    CACHE_READS = Counter "confab_cache_reads_total" ["kind, outcome"] "Looks for a copy of what SQL holds; outcome `near` (in the process), `far` (in Redis), `miss` or `away` (Redis did not answer). The rate of hits is near and far in all.";
    CACHE_VOIDS_LOST = Counter "confab_cache_voids_lost_total" [""] "Copies that could be voided neither at once nor later; they live out their time.";
    RELAYED = Counter "confab_relayed_total" [""] "Records that the queue has confirmed.";
    RELAY_LANES = Gauge "confab_relay_lanes" [""] "Lanes that this worker relays.";
    RELAY_BACKLOG = Gauge "confab_relay_backlog" ["lane"] "Positions of a lane that wait for the relay.";
    TASKS = Counter "confab_tasks_total" ["topic, outcome"] "Tasks worked on; outcome `done`, `again` or `dead`.";
    TASK_SECONDS = Latency "confab_task_seconds" ["topic"] "A task, retries included.";
    TASK_LAG = Gauge "confab_task_lag" ["partition"] "Records of a partition that wait for this worker.";
    TASK_BUSY_SECONDS = Gauge "confab_task_busy_seconds" [""] "How long the oldest task that runs has been running.";
    PUSHES = Counter "confab_pushes_total" ["provider, outcome"] "Pushes; outcome `sent`, `gone` (the device is forgotten), `refused` or `later`.";
    RELAY_OLDEST_SECONDS = Gauge "confab_relay_oldest_seconds" ["lane"] "Age of the oldest outbox row that waits for the relay.";
    SPANS = Counter "confab_spans_total" ["outcome"] "Spans of traces given to the collector; outcome `exported` or `lost`.";
}

/// Gives the recorder the descriptions. Once, after it is installed.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => describe_gauge!(metric.name, metric.meaning),
            Kind::Latency => describe_histogram!(metric.name, Unit::Seconds, metric.meaning),
        }
    }
}

/// Notes how long something took since its beginning.
pub fn latency(name: &'static str, labels: &[(&'static str, &'static str)], begun: Instant) {
    histogram!(name, labels).record(begun.elapsed().as_secs_f64());
}

pub fn count(name: &'static str, labels: &[(&'static str, &'static str)], by: u64) {
    counter!(name, labels).increment(by);
}

/// Sets a counter that is kept elsewhere.
pub fn total(name: &'static str, value: u64) {
    counter!(name).absolute(value);
}

/// Sets a figure that stands for a state.
pub fn set(name: &'static str, value: f64) {
    gauge!(name).set(value);
}

/// Sets a figure of one of several things of a kind.
pub fn set_of(name: &'static str, label: &'static str, of: String, value: f64) {
    gauge!(name, label => of).set(value);
}

/// Counts one more of what is open, until it is dropped.
pub struct Open(&'static str);

impl Open {
    pub fn new(name: &'static str) -> Self {
        gauge!(name).increment(1.0);
        Self(name)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}
