//! Tasks from Kafka: those with one key in their order, an offset stored only when everything before it is done.
//!
//! The client library is polled on a thread of its own, which also waits where a partition changes hands. The work runs in tasks, one
//! a key, at most [`WINDOW`] records of a partition at once: one key that waits holds up no other. A partition whose window is full is
//! paused, so that polling never stops.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    KafkaSettings,
    window::{Finished, Given, Window},
};
use crate::{
    lifeline::Held,
    measure,
    port::queue::{Topic, Work, Worked},
};

/// Records of a partition that are worked on or wait for their key. What was fetched beyond it is thrown away when the partition
/// is paused, and fetched again. With a quarter of it each key had one run at a time, and all of them asked, pushed and were noted in
/// step, so that the database and the provider took turns (seen in `bench b10`).
pub(super) const WINDOW: usize = 4096;
/// Tasks of a process that run at the same time. They share calls of the domain, so that many cost little more than few.
const AT_ONCE: usize = 512;
/// Tasks of one key that are done together when they wait for each other: what a crash in between may repeat.
const RUN: usize = 16;
const POLL: Duration = Duration::from_millis(100);
/// While work is under way: what is finished is noted soon.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// How long work may go on when its partition goes to another worker; then it is dropped, and done again there.
const GRACE: Duration = Duration::from_secs(12);
/// Work that takes longer is told of.
const LONG: Duration = Duration::from_mins(1);
/// A consumer that has heard nothing of a partition for so long although there is something starts over.
const STALLED: Duration = Duration::from_mins(1);
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// How often the log hears of errors.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
const STATISTICS_MS: &str = "5000";
const RESTART_PAUSE: Duration = Duration::from_secs(1);

pub(super) type Partition = (String, i32);

pub struct ConsumerSetup {
    pub settings: KafkaSettings,
    pub work: Arc<dyn Work>,
    /// Where the work runs.
    pub held: Held,
    /// Whether a broker is there, for whoever asks.
    pub connected: watch::Sender<bool>,
}

/// Works until it is stopped; a consumer that fails or stalls is made anew.
pub async fn consume(setup: ConsumerSetup) {
    let setup = Arc::new(setup);
    while !setup.held.stop.is_cancelled() {
        let consuming = setup.clone();
        let ended = tokio::task::spawn_blocking(move || consume_once(&consuming)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "tasks are not consumed now; starting over"),
            Err(error) => tracing::error!(error = %error, "the consumer of tasks failed; starting over"),
        }
        setup.connected.send_replace(false);
        setup.held.stop.run_until_cancelled(sleep(RESTART_PAUSE)).await;
    }
}

/// On a thread that may block, where the consumer is also dropped (trap 8).
fn consume_once(setup: &Arc<ConsumerSetup>) -> Result<(), KafkaError> {
    let (finished, done) = mpsc::unbounded_channel();
    let context = Context {
        setup: setup.clone(),
        slots: Arc::new(Semaphore::new(AT_ONCE)),
        windows: Mutex::default(),
        finished,
        done: Mutex::new(done),
        told_at: Mutex::new(None),
        runtime: Handle::current(),
    };
    let mut config = setup.settings.client();
    if let Some(member) = &setup.settings.member {
        config.set("group.instance.id", member);
    }
    let consumer: BaseConsumer<Context> = config
        .set("group.id", format!("{}.workers", setup.settings.prefix))
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        // What brokers allow at least unless they are told otherwise: how long the work of one that died waits.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "16384")
        // The default of a second is a pause in the middle of a backlog.
        .set("fetch.queue.backoff.ms", "10")
        .set("statistics.interval.ms", STATISTICS_MS)
        .create_with_context(context)?;
    let topics: Vec<String> = Topic::TASKS.iter().map(|topic| setup.settings.topic(*topic)).collect();
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    let ended = poll_until_stopped(&consumer);
    let context = consumer.context();
    let all: Vec<Partition> = context.lock().keys().cloned().collect();
    context.hand_over(&consumer, &all);
    ended
}

fn poll_until_stopped(consumer: &BaseConsumer<Context>) -> Result<(), KafkaError> {
    let context = consumer.context();
    let mut watched_at = Instant::now();
    while !context.setup.held.stop.is_cancelled() {
        let is_busy = context.lock().values().any(|window| !window.is_empty());
        match consumer.poll(if is_busy { POLL_BUSY } else { POLL }) {
            Some(Ok(record)) => context.dispatch(consumer, &record)?,
            Some(Err(error)) if is_final(&error) => return Err(error),
            // Brokers that are away come back by themselves.
            Some(Err(error)) => context.tell(&error, ""),
            None => {}
        }
        context.note_finished(consumer)?;
        if watched_at.elapsed() > WATCH_INTERVAL {
            watched_at = Instant::now();
            if context.is_stalled() {
                tracing::error!("the consumer of tasks hears nothing although there are some; starting over");
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(error.rdkafka_error_code(), None | Some(RDKafkaErrorCode::Fatal))
}

/// What the polling thread and the callbacks that it runs share.
struct Context {
    setup: Arc<ConsumerSetup>,
    slots: Arc<Semaphore>,
    windows: Mutex<HashMap<Partition, Window>>,
    finished: mpsc::UnboundedSender<Finished>,
    done: Mutex<mpsc::UnboundedReceiver<Finished>>,
    told_at: Mutex<Option<Instant>>,
    runtime: Handle,
}

impl Context {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client library says the same many times a second as long as brokers are away.
    fn tell(&self, error: &KafkaError, reason: &str) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|at| at.elapsed() > TELL_INTERVAL) {
            *told_at = Some(Instant::now());
            tracing::warn!(error = %error, reason, "the consumer of tasks (CONFAB_KAFKA_BROKERS)");
        }
    }

    fn dispatch(
        &self,
        consumer: &BaseConsumer<Self>,
        record: &BorrowedMessage<'_>,
    ) -> Result<(), KafkaError> {
        let settings = &self.setup.settings;
        let Some(topic) = Topic::TASKS.iter().find(|topic| settings.topic(**topic) == record.topic()) else {
            return Ok(());
        };
        let partition = (record.topic().to_owned(), record.partition());
        let mut windows = self.lock();
        let window = windows.entry(partition.clone()).or_default();
        let given = Given { offset: record.offset(), payload: record.payload().unwrap_or_default().to_vec() };
        if let Some(queue) = window.take(record.key().unwrap_or_default(), given) {
            let working = Working {
                topic: *topic,
                partition: partition.clone(),
                work: self.setup.work.clone(),
                slots: self.slots.clone(),
                leave: window.leave.clone(),
                queue,
                finished: self.finished.clone(),
            };
            let (abort, running) = (window.abort.clone(), window.running.clone());
            let task = async move { abort.run_until_cancelled(working.run()).await };
            let Held { tasks, lifeline, .. } = &self.setup.held;
            let task = running.track_future(lifeline.hold("work on a partition", task));
            tasks.spawn_on(task, &self.runtime);
        }
        if window.is_full() && !window.is_paused {
            consumer.pause(&of(&partition))?;
            window.is_paused = true;
        }
        Ok(())
    }

    fn note_finished(&self, consumer: &BaseConsumer<Self>) -> Result<(), KafkaError> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(finished) = done.try_recv() {
            let mut windows = self.lock();
            // Of a partition that has gone to another worker, who does it again.
            let Some(window) = windows.get_mut(&finished.partition) else { continue };
            let Some(offset) = window.finish(&finished) else { continue };
            let (topic, partition) = &finished.partition;
            if let Err(error) = consumer.store_offset(topic, *partition, offset) {
                tracing::debug!(error = %error, "an offset is not stored");
            }
            if window.is_paused && window.has_room() {
                window.is_paused = false;
                consumer.resume(&of(&finished.partition))?;
            }
        }
        Ok(())
    }

    /// Waits for the work on partitions that others get.
    fn hand_over(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition]) {
        let leaving: Vec<TaskTracker> = {
            let windows = self.lock();
            let leaving = partitions.iter().filter_map(|partition| windows.get(partition));
            leaving.map(Window::hand_over).collect()
        };
        let all_ended = async {
            for running in &leaving {
                running.wait().await;
            }
        };
        if self.runtime.block_on(timeout(GRACE, all_ended)).is_err() {
            tracing::warn!("work that takes long is given up; who has its partition next does it again");
        }
        if let Err(error) = self.note_finished(consumer) {
            tracing::debug!(error = %error, "while a partition is handed over");
        }
        let mut windows = self.lock();
        for partition in partitions {
            if let Some(window) = windows.remove(partition) {
                window.abort.cancel();
                show_lag(partition, 0);
            }
        }
    }

    fn is_stalled(&self) -> bool {
        let mut windows = self.lock();
        let longest = windows.values().filter_map(Window::oldest).max().unwrap_or_default();
        measure::set(measure::TASK_BUSY_SECONDS, longest.as_secs_f64());
        if longest > LONG {
            tracing::warn!(seconds = longest.as_secs(), "a task takes long");
        }
        windows.values_mut().any(|window| window.is_stalled(STALLED))
    }
}

fn of((topic, partition): &Partition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, *partition);
    list
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn show_lag((topic, partition): &Partition, lag: i64) {
    measure::set_of(measure::TASK_LAG, "partition", format!("{topic}-{partition}"), lag as f64);
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.setup.connected.send_replace(statistics.brokers.values().any(|broker| broker.state == "UP"));
        let mut windows = self.lock();
        for (topic, known) in statistics.topics {
            for (number, known) in known.partitions {
                let partition = (topic.clone(), number);
                // Only of ours; -1 is not known, and nothing was committed at first.
                let Some(window) = windows.get_mut(&partition) else { continue };
                if known.hi_offset >= 0 {
                    let done = known.committed_offset.max(known.stored_offset).max(known.lo_offset).max(0);
                    show_lag(&partition, known.hi_offset - done);
                    window.is_behind = known.hi_offset > known.app_offset.max(done);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.setup.connected.send_replace(false);
        }
        self.tell(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.hand_over(consumer, &partitions_of(partitions));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else { return };
        self.lock()
            .extend(partitions_of(partitions).into_iter().map(|partition| (partition, Window::default())));
        // One that was paused when it left would stay so for ever.
        if let Err(error) = consumer.resume(partitions) {
            tracing::debug!(error = %error, "a new partition is not resumed");
        }
    }
}

/// The work on one key of a partition, until its queue is empty.
struct Working {
    topic: Topic,
    partition: Partition,
    work: Arc<dyn Work>,
    slots: Arc<Semaphore>,
    leave: CancellationToken,
    queue: super::window::KeyQueue,
    finished: mpsc::UnboundedSender<Finished>,
}

impl Working {
    async fn run(self) {
        loop {
            let run = self.queue.next(RUN);
            if run.is_empty() || self.work_off(&run).await.is_none() {
                return;
            }
        }
    }

    /// `None` when the partition goes to another worker, who does the rest.
    async fn work_off(&self, run: &[Given]) -> Option<()> {
        let together = if run.len() > 1 { self.together(run).await? } else { 0 };
        let (done, left) = run.split_at(together.min(run.len()));
        for given in done {
            self.finish(given);
        }
        for given in left {
            let mut tries = 0;
            while let Worked::Again(pause) = self.once(given, tries).await? {
                self.leave.run_until_cancelled(sleep(pause)).await?;
                tries += 1;
            }
            self.finish(given);
        }
        Some(())
    }

    /// Held while it works, and not while it waits.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        let slot = self.slots.acquire().await.ok()?;
        (!self.leave.is_cancelled()).then_some(slot)
    }

    async fn together(&self, run: &[Given]) -> Option<usize> {
        let _slot = self.slot().await?;
        let payloads: Vec<&[u8]> = run.iter().map(|given| given.payload.as_slice()).collect();
        Some(self.work.work_together(self.topic, &payloads).await)
    }

    async fn once(&self, given: &Given, tries: u32) -> Option<Worked> {
        let _slot = self.slot().await?;
        Some(self.work.work(self.topic, &given.payload, tries).await)
    }

    /// The consumer may be gone; then it is done again.
    fn finish(&self, given: &Given) {
        let _ = self.finished.send(Finished { partition: self.partition.clone(), offset: given.offset });
    }
}
