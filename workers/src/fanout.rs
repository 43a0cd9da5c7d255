//! The work of a large group in parts: runs of members, a push task each. A few runs at a time; then the rest is a task of its own, so
//! that a crash repeats little and others get their turn.

use domain::{
    Chat, PushRange, PushTask, UserId,
    contract::envelope::{SealedTask, Task, seal_task},
    port::queue::{Queue, Record, Topic},
    trace,
};

use crate::tasks::Trouble;

/// Members of one push task.
const RUN: u32 = 500;
/// Runs that one task parts.
const RUNS_AT_ONCE: u32 = 20;
/// Nobody's id is above it.
pub const LAST_USER: UserId = UserId(i64::MAX);

/// Parts what is left of a fan-out.
pub async fn part(chat: &Chat, queue: &dyn Queue, sealed: &SealedTask) -> Result<(), Trouble> {
    let Task::Fanout { conversation, seq, after } = sealed.task else { return Ok(()) };
    let ends = chat.member_runs(conversation, after, RUN, RUNS_AT_ONCE).await?;
    let is_last = ends.len() < RUNS_AT_ONCE as usize;
    let mut records = Vec::with_capacity(ends.len() + 1);
    let mut begin = after;
    for upto in ends.into_iter().chain(is_last.then_some(LAST_USER)) {
        let range = PushRange { conversation, seq, after: begin, upto };
        records.push(Task::Push(PushTask { range, tries: 0 }));
        begin = upto;
    }
    if !is_last {
        records.push(Task::Fanout { conversation, seq, after: begin });
    }
    let trace = trace::current().or(sealed.trace);
    let record = |task: Task| record(&SealedTask { task, trace, place: sealed.place.clone() });
    let records = records.into_iter().map(record).collect();
    queue.deliver(records).await.map_err(|error| Trouble::Away(error.to_string()))
}

/// A task on its way to its topic.
pub fn record(sealed: &SealedTask) -> Record {
    let topic = match sealed.task {
        Task::Fanout { .. } => Topic::Fanout,
        Task::Push(_) => Topic::Push,
    };
    Record { topic, key: sealed.task.conversation().as_bytes().to_vec(), payload: seal_task(sealed) }
}
