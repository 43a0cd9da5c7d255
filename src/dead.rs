//! `confab worker dead` and `confab worker replay`: tasks that could not be done.

use std::{error::Error, sync::Arc};

use domain::{
    Chat,
    adapter::kafka::{KafkaQueue, KafkaSettings, dead},
    contract::envelope::open_task,
    port::{
        Queue as _,
        queue::{DeadRecord, Record, Topic},
    },
    wiring::Wiring,
};
use tokio_util::task::TaskTracker;
use workers::{outbox_queue::OutboxQueue, push::Pusher};

use crate::{database, readiness::Readiness, run::open_keys, settings::Settings};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Of each topic, at once.
const TASKS_MAX: u32 = 1000;

/// Prints them, oldest first.
pub async fn list(settings: &Settings) -> Outcome<()> {
    let dead = match settings.kafka() {
        Some(kafka) => blocking(kafka, |kafka| dead::list(kafka, TASKS_MAX as usize)).await?,
        None => of_outbox(&chat(settings).await?).await?.into_iter().map(|(_, task)| task).collect(),
    };
    for DeadRecord { topic, place, reason, payload } in &dead {
        let task = open_task(payload).map_or_else(
            |_| format!("{} bytes that are no task", payload.len()),
            |sealed| {
                let trace = sealed.trace.map(|trace| trace.id.to_string()).unwrap_or_default();
                format!("conversation {} trace {trace}", sealed.task.conversation())
            },
        );
        println!("{} {place}: {reason}; {task}", topic.name());
    }
    println!("{} dead", dead.len());
    Ok(())
}

/// Sends them on their way again, those that are tasks.
pub async fn replay(settings: &Settings) -> Outcome<()> {
    let Some(kafka) = settings.kafka() else { return replay_outbox(settings).await };
    let (records, taken) = blocking(kafka.clone(), |kafka| dead::take(kafka, TASKS_MAX as usize)).await?;
    let count = records.len();
    KafkaQueue::new(kafka.clone())?.deliver(records).await?;
    blocking(kafka, |_| taken.note()).await?;
    println!("{count} sent again");
    Ok(())
}

async fn replay_outbox(settings: &Settings) -> Outcome<()> {
    let chat = chat(settings).await?;
    let tasks = TaskTracker::new();
    let pusher = Pusher::new(&settings.push(), &chat, &tasks)?;
    let queue = OutboxQueue::new(chat.clone(), Arc::new(pusher), tasks);
    let dead = of_outbox(&chat).await?;
    for (id, DeadRecord { topic, payload, .. }) in &dead {
        // What cannot be done this time either is a new one.
        queue.deliver(vec![Record { topic: *topic, key: Vec::new(), payload: payload.clone() }]).await?;
        chat.forget_dead_task(*id).await?;
    }
    println!("{} tried again", dead.len());
    Ok(())
}

async fn of_outbox(chat: &Chat) -> Outcome<Vec<(i64, DeadRecord)>> {
    let tasks = chat.dead_tasks(TASKS_MAX).await?;
    let record = |task: domain::DeadTask| {
        let topic = Topic::named(&task.topic)?;
        Some((
            task.id,
            DeadRecord { topic, place: task.id.to_string(), reason: task.reason, payload: task.record },
        ))
    };
    Ok(tasks.into_iter().filter_map(record).collect())
}

/// A domain of our own for a moment.
async fn chat(settings: &Settings) -> Outcome<Chat> {
    let store = database::open_patiently(settings, &Readiness::default()).await?;
    Ok(Wiring::new(store, open_keys(settings)?, settings.domain_limits()).build())
}

async fn blocking<T: Send + 'static>(
    kafka: KafkaSettings,
    call: impl FnOnce(&KafkaSettings) -> Result<T, domain::port::queue::QueueError> + Send + 'static,
) -> Outcome<T> {
    Ok(tokio::task::spawn_blocking(move || call(&kafka)).await??)
}
