//! Which sessions are live on which node: `user_session:{user}`, a hash of node to sessions, and `node:{node}`, the heartbeat of a
//! node with a lease. What a dead node leaves behind counts no more once its heartbeat is gone, and is removed by whoever reads it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redis::{AsyncCommands as _, Client, Pipeline, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, interval, sleep},
};

use super::connection_config;
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
    pub client: Client,
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
    client: Client,
    prefix: String,
    node: String,
    connection: AsyncMutex<Option<MultiplexedConnection>>,
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
            client: setup.client,
            prefix: setup.prefix,
            node: format!("{:016x}", setup.node),
            connection: AsyncMutex::default(),
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
                    tracing::warn!(error = %error, "who is live is not known; everybody counts as away");
                    self.shared.forget_connection().await;
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

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut known = self.connection.lock().await;
        if let Some(connection) = &*known {
            return Ok(connection.clone());
        }
        let connection =
            self.client.get_multiplexed_async_connection_with_config(&connection_config()).await?;
        *known = Some(connection.clone());
        Ok(connection)
    }

    async fn forget_connection(&self) {
        *self.connection.lock().await = None;
    }

    async fn tell(&self) {
        let mut heartbeat = interval(HEARTBEAT);
        let mut said_all = Instant::now();
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = self.changed.notified() => sleep(GATHER).await,
            }
            if said_all.elapsed() > SAY_AGAIN {
                said_all = Instant::now();
                let mut here = self.lock();
                let all: Vec<UserId> = here.sessions.keys().copied().collect();
                here.dirty.extend(all);
            }
            if let Err(error) = self.say().await {
                tracing::warn!(error = %error, "who is live here is not told; pushes may go to open apps");
                self.forget_connection().await;
                // Redis may have lost all of it.
                said_all = Instant::now().checked_sub(SAY_AGAIN).unwrap_or(said_all);
            }
        }
    }

    async fn say(&self) -> RedisResult<()> {
        let mut connection = self.connection().await?;
        redis::cmd("SET")
            .arg(self.node_key(&self.node))
            .arg(1)
            .arg("PX")
            .arg(millis(LEASE))
            .exec_async(&mut connection)
            .await?;
        loop {
            let (pipeline, users) = self.changes();
            if users.is_empty() {
                return Ok(());
            }
            if let Err(error) = pipeline.exec_async(&mut connection).await {
                self.lock().dirty.extend(users);
                return Err(error);
            }
        }
    }

    /// What changed, for some of the users, as commands.
    fn changes(&self) -> (Pipeline, Vec<UserId>) {
        let mut here = self.lock();
        let users: Vec<UserId> = here.dirty.iter().take(USERS_AT_ONCE).copied().collect();
        let mut pipeline = redis::pipe();
        for user in &users {
            here.dirty.remove(user);
            let key = self.user_key(*user);
            match here.sessions.get(user) {
                Some(sessions) => {
                    let list: Vec<String> = sessions.iter().map(|session| session.0.to_string()).collect();
                    pipeline.hset(&key, &self.node, list.join(",")).ignore();
                    pipeline.pexpire(&key, millis(ENTRY_LIFE).cast_signed()).ignore();
                }
                None => drop(pipeline.hdel(&key, &self.node).ignore()),
            }
        }
        (pipeline, users)
    }

    async fn say_farewell(&self) -> RedisResult<()> {
        self.connection().await?.del(self.node_key(&self.node)).await
    }

    async fn read(&self, users: &[UserId]) -> RedisResult<HashSet<SessionId>> {
        if users.is_empty() {
            return Ok(HashSet::new());
        }
        let mut connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        for user in users {
            pipeline.hgetall(self.user_key(*user));
        }
        let entries: Vec<HashMap<String, String>> = pipeline.query_async(&mut connection).await?;
        let nodes: BTreeSet<&str> = entries.iter().flat_map(HashMap::keys).map(String::as_str).collect();
        if nodes.is_empty() {
            return Ok(HashSet::new());
        }
        let keys: Vec<String> = nodes.iter().map(|node| self.node_key(node)).collect();
        let beats: Vec<Option<String>> = redis::cmd("MGET").arg(keys).query_async(&mut connection).await?;
        let dead: HashSet<&str> =
            nodes.into_iter().zip(beats).filter_map(|(node, beat)| beat.is_none().then_some(node)).collect();
        let mut live = HashSet::new();
        let mut removal = redis::pipe();
        for (user, entry) in users.iter().zip(&entries) {
            for (node, sessions) in entry {
                if dead.contains(node.as_str()) {
                    removal.hdel(self.user_key(*user), node).ignore();
                } else {
                    live.extend(sessions.split(',').filter_map(|id| id.parse().ok()).map(SessionId));
                }
            }
        }
        if !dead.is_empty() {
            removal.exec_async(&mut connection).await?;
        }
        Ok(live)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
