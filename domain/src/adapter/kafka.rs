//! Kafka: records for workers and integrators. The outbox has them all until they have arrived here (P6).

mod consumer;
pub mod dead;
mod producer;
mod topics;
mod window;

pub use consumer::{ConsumerSetup, consume};
pub use producer::KafkaQueue;
pub use topics::{TopicSettings, check, create};

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::port::queue::Topic;

/// How long a call of the administration may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Which brokers, and how our topics are told from others'.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Before the name of every topic, with a dot.
    pub prefix: String,
    /// What the consumer of tasks is called over all its lives; `None` for another one each time.
    pub member: Option<String>,
}

impl KafkaSettings {
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.prefix, topic.name())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "confab")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000");
        config
    }
}
