//! Reads that may be a moment late, answered from copies: first those of this process, then those in Redis, then SQL.
//!
//! `Copies` decides what is kept for how long, and who reads for whom; the ports only keep. Nothing that somebody may read is
//! decided here, and nothing that a transaction decides is taken from here.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

use crate::{
    ConversationView, Fact, LoggedBatch, MemberId, ServiceError, ServiceResult, User, UserId, measure,
    port::{
        Cache, Conversations, Random,
        cache::{CacheKey, Cached, Kept},
    },
};

/// A name may be so old on a node that was not told of its change.
const NEAR_USER_LIFE: Duration = Duration::from_secs(1);
/// Redis is told of changes; this is for the change whose process died before it could tell.
const FAR_LIFE: Duration = Duration::from_mins(10);
/// What has no way to be wrong, because it only grows and is checked again, may be kept for long.
const NEAR_HINT_LIFE: Duration = Duration::from_mins(10);
/// What took longer to read is not kept: a tombstone that should stop it may be gone.
const READ_AGE_MAX: Duration = Duration::from_secs(2);
/// The `rev` of a copy of a user, and of the tombstone that stops those read before a change. Users count no changes.
const USER_REV: i32 = 0;
const USER_CHANGED: i32 = 1;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Copies(Arc<Inner>);

struct Inner {
    store: Arc<dyn Conversations>,
    near: Arc<dyn Cache>,
    far: Option<Arc<dyn Cache>>,
    random: Arc<dyn Random>,
    flights: Mutex<HashMap<UserId, Flight>>,
    /// Tells a flight from a later one of the same user.
    flight: AtomicU64,
    /// Heads are heard with the batches that are published anyway.
    heard: Mutex<Receiver<Arc<LoggedBatch>>>,
}

type Users = Arc<HashMap<UserId, User>>;
type Read = Shared<BoxFuture<'static, ServiceResult<Users>>>;

/// A read that others who want the same user may join, and its number.
struct Flight {
    number: u64,
    /// Weak: one that everybody gave up is none.
    read: WeakShared<BoxFuture<'static, ServiceResult<Users>>>,
}

pub(crate) struct CopiesSetup {
    pub store: Arc<dyn Conversations>,
    pub near: Arc<dyn Cache>,
    /// What several processes share, where they do.
    pub far: Option<Arc<dyn Cache>>,
    pub random: Arc<dyn Random>,
    pub heard: Receiver<Arc<LoggedBatch>>,
}

impl Copies {
    pub fn new(setup: CopiesSetup) -> Self {
        let CopiesSetup { store, near, far, random, heard } = setup;
        let (heard, flights, flight) = (Mutex::new(heard), Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { store, near, far, random, flights, flight, heard }))
    }

    /// What others may know of people. `own` is whoever asks: what they changed themselves, on whatever node, they see at once.
    pub async fn users(&self, own: Option<UserId>, ids: &[UserId]) -> ServiceResult<HashMap<UserId, User>> {
        let (mut found, wanted) = near_users(&*self.0.near, own, ids).await;
        let (mine, others): (Vec<UserId>, Vec<UserId>) = wanted.into_iter().partition(|id| Some(*id) == own);
        let (lead, mut reads) = self.0.join(&others);
        let lead: Vec<UserId> = lead.into_iter().chain(mine.first().copied()).collect();
        if !lead.is_empty() {
            reads.push(self.0.clone().start(lead));
        }
        for read in join_all(reads).await {
            let read = read?;
            found.extend(ids.iter().filter_map(|id| Some((*id, read.get(id)?.clone()))));
        }
        Ok(found)
    }

    /// Before a user is changed and again after it was committed: then nobody who read before keeps what was, even if this
    /// process dies between.
    pub async fn user_changes(&self, user: UserId) {
        self.0.flights().remove(&user);
        self.0.void(&[(CacheKey::User(user), USER_CHANGED)]).await;
    }

    /// Membership ended or began, or the role changed: what was read before is no more.
    pub async fn members_changed<'a>(&self, facts: impl Iterator<Item = &'a Fact>) {
        let changed: Vec<(CacheKey, i32)> = facts
            .filter_map(|fact| match fact {
                Fact::MemberJoined { conversation, rev, user }
                | Fact::MemberLeft { conversation, rev, user }
                | Fact::RoleChanged { conversation, rev, user, .. } => {
                    let member = MemberId { conversation: *conversation, user: *user };
                    Some((CacheKey::Membership(member), *rev))
                }
                _ => None,
            })
            .collect();
        if !changed.is_empty() {
            self.0.void(&changed).await;
        }
    }

    /// Whether a read position that moves to `seq` is worth a turn in its lane, as far as copies can tell: yes is a guess that
    /// the transaction checks; no means that SQL has to be asked.
    pub async fn mark_may_move(&self, member: MemberId, seq: i32) -> bool {
        self.0.hear_heads().await;
        let keys = [CacheKey::Membership(member), CacheKey::Head(member.conversation)];
        let copies = self.0.hints(&keys).await;
        let [Some(Cached::Membership { read_seq }), Some(Cached::Head { last_seq })] = &copies[..] else {
            return false;
        };
        (read_seq + 1..=*last_seq).contains(&seq)
    }

    /// Keeps what was read of a viewer's conversation.
    pub async fn learn_view(&self, view: &ConversationView, read: Instant) {
        let (rev, member) = (view.conversation.rev, view.viewer.id());
        let membership = Cached::Membership { read_seq: view.viewer.read_seq };
        let head = Cached::Head { last_seq: view.conversation.last_seq };
        let kept = |key, value| Kept { key, rev, value, life: NEAR_HINT_LIFE };
        let copies = vec![
            kept(CacheKey::Membership(member), membership),
            kept(CacheKey::Head(member.conversation), head),
        ];
        self.0.keep(copies, read).await;
    }

    /// Keeps what a transaction of this process has left of a read position; the others need not know.
    pub async fn mark_moved(&self, view: &ConversationView) {
        let key = CacheKey::Membership(view.viewer.id());
        let value = Cached::Membership { read_seq: view.viewer.read_seq };
        let kept = Kept { key, rev: view.conversation.rev, value, life: NEAR_HINT_LIFE };
        self.0.near.put(vec![kept]).await;
    }
}

impl Inner {
    fn flights(&self) -> MutexGuard<'_, HashMap<UserId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reads under way of some users, and the users that nobody is reading.
    fn join(&self, ids: &[UserId]) -> (Vec<UserId>, Vec<Read>) {
        let flights = self.flights();
        let mut lead = Vec::new();
        let mut reads: Vec<Read> = Vec::new();
        for id in ids {
            match flights.get(id).and_then(|flight| flight.read.upgrade()) {
                // One read may be of many users; waiting for it twice costs nothing.
                Some(read) => {
                    note("user", "near", 1);
                    reads.push(read);
                }
                None => lead.push(*id),
            }
        }
        (lead, reads)
    }

    /// Reads users for everybody who wants them meanwhile.
    fn start(self: Arc<Self>, ids: Vec<UserId>) -> Read {
        let number = self.flight.fetch_add(1, Ordering::Relaxed);
        let (reader, wanted) = (self.clone(), ids.clone());
        let read = async move {
            let users = reader.read_users(&wanted).await;
            let mut flights = reader.flights();
            for id in &wanted {
                if flights.get(id).is_some_and(|flight| flight.number == number) {
                    flights.remove(id);
                }
            }
            users
        };
        let read = read.boxed().shared();
        if let Some(weak) = read.downgrade() {
            let mut flights = self.flights();
            flights.extend(ids.into_iter().map(|id| (id, Flight { number, read: weak.clone() })));
        }
        read
    }

    async fn read_users(&self, ids: &[UserId]) -> ServiceResult<Users> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut missing = ids.to_vec();
        if let Some(far) = &self.far {
            let keys: Vec<CacheKey> = ids.iter().copied().map(CacheKey::User).collect();
            match far.get(&keys).await {
                Ok(copies) => {
                    let users = copies.into_iter().flatten().filter_map(as_user);
                    found.extend(users.map(|user| (user.id, user)));
                    missing.retain(|id| !found.contains_key(id));
                    note("user", "far", found.len());
                    note("user", "miss", missing.len());
                }
                Err(_) => note("user", "away", missing.len()),
            }
        } else {
            note("user", "miss", missing.len());
        }
        self.near.put(found.values().map(near_copy).collect()).await;
        if !missing.is_empty() {
            let begun = Instant::now();
            let read = self.store.users(&missing).await.map_err(ServiceError::from)?;
            self.keep(read.iter().map(near_copy).collect(), begun).await;
            found.extend(read.into_iter().map(|user| (user.id, user)));
        }
        Ok(Arc::new(found))
    }

    /// Keeps what was read at a time, near for the life it has and far for longer.
    async fn keep(&self, copies: Vec<Kept>, read: Instant) {
        if read.elapsed() > READ_AGE_MAX {
            return;
        }
        if let Some(far) = &self.far {
            let copies = copies.iter().map(|kept| Kept { life: self.far_life(), ..kept.clone() });
            far.put(copies.collect()).await;
        }
        self.near.put(copies).await;
    }

    async fn void(&self, keys: &[(CacheKey, i32)]) {
        self.near.void(keys).await;
        if let Some(far) = &self.far {
            far.void(keys).await;
        }
    }

    /// Copies that may be as old as they like.
    async fn hints(&self, keys: &[CacheKey]) -> Vec<Option<Cached>> {
        let mut copies = self.near.get(keys).await.unwrap_or_default();
        copies.resize(keys.len(), None);
        let unknown: Vec<CacheKey> =
            keys.iter().zip(&copies).filter_map(|(key, copy)| copy.is_none().then_some(*key)).collect();
        let (found, outcome) = match &self.far {
            _ if unknown.is_empty() => (Vec::new(), "miss"),
            None => (Vec::new(), "miss"),
            Some(far) => far.get(&unknown).await.map_or((Vec::new(), "away"), |found| (found, "miss")),
        };
        let found: Vec<(CacheKey, Cached)> =
            unknown.iter().zip(found).filter_map(|(key, copy)| Some((*key, copy?))).collect();
        // As of nobody knows when: whatever is known here goes before.
        let kept = |(key, value): &(CacheKey, Cached)| Kept {
            key: *key,
            rev: 0,
            value: value.clone(),
            life: NEAR_HINT_LIFE,
        };
        self.near.put(found.iter().map(kept).collect()).await;
        let mut found = found.into_iter().peekable();
        for (key, copy) in keys.iter().zip(&mut copies) {
            let kind = if matches!(key, CacheKey::Head(_)) { "head" } else { "membership" };
            if copy.is_some() {
                note(kind, "near", 1);
            } else if let Some((_, far)) = found.next_if(|(found, _)| found == key) {
                note(kind, "far", 1);
                *copy = Some(far);
            } else {
                note(kind, outcome, 1);
            }
        }
        copies
    }

    /// Takes the heads of what was committed, here or elsewhere, from the bus.
    async fn hear_heads(&self) {
        let mut heads = HashMap::new();
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match heard.try_recv() {
                    Ok(batch) => {
                        for head in batch.events.iter().filter_map(|event| event.conversation.as_ref()) {
                            heads.insert(head.id, (head.rev, head.last_seq));
                        }
                    }
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
        let kept = heads.into_iter().map(|(id, (rev, last_seq))| Kept {
            key: CacheKey::Head(id),
            rev,
            value: Cached::Head { last_seq },
            life: NEAR_HINT_LIFE,
        });
        self.near.put(kept.collect()).await;
    }

    /// Up to a fifth shorter, so that what was kept at once does not end at once.
    fn far_life(&self) -> Duration {
        let mut byte = [0];
        self.random.fill(&mut byte);
        FAR_LIFE / 5 * 4 + FAR_LIFE / 5 * u32::from(byte[0]) / 255
    }
}

/// The users of which a process has copies, and those that it has to ask for: `own` always is.
pub(crate) async fn near_users(
    near: &dyn Cache,
    own: Option<UserId>,
    ids: &[UserId],
) -> (HashMap<UserId, User>, Vec<UserId>) {
    let (mut wanted, others): (Vec<UserId>, Vec<UserId>) = ids.iter().partition(|id| Some(**id) == own);
    let keys: Vec<CacheKey> = others.iter().copied().map(CacheKey::User).collect();
    let copies = near.get(&keys).await.unwrap_or_default();
    let users = copies.into_iter().flatten().filter_map(as_user);
    let found: HashMap<UserId, User> = users.map(|user| (user.id, user)).collect();
    wanted.extend(others.into_iter().filter(|id| !found.contains_key(id)));
    note("user", "near", found.len());
    (found, wanted)
}

/// Keeps what was read at a time for the process itself.
pub(crate) async fn keep_near(near: &dyn Cache, users: impl Iterator<Item = &User>, read: Instant) {
    if read.elapsed() <= READ_AGE_MAX {
        near.put(users.map(near_copy).collect()).await;
    }
}

fn near_copy(user: &User) -> Kept {
    let (key, value) = (CacheKey::User(user.id), Cached::User(user.clone()));
    Kept { key, rev: USER_REV, value, life: NEAR_USER_LIFE }
}

fn as_user(copy: Cached) -> Option<User> {
    match copy {
        Cached::User(user) => Some(user),
        Cached::Membership { .. } | Cached::Head { .. } => None,
    }
}

fn note(kind: &'static str, outcome: &'static str, count: usize) {
    if count > 0 {
        measure::count(measure::CACHE_READS, &[("kind", kind), ("outcome", outcome)], count as u64);
    }
}
