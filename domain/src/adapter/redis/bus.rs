//! The bus of several nodes: one channel a lane, one publish a batch.
//!
//! Publishing and listening are a task and a connection each. A client library may believe that it is subscribed long after it
//! is not (trap 6), so the publisher sends a heartbeat through a channel of this node's own, and a listener that does not hear it
//! starts over with a new connection. What is lost meanwhile, the hubs find by the lanes' heads.
//!
//! In a cluster the channels are plain ones, which its nodes pass on to each other, so that either connection may be to any node.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    super::backlog::Backlog,
    CALL_TIMEOUT, Pause,
    servers::{RedisServers, in_time},
};
use crate::{
    LaneId, LaneLayout, LoggedBatch,
    contract::batch::{decode, encode},
    lifeline::Held,
    measure,
    port::Bus,
};

/// Batches that wait to be published or heard; more are lost to the bus and found in the log.
const BACKLOG: usize = 1024;
/// Batches in one round trip.
const PIPELINE_MAX: usize = 64;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A listener that hears nothing for so long, not even its own heartbeat, is not subscribed.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What a Redis bus needs.
pub struct RedisBusSetup {
    pub servers: RedisServers,
    /// Tells the channels of installations apart that share a Redis.
    pub installation: String,
    pub layout: LaneLayout,
    /// This process, as no other has it.
    pub node: u64,
    /// Bytes of batches that wait to be heard, and of those that wait to be published.
    pub backlog_bytes_max: usize,
    /// Where it runs.
    pub held: Held,
}

pub struct RedisBus {
    connected: watch::Receiver<bool>,
    heard: Arc<Heard>,
    outgoing: mpsc::Sender<Arc<LoggedBatch>>,
    outgoing_backlog: Backlog,
}

/// What the hubs of this process hear.
struct Heard {
    batches: broadcast::Sender<Arc<LoggedBatch>>,
    backlog: Backlog,
}

impl Heard {
    fn tell(&self, batch: &Arc<LoggedBatch>) {
        let put = || {
            // Without a hub nobody listens, which is fine.
            let _ = self.batches.send(batch.clone());
            true
        };
        if !self.backlog.put(batch.bytes(), || self.batches.len(), put) {
            measure::count(measure::BUS_LOST, &[], 1);
        }
    }
}

impl RedisBus {
    /// Starts to connect, again and again until it is stopped.
    pub fn start(setup: RedisBusSetup) -> Self {
        let RedisBusSetup { servers, installation, layout, node, backlog_bytes_max, held } = setup;
        let backlog = || Backlog::new(backlog_bytes_max);
        let heard = Arc::new(Heard { batches: broadcast::Sender::new(BACKLOG), backlog: backlog() });
        let outgoing_backlog = backlog();
        let (outgoing, waiting) = mpsc::channel(BACKLOG);
        let channels = Channels { prefix: format!("confab:{installation}"), node };
        let publisher = Publisher { servers: servers.clone(), channels: channels.clone(), waiting };
        let (report, connected) = watch::channel(false);
        let listener = Listener { servers, channels, layout, heard: heard.clone(), report };
        held.spawn("publisher of the bus", publisher.run());
        held.spawn("listener of the bus", listener.run());
        Self { connected, heard, outgoing, outgoing_backlog }
    }

    /// Whether the listener hears its own heartbeat.
    pub fn is_connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

impl Bus for RedisBus {
    fn publish(&self, batch: Arc<LoggedBatch>) {
        // The node's own hub hears it without the way there and back.
        self.heard.tell(&batch);
        // A full queue loses it; the others find it in the log.
        let waiting = || self.outgoing.max_capacity() - self.outgoing.capacity();
        let put = || self.outgoing.try_send(batch.clone()).is_ok();
        if !self.outgoing_backlog.put(batch.bytes(), waiting, put) {
            measure::count(measure::BUS_LOST, &[], 1);
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        self.heard.batches.subscribe()
    }
}

#[derive(Clone)]
struct Channels {
    prefix: String,
    node: u64,
}

impl Channels {
    fn lane(&self, lane: LaneId) -> String {
        format!("{}:lane:{}", self.prefix, lane.0)
    }

    fn heartbeat(&self) -> String {
        format!("{}:node:{:016x}", self.prefix, self.node)
    }
}

struct Publisher {
    servers: RedisServers,
    channels: Channels,
    waiting: mpsc::Receiver<Arc<LoggedBatch>>,
}

impl Publisher {
    async fn run(mut self) {
        let mut pause = Pause::default();
        loop {
            let lost = match self.servers.connect_to_one().await {
                Ok(connection) => {
                    pause.reset();
                    self.publish_on(connection).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = lost else { return };
            tracing::warn!(error = %error, "the bus does not publish; others read the log meanwhile");
            pause.wait().await;
        }
    }

    /// Until the connection fails; `Ok` when nobody publishes any more.
    async fn publish_on(&mut self, mut connection: MultiplexedConnection) -> RedisResult<()> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut pipeline = redis::pipe();
            tokio::select! {
                batch = self.waiting.recv() => {
                    let Some(first) = batch else { return Ok(()) };
                    let more = std::iter::from_fn(|| self.waiting.try_recv().ok()).take(PIPELINE_MAX - 1);
                    for batch in std::iter::once(first).chain(more) {
                        let payload = encode(self.channels.node, &batch);
                        pipeline.publish(self.channels.lane(batch.lane), payload).ignore();
                    }
                }
                _ = heartbeat.tick() => {
                    pipeline.publish(self.channels.heartbeat(), "").ignore();
                }
            }
            pipeline.exec_async(&mut connection).await?;
        }
    }
}

struct Listener {
    servers: RedisServers,
    channels: Channels,
    layout: LaneLayout,
    heard: Arc<Heard>,
    report: watch::Sender<bool>,
}

impl Listener {
    async fn run(self) {
        let mut pause = Pause::default();
        loop {
            match self.listen(&mut pause).await {
                Ok(()) => tracing::warn!("the bus fell silent; listening anew"),
                Err(error) => tracing::warn!(error = %error, "the bus does not listen"),
            }
            self.report.send_replace(false);
            measure::set(measure::BUS_CONNECTED, 0.0);
            pause.wait().await;
        }
    }

    /// Until the connection fails or falls silent.
    async fn listen(&self, pause: &mut Pause) -> RedisResult<()> {
        let mut connection = self.servers.listen().await?;
        let mut channels: Vec<String> = self.layout.lanes().map(|lane| self.channels.lane(lane)).collect();
        let heartbeat = self.channels.heartbeat();
        channels.push(heartbeat.clone());
        in_time(CALL_TIMEOUT, connection.subscribe(&channels)).await?;
        let mut messages = connection.on_message();
        let mut silent_since = Instant::now();
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = sleep_until(silent_since + SILENCE_MAX) => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            silent_since = Instant::now();
            if message.get_channel_name() == heartbeat {
                pause.reset();
                self.report.send_if_modified(|connected| !std::mem::replace(connected, true));
                measure::set(measure::BUS_CONNECTED, 1.0);
                continue;
            }
            match decode(message.get_payload_bytes(), self.channels.node) {
                Ok(Some(batch)) => self.heard.tell(&Arc::new(batch)),
                Ok(None) => {}
                // Of a newer version, perhaps; the log has it.
                Err(error) => tracing::warn!(error = %error, "a batch on the bus cannot be read"),
            }
        }
    }
}
