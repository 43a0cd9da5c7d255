//! Tasks from Kafka: each partition in its own order, an offset stored only after its work.
//!
//! The client library is polled on a thread of its own, which also waits where a partition changes hands; the work runs as a task a
//! partition, at most [`QUEUE`] records ahead. A partition whose queue is full is paused, so that polling never stops.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::KafkaSettings;
use crate::{
    lifeline::Held,
    measure,
    port::queue::{Topic, Work},
};

/// Records of a partition that wait for their turn.
const QUEUE: usize = 64;
const POLL: Duration = Duration::from_millis(100);
/// How long work may go on when its partition goes to another worker; then it is dropped, and done again there.
const GRACE: Duration = Duration::from_secs(5);
/// Work that takes longer is told of.
const LONG: Duration = Duration::from_mins(1);
/// A consumer that is behind and hears nothing for so long starts over.
const STALLED: Duration = Duration::from_mins(1);
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
const STATISTICS_MS: &str = "5000";
const RESTART_PAUSE: Duration = Duration::from_secs(1);

type Partition = (String, i32);

pub struct ConsumerSetup {
    pub settings: KafkaSettings,
    pub work: Arc<dyn Work>,
    /// Where the work runs.
    pub held: Held,
}

/// Works until it is stopped; a consumer that fails or stalls is made anew.
pub async fn consume(setup: ConsumerSetup) {
    let setup = Arc::new(setup);
    while !setup.held.stop.is_cancelled() {
        let consuming = setup.clone();
        let ended = tokio::task::spawn_blocking(move || Consuming::run(&consuming)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "tasks are not consumed now; starting over"),
            Err(error) => tracing::error!(error = %error, "the consumer of tasks failed; starting over"),
        }
        setup.held.stop.run_until_cancelled(sleep(RESTART_PAUSE)).await;
    }
}

struct Consuming<'a> {
    setup: &'a ConsumerSetup,
    consumer: Arc<BaseConsumer<Context>>,
    paused: HashSet<Partition>,
    heard_at: Instant,
}

impl<'a> Consuming<'a> {
    fn run(setup: &'a ConsumerSetup) -> Result<(), KafkaError> {
        let group = format!("{}.workers", setup.settings.prefix);
        let consumer: BaseConsumer<Context> = setup
            .settings
            .client()
            .set("group.id", group)
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", STATISTICS_MS)
            .create_with_context(Context::default())?;
        let topics: Vec<String> = Topic::TASKS.iter().map(|topic| setup.settings.topic(*topic)).collect();
        consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut this =
            Self { setup, consumer: Arc::new(consumer), paused: HashSet::new(), heard_at: Instant::now() };
        let ended = this.poll_until_stopped();
        let context = this.consumer.context();
        let all: Vec<Partition> = context.lock().keys().cloned().collect();
        context.hand_over(&all);
        ended
    }

    fn poll_until_stopped(&mut self) -> Result<(), KafkaError> {
        let mut looked_at = Instant::now();
        let consumer = self.consumer.clone();
        while !self.setup.held.stop.is_cancelled() {
            match consumer.poll(POLL) {
                Some(Ok(record)) => {
                    self.heard_at = Instant::now();
                    self.dispatch(&record)?;
                }
                Some(Err(error)) if error.rdkafka_error_code().is_none() => return Err(error),
                // Brokers that are away come back by themselves.
                Some(Err(error)) => tracing::warn!(error = %error, "the consumer of tasks"),
                None => {}
            }
            self.resume()?;
            if looked_at.elapsed() > WATCH_INTERVAL {
                looked_at = Instant::now();
                if self.is_stalled() {
                    tracing::error!(
                        "the consumer of tasks hears nothing although there are some; starting over"
                    );
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, record: &BorrowedMessage<'_>) -> Result<(), KafkaError> {
        let Some(topic) =
            Topic::TASKS.iter().find(|topic| self.setup.settings.topic(**topic) == record.topic())
        else {
            return Ok(());
        };
        let partition = (record.topic().to_owned(), record.partition());
        let context = self.consumer.context();
        let mut workers = context.lock();
        let worker = workers.entry(partition.clone()).or_insert_with(|| self.begin(*topic, &partition));
        let given = Given { offset: record.offset(), payload: record.payload().unwrap_or_default().to_vec() };
        if worker.queue.try_send(given).is_err() {
            drop(workers);
            let list = of(&partition);
            self.consumer.pause(&list)?;
            self.consumer.seek(&partition.0, partition.1, Offset::Offset(record.offset()), POLL)?;
            self.paused.insert(partition);
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), KafkaError> {
        if self.paused.is_empty() {
            return Ok(());
        }
        let context = self.consumer.context();
        let ready: Vec<Partition> = {
            let workers = context.lock();
            self.paused.retain(|partition| workers.contains_key(partition));
            let has_room = |partition: &&Partition| {
                workers.get(*partition).is_some_and(|worker| worker.queue.capacity() >= QUEUE / 2)
            };
            self.paused.iter().filter(has_room).cloned().collect()
        };
        for partition in ready {
            self.consumer.resume(&of(&partition))?;
            self.paused.remove(&partition);
        }
        Ok(())
    }

    fn begin(&self, topic: Topic, partition: &Partition) -> Worker {
        let (queue, given) = mpsc::channel(QUEUE);
        let (leave, abort) = (CancellationToken::new(), CancellationToken::new());
        let busy = Arc::default();
        let (done, ended) = blocking::sync_channel(1);
        let working = Working {
            topic,
            partition: partition.clone(),
            consumer: self.consumer.clone(),
            work: self.setup.work.clone(),
            given,
            leave: leave.clone(),
            busy: Arc::clone(&busy),
        };
        let aborted = abort.clone();
        let Held { tasks, lifeline, .. } = &self.setup.held;
        tasks.spawn(lifeline.hold("work on a partition", async move {
            aborted.run_until_cancelled(working.run()).await;
            // Whoever waited may have given up.
            let _ = done.send(());
        }));
        Worker { queue, leave, abort, ended, busy }
    }

    fn is_stalled(&self) -> bool {
        let context = self.consumer.context();
        let workers = context.lock();
        let longest = workers.values().filter_map(|worker| Some(since(&worker.busy)?.elapsed())).max();
        measure::set(measure::TASK_BUSY_SECONDS, longest.unwrap_or_default().as_secs_f64());
        if let Some(longest) = longest.filter(|longest| *longest > LONG) {
            tracing::warn!(seconds = longest.as_secs(), "a task takes long");
        }
        let idle = longest.is_none() && self.paused.is_empty();
        idle && context.behind.load(Ordering::Relaxed) && self.heard_at.elapsed() > STALLED
    }
}

/// What works on a partition.
struct Worker {
    queue: mpsc::Sender<Given>,
    /// Finish what is being done, and take no more.
    leave: CancellationToken,
    abort: CancellationToken,
    ended: blocking::Receiver<()>,
    busy: Arc<Mutex<Option<Instant>>>,
}

struct Given {
    offset: i64,
    payload: Vec<u8>,
}

struct Working {
    topic: Topic,
    partition: Partition,
    consumer: Arc<BaseConsumer<Context>>,
    work: Arc<dyn Work>,
    given: mpsc::Receiver<Given>,
    leave: CancellationToken,
    busy: Arc<Mutex<Option<Instant>>>,
}

impl Working {
    async fn run(mut self) {
        while let Some(Some(given)) = self.leave.run_until_cancelled(self.given.recv()).await {
            set(&self.busy, Some(Instant::now()));
            self.work.work(self.topic, &given.payload).await;
            set(&self.busy, None);
            let (topic, partition) = &self.partition;
            // It fails when the partition has gone to another worker, who does it again.
            if let Err(error) = self.consumer.store_offset(topic, *partition, given.offset) {
                tracing::debug!(error = %error, "an offset is not stored");
            }
        }
    }
}

fn set(busy: &Mutex<Option<Instant>>, since: Option<Instant>) {
    *busy.lock().unwrap_or_else(PoisonError::into_inner) = since;
}

fn since(busy: &Mutex<Option<Instant>>) -> Option<Instant> {
    *busy.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of((topic, partition): &Partition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, *partition);
    list
}

#[derive(Default)]
struct Context {
    workers: Mutex<HashMap<Partition, Worker>>,
    /// Whether there is something to consume.
    behind: AtomicBool,
}

impl Context {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the work on partitions that others get.
    fn hand_over(&self, partitions: &[Partition]) {
        let leaving: Vec<Worker> = {
            let mut workers = self.lock();
            partitions.iter().filter_map(|partition| workers.remove(partition)).collect()
        };
        for worker in &leaving {
            worker.leave.cancel();
        }
        let until = Instant::now() + GRACE;
        for worker in &leaving {
            if worker.ended.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                worker.abort.cancel();
                let _ = worker.ended.recv_timeout(GRACE);
            }
        }
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let mut behind = false;
        for (topic, known) in statistics.topics {
            for (partition, known) in known.partitions {
                // -1 is not known, and the partition -1 is nobody's.
                if partition >= 0 && known.consumer_lag_stored >= 0 {
                    behind |= known.consumer_lag_stored > 0;
                    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                    let lag = known.consumer_lag_stored as f64;
                    measure::set_of(measure::TASK_LAG, "partition", format!("{topic}-{partition}"), lag);
                }
            }
        }
        self.behind.store(behind, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(error = %error, reason, "the consumer of tasks");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let elements = partitions.elements();
            let leaving: Vec<Partition> =
                elements.iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
            self.hand_over(&leaving);
        }
    }
}
