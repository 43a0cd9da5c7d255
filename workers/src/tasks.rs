//! A task from its record to its end: done, tried again, or buried with the reason.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::{
    Chat, ServiceError,
    contract::envelope::{SealedTask, Task, open_task},
    measure,
    port::queue::{Queue, Topic, Work, Worked},
    trace::{self, ExportedSpan, TARGET},
};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Span;

use crate::{
    fanout,
    push::{Push, Pusher},
};

/// Tries of a task that fails by itself; what is away is waited for.
const TRIES_MAX: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a task is not done.
#[derive(Debug)]
pub enum Trouble {
    /// Something that every task needs is away: try again, however often.
    Away(String),
    /// It failed; it may do so again.
    Failed(String),
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Self {
        if error.code().retryable() { Self::Away(error.to_string()) } else { Self::Failed(error.to_string()) }
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
    async fn work(&self, topic: Topic, record: &[u8], tries: u32) -> Worked {
        let begun = Instant::now();
        let (outcome, worked) = match open_task(record) {
            Ok(sealed) => {
                let span = ExportedSpan::part_of(sealed.trace, || span_of(topic));
                let told = span.clone();
                let working = span.around(self.once(topic, record, &sealed, tries));
                let (outcome, worked) = trace::scope_of(sealed.trace, working).await;
                if outcome != "done" {
                    told.fail(outcome);
                }
                (outcome, worked)
            }
            Err(error) => self.bury(topic, &[], record, &format!("no task: {error}")).await,
        };
        measure::count(measure::TASKS, &[("topic", topic.name()), ("outcome", outcome)], 1);
        measure::latency(measure::TASK_SECONDS, &[("topic", topic.name())], begun);
        worked
    }

    /// Pushes alone; whatever is wrong with one of them comes out when each is tried by itself.
    async fn work_together(&self, topic: Topic, records: &[&[u8]]) -> usize {
        let begun = Instant::now();
        let opened = records.iter().map_while(|record| open_task(record).ok());
        let run: Vec<Push> = opened.map_while(|sealed| push_of(topic, &sealed)).collect();
        if run.len() < 2 {
            return 0;
        }
        let pushing = AssertUnwindSafe(self.pusher.push_all(&run)).catch_unwind();
        match pushing.await.unwrap_or_else(|_| Err(Trouble::Failed("it panicked".to_owned()))) {
            Ok(()) => {
                let labels = [("topic", topic.name()), ("outcome", "done")];
                measure::count(measure::TASKS, &labels, run.len() as u64);
                for _ in &run {
                    measure::latency(measure::TASK_SECONDS, &labels[..1], begun);
                }
                run.len()
            }
            Err(Trouble::Away(why) | Trouble::Failed(why)) => {
                for push in &run {
                    push.span.fail("again");
                }
                tracing::warn!(topic = topic.name(), why, count = run.len(), "tasks are tried one by one");
                0
            }
        }
    }
}

fn push_of(topic: Topic, sealed: &SealedTask) -> Option<Push> {
    let Task::Push(task) = sealed.task else { return None };
    let span = ExportedSpan::part_of(sealed.trace, || span_of(topic));
    let trace = span.context().or(sealed.trace);
    Some(Push { task, trace, span })
}

impl Tasks {
    async fn once(
        &self,
        topic: Topic,
        record: &[u8],
        sealed: &SealedTask,
        tries: u32,
    ) -> (&'static str, Worked) {
        let attempt = AssertUnwindSafe(self.attempt(sealed)).catch_unwind();
        let result = attempt.await.unwrap_or_else(|_| Err(Trouble::Failed("it panicked".to_owned())));
        let pause = (PAUSE_MIN * 2_u32.saturating_pow(tries.min(16))).min(PAUSE_MAX);
        match result {
            Ok(()) => {
                tracing::debug!(topic = topic.name(), "a task is done");
                ("done", Worked::Done)
            }
            Err(Trouble::Failed(why)) if tries + 1 >= TRIES_MAX => {
                self.bury(topic, sealed.task.conversation().as_bytes(), record, &why).await
            }
            Err(Trouble::Away(why) | Trouble::Failed(why)) => {
                tracing::warn!(topic = topic.name(), why, tries, "a task is tried again");
                ("again", Worked::Again(pause))
            }
        }
    }

    async fn attempt(&self, sealed: &SealedTask) -> Result<(), Trouble> {
        match sealed.task {
            Task::Fanout { .. } => fanout::part(&self.chat, &*self.queue, sealed).await,
            Task::Push(push) => self.pusher.push(push).await,
        }
    }

    /// Puts it where nobody loses it.
    async fn bury(&self, topic: Topic, key: &[u8], record: &[u8], reason: &str) -> (&'static str, Worked) {
        tracing::error!(topic = topic.name(), reason, "a task cannot be done");
        match self.queue.bury(topic, key, record, reason).await {
            Ok(()) => ("dead", Worked::Done),
            Err(error) => {
                tracing::warn!(error = %error, "a dead task cannot be put away yet");
                ("again", Worked::Again(PAUSE_MAX))
            }
        }
    }
}

/// Around one try of a task. Names as OpenTelemetry has them.
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
