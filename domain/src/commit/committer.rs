//! Group commit: one committer a lane takes whatever waits and commits it as one transaction.
//!
//! Nobody waits for a timer: a batch is what arrived while the previous one was committing. A batch that fails for one item's
//! sake is tried again with fresh look-ups, then halved until the item stands alone. Keys in flight are unique in the process:
//! a second send with the same key waits for the first one's result.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    ATTEMPTS_MAX, IdSource, back_off,
    batch::{self, Answer, BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Decided, Item, same_message},
    facts_of,
    marks::Marks,
    publish,
};
use crate::{
    ClientKey, LaneId, LaneLayout, MemberId, Message, MessageDraft, MessageId, ServiceError, ServiceResult,
    UserId,
    port::{Bus, Clock, Log, Random, StoreError},
};

/// Sends that may wait for one key; a hundred is a storm of retries, more is an attack.
const FOLLOWERS_MAX: usize = 1024;
/// Keys of a lane that are remembered as committed; a retry of an older one costs its batch a second try.
const RECENT_KEYS_MAX: u64 = 50_000;
/// A sender whose keys spoil this many batches within [`OFFENCE_WINDOW`] is committed alone for the rest of it.
const OFFENCES_MAX: u32 = 3;
const OFFENCE_WINDOW: Duration = Duration::from_mins(1);

/// What the committers need.
pub struct CommittersSetup {
    pub log: Arc<dyn Log>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub ids: Arc<IdSource>,
    /// Items that may wait in front of one lane.
    pub queue_max: usize,
    /// How long an item may wait before it is answered `UNAVAILABLE`.
    pub timeout: Duration,
    pub receipts_members_max: i32,
    pub tasks: TaskTracker,
}

/// The entrance: one queue a lane.
#[derive(Clone)]
pub struct Committers {
    inner: Arc<Inner>,
}

struct Inner {
    setup: CommittersSetup,
    layout: LaneLayout,
    queues: Vec<mpsc::Sender<Waiting>>,
    in_flight: Mutex<InFlight>,
}

/// Keys being committed, each with the sends that wait for its result.
type InFlight = HashMap<(UserId, ClientKey), Vec<(MessageDraft, oneshot::Sender<Reply>)>>;

pub(super) type Reply = ServiceResult<Answer>;

pub(super) struct Waiting {
    pub work: Work,
    pub expires: Instant,
    pub replies: Vec<oneshot::Sender<Reply>>,
}

pub(super) enum Work {
    Send(MessageDraft),
    Read { member: MemberId, seq: i32 },
}

impl Committers {
    /// Starts a committer for each lane. They end when the last handle is dropped and what waits is committed.
    pub fn start(setup: CommittersSetup) -> Self {
        let layout = setup.log.layout();
        let (queues, receivers): (Vec<_>, Vec<_>) =
            layout.lanes().map(|_| mpsc::channel(setup.queue_max)).unzip();
        let tasks = setup.tasks.clone();
        let inner = Arc::new(Inner { setup, layout, queues, in_flight: Mutex::default() });
        for (lane, receiver) in layout.lanes().zip(receivers) {
            let committer = Committer::new(lane, &inner);
            tasks.spawn(committer.run(receiver));
        }
        Self { inner }
    }

    /// Takes the send's place in its lane's queue at once; the future waits for the commit.
    pub fn send(
        &self,
        draft: MessageDraft,
    ) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
        let (reply, answer) = oneshot::channel();
        self.inner.enqueue_send(draft, reply)?;
        let timeout = self.inner.setup.timeout;
        Ok(async move {
            match wait(answer, timeout).await? {
                Answer::Message(message) => Ok(message),
                Answer::Refused(refusal) => Err(refusal),
                Answer::Read => Err(ServiceError::internal("a send was answered as a read")),
            }
        })
    }

    /// Moves a read position forward. Answers when the move is committed, also when nothing moved.
    pub async fn mark_read(&self, member: MemberId, seq: i32) -> ServiceResult<()> {
        let (reply, answer) = oneshot::channel();
        let expires = Instant::now() + self.inner.setup.timeout;
        let waiting = Waiting { work: Work::Read { member, seq }, expires, replies: vec![reply] };
        self.inner.enqueue(waiting).map_err(|_| queue_full())?;
        match wait(answer, self.inner.setup.timeout).await? {
            Answer::Refused(refusal) => Err(refusal),
            Answer::Read | Answer::Message(_) => Ok(()),
        }
    }
}

async fn wait(answer: oneshot::Receiver<Reply>, timeout: Duration) -> Reply {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => Err(ServiceError::unavailable("the server is stopping; send again with the same key")),
        Err(_) => Err(ServiceError::unavailable("not committed in time; send again with the same key")),
    }
}

fn queue_full() -> ServiceError {
    ServiceError::unavailable("too many writes are waiting; try again").after(Duration::from_secs(1))
}

impl Inner {
    fn lane_of(&self, waiting: &Waiting) -> LaneId {
        self.layout.of_conversation(match &waiting.work {
            Work::Send(draft) => draft.conversation,
            Work::Read { member, .. } => member.conversation,
        })
    }

    fn enqueue(&self, waiting: Waiting) -> Result<(), Waiting> {
        let lane = self.lane_of(&waiting);
        let Some(queue) = self.queues.get(lane.index()) else { return Err(waiting) };
        queue.try_send(waiting).map_err(mpsc::error::TrySendError::into_inner)
    }

    fn in_flight(&self) -> std::sync::MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue_send(&self, draft: MessageDraft, reply: oneshot::Sender<Reply>) -> ServiceResult<()> {
        let key = (draft.sender, draft.client_key.clone());
        let mut in_flight = self.in_flight();
        if let Some(followers) = in_flight.get_mut(&key) {
            if followers.len() >= FOLLOWERS_MAX {
                return Err(queue_full());
            }
            followers.push((draft, reply));
            return Ok(());
        }
        let expires = Instant::now() + self.setup.timeout;
        let waiting = Waiting { work: Work::Send(draft), expires, replies: vec![reply] };
        self.enqueue(waiting).map_err(|_| queue_full())?;
        in_flight.insert(key, Vec::new());
        Ok(())
    }

    /// Answers an item and whoever waited for its key.
    fn settle(&self, waiting: Waiting, result: &Reply) {
        if let Work::Send(draft) = &waiting.work {
            let followers =
                self.in_flight().remove(&(draft.sender, draft.client_key.clone())).unwrap_or_default();
            for (follower, reply) in followers {
                self.settle_follower(follower, reply, result);
            }
        }
        for reply in waiting.replies {
            // Nobody listens any more when the client's deadline has passed; the commit stands.
            let _ = reply.send(result.clone());
        }
    }

    fn settle_follower(&self, draft: MessageDraft, reply: oneshot::Sender<Reply>, result: &Reply) {
        if let Ok(Answer::Message(message)) = result {
            let same = same_message(message, &draft).map(|()| Answer::Message(message.clone()));
            let _ = reply.send(same);
            return;
        }
        // What was refused to the first, perhaps for its own content, may hold for this one: it takes its own turn. The first
        // of several leads the rest again.
        let (retry, retried) = oneshot::channel();
        match self.enqueue_send(draft, retry) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(()) => drop(self.setup.tasks.spawn(async move {
                if let Ok(result) = retried.await {
                    let _ = reply.send(result);
                }
            })),
        }
    }
}

/// The committer of one lane.
struct Committer {
    lane: LaneId,
    /// Weak, so that the queues close when the last [`Committers`] goes.
    inner: std::sync::Weak<Inner>,
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    ids: Arc<IdSource>,
    receipts_members_max: i32,
    /// Hashes of keys committed here lately, which a retry most likely has.
    recent: Cache<u64, ()>,
    marks: Marks,
    offences: HashMap<UserId, (u32, Instant)>,
}

impl Committer {
    fn new(lane: LaneId, inner: &Arc<Inner>) -> Self {
        let setup = &inner.setup;
        Self {
            lane,
            inner: Arc::downgrade(inner),
            log: setup.log.clone(),
            bus: setup.bus.clone(),
            clock: setup.clock.clone(),
            random: setup.random.clone(),
            ids: setup.ids.clone(),
            receipts_members_max: setup.receipts_members_max,
            recent: Cache::new(RECENT_KEYS_MAX),
            marks: Marks::default(),
            offences: HashMap::new(),
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        loop {
            let due = self.marks.next_due();
            let first = tokio::select! {
                received = queue.recv() => match received {
                    Some(waiting) => Some(waiting),
                    None => break,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            };
            let mut batch = self.marks.take_due(Instant::now());
            let mut next = first;
            let mut bytes = 0;
            while let Some(waiting) = next.take() {
                bytes += waiting.body_bytes();
                batch.extend(self.admit(waiting));
                if batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
                    next = queue.try_recv().ok();
                }
            }
            self.commit_all(batch).await;
        }
        let left = self.marks.take_all();
        self.commit_all(left).await;
    }

    /// Refuses what has waited too long, keeps marks that come too soon, lets the rest through.
    fn admit(&mut self, waiting: Waiting) -> Option<Waiting> {
        let now = Instant::now();
        if waiting.expires <= now {
            self.settle(waiting, &Err(ServiceError::unavailable("not committed in time; try again")));
            return None;
        }
        match waiting.work {
            Work::Read { member, .. } => self.marks.admit(member, waiting, now),
            Work::Send(_) => Some(waiting),
        }
    }

    fn settle(&self, waiting: Waiting, result: &Reply) {
        match self.inner.upgrade() {
            Some(inner) => inner.settle(waiting, result),
            None => waiting.replies.into_iter().for_each(|reply| drop(reply.send(result.clone()))),
        }
    }

    /// Commits a batch; senders who spoiled earlier ones are committed alone, after the others.
    async fn commit_all(&mut self, batch: Vec<Waiting>) {
        let now = Instant::now();
        self.offences.retain(|_, (_, since)| now.duration_since(*since) < OFFENCE_WINDOW);
        let offends = |waiting: &Waiting| match &waiting.work {
            Work::Send(draft) => {
                self.offences.get(&draft.sender).is_some_and(|(count, _)| *count >= OFFENCES_MAX)
            }
            Work::Read { .. } => false,
        };
        let (side, main): (Vec<_>, Vec<_>) = batch.into_iter().partition(offends);
        // Halves of a failed batch wait here; a stack, so that the order of the queue is kept.
        let mut parts: Vec<Vec<Waiting>> = side.into_iter().rev().map(|one| vec![one]).collect();
        parts.push(main);
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.commit_part(&part).await {
                Ok(answers) => {
                    for (waiting, answer) in part.into_iter().zip(answers) {
                        self.settle(waiting, &Ok(answer));
                    }
                }
                Err(StoreError::Duplicate(_) | StoreError::Fault(_)) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
                Err(error) => {
                    let error = ServiceError::from(error);
                    tracing::warn!(
                        lane = self.lane.0,
                        items = part.len(),
                        error = &error as &dyn std::error::Error,
                        "batch not committed"
                    );
                    for waiting in part {
                        self.settle(waiting, &Err(error.clone()));
                    }
                }
            }
        }
    }

    /// One transaction, tried again after deadlocks, and once with every key looked up after one was taken.
    async fn commit_part(&mut self, part: &[Waiting]) -> Result<Vec<Answer>, StoreError> {
        let items = self.items_of(part).await?;
        let mut attempt = 0;
        let mut spoiled = false;
        loop {
            match self.commit_once(&items, spoiled).await {
                Ok(decided) => {
                    if spoiled {
                        self.note_offences(&decided.known_keys);
                    }
                    return Ok(decided.answers);
                }
                Err(StoreError::Conflict(_)) if attempt < ATTEMPTS_MAX => {
                    back_off(attempt, &*self.random).await;
                    attempt += 1;
                }
                Err(StoreError::Duplicate(_)) if !spoiled => spoiled = true,
                Err(error) => return Err(error),
            }
        }
    }

    async fn items_of(&self, part: &[Waiting]) -> Result<Vec<Item>, StoreError> {
        let sends = part.iter().filter(|waiting| matches!(waiting.work, Work::Send(_))).count();
        let mut ids = self.ids.take(sends).await?.into_iter();
        let items = part.iter().map(|waiting| match &waiting.work {
            Work::Send(draft) => ids.next().map(|id| Item::Send { draft: draft.clone(), id: MessageId(id) }),
            Work::Read { member, seq } => Some(Item::Read { member: *member, seq: *seq }),
        });
        items.collect::<Option<_>>().ok_or_else(|| StoreError::Fault("too few ids were given".into()))
    }

    async fn commit_once(&self, items: &[Item], every_key: bool) -> Result<Decided, StoreError> {
        let now = self.clock.now();
        let mut tx = self.log.begin(self.lane).await?;
        let pos = tx.pos();
        let may_be_known =
            |sender: UserId, key: &ClientKey| every_key || self.recent.contains_key(&hash_key(sender, key));
        let decided = batch::decide(&mut *tx, items, now, self.receipts_members_max, may_be_known).await;
        let mut decided = match decided {
            Ok(decided) => decided,
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        if decided.events.is_empty() {
            tx.rollback().await;
            return Ok(decided);
        }
        let committed = tx.commit(&facts_of(&decided.events), now).await;
        // Also when the outcome is unknown: the retry looks.
        for (sender, key) in items.iter().filter_map(Item::key) {
            self.recent.insert(hash_key(sender, &key), ());
        }
        committed?;
        publish(&*self.bus, self.lane, pos, std::mem::take(&mut decided.events));
        Ok(decided)
    }

    fn note_offences(&mut self, known: &[(UserId, ClientKey)]) {
        for (user, _) in known {
            let (count, _) = self.offences.entry(*user).or_insert((0, Instant::now()));
            *count += 1;
        }
    }
}

fn hash_key(sender: UserId, key: &ClientKey) -> u64 {
    xxh3_64_with_seed(key.as_str().as_bytes(), sender.0.cast_unsigned())
}

impl Waiting {
    fn body_bytes(&self) -> usize {
        match &self.work {
            Work::Send(draft) => draft.body_bytes(),
            Work::Read { .. } => 0,
        }
    }
}
