//! The queue of an installation without Kafka: the outbox itself. The relay hands each task over here and goes on when it is done, so
//! that what a crash interrupts comes again; what cannot be done is kept in SQL.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    Chat,
    port::queue::{Queue, QueueError, Record, Topic, Work as _, Worked},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::{push::Pusher, tasks::Tasks};

/// Conversations whose tasks are done at the same time.
const AT_ONCE: usize = 64;

#[derive(Clone)]
pub struct OutboxQueue {
    chat: Chat,
    pusher: Arc<Pusher>,
    running: TaskTracker,
}

impl OutboxQueue {
    pub const fn new(chat: Chat, pusher: Arc<Pusher>, running: TaskTracker) -> Self {
        Self { chat, pusher, running }
    }
}

impl OutboxQueue {
    /// Does the tasks of one key in their order.
    async fn work_off(&self, records: Vec<Record>) -> Result<(), QueueError> {
        for record in records {
            let mut tries = 0;
            loop {
                // What a task delivers in turn comes back here.
                let queue = Arc::new(self.clone());
                let tasks = Tasks { chat: self.chat.clone(), queue, pusher: self.pusher.clone() };
                let (topic, payload) = (record.topic, record.payload.clone());
                // In a task of its own: a relay that stops half way must not take back what a provider was told already.
                let working = self.running.spawn(async move { tasks.work(topic, &payload, tries).await });
                match working.await.map_err(|error| QueueError(error.into()))? {
                    Worked::Done => break,
                    Worked::Again(pause) => sleep(pause).await,
                }
                tries += 1;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for OutboxQueue {
    async fn deliver(&self, records: Vec<Record>) -> Result<(), QueueError> {
        let mut keys: HashMap<Vec<u8>, Vec<Record>> = HashMap::new();
        for record in records.into_iter().filter(|record| Topic::TASKS.contains(&record.topic)) {
            keys.entry(record.key.clone()).or_default().push(record);
        }
        let working = stream::iter(keys.into_values().map(|records| self.work_off(records)));
        working.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn bury(&self, topic: Topic, _: &[u8], payload: &[u8], reason: &str) -> Result<(), QueueError> {
        let buried = self.chat.bury_task(topic.name(), payload.to_vec(), reason).await;
        buried.map_err(|error| QueueError(error.into()))
    }
}
