//! The relay of the outbox: what was committed, to the queue.
//!
//! Several workers share the lanes by lease. Whoever has a lane reads it by position, delivers, and notes how far it came only after
//! the queue's word; so nothing is lost, and what a crash repeats is known by its place. A worker that was paused longer than its lease
//! stops at the next look; what it had on its way carries an older fence.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use domain::{
    Chat, Event, Fact, LaneId, LoggedBatch, PushRange, PushTask, RelayBacklog, RelayLane, UserId, WorkerId,
    contract::envelope::{self, Place, SealedTask, Task},
    error::chain,
    measure,
    port::queue::{Queue, Record, Topic},
    service::relay::RELAY_LEASE,
    trace::{ExportedSpan, TARGET},
};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

use crate::fanout::{LAST_USER, record};

/// How often leases are prolonged, and how soon a free lane finds an owner.
const HOLD_INTERVAL: Duration = Duration::from_secs(1);
/// How soon after a lane another is taken: workers that start together share them.
const TAKE_INTERVAL: Duration = Duration::from_millis(20);
/// How often a lane is looked at when the bus says nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often a lane's parked pushes are looked at.
const PARKED_INTERVAL: Duration = Duration::from_secs(1);
/// Positions read and delivered at once.
const POSITIONS_MAX: u32 = 256;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

pub struct RelaySetup {
    pub chat: Chat,
    pub queue: Arc<dyn Queue>,
    pub worker: WorkerId,
    /// Whether a lane that was never relayed before begins with what happens from now on; otherwise with all that is kept.
    pub from_now: bool,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

/// Relays until it is stopped; then others may have the lanes at once.
pub async fn run(setup: RelaySetup) {
    let RelaySetup { chat, queue, worker, from_now, tasks, stop } = setup;
    let mut held: HashMap<LaneId, Held> = HashMap::new();
    let mut pause = Duration::ZERO;
    // What one of the same name left behind, which died. It gets a new fence.
    if let Err(error) = chat.release_lanes(worker).await {
        tracing::warn!(error = &error as &dyn Error, "the lanes are free once their leases run out");
    }
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        pause = HOLD_INTERVAL;
        // The lease counts from before the question.
        let valid_until = Instant::now() + RELAY_LEASE;
        let lanes = match chat.hold_lanes(worker).await {
            Ok(lanes) => lanes,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the leases of lanes cannot be prolonged");
                continue;
            }
        };
        let count = lanes.len();
        held.retain(|lane, held| {
            let still = lanes.iter().any(|now| now.lane == *lane && now.fence == held.fence)
                && !held.lost.is_cancelled();
            if !still {
                held.lost.cancel();
            }
            still
        });
        for lane in lanes {
            if let Some(held) = held.get(&lane.lane) {
                held.valid_until.send_replace(valid_until);
                continue;
            }
            // There may be another one without an owner.
            pause = TAKE_INTERVAL;
            tracing::info!(lane = lane.lane.0, fence = lane.fence, pos = lane.pos, "relaying a lane");
            let (valid, lease) = watch::channel(valid_until);
            let lost = stop.child_token();
            held.insert(lane.lane, Held { fence: lane.fence, valid_until: valid, lost: lost.clone() });
            let (chat, queue, parked_at) = (chat.clone(), queue.clone(), Instant::now());
            let lifeline = chat.lifeline().clone();
            let relayed = LaneRelay { chat, queue, from_now, lane, lease, lost, parked_at };
            tasks.spawn(lifeline.hold("relay of a lane", relayed.run()));
        }
        if pause == HOLD_INTERVAL {
            show(&chat, count).await;
        }
    }
    for held in held.into_values() {
        held.lost.cancel();
    }
    if let Err(error) = chat.release_lanes(worker).await {
        tracing::warn!(error = &error as &dyn Error, "the lanes are free once their leases run out");
    }
}

/// What waits, for whoever watches: also in lanes that nobody relays.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn show(chat: &Chat, held: usize) {
    measure::set(measure::RELAY_LANES, held as f64);
    let Ok(backlog) = chat.relay_backlog().await else { return };
    let now = chat.clock().now();
    for RelayBacklog { lane, positions, oldest } in backlog {
        let age = oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        measure::set_of(measure::RELAY_BACKLOG, "lane", lane.0.to_string(), positions as f64);
        measure::set_of(measure::RELAY_OLDEST_SECONDS, "lane", lane.0.to_string(), age);
    }
}

/// A lane that this worker has.
struct Held {
    fence: i64,
    valid_until: watch::Sender<Instant>,
    lost: CancellationToken,
}

struct LaneRelay {
    chat: Chat,
    queue: Arc<dyn Queue>,
    from_now: bool,
    lane: RelayLane,
    lease: watch::Receiver<Instant>,
    lost: CancellationToken,
    /// When parked pushes were looked at.
    parked_at: Instant,
}

impl LaneRelay {
    async fn run(mut self) {
        let lost = self.lost.clone();
        lost.run_until_cancelled(self.follow()).await;
        // Whoever cancelled knows already; an end of its own is told by this.
        lost.cancel();
    }

    /// Until the lane belongs to somebody else.
    async fn follow(&mut self) {
        let mut live = self.chat.live();
        let mut pause = RETRY_MIN;
        loop {
            match self.relay_all().await {
                Ok(true) => pause = RETRY_MIN,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(
                        lane = self.lane.lane.0,
                        error.chain = chain(&*error),
                        "a lane is not relayed now"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    continue;
                }
            }
            let more = async {
                loop {
                    match live.recv().await {
                        Ok(batch) if batch.lane == self.lane.lane && batch.pos > self.lane.pos => return,
                        Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                        Ok(_) => {}
                    }
                }
            };
            let _ = timeout(LOOK_INTERVAL, more).await;
        }
    }

    /// `false` when the lane belongs to somebody else.
    async fn relay_all(&mut self) -> Result<bool, Failure> {
        // The first fence there is: nobody had the lane before.
        if self.from_now && self.lane.fence == 1 && self.lane.pos == 0 {
            let head = self.chat.heads().await?.positions.get(self.lane.lane);
            if head > 0 && !self.chat.note_relayed(self.lane.lane, self.lane.fence, head).await? {
                return Ok(false);
            }
            self.lane.pos = head;
        }
        if !self.relay_what_is_there().await? {
            return Ok(false);
        }
        if self.parked_at.elapsed() >= PARKED_INTERVAL {
            self.parked_at = Instant::now();
            self.relay_parked().await?;
        }
        Ok(true)
    }

    /// Pushes whose provider was away, once they have waited.
    async fn relay_parked(&mut self) -> Result<(), Failure> {
        for push in self.chat.parked_pushes(self.lane.lane).await? {
            if Instant::now() >= *self.lease.borrow() {
                break;
            }
            let sealed = SealedTask { task: Task::Push(push), place: self.place(self.lane.pos), trace: None };
            self.queue.deliver(vec![record(&sealed)]).await?;
            self.chat.unpark_push(push).await?;
        }
        Ok(())
    }

    fn place(&self, pos: i64) -> Place {
        let installation = self.chat.installation().to_owned();
        Place { lane: self.lane.lane, pos, index: 0, fence: self.lane.fence, installation }
    }

    /// `false` when the lane belongs to somebody else.
    async fn relay_what_is_there(&mut self) -> Result<bool, Failure> {
        loop {
            let RelayLane { lane, fence, pos } = self.lane;
            let batches = self.chat.read_log(lane, pos, POSITIONS_MAX).await?;
            let Some(last) = batches.last().map(|batch| batch.pos) else { return Ok(true) };
            if Instant::now() >= *self.lease.borrow() {
                return Ok(false);
            }
            // They last until the queue's word.
            let mut spans: Vec<ExportedSpan> = Vec::new();
            let records: Vec<Record> =
                batches.iter().flat_map(|batch| self.records_of(batch, &mut spans)).collect();
            let count = records.len() as u64;
            if let Err(error) = self.queue.deliver(records).await {
                for span in &spans {
                    span.fail("undelivered");
                }
                return Err(error.into());
            }
            drop(spans);
            measure::count(measure::RELAYED, &[], count);
            if !self.chat.note_relayed(lane, fence, last).await? {
                tracing::warn!(lane = lane.0, fence, "another worker has the lane");
                return Ok(false);
            }
            self.lane.pos = last;
            if batches.len() < POSITIONS_MAX as usize {
                return Ok(true);
            }
        }
    }

    fn records_of(&self, batch: &LoggedBatch, spans: &mut Vec<ExportedSpan>) -> Vec<Record> {
        let place = self.place(batch.pos);
        let mut records = Vec::with_capacity(batch.events.len() * 2);
        for (index, event) in (0..).zip(&batch.events) {
            if let Some(trace) = event.trace {
                tracing::debug!(trace_id = %trace.id, lane = batch.lane.0, pos = batch.pos, "relaying");
            }
            let span = ExportedSpan::part_of(event.trace, || span_of(batch));
            let trace = span.context();
            if !span.is_none() {
                spans.push(span);
            }
            let place = Place { index, ..place.clone() };
            let payload = envelope::seal(event, &place, trace);
            records.push(Record { topic: Topic::Events, key: envelope::key(event), payload });
            records.extend(self.task_of(event).map(|task| record(&SealedTask { task, place, trace })));
        }
        records
    }

    /// A message is work for each member who is away. In large groups that is parted first.
    fn task_of(&self, event: &Event) -> Option<Task> {
        let (Fact::MessageSent { conversation, seq, .. }, Some(head), Some(message)) =
            (&event.fact, &event.conversation, &event.message)
        else {
            return None;
        };
        let (conversation, seq) = (*conversation, *seq);
        message.sender?;
        let everybody = (UserId(0), LAST_USER);
        Some(if head.member_count > self.chat.limits().fanout_inline_members_max {
            Task::Fanout { conversation, seq, after: everybody.0 }
        } else {
            let range = PushRange { conversation, seq, after: everybody.0, upto: everybody.1 };
            Task::Push(PushTask { range, tries: 0 })
        })
    }
}

/// From the log to the queue's word, for one event.
fn span_of(batch: &LoggedBatch) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "relay",
        otel.name = "relay events",
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        "messaging.operation.type" = "send",
        messaging.destination.name = Topic::Events.name(),
        confab.lane = batch.lane.0,
        confab.pos = batch.pos,
    )
}
