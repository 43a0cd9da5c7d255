//! Users who chat while things break: they send, retry until they know, listen, come back with their last cursor, mark what they read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{Api, User},
    fold::Fold,
    journal::{Attempt, End, Ended, Journal, Mark, Moment, Move, Outcome, Probe, Seen},
    listener::{Heard, Listener},
};

pub const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Every so many sends a sender looks for their own message, and marks it read.
const PROBE_EVERY: usize = 16;
/// An access token is good for 15 minutes.
const RENEWED_EVERY: Duration = Duration::from_mins(6);
/// Every so many sends a sender gives one of their own groups another title.
const RENAME_EVERY: usize = 40;

pub struct Stage {
    pub api: Api,
    /// Those who send, and then those who come and go.
    pub users: Vec<User>,
    pub senders: usize,
    /// Each with its members, by number; the first has made it. The last is for storms, which few are to hear.
    pub groups: Vec<(String, Vec<usize>)>,
    /// Between two sends of a user.
    pub pause: Duration,
    journal: Mutex<Journal>,
    begun: Instant,
    /// Acks so far, for those who want to see them go on.
    pub acks: AtomicU64,
    pub unknowns: AtomicU64,
    /// Other lasting changes that were acked: marks, titles, members.
    pub changes: AtomicU64,
    /// Lists of conversations that were fetched.
    pub overviews: AtomicU64,
    /// Users whose first subscription has gone live: only what follows must be delivered to them.
    live: AtomicUsize,
    /// What each user's device makes of its events, and how to cut its connection.
    pub devices: Vec<Device>,
    /// Connections that ended, and those that were followed by one to another node.
    pub disconnects: AtomicU64,
    pub elsewhere: AtomicU64,
}

pub struct Device {
    pub fold: Mutex<Fold>,
    cut: Notify,
}

/// How many there are.
pub struct Cast {
    pub senders: usize,
    pub movers: usize,
    pub groups: usize,
    /// Senders in each group; half of them unless said otherwise.
    pub members: Option<usize>,
}

impl Stage {
    /// Users in groups: each group has half of the senders, each sender is in half of the groups; who comes and goes is in all. With
    /// fewer members, each group has the next few senders, and one of those who come and go.
    pub async fn set(api: Api, name: &str, cast: &Cast, pause: Duration) -> Result<Arc<Self>, String> {
        let Cast { senders, movers, groups, members: few } = *cast;
        let mut known = Vec::new();
        for number in 0..senders + movers {
            known.push(api.register(&format!("{name}-{number}")).await?);
        }
        let mut made = Vec::new();
        let mut journal = Journal::default();
        for group in 0..=groups {
            let members: Vec<usize> = match few {
                _ if group == groups => (0..senders.min(2)).collect(),
                None => {
                    let half = (0..senders).filter(|user| (user + group) % 2 == 0);
                    half.chain(senders..senders + movers).collect()
                }
                Some(few) => {
                    // All distances come up, so that people share few groups.
                    let apart = 1 + group / senders % senders.div_ceil(few).max(1);
                    let some: BTreeSet<usize> =
                        (0..few).map(|place| (group + place * apart) % senders).collect();
                    let one_who_moves = (movers > 0).then(|| senders + group % movers);
                    some.into_iter().chain(one_who_moves).collect()
                }
            };
            let ids: Vec<String> = members.iter().map(|member| known[*member].id.clone()).collect();
            let id = api.create_group(&known[members[0]], &ids).await?;
            journal.members.insert(id.clone(), ids.into_iter().collect());
            made.push((id, members));
        }
        let device = |(number, user): (usize, &User)| {
            let mine = made.iter().filter(|(_, members): &&(String, Vec<usize>)| members.contains(&number));
            let mine = mine.map(|(id, _)| (id.clone(), journal.members[id].clone()));
            Device { fold: Mutex::new(Fold::of(&user.id, mine)), cut: Notify::new() }
        };
        let devices = known.iter().enumerate().map(device).collect();
        Ok(Arc::new(Self {
            api,
            users: known,
            senders,
            groups: made,
            pause,
            journal: Mutex::new(journal),
            begun: Instant::now(),
            acks: AtomicU64::new(0),
            unknowns: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            overviews: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            devices,
            disconnects: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
        }))
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages and other lasting changes that were acked.
    pub fn events(&self) -> u64 {
        self.acks.load(Ordering::Relaxed) + self.changes.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    pub fn complain(&self, what: String) {
        self.journal().complaints.push(what);
    }

    /// Everybody listens until told to stop listening. As soon as all do, those who send and those who come and go begin, until told to
    /// stop that.
    pub fn play(
        self: &Arc<Self>,
        (acting, stop_acting): (&TaskTracker, &CancellationToken),
        (listening, stop_listening): (&TaskTracker, &CancellationToken),
    ) {
        let (stage, stop) = (self.clone(), stop_listening.clone());
        listening.spawn(async move { stop.run_until_cancelled(stage.stay_signed_in()).await });
        for user in 0..self.users.len() {
            let (stage, stop) = (self.clone(), stop_acting.clone());
            if user < self.senders {
                acting.spawn(async move { stage.send_on(user, &stop).await });
            } else {
                acting.spawn(stage.move_on(user, stop));
            }
            let (stage, stop) = (self.clone(), stop_listening.clone());
            listening.spawn(async move { stop.run_until_cancelled(stage.listen_on(user)).await });
        }
    }

    async fn stay_signed_in(&self) {
        loop {
            sleep(RENEWED_EVERY).await;
            for (number, user) in self.users.iter().enumerate() {
                if let Err(why) = self.api.renew(number, &user.token).await {
                    self.complain(format!("{} cannot renew their session: {why}", user.name));
                }
            }
        }
    }

    pub async fn until_live(&self, stop: &CancellationToken) {
        while self.live.load(Ordering::Relaxed) < self.users.len() && !stop.is_cancelled() {
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn send_on(&self, user: usize, stop: &CancellationToken) {
        let mine: Vec<&str> = self
            .groups
            .iter()
            .filter(|(_, members)| members.contains(&user))
            .map(|(id, _)| id.as_str())
            .collect();
        self.until_live(stop).await;
        let mut count = 0;
        while !stop.is_cancelled() && !mine.is_empty() {
            let conversation = mine[count % mine.len()];
            let acked =
                self.send_until_known(user, conversation, &format!("u{user}-{count}"), user + count).await;
            if let Some((id, seq)) = acked
                && count % PROBE_EVERY == 0
            {
                self.probe(user, conversation, (&id, seq), user + count).await;
                let User { id: me, token, .. } = &self.users[user];
                if self.api.mark_read(user + count, token, conversation, seq).await {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                    let (user, conversation) = (me.clone(), conversation.to_owned());
                    self.journal().marks.push(Mark { user, conversation, seq });
                }
            }
            count += 1;
            if count % RENAME_EVERY == 0 {
                self.rename_own(user, count).await;
            }
            sleep(self.pause).await;
        }
    }

    /// Nobody minds if it is not done.
    async fn rename_own(&self, user: usize, count: usize) {
        let own: Vec<_> = self.groups.iter().filter(|(_, members)| members[0] == user).collect();
        let Some((id, _)) = own.get(count / RENAME_EVERY % own.len().max(1)) else { return };
        if self.api.rename(user + count, &self.users[user].token, id, &format!("{user} {count}")).await {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tries with the same key, at one node after the other, until there is an answer.
    pub async fn send_until_known(
        &self,
        user: usize,
        conversation: &str,
        key: &str,
        at: usize,
    ) -> Option<(String, i64)> {
        let User { id, token, .. } = &self.users[user];
        for attempt in 0.. {
            let invoked = self.now();
            let sent = self.api.send(at + attempt, token, conversation, key).await;
            let (outcome, acked) = match sent {
                Ok(Some((id, seq))) => (Outcome::Acked { id: id.clone(), seq }, Some((id, seq))),
                Ok(None) => (Outcome::Unknown, None),
                Err(why) => (Outcome::Refused(why), None),
            };
            let again = outcome == Outcome::Unknown;
            let (user, conversation, key) = (id.clone(), conversation.to_owned(), key.to_owned());
            let answered = self.now();
            self.note_attempt(Attempt { user, conversation, key, invoked, answered, outcome });
            if !again {
                return acked;
            }
            sleep(RETRY_PAUSE).await;
        }
        None
    }

    pub fn note_attempt(&self, attempt: Attempt) {
        match attempt.outcome {
            Outcome::Acked { .. } => self.acks.fetch_add(1, Ordering::Relaxed),
            Outcome::Unknown => self.unknowns.fetch_add(1, Ordering::Relaxed),
            Outcome::Refused(_) => 0,
        };
        self.journal().attempts.push(attempt);
    }

    async fn probe(&self, user: usize, conversation: &str, (id, seq): (&str, i64), at: usize) {
        let User { id: me, token, .. } = &self.users[user];
        // One that cannot be asked says nothing.
        let Some(page) = self.api.page(at, token, conversation, None).await else { return };
        // Or it has left the newest page already.
        let gone_by = page.messages.iter().all(|(other, _)| *other > seq);
        let found = gone_by || page.messages.iter().any(|(_, other)| other == id);
        self.journal().probes.push(Probe { user: me.clone(), key: id.to_owned(), found });
    }

    async fn listen_on(&self, user: usize) {
        let User { id, token, .. } = &self.users[user];
        let device = &self.devices[user];
        let mut cursor: Option<String> = None;
        let (mut at, mut was_live, mut before) = (user, false, None);
        loop {
            at += 1;
            let node = at % self.api.urls.len();
            let Some(mut listener) = Listener::open(&self.api.urls[node], token, cursor.as_deref()).await
            else {
                sleep(RETRY_PAUSE).await;
                continue;
            };
            if before.replace(node).is_some_and(|before| before != node) {
                self.elsewhere.fetch_add(1, Ordering::Relaxed);
            }
            let ended = loop {
                let heard = tokio::select! {
                    heard = listener.next() => heard,
                    () = device.cut.notified() => break Ended::Aborted,
                };
                let event = match heard {
                    Heard::Event(event) => event,
                    Heard::Over(ended) => break ended,
                    Heard::Wrong(what) => {
                        self.complain(format!("a subscription ended: {what}"));
                        break Ended::Refused;
                    }
                };
                if event["__typename"] == "StreamLive" && !was_live {
                    was_live = true;
                    self.live.fetch_add(1, Ordering::Relaxed);
                }
                self.note_event(id, &event);
                device.fold.lock().unwrap_or_else(PoisonError::into_inner).apply(&event);
                cursor = event["cursor"].as_str().map(str::to_owned).or(cursor);
            };
            self.disconnects.fetch_add(1, Ordering::Relaxed);
            self.journal().ends.push(End { at: self.now(), user: id.clone(), ended });
        }
    }

    /// Drops the connection of somebody's device in the middle of whatever it is doing, if it has one.
    pub fn cut(&self, user: usize) {
        self.devices[user].cut.notify_waiters();
    }

    fn note_event(&self, user: &str, event: &Value) {
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let (at, conversation, rev) = (self.now(), text("/conversation/id"), number("/rev"));
        match event["__typename"].as_str().unwrap_or_default() {
            "ResyncRequired" => self.complain(format!("{user} had to start over: {event}")),
            "MessageSent" if !event["message"]["sender"].is_null() => {
                let (user, seq, id) = (user.to_owned(), number("/message/seq"), text("/message/id"));
                self.journal().seen.push(Seen { at, user, conversation, rev, seq, id });
            }
            // Of whoever joins, nobody else may be there to tell.
            "ConversationAdded" => {
                let user = user.to_owned();
                self.journal().moves.push(Move { user, conversation, rev, joined: true });
            }
            "MemberAdded" => {
                let user = text("/member/user/id");
                self.journal().moves.push(Move { user, conversation, rev, joined: true });
            }
            "MemberRemoved" => {
                let user = text("/user/id");
                self.journal().moves.push(Move { user, conversation, rev, joined: false });
            }
            _ => {}
        }
    }

    /// Who has not been delivered all that was acked yet; of those who come and go, all since they came back for the last time.
    pub fn behind(&self) -> Vec<String> {
        let journal = self.journal();
        // A try whose outcome is unknown may have sent what a later one was acked for.
        let mut first_tried: BTreeMap<&str, Moment> = BTreeMap::new();
        let mut acked: BTreeMap<&str, BTreeMap<&str, Moment>> = BTreeMap::new();
        for attempt in &journal.attempts {
            let invoked = *first_tried.entry(&attempt.key).or_insert(attempt.invoked);
            if let Outcome::Acked { id, .. } = &attempt.outcome {
                acked.entry(&attempt.conversation).or_default().insert(id, invoked);
            }
        }
        let mut back: BTreeMap<(&str, &str), Moment> = BTreeMap::new();
        for absence in &journal.absences {
            back.insert((&absence.user, &absence.conversation), absence.back);
        }
        let mut seen: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for one in &journal.seen {
            seen.entry((&one.user, &one.conversation)).or_default().insert(&one.id);
        }
        let mut behind = Vec::new();
        for (conversation, members) in &journal.members {
            let acked = acked.remove(conversation.as_str()).unwrap_or_default();
            for user in members {
                let seen = seen.remove(&(user.as_str(), conversation.as_str())).unwrap_or_default();
                let since = back.get(&(user.as_str(), conversation.as_str())).copied().unwrap_or_default();
                let missing = acked.iter().filter(|(id, sent)| **sent >= since && !seen.contains(*id));
                let missing = missing.count();
                if missing > 0 {
                    behind.push(format!("{user} misses {missing} of {conversation}"));
                }
            }
        }
        behind
    }
}
