//! A task from its record to its end: done, tried again, or buried with the reason.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::{
    Chat, ServiceError,
    contract::envelope::{SealedTask, Task, open_task},
    measure,
    port::queue::{Queue, Topic, Work},
    trace::{self, ExportedSpan, TARGET},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::Span;

use crate::{fanout, push::Pusher};

/// Tries of a task that fails by itself; what is away is waited for.
const TRIES_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Of one try.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why a task is not done.
#[derive(Debug)]
pub enum Trouble {
    /// Something that it needs is away: try again, however often.
    Away(String, Option<Duration>),
    /// It failed; it may do so again.
    Failed(String),
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Self {
        if error.code().retryable() {
            Self::Away(error.to_string(), None)
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// What works on tasks.
pub struct Tasks {
    pub chat: Chat,
    pub queue: Arc<dyn Queue>,
    pub pusher: Arc<Pusher>,
}

#[async_trait]
impl Work for Tasks {
    async fn work(&self, topic: Topic, record: &[u8]) {
        let begun = Instant::now();
        let outcome = match open_task(record) {
            Ok(sealed) => {
                let span = ExportedSpan::part_of(sealed.trace, || span_of(topic));
                let told = span.clone();
                let working = span.around(self.until_done(topic, record, &sealed));
                let outcome = match sealed.trace {
                    Some(trace) => trace::scope(trace, working).await,
                    None => working.await,
                };
                if outcome == "dead" {
                    told.fail(outcome);
                }
                outcome
            }
            Err(error) => self.bury(topic, &[], record, &format!("no task: {error}")).await,
        };
        measure::count(measure::TASKS, &[("topic", topic.name()), ("outcome", outcome)], 1);
        measure::latency(measure::TASK_SECONDS, &[("topic", topic.name())], begun);
    }
}

impl Tasks {
    async fn until_done(&self, topic: Topic, record: &[u8], sealed: &SealedTask) -> &'static str {
        let (mut pause, mut tries) = (PAUSE_MIN, 0);
        loop {
            let outcome = match timeout(DEADLINE, self.once(sealed)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Trouble::Failed(format!("not done within {} s", DEADLINE.as_secs()))),
            };
            let wait = match outcome {
                Ok(()) => return "done",
                Err(Trouble::Away(why, wait)) => {
                    tracing::warn!(topic = topic.name(), why, "a task waits");
                    wait
                }
                Err(Trouble::Failed(why)) => {
                    tries += 1;
                    if tries >= TRIES_MAX {
                        return self.bury(topic, sealed.task.conversation().as_bytes(), record, &why).await;
                    }
                    tracing::warn!(topic = topic.name(), why, tries, "a task failed; trying again");
                    None
                }
            };
            measure::count(measure::TASKS, &[("topic", topic.name()), ("outcome", "again")], 1);
            sleep(wait.unwrap_or(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn once(&self, sealed: &SealedTask) -> Result<(), Trouble> {
        match sealed.task {
            Task::Fanout { .. } => fanout::part(&self.chat, &*self.queue, sealed).await,
            Task::Push(range) => self.pusher.push(&self.chat, range).await,
        }
    }

    /// Until it is where nobody loses it.
    async fn bury(&self, topic: Topic, key: &[u8], record: &[u8], reason: &str) -> &'static str {
        tracing::error!(topic = topic.name(), reason, "a task cannot be done");
        while let Err(error) = self.queue.bury(topic, key, record, reason).await {
            tracing::warn!(error = %error, "a dead task cannot be put away yet");
            sleep(PAUSE_MAX.min(Duration::from_secs(5))).await;
        }
        "dead"
    }
}

/// Around all tries of a task. Names as OpenTelemetry has them.
fn span_of(topic: Topic) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "task",
        otel.name = %format_args!("process {}", topic.name()),
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        "messaging.operation.type" = "process",
        messaging.destination.name = topic.name(),
    )
}
