//! Whispers between nodes: a channel for each user and conversation that somebody listens to, so that Redis passes a word on to nobody
//! else. While nobody listens on this node, it has no connection for it.
//!
//! As on the bus, a listener that does not hear its own heartbeat through the channel starts over. What was lost meanwhile is not said
//! again: the listeners are told to look anew.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use redis::{Cmd, RedisResult, aio::PubSubSink};
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    super::backlog::WHISPERS_MAX,
    CALL_TIMEOUT, Pause, RedisCommands,
    servers::{RedisServers, in_time},
};
use crate::{ConversationId, Heard, Topic, UserId, Whisper, lifeline::Held, port::Whispers};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A listener that hears nothing for so long, not even its own heartbeat, is not subscribed.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Channels in one call, and whispers in one round trip.
const AT_ONCE: usize = 500;

/// What whispers over Redis need.
pub struct RedisWhispersSetup {
    pub servers: RedisServers,
    pub commands: RedisCommands,
    /// Tells the channels of installations apart that share a Redis.
    pub prefix: String,
    /// This process, as no other has it.
    pub node: u64,
    /// Where it runs.
    pub held: Held,
}

pub struct RedisWhispers {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Whisper>,
}

struct Shared {
    servers: RedisServers,
    commands: RedisCommands,
    prefix: String,
    node: String,
    heard: broadcast::Sender<Heard>,
    /// As many as somebody listens to here, which bounds them.
    wanted: Mutex<HashSet<Topic>>,
    changed: Notify,
}

impl RedisWhispers {
    pub fn start(setup: RedisWhispersSetup) -> Self {
        let RedisWhispersSetup { servers, commands, prefix, node, held } = setup;
        let shared = Arc::new(Shared {
            servers,
            commands,
            prefix,
            node: format!("{node:016x}"),
            heard: broadcast::Sender::new(WHISPERS_MAX),
            wanted: Mutex::default(),
            changed: Notify::new(),
        });
        let (outgoing, waiting) = mpsc::channel(WHISPERS_MAX);
        let (publisher, listener) = (shared.clone(), shared.clone());
        held.spawn("publisher of whispers", async move { publisher.publish(waiting).await });
        held.spawn("listener of whispers", async move { listener.run().await });
        Self { shared, outgoing }
    }
}

impl Whispers for RedisWhispers {
    fn say(&self, whisper: Whisper) {
        // This node's own listeners need no way there and back.
        let _ = self.shared.heard.send(Heard::Whisper(whisper));
        // A full queue loses it.
        let _ = self.outgoing.try_send(whisper);
    }

    fn listen(&self, topics: &[Topic]) {
        self.shared.wanted().extend(topics);
        self.shared.changed.notify_one();
    }

    fn ignore(&self, topics: &[Topic]) {
        let mut wanted = self.shared.wanted();
        for topic in topics {
            wanted.remove(topic);
        }
        drop(wanted);
        self.shared.changed.notify_one();
    }

    fn hear(&self) -> broadcast::Receiver<Heard> {
        self.shared.heard.subscribe()
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, topic: Topic) -> String {
        match topic {
            Topic::User(user) => format!("{}:whisper:user:{}", self.prefix, user.0),
            Topic::Conversation(conversation) => {
                format!("{}:whisper:conversation:{conversation}", self.prefix)
            }
        }
    }

    fn heartbeat(&self) -> String {
        format!("{}:whisper:node:{}", self.prefix, self.node)
    }

    async fn publish(&self, mut waiting: mpsc::Receiver<Whisper>) {
        let mut whispers = Vec::with_capacity(AT_ONCE);
        while waiting.recv_many(&mut whispers, AT_ONCE).await > 0 {
            let commands = whispers.drain(..).map(|whisper| {
                let mut publish = redis::cmd("PUBLISH");
                publish.arg(self.channel(whisper.topic())).arg(encode(&self.node, whisper));
                publish
            });
            if let Err(error) = self.commands.query_all(commands.collect()).await {
                tracing::debug!(error = %error, "whispers are lost; others look for themselves");
            }
        }
    }

    async fn run(&self) {
        let mut pause = Pause::default();
        loop {
            while self.wanted().is_empty() {
                self.changed.notified().await;
            }
            if let Err(error) = self.listen(&mut pause).await {
                tracing::debug!(error = %error, "whispers are not heard");
                pause.wait().await;
            }
        }
    }

    /// Until nobody listens any more, or the connection fails or falls silent.
    async fn listen(&self, pause: &mut Pause) -> RedisResult<()> {
        let (mut sink, mut messages) = self.servers.listen().await?.split();
        let own = self.heartbeat();
        in_time(CALL_TIMEOUT, sink.subscribe(&own)).await?;
        let mut subscribed = HashSet::new();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_since = Instant::now();
        loop {
            if !self.catch_up(&mut sink, &mut subscribed).await? {
                return Ok(());
            }
            tokio::select! {
                () = self.changed.notified() => {}
                _ = heartbeat.tick() => {
                    let beat = Cmd::publish(&own, "");
                    // Silence tells.
                    let _ = self.commands.query_all(vec![beat]).await;
                }
                message = messages.next() => {
                    let Some(message) = message else { return Err(silent()) };
                    silent_since = Instant::now();
                    pause.reset();
                    if let Some(whisper) = self.decode(message.get_channel_name(), message.get_payload_bytes()) {
                        let _ = self.heard.send(Heard::Whisper(whisper));
                    }
                }
                () = sleep_until(silent_since + SILENCE_MAX) => return Err(silent()),
            }
        }
    }

    /// Subscribes to what is wanted, and to nothing else; `false` when nothing is.
    async fn catch_up(&self, sink: &mut PubSubSink, subscribed: &mut HashSet<Topic>) -> RedisResult<bool> {
        let (more, less) = {
            let wanted = self.wanted();
            let more: Vec<Topic> = wanted.difference(subscribed).copied().collect();
            let less: Vec<Topic> = subscribed.difference(&wanted).copied().collect();
            (more, less)
        };
        for topics in less.chunks(AT_ONCE) {
            let channels: Vec<String> = topics.iter().map(|topic| self.channel(*topic)).collect();
            in_time(CALL_TIMEOUT, sink.unsubscribe(&channels)).await?;
        }
        for topic in less {
            subscribed.remove(&topic);
        }
        for topics in more.chunks(AT_ONCE) {
            let channels: Vec<String> = topics.iter().map(|topic| self.channel(*topic)).collect();
            in_time(CALL_TIMEOUT, sink.subscribe(&channels)).await?;
            subscribed.extend(topics);
            let _ = self.heard.send(Heard::Anew(topics.to_vec()));
        }
        Ok(!subscribed.is_empty())
    }

    /// `None` for our own, and for what a newer version says.
    fn decode(&self, channel: &str, payload: &[u8]) -> Option<Whisper> {
        let (kind, of) = channel.strip_prefix(&self.prefix)?.strip_prefix(":whisper:")?.split_once(':')?;
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        if words.next()? == self.node {
            return None;
        }
        let said = (kind, words.next()?, words.next());
        Some(match said {
            ("user", "presence", None) => Whisper::PresenceChanged(UserId(of.parse().ok()?)),
            ("user", "visibility", None) => Whisper::VisibilityChanged(UserId(of.parse().ok()?)),
            ("conversation", word @ ("typing" | "still"), Some(user)) => {
                let conversation: ConversationId = of.parse().ok()?;
                Whisper::Typing { conversation, user: UserId(user.parse().ok()?), typing: word == "typing" }
            }
            _ => return None,
        })
    }
}

fn encode(node: &str, whisper: Whisper) -> String {
    match whisper {
        Whisper::PresenceChanged(_) => format!("{node} presence"),
        Whisper::VisibilityChanged(_) => format!("{node} visibility"),
        Whisper::Typing { user, typing, .. } => {
            format!("{node} {} {}", if typing { "typing" } else { "still" }, user.0)
        }
    }
}

fn silent() -> redis::RedisError {
    (redis::ErrorKind::Io, "the channel fell silent").into()
}
