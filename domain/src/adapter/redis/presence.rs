//! Which sessions are live on which node: `user_session:{user}`, a hash of node to sessions, and `node:{node}`, the heartbeat of a
//! node with a lease. What a dead node leaves behind counts no more once its heartbeat is gone, and is removed by whoever reads it.
//!
//! A session is its number; `a` after it is one that is away, `g` one that is going and counts until its grace has passed. A node that
//! stops leaves a heartbeat of `0` behind for as long as that grace, so that whoever reconnects elsewhere was never offline.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue as _, RedisResult};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, interval, sleep},
};

use super::{
    super::attendance::{Attendance, Outcome, Stage},
    RedisCommands, millis,
};
use crate::{
    NodeId, PRESENCE_GRACE, PresenceState, SessionId, Standing, Standings, Switches, UserId, Whisper,
    lifeline::Held,
    port::{Presence, Whispers},
};

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
    /// Where changes are told, while the switch is on.
    pub whispers: Arc<dyn Whispers>,
    pub switches: watch::Receiver<Switches>,
    /// Where it runs.
    pub held: Held,
}

pub struct RedisPresence {
    shared: Arc<Shared>,
}

struct Shared {
    commands: RedisCommands,
    prefix: String,
    node: NodeId,
    whispers: Arc<dyn Whispers>,
    switches: watch::Receiver<Switches>,
    here: Mutex<Here>,
    changed: Notify,
}

#[derive(Default)]
struct Here {
    attendance: Attendance,
    /// Users to write anew, and whether others are to look again.
    dirty: HashMap<UserId, bool>,
}

impl Here {
    fn note(&mut self, user: UserId, outcome: Outcome) -> bool {
        if outcome.changed {
            *self.dirty.entry(user).or_default() |= outcome.state_changed;
        }
        outcome.changed
    }

    /// Those whose watchers are to look again; they still wait to be written.
    fn take_loud(&mut self) -> Vec<UserId> {
        let loud = self.dirty.iter_mut().filter(|(_, loud)| **loud);
        loud.map(|(user, loud)| {
            *loud = false;
            *user
        })
        .collect()
    }
}

/// A session as a node tells of it.
#[derive(Clone, Copy)]
struct Told {
    session: SessionId,
    node: NodeId,
    away: bool,
    going: bool,
}

impl RedisPresence {
    pub fn start(setup: RedisPresenceSetup) -> Self {
        let shared = Arc::new(Shared {
            commands: setup.commands,
            prefix: setup.prefix,
            node: NodeId(setup.node),
            whispers: setup.whispers,
            switches: setup.switches,
            here: Mutex::default(),
            changed: Notify::new(),
        });
        let telling = shared.clone();
        let Held { tasks, stop, lifeline } = setup.held;
        tasks.spawn(lifeline.hold("presence", async move {
            stop.run_until_cancelled(telling.tell()).await;
            // Gone after the grace, and not after a lease; for pushes at once.
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
        let outcome = here.attendance.announce(user, session, live, Instant::now());
        if here.note(user, outcome) {
            self.shared.changed.notify_one();
        }
    }

    fn set_away(&self, user: UserId, session: SessionId, away: bool) {
        let mut here = self.shared.lock();
        let outcome = here.attendance.set_away(user, session, away, Instant::now());
        if here.note(user, outcome) {
            self.shared.changed.notify_one();
        }
    }

    async fn live_sessions(&self, users: &[UserId]) -> HashSet<SessionId> {
        let mut live = HashSet::new();
        for users in users.chunks(USERS_AT_ONCE) {
            match self.shared.read(users).await {
                Ok(some) => {
                    let told = some.iter().flat_map(|(_, told)| told);
                    live.extend(told.filter(|told| !told.going).map(|told| told.session));
                }
                Err(error) => {
                    tracing::debug!(error = %error, "who is live is not known; everybody counts as away");
                }
            }
        }
        live
    }

    async fn standings(&self, users: &[UserId]) -> Standings {
        let mut found = Standings { there: HashMap::new(), complete: true };
        for users in users.chunks(USERS_AT_ONCE) {
            match self.shared.read(users).await {
                Ok(some) => found.there.extend(some.into_iter().filter_map(standing)),
                Err(error) => {
                    tracing::debug!(error = %error, "who is there is known of this node alone");
                    found.complete = false;
                }
            }
            // What is here needs no way there and back.
            for (user, here) in self.shared.lock().attendance.standings(users) {
                let known = found.there.entry(user).or_insert_with(|| here.clone());
                known.state = known.state.max(here.state);
            }
        }
        found
    }

    async fn fallen(&self, nodes: &[NodeId]) -> Option<Vec<NodeId>> {
        let beats = self.shared.heartbeats(nodes).await.ok()?;
        Some(nodes.iter().zip(beats).filter_map(|(node, beat)| beat.is_none().then_some(*node)).collect())
    }
}

fn standing((user, told): (UserId, Vec<Told>)) -> Option<(UserId, Standing)> {
    let state =
        told.iter().map(|told| if told.away { PresenceState::Away } else { PresenceState::Online }).max()?;
    let nodes: BTreeSet<NodeId> = told.iter().map(|told| told.node).collect();
    Some((user, Standing { state, nodes: nodes.into_iter().collect() }))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user_key(&self, user: UserId) -> String {
        format!("{}:user_session:{}", self.prefix, user.0)
    }

    fn node_key(&self, node: NodeId) -> String {
        format!("{}:node:{}", self.prefix, name(node))
    }

    async fn tell(&self) {
        let mut heartbeat = interval(HEARTBEAT);
        let mut said_all = Instant::now();
        let mut connection = 0;
        loop {
            let expiry = self.lock().attendance.next_expiry(Instant::now());
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = self.changed.notified() => sleep(GATHER).await,
                () = sleep(expiry.unwrap_or(HEARTBEAT)), if expiry.is_some() => sleep(GATHER).await,
            }
            self.expire();
            // Behind another connection Redis may have lost all of it.
            let said_to = std::mem::replace(&mut connection, self.commands.number());
            if said_to != connection {
                self.say_all_again(true);
                said_all = Instant::now();
            } else if said_all.elapsed() > SAY_AGAIN {
                self.say_all_again(false);
                said_all = Instant::now();
            }
            if let Err(error) = self.say().await {
                tracing::debug!(error = %error, "who is live here is not told; pushes may go to open apps");
            }
        }
    }

    fn expire(&self) {
        let mut here = self.lock();
        for (user, outcome) in here.attendance.expire(Instant::now()) {
            here.note(user, outcome);
        }
    }

    /// `loudly`: others may have seen that it was gone.
    fn say_all_again(&self, loudly: bool) {
        let mut here = self.lock();
        let all: Vec<UserId> = here.attendance.users().collect();
        for user in all {
            *here.dirty.entry(user).or_default() |= loudly;
        }
    }

    async fn say(&self) -> RedisResult<()> {
        if let Err(error) = self.beat().await {
            // Those who watch on this node see at least what is here.
            let changed = self.lock().take_loud();
            self.tell_of(changed);
            return Err(error);
        }
        loop {
            let (commands, users) = self.changes();
            if users.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.commands.query_all(commands).await {
                let mut here = self.lock();
                for (user, loud) in users {
                    *here.dirty.entry(user).or_default() |= loud;
                }
                return Err(error);
            }
            self.tell_of(users.into_iter().filter_map(|(user, loud)| loud.then_some(user)));
        }
    }

    async fn beat(&self) -> RedisResult<()> {
        let key = self.node_key(self.node);
        let mut beat = redis::cmd("SET");
        beat.arg(&key).arg(1).arg("PX").arg(millis(LEASE));
        let answers = self.commands.query_all(vec![Cmd::exists(&key), beat]).await?;
        let was_there = answers.into_iter().next().map(bool::from_redis_value).transpose()?;
        if was_there == Some(false) {
            // The first beat; or Redis has lost everything behind the same connection.
            self.say_all_again(true);
        }
        Ok(())
    }

    fn tell_of(&self, users: impl IntoIterator<Item = UserId>) {
        if !self.switches.borrow().presence {
            return;
        }
        for user in users {
            self.whispers.say(Whisper::PresenceChanged(user));
        }
    }

    /// What changed, for some of the users, as commands.
    fn changes(&self) -> (Vec<Cmd>, Vec<(UserId, bool)>) {
        let mut here = self.lock();
        let users: Vec<(UserId, bool)> =
            here.dirty.iter().take(USERS_AT_ONCE).map(|(user, loud)| (*user, *loud)).collect();
        let mut commands = Vec::with_capacity(2 * users.len());
        for (user, _) in &users {
            here.dirty.remove(user);
            let key = self.user_key(*user);
            let list = list(&here.attendance, *user);
            if list.is_empty() {
                commands.push(Cmd::hdel(&key, name(self.node)));
            } else {
                commands.push(Cmd::hset(&key, name(self.node), list));
                commands.push(Cmd::pexpire(&key, millis(ENTRY_LIFE).cast_signed()));
            }
        }
        (commands, users)
    }

    async fn say_farewell(&self) -> RedisResult<()> {
        let mut farewell = redis::cmd("SET");
        farewell.arg(self.node_key(self.node)).arg(0).arg("PX").arg(millis(PRESENCE_GRACE));
        self.commands.query_all(vec![farewell]).await.map(drop)
    }

    async fn heartbeats(&self, nodes: &[NodeId]) -> RedisResult<Vec<Option<String>>> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let beats = nodes.iter().map(|node| Cmd::get(self.node_key(*node))).collect();
        let beats = self.commands.query_all(beats).await?.into_iter();
        beats.map(|beat| Ok(Option::from_redis_value(beat)?)).collect()
    }

    async fn read(&self, users: &[UserId]) -> RedisResult<Vec<(UserId, Vec<Told>)>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let entries = users.iter().map(|user| Cmd::hgetall(self.user_key(*user))).collect();
        let entries = self.commands.query_all(entries).await?.into_iter();
        let entries: Vec<HashMap<String, String>> =
            entries.map(HashMap::from_redis_value).collect::<Result<_, _>>()?;
        let nodes: BTreeSet<NodeId> =
            entries.iter().flat_map(HashMap::keys).filter_map(|name| node(name)).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let beats = self.heartbeats(&nodes).await?;
        let beats: HashMap<NodeId, Option<String>> = nodes.into_iter().zip(beats).collect();
        let mut found = Vec::with_capacity(users.len());
        let mut removals = Vec::new();
        for (user, entry) in users.iter().zip(&entries) {
            let mut told = Vec::new();
            for (name, sessions) in entry {
                let of = node(name).and_then(|node| Some((node, beats.get(&node)?.as_deref()?)));
                match of {
                    Some((node, beat)) => {
                        let sessions = sessions.split(',').filter_map(|text| Told::read(text, node));
                        told.extend(sessions.map(|told| Told { going: told.going || beat == "0", ..told }));
                    }
                    None => removals.push(Cmd::hdel(self.user_key(*user), name)),
                }
            }
            found.push((*user, told));
        }
        if !removals.is_empty() {
            self.commands.query_all(removals).await?;
        }
        Ok(found)
    }
}

impl Told {
    fn read(text: &str, node: NodeId) -> Option<Self> {
        let number = text.trim_end_matches(['a', 'g']);
        let flags = &text[number.len()..];
        let session = number.parse().ok().map(SessionId)?;
        Some(Self { session, node, away: flags.contains('a'), going: flags.contains('g') })
    }
}

/// A user's sessions on this node, as Redis keeps them.
fn list(attendance: &Attendance, user: UserId) -> String {
    let mut list = String::new();
    for (session, entry) in attendance.sessions(user).filter(|(_, entry)| entry.stage != Stage::Expected) {
        let comma = if list.is_empty() { "" } else { "," };
        let away = if entry.away { "a" } else { "" };
        let going = if entry.stage == Stage::Leaving { "g" } else { "" };
        let _ = write!(list, "{comma}{}{away}{going}", session.0);
    }
    list
}

fn name(node: NodeId) -> String {
    format!("{:016x}", node.0)
}

fn node(name: &str) -> Option<NodeId> {
    u64::from_str_radix(name, 16).ok().map(NodeId)
}
