//! Group commit: a committer takes whatever waits in its lanes and commits it as one transaction.
//!
//! Nobody waits for a timer: a batch is what arrived while the previous one was committing. A batch that fails for one item's
//! sake is tried again with fresh look-ups, then halved until the item stands alone.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::{
    sync::{broadcast, mpsc},
    task::yield_now,
    time::Instant,
};

use super::{
    BATCH_MESSAGES_CEILING, IdSource, back_off,
    batch::{self, Answer, Decided, Item},
    facts_of,
    marks::Marks,
    offences::Offences,
    publish,
    queue::{Inner, Reply, Waiting, Work, answer, queue_full},
    recent_keys::RecentKeys,
    spans,
    view::{CATCH_UP_MAX, Views},
};
use crate::{
    ClientKey, Event, LaneId, Limits, LoggedBatch, LoggedFact, MemberId, MessageId, ServiceError, UserId,
    measure,
    port::{Bus, Clock, LaneTransaction, Log, Random, StoreError},
    trace::ExportedSpan,
};

/// From the reply to the written answer: the call, and the connection it came by.
const ANSWER_STEPS: u32 = 2;

/// The committer of some lanes.
pub(super) struct Committer {
    /// Weak, so that the queues close when the last [`Committers`] goes.
    inner: std::sync::Weak<Inner>,
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    ids: Arc<IdSource>,
    limits: Limits,
    /// Here or by others.
    recent: RecentKeys,
    /// What was committed, by others too: a client that lost its node sends again to this one.
    heard: broadcast::Receiver<Arc<LoggedBatch>>,
    /// Whether a lane is one of its own.
    is_own: Box<dyn Fn(LaneId) -> bool + Send + Sync>,
    /// What it committed last, and so knows.
    told: Vec<(LaneId, i64)>,
    /// Committed, and to be published once the senders are answered.
    unpublished: Vec<(LaneId, i64, Vec<Event>)>,
    views: Views,
    marks: Marks,
    offences: Offences,
}

impl Committer {
    pub fn new(inner: &Arc<Inner>, is_own: impl Fn(LaneId) -> bool + Send + Sync + 'static) -> Self {
        let setup = &inner.setup;
        Self {
            inner: Arc::downgrade(inner),
            log: setup.log.clone(),
            bus: setup.bus.clone(),
            clock: setup.clock.clone(),
            random: setup.random.clone(),
            ids: setup.ids.clone(),
            limits: Limits {
                batch_messages_max: setup.limits.batch_messages_max.clamp(1, BATCH_MESSAGES_CEILING),
                ..setup.limits.clone()
            },
            recent: RecentKeys::default(),
            heard: setup.bus.subscribe(),
            is_own: Box::new(is_own),
            told: Vec::new(),
            unpublished: Vec::new(),
            views: Views::new(setup.log.layout()),
            marks: Marks::default(),
            offences: Offences::default(),
        }
    }

    pub async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        // What did not fit into the last batch, in the order it came.
        let mut left: VecDeque<Waiting> = VecDeque::new();
        loop {
            let due = if left.is_empty() { self.marks.next_due() } else { Some(Instant::now()) };
            tokio::select! {
                biased;
                received = queue.recv() => match received {
                    Some(waiting) => left.extend(self.admit(waiting)),
                    None => break,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.fill(&mut left, &mut queue);
            let batch = self.cut(&mut left);
            self.commit_all(batch).await;
            let_others_queue(&queue, self.limits.batch_messages_max).await;
        }
        left.extend(self.marks.take_all());
        while !left.is_empty() {
            let batch = self.cut(&mut left);
            self.commit_all(batch).await;
        }
    }

    /// Adds what is there until there is enough for a batch: marks whose time has come, then the queue.
    fn fill(&mut self, left: &mut VecDeque<Waiting>, queue: &mut mpsc::Receiver<Waiting>) {
        let Limits { batch_messages_max, batch_bytes_max, .. } = self.limits;
        left.extend(self.marks.take_due(Instant::now(), batch_messages_max.saturating_sub(left.len())));
        let mut bytes: usize = left.iter().map(Waiting::body_bytes).sum();
        // As many at most, too, of those that are not let through.
        for _ in 0..batch_messages_max {
            if left.len() >= batch_messages_max || bytes >= batch_bytes_max {
                return;
            }
            let Ok(waiting) = queue.try_recv() else { return };
            if let Some(waiting) = self.admit(waiting) {
                bytes += waiting.body_bytes();
                left.push_back(waiting);
            }
        }
    }

    /// As many of the first as one transaction may hold. A single one always fits.
    fn cut(&self, left: &mut VecDeque<Waiting>) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.body_bytes();
            bytes <= self.limits.batch_bytes_max
        };
        let fitting = left.iter().take(self.limits.batch_messages_max).take_while(fits).count();
        left.drain(..fitting.max(1).min(left.len())).collect()
    }

    /// Refuses what has waited too long, keeps marks that come too soon, lets the rest through.
    fn admit(&mut self, waiting: Waiting) -> Option<Waiting> {
        let now = Instant::now();
        if waiting.expires <= now {
            self.settle(waiting, Err(ServiceError::unavailable("not committed in time; try again")));
            return None;
        }
        match waiting.work {
            Work::Read { member, .. } if self.marks.is_full(member, self.limits.commit_queue_max) => {
                self.settle(waiting, Err(queue_full()));
                None
            }
            Work::Read { member, .. } => self.marks.admit(member, waiting, now),
            Work::Send(_) => Some(waiting),
        }
    }

    fn settle(&self, waiting: Waiting, result: Reply) {
        self.settle_all(vec![(waiting, result)]);
    }

    fn settle_all(&self, settled: Vec<(Waiting, Reply)>) {
        match self.inner.upgrade() {
            Some(inner) => inner.settle(settled),
            None => settled.into_iter().for_each(|(waiting, result)| answer(waiting.replies, result)),
        }
    }

    /// Commits a batch; senders who spoiled earlier ones are committed alone, after the others.
    async fn commit_all(&mut self, batch: Vec<Waiting>) {
        self.offences.expire(Instant::now());
        let offends = |waiting: &Waiting| match &waiting.work {
            Work::Send(draft) => self.offences.are_many(draft.sender),
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
            let begun = Instant::now();
            let spans = spans::of(&part);
            let committed = self.commit_part(&part, &spans).await;
            let outcome = if committed.is_ok() { "ok" } else { "failed" };
            measure::count(measure::COMMITS, &[("outcome", outcome)], 1);
            measure::count(measure::COMMIT_ITEMS, &[], part.len() as u64);
            measure::latency(measure::COMMIT_SECONDS, &[], begun);
            match committed {
                Ok(answers) => {
                    spans::tell(spans, &answers, &self.views);
                    self.settle_all(part.into_iter().zip(answers.into_iter().map(Ok)).collect());
                    // Whoever sent is answered first: thousands may be there to be told, on the same cores.
                    for _ in 0..ANSWER_STEPS {
                        yield_now().await;
                    }
                    for (lane, pos, events) in self.unpublished.drain(..) {
                        publish(&*self.bus, lane, pos, events);
                    }
                }
                Err(StoreError::Duplicate(_) | StoreError::Fault(_)) if part.len() > 1 => {
                    spans::fail(&spans, "retried");
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
                Err(error) => {
                    let error = ServiceError::from(error);
                    spans::fail(&spans, error.code().name());
                    tracing::warn!(
                        items = part.len(),
                        error = &error as &dyn std::error::Error,
                        "batch not committed"
                    );
                    self.settle_all(part.into_iter().map(|waiting| (waiting, Err(error.clone()))).collect());
                }
            }
        }
    }

    /// One transaction, tried again after deadlocks, and once with every key looked up after one was taken.
    async fn commit_part(
        &mut self,
        part: &[Waiting],
        spans: &[ExportedSpan],
    ) -> Result<Vec<Answer>, StoreError> {
        let items = self.items_of(part, spans).await?;
        let mut attempt = 0;
        let (mut spoiled, mut in_doubt) = (false, false);
        loop {
            match self.commit_once(&items, spoiled || in_doubt).await {
                Ok(decided) => {
                    // Of a commit in doubt the known keys may be those that it left behind.
                    if spoiled && !in_doubt {
                        self.offences.note(&decided.known_keys);
                    }
                    return Ok(decided.answers);
                }
                // At once: the lanes that it concerns are not taken for granted again.
                Err(StoreError::Behind(_)) if attempt < self.limits.retries_max.max(1) => attempt += 1,
                // As long as anybody waits for it.
                Err(StoreError::InDoubt(_))
                    if attempt < self.limits.retries_max.max(1)
                        && part.iter().any(|waiting| waiting.expires > Instant::now()) =>
                {
                    attempt += 1;
                    in_doubt = true;
                }
                Err(StoreError::Conflict(_)) if attempt < self.limits.retries_max => {
                    back_off(attempt, &*self.random).await;
                    attempt += 1;
                }
                Err(StoreError::Duplicate(_)) if !spoiled => {
                    measure::count(measure::COMMITS_SPOILED, &[], 1);
                    spoiled = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn items_of<'a>(
        &self,
        part: &'a [Waiting],
        spans: &[ExportedSpan],
    ) -> Result<Vec<Item<'a>>, StoreError> {
        let sends = part.iter().filter(|waiting| matches!(waiting.work, Work::Send(_))).count();
        let mut ids = self.ids.take(sends).await?.into_iter();
        let items = part.iter().enumerate().map(|(index, waiting)| match &waiting.work {
            Work::Send(draft) => {
                let trace = spans.get(index).map_or(draft.trace, ExportedSpan::context);
                ids.next().map(|id| Item::Send { draft, id: MessageId(id), trace })
            }
            Work::Read { member, seq } => Some(Item::Read { member: *member, seq: *seq }),
        });
        items.collect::<Option<_>>().ok_or_else(|| StoreError::Fault("too few ids were given".into()))
    }

    async fn commit_once(&mut self, items: &[Item<'_>], every_key: bool) -> Result<Decided, StoreError> {
        let lanes: BTreeSet<LaneId> =
            items.iter().map(|item| self.views.lane_of(item.conversation())).collect();
        let lanes: Vec<LaneId> = lanes.into_iter().collect();
        let result = self.commit_in(&lanes, items, every_key).await;
        match &result {
            // A deadlock says nothing against what is known.
            Ok(_) | Err(StoreError::Conflict(_)) => {}
            Err(StoreError::Behind(_) | StoreError::InDoubt(_)) => self.views.doubt(&lanes),
            // Anything else may come of it.
            Err(_) => self.views.forget(&lanes),
        }
        result
    }

    async fn commit_in(
        &mut self,
        lanes: &[LaneId],
        items: &[Item<'_>],
        every_key: bool,
    ) -> Result<Decided, StoreError> {
        let now = self.clock.now();
        self.hear_keys();
        self.look_up(lanes, items).await;
        let mut tx = self.begin(lanes).await?;
        let recent = &self.recent;
        let may_be_known = |sender: UserId, key: &ClientKey| every_key || recent.contains(sender, key);
        let decided = batch::decide(
            &mut *tx,
            items,
            &mut self.views,
            now,
            self.limits.receipts_members_max,
            may_be_known,
        )
        .await;
        let mut decided = match decided {
            // What somebody else has committed, or this committer before, may not be on disk yet: InnoDB shows it before it flushes it.
            // This transaction's own commit flushes it.
            Ok(decided) if decided.events.is_empty() && decided.known_keys.is_empty() && !every_key => {
                tx.rollback().await;
                return Ok(decided);
            }
            Ok(decided) => decided,
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        let positions: Vec<(LaneId, i64)> = lanes.iter().map(|lane| (*lane, tx.pos(*lane))).collect();
        let events = by_lane(lanes, std::mem::take(&mut decided.events));
        let facts: Vec<(LaneId, Vec<LoggedFact>)> =
            events.iter().map(|(lane, events)| (*lane, facts_of(events))).collect();
        let committed = tx.commit(&facts, now).await;
        // Also when the outcome is unknown: who tries again looks.
        if !matches!(committed, Err(StoreError::Behind(_) | StoreError::Conflict(_))) {
            for (sender, key) in items.iter().filter_map(Item::key) {
                self.recent.note(sender, key);
            }
        }
        committed?;
        let (heads, members) = (std::mem::take(&mut decided.heads), std::mem::take(&mut decided.members));
        self.views.committed(&positions, heads, members);
        let places = positions.iter().map(|(_, pos)| *pos);
        self.unpublished
            .extend(events.into_iter().zip(places).map(|((lane, events), pos)| (lane, pos, events)));
        self.told = positions;
        Ok(decided)
    }

    /// Learns the keys that others have committed in its lanes. What the bus lost, and a key that comes again in another lane, the
    /// unique index knows.
    fn hear_keys(&mut self) {
        loop {
            let batch = match self.heard.try_recv() {
                Ok(batch) => batch,
                Err(broadcast::error::TryRecvError::Lagged(_)) => continue,
                Err(_) => return,
            };
            if !(self.is_own)(batch.lane) || self.told.contains(&(batch.lane, batch.pos)) {
                continue;
            }
            for message in batch.events.iter().filter_map(|event| event.message.as_ref()) {
                if let (Some(sender), Some(key)) = (message.sender, &message.client_key) {
                    self.recent.note(sender, key);
                }
            }
        }
    }

    /// Learns what is not known of the items before their lanes are locked, as it was at the lanes' known positions: when others have
    /// committed since, the lanes are found elsewhere, and what the log tells of is forgotten with the rest.
    async fn look_up(&mut self, lanes: &[LaneId], items: &[Item<'_>]) {
        let members = items.iter().map(Item::member);
        let unknown: BTreeSet<MemberId> = members.filter(|id| self.views.member(*id).is_none()).collect();
        if unknown.is_empty() {
            return;
        }
        let Some((epoch, last)) = self.views.last_positions(lanes) else { return };
        let unknown: Vec<MemberId> = unknown.into_iter().collect();
        for (head, member) in self.log.look_up(epoch, &last, &unknown).await {
            self.views.learn_head(head);
            self.views.learn_member(member);
        }
    }

    /// Locks the lanes; afterwards, what is known of them is what the database holds.
    async fn begin(&mut self, lanes: &[LaneId]) -> Result<Box<dyn LaneTransaction>, StoreError> {
        if let Some((epoch, last)) = self.views.last_positions(lanes)
            && let Some(tx) = self.log.begin_after(epoch, &last).await?
        {
            return Ok(tx);
        }
        let mut tx = self.log.begin(lanes).await?;
        self.views.set_epoch(tx.epoch().await?);
        for lane in lanes {
            let stands = tx.pos(*lane) - 1;
            let missed = match self.views.known_until(*lane) {
                Some(known) if (1..=i64::from(CATCH_UP_MAX)).contains(&(stands - known)) => {
                    tx.read_log(*lane, known, CATCH_UP_MAX).await?
                }
                _ => Vec::new(),
            };
            self.views.catch_up(*lane, stands, &missed);
        }
        Ok(tx)
    }
}

/// Lets those run who were just answered, as long as it brings more into the queue: their next messages then share a batch.
async fn let_others_queue(queue: &mpsc::Receiver<Waiting>, enough: usize) {
    loop {
        let waiting = queue.len();
        if waiting >= enough {
            return;
        }
        yield_now().await;
        if queue.len() == waiting {
            return;
        }
    }
}

fn by_lane(lanes: &[LaneId], events: Vec<(LaneId, Event)>) -> Vec<(LaneId, Vec<Event>)> {
    let mut sorted: Vec<(LaneId, Vec<Event>)> = lanes.iter().map(|lane| (*lane, Vec::new())).collect();
    for (lane, event) in events {
        if let Ok(place) = lanes.binary_search(&lane) {
            sorted[place].1.push(event);
        }
    }
    sorted
}
