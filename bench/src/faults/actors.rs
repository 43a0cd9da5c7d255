//! Users who chat while things break: they send, retry until they know, listen, come back with their last cursor, mark what they read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{Api, Listener, User},
    journal::{Attempt, Journal, Moment, Outcome, Probe, Seen},
};

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Every so many sends a sender looks for their own message, and marks it read.
const PROBE_EVERY: usize = 16;

pub struct Stage {
    pub api: Api,
    pub users: Vec<User>,
    /// Each with its members, by number.
    pub groups: Vec<(String, Vec<usize>)>,
    /// Between two sends of a user.
    pub pause: Duration,
    journal: Mutex<Journal>,
    begun: Instant,
    /// Acks so far, for those who want to see them go on.
    pub acks: AtomicU64,
    pub unknowns: AtomicU64,
    /// Users whose first subscription has gone live: only what follows must be delivered to them.
    live: AtomicUsize,
}

impl Stage {
    /// Users in groups: each group has half of the users, each user is in half of the groups.
    pub async fn set(
        api: Api,
        name: &str,
        users: usize,
        groups: usize,
        pause: Duration,
    ) -> Result<Arc<Self>, String> {
        let mut known = Vec::new();
        for number in 0..users {
            known.push(api.register(&format!("{name}-{number}")).await?);
        }
        let mut made = Vec::new();
        let mut journal = Journal::default();
        for group in 0..groups {
            let members: Vec<usize> = (0..users).filter(|user| (user + group) % 2 == 0).collect();
            let ids: Vec<String> = members.iter().map(|member| known[*member].id.clone()).collect();
            let id = api.create_group(&known[members[0]], &ids).await?;
            journal.members.insert(id.clone(), ids.into_iter().collect());
            made.push((id, members));
        }
        Ok(Arc::new(Self {
            api,
            users: known,
            groups: made,
            pause,
            journal: Mutex::new(journal),
            begun: Instant::now(),
            acks: AtomicU64::new(0),
            unknowns: AtomicU64::new(0),
            live: AtomicUsize::new(0),
        }))
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    pub fn complain(&self, what: String) {
        self.journal().complaints.push(what);
    }

    /// Everybody listens until told to stop listening, and sends, as soon as all listen, until told to stop.
    pub fn play(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        stop_sending: &CancellationToken,
        stop: &CancellationToken,
    ) {
        for user in 0..self.users.len() {
            let (stage, stop_sending) = (self.clone(), stop_sending.clone());
            tasks.spawn(async move { stage.send_on(user, &stop_sending).await });
            let (stage, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(stage.listen_on(user)).await });
        }
    }

    async fn send_on(&self, user: usize, stop: &CancellationToken) {
        let mine: Vec<&str> = self
            .groups
            .iter()
            .filter(|(_, members)| members.contains(&user))
            .map(|(id, _)| id.as_str())
            .collect();
        while self.live.load(Ordering::Relaxed) < self.users.len() && !stop.is_cancelled() {
            sleep(RETRY_PAUSE).await;
        }
        let mut count = 0;
        while !stop.is_cancelled() && !mine.is_empty() {
            let conversation = mine[count % mine.len()];
            let acked =
                self.send_until_known(user, conversation, &format!("u{user}-{count}"), user + count).await;
            if let Some((id, seq)) = acked
                && count % PROBE_EVERY == 0
            {
                self.probe(user, conversation, (&id, seq), user + count).await;
                self.api.mark_read(user + count, &self.users[user].token, conversation, seq).await;
            }
            count += 1;
            sleep(self.pause).await;
        }
    }

    /// Tries with the same key, at one node after the other, until there is an answer.
    async fn send_until_known(
        &self,
        user: usize,
        conversation: &str,
        key: &str,
        at: usize,
    ) -> Option<(String, i64)> {
        let User { id, token } = &self.users[user];
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
            self.journal().attempts.push(Attempt { user, conversation, key, invoked, answered, outcome });
            if !again {
                self.acks.fetch_add(u64::from(acked.is_some()), Ordering::Relaxed);
                return acked;
            }
            self.unknowns.fetch_add(1, Ordering::Relaxed);
            sleep(RETRY_PAUSE).await;
        }
        None
    }

    async fn probe(&self, user: usize, conversation: &str, (id, seq): (&str, i64), at: usize) {
        let User { id: me, token } = &self.users[user];
        // One that cannot be asked says nothing.
        let Some(page) = self.api.page(at, token, conversation, None).await else { return };
        // Or it has left the newest page already.
        let gone_by = page.messages.iter().all(|(other, _)| *other > seq);
        let found = gone_by || page.messages.iter().any(|(_, other)| other == id);
        self.journal().probes.push(Probe { user: me.clone(), key: id.to_owned(), found });
    }

    async fn listen_on(&self, user: usize) {
        let User { id, token } = &self.users[user];
        let mut cursor: Option<String> = None;
        let (mut at, mut was_live) = (user, false);
        loop {
            at += 1;
            let url = &self.api.urls[at % self.api.urls.len()];
            let Some(mut listener) = Listener::open(url, token, cursor.as_deref()).await else {
                sleep(RETRY_PAUSE).await;
                continue;
            };
            while let Some(event) = listener.event().await {
                let event = match event {
                    Ok(event) => event,
                    Err(what) => {
                        self.complain(format!("a subscription ended: {what}"));
                        break;
                    }
                };
                if event["__typename"] == "StreamLive" && !was_live {
                    was_live = true;
                    self.live.fetch_add(1, Ordering::Relaxed);
                }
                if event["__typename"] == "ResyncRequired" {
                    self.complain(format!("{id} had to start over: {event}"));
                }
                if event["__typename"] == "MessageSent" && !event["message"]["sender"].is_null() {
                    let text = |pointer: &str| {
                        event.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
                    };
                    let number = |pointer: &str| {
                        event.pointer(pointer).and_then(serde_json::Value::as_i64).unwrap_or_default()
                    };
                    let at = self.now();
                    self.journal().seen.push(Seen {
                        at,
                        user: id.clone(),
                        conversation: text("/conversation/id"),
                        rev: number("/rev"),
                        seq: number("/message/seq"),
                        id: text("/message/id"),
                    });
                }
                cursor = event["cursor"].as_str().map(str::to_owned).or(cursor);
            }
        }
    }

    /// Who has not been delivered all that was acked yet.
    pub fn behind(&self) -> Vec<String> {
        let journal = self.journal();
        let mut acked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for attempt in &journal.attempts {
            if let Outcome::Acked { id, .. } = &attempt.outcome {
                acked.entry(&attempt.conversation).or_default().insert(id);
            }
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
                let missing = acked.difference(&seen).count();
                if missing > 0 {
                    behind.push(format!("{user} misses {missing} of {conversation}"));
                }
            }
        }
        behind
    }

    /// What every member fetches at the end.
    pub async fn fetch_all(&self) {
        for (conversation, members) in &self.groups {
            for member in members {
                let User { id, token } = &self.users[*member];
                let mut before: Option<String> = None;
                let mut view = None;
                while let Some(page) = self.api.page(0, token, conversation, before.as_deref()).await {
                    let whole = view.get_or_insert_with(|| crate::journal::View {
                        user: id.clone(),
                        conversation: conversation.clone(),
                        messages: BTreeMap::new(),
                        read_seq: page.read_seq,
                        unread: page.unread,
                    });
                    whole.messages.extend(page.messages);
                    before = page.next;
                    if before.is_none() {
                        break;
                    }
                }
                self.journal().views.extend(view);
            }
        }
    }
}
