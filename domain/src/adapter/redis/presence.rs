//! Which sessions are live on which node: `user_session:{user}`, a hash of node to sessions, and `node:{node}`, the heartbeat of a
//! node with a lease. What a dead node leaves behind counts no more once its heartbeat is gone, and is removed by whoever reads it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue as _, RedisResult};
use tokio::{
    sync::Notify,
    time::{Instant, interval, sleep},
};

use super::{RedisCommands, millis};
use crate::{SessionId, UserId, lifeline::Held, port::Presence};

/// A node that was silent for so long is dead.
const LEASE: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What a node says of a user holds for so long, and is said again well before.
const ENTRY_LIFE: Duration = Duration::from_mins(3);
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Changes wait so long for others.
const GATHER: Duration = Duration::from_millis(100);
/// Users in one round trip.
const USERS_AT_ONCE: usize = 500;

/// What a presence in Redis needs.
pub struct RedisPresenceSetup {
    pub commands: RedisCommands,
    /// Tells the keys of installations apart that share a Redis.
    pub prefix: String,
    /// This process, as no other has it.
    pub node: u64,
    /// Where it runs.
    pub held: Held,
}

pub struct RedisPresence {
    shared: Arc<Shared>,
}

struct Shared {
    commands: RedisCommands,
    prefix: String,
    node: String,
    here: Mutex<Here>,
    changed: Notify,
}

/// As many users as have a subscription on this node.
#[derive(Default)]
struct Here {
    sessions: HashMap<UserId, BTreeSet<SessionId>>,
    /// Users to tell of anew.
    dirty: HashSet<UserId>,
}

impl RedisPresence {
    pub fn start(setup: RedisPresenceSetup) -> Self {
        let shared = Arc::new(Shared {
            commands: setup.commands,
            prefix: setup.prefix,
            node: format!("{:016x}", setup.node),
            here: Mutex::default(),
            changed: Notify::new(),
        });
        let telling = shared.clone();
        let Held { tasks, stop, lifeline } = setup.held;
        tasks.spawn(lifeline.hold("presence", async move {
            stop.run_until_cancelled(telling.tell()).await;
            // Gone at once, and not after a lease.
            if let Err(error) = telling.say_farewell().await {
                tracing::debug!(error = %error, "presence ends with its lease");
            }
        }));
        Self { shared }
    }
}

#[async_trait]
impl Presence for RedisPresence {
    fn announce(&self, user: UserId, session: SessionId, live: bool) {
        let mut here = self.shared.lock();
        let sessions = here.sessions.entry(user).or_default();
        let changed = if live { sessions.insert(session) } else { sessions.remove(&session) };
        if sessions.is_empty() {
            here.sessions.remove(&user);
        }
        if changed {
            here.dirty.insert(user);
            self.shared.changed.notify_one();
        }
    }

    async fn live_sessions(&self, users: &[UserId]) -> HashSet<SessionId> {
        let mut live = HashSet::new();
        for users in users.chunks(USERS_AT_ONCE) {
            match self.shared.read(users).await {
                Ok(some) => live.extend(some),
                Err(error) => {
                    tracing::debug!(error = %error, "who is live is not known; everybody counts as away");
                }
            }
        }
        live
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user_key(&self, user: UserId) -> String {
        format!("{}:user_session:{}", self.prefix, user.0)
    }

    fn node_key(&self, node: &str) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    async fn tell(&self) {
        let mut heartbeat = interval(HEARTBEAT);
        let mut said_all = Instant::now();
        let mut connection = 0;
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = self.changed.notified() => sleep(GATHER).await,
            }
            // Behind another connection Redis may have lost all of it.
            let said_to = std::mem::replace(&mut connection, self.commands.number());
            if said_all.elapsed() > SAY_AGAIN || said_to != connection {
                said_all = Instant::now();
                let mut here = self.lock();
                let all: Vec<UserId> = here.sessions.keys().copied().collect();
                here.dirty.extend(all);
            }
            if let Err(error) = self.say().await {
                tracing::debug!(error = %error, "who is live here is not told; pushes may go to open apps");
            }
        }
    }

    async fn say(&self) -> RedisResult<()> {
        let mut beat = redis::cmd("SET");
        beat.arg(self.node_key(&self.node)).arg(1).arg("PX").arg(millis(LEASE));
        self.commands.query_all(vec![beat]).await?;
        loop {
            let (commands, users) = self.changes();
            if users.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.commands.query_all(commands).await {
                self.lock().dirty.extend(users);
                return Err(error);
            }
        }
    }

    /// What changed, for some of the users, as commands.
    fn changes(&self) -> (Vec<Cmd>, Vec<UserId>) {
        let mut here = self.lock();
        let users: Vec<UserId> = here.dirty.iter().take(USERS_AT_ONCE).copied().collect();
        let mut commands = Vec::with_capacity(2 * users.len());
        for user in &users {
            here.dirty.remove(user);
            let key = self.user_key(*user);
            match here.sessions.get(user) {
                Some(sessions) => {
                    let list: Vec<String> = sessions.iter().map(|session| session.0.to_string()).collect();
                    commands.push(Cmd::hset(&key, &self.node, list.join(",")));
                    commands.push(Cmd::pexpire(&key, millis(ENTRY_LIFE).cast_signed()));
                }
                None => commands.push(Cmd::hdel(&key, &self.node)),
            }
        }
        (commands, users)
    }

    async fn say_farewell(&self) -> RedisResult<()> {
        self.commands.query_all(vec![Cmd::del(self.node_key(&self.node))]).await.map(drop)
    }

    async fn read(&self, users: &[UserId]) -> RedisResult<HashSet<SessionId>> {
        if users.is_empty() {
            return Ok(HashSet::new());
        }
        let entries = users.iter().map(|user| Cmd::hgetall(self.user_key(*user))).collect();
        let entries = self.commands.query_all(entries).await?.into_iter();
        let entries: Vec<HashMap<String, String>> =
            entries.map(HashMap::from_redis_value).collect::<Result<_, _>>()?;
        let nodes: BTreeSet<&str> = entries.iter().flat_map(HashMap::keys).map(String::as_str).collect();
        if nodes.is_empty() {
            return Ok(HashSet::new());
        }
        let beats = nodes.iter().map(|node| Cmd::exists(self.node_key(node))).collect();
        let beats = self.commands.query_all(beats).await?.into_iter();
        let beats: Vec<bool> = beats.map(bool::from_redis_value).collect::<Result<_, _>>()?;
        let dead: HashSet<&str> =
            nodes.into_iter().zip(beats).filter_map(|(node, beats)| (!beats).then_some(node)).collect();
        let mut live = HashSet::new();
        let mut removals = Vec::new();
        for (user, entry) in users.iter().zip(&entries) {
            for (node, sessions) in entry {
                if dead.contains(node.as_str()) {
                    removals.push(Cmd::hdel(self.user_key(*user), node));
                } else {
                    live.extend(sessions.split(',').filter_map(|id| id.parse().ok()).map(SessionId));
                }
            }
        }
        if !removals.is_empty() {
            self.commands.query_all(removals).await?;
        }
        Ok(live)
    }
}
