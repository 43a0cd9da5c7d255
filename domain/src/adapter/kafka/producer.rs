//! The producer: idempotent, and done only at the brokers' word.

use std::time::Duration;

use async_trait::async_trait;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _},
    util::Timeout,
};
use tokio::time::sleep;

use super::{KafkaSettings, dead::REASON};
use crate::port::{
    Queue,
    queue::{QueueError, Record, Topic},
};

/// How long a record waits for others in the same request, in milliseconds.
const LINGER_MS: &str = "2";
/// Before a record is tried again that found the producer's queue full.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// What is still on its way at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

pub struct KafkaQueue {
    producer: FutureProducer,
    settings: KafkaSettings,
}

impl KafkaQueue {
    /// Connects in the background; only settings that are none fail.
    pub fn new(settings: KafkaSettings) -> Result<Self, QueueError> {
        let producer = settings
            .client()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Records wait for a broker as long as it takes: one that gave up would let the next overtake it.
            .set("message.timeout.ms", "0")
            .set("linger.ms", LINGER_MS)
            .set("compression.type", "none")
            .create()
            .map_err(failed)?;
        Ok(Self { producer, settings })
    }

    /// Waits for what is on its way. Blocks.
    pub fn flush(&self) -> Result<(), QueueError> {
        self.producer.flush(FLUSH_TIMEOUT).map_err(failed)
    }

    async fn enqueue(&self, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let topic = self.settings.topic(record.topic);
        loop {
            let record = FutureRecord::to(&topic).key(&record.key).payload(&record.payload);
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    sleep(FULL_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Queue for KafkaQueue {
    async fn deliver(&self, records: Vec<Record>) -> Result<(), QueueError> {
        let mut deliveries = Vec::with_capacity(records.len());
        for record in &records {
            deliveries.push(self.enqueue(record).await.map_err(failed)?);
        }
        for delivery in deliveries {
            // The producer went away before it knew.
            let outcome = delivery.await.map_err(|error| QueueError(error.into()))?;
            outcome.map_err(|(error, _)| failed(error))?;
        }
        Ok(())
    }

    async fn bury(&self, topic: Topic, key: &[u8], payload: &[u8], reason: &str) -> Result<(), QueueError> {
        let Some(dead) = topic.dead() else { return Err(QueueError("only tasks can be buried".into())) };
        let topic = self.settings.topic(dead);
        let headers = OwnedHeaders::new().insert(Header { key: REASON, value: Some(reason) });
        let record = FutureRecord::to(&topic).key(key).payload(payload).headers(headers);
        let delivered = self.producer.send(record, Timeout::Never).await;
        delivered.map(drop).map_err(|(error, _)| failed(error))
    }
}

fn failed(error: KafkaError) -> QueueError {
    QueueError(error.into())
}
