//! The queue of an installation without Kafka: the outbox itself. The relay hands each task over here and goes on when it is done, so
//! that what a crash interrupts comes again; what cannot be done is kept in SQL.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{
    Chat,
    port::queue::{Queue, QueueError, Record, Topic, Work as _},
};

use crate::{push::Pusher, tasks::Tasks};

pub struct OutboxQueue {
    chat: Chat,
    pusher: Arc<Pusher>,
}

impl OutboxQueue {
    pub const fn new(chat: Chat, pusher: Arc<Pusher>) -> Self {
        Self { chat, pusher }
    }
}

#[async_trait]
impl Queue for OutboxQueue {
    async fn deliver(&self, records: Vec<Record>) -> Result<(), QueueError> {
        // What a task delivers in turn comes back here.
        let again = Self { chat: self.chat.clone(), pusher: self.pusher.clone() };
        let tasks = Tasks { chat: self.chat.clone(), queue: Arc::new(again), pusher: self.pusher.clone() };
        for record in records {
            if Topic::TASKS.contains(&record.topic) {
                tasks.work(record.topic, &record.payload).await;
            }
        }
        Ok(())
    }

    async fn bury(&self, topic: Topic, _: &[u8], payload: &[u8], reason: &str) -> Result<(), QueueError> {
        let buried = self.chat.bury_task(topic.name(), payload.to_vec(), reason).await;
        buried.map_err(|error| QueueError(error.into()))
    }
}
