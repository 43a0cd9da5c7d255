//! Topics: made by `confab migrate`, looked at by `confab doctor`.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
};

use super::{ADMIN_TIMEOUT, KafkaSettings};
use crate::port::queue::{QueueError, Topic};

/// How topics are made.
#[derive(Clone, Copy, Debug)]
pub struct TopicSettings {
    pub partitions: i32,
    pub replication: i32,
}

/// How long records are kept; `None` leaves that to the brokers. What is dead is never dropped.
const fn retention_ms(topic: Topic) -> Option<&'static str> {
    match topic {
        Topic::Events => None,
        // Seven days: a task that nobody has done by then is about what nobody waits for.
        Topic::Fanout | Topic::Push => Some("604800000"),
        Topic::FanoutDead | Topic::PushDead => Some("-1"),
    }
}

/// Makes the topics that are not there yet; answers their names.
pub async fn create(settings: &KafkaSettings, topics: TopicSettings) -> Result<Vec<String>, QueueError> {
    let failed = |error: rdkafka::error::KafkaError| QueueError(error.into());
    let admin: AdminClient<DefaultClientContext> = settings.client().create().map_err(failed)?;
    let names: Vec<String> = Topic::ALL.iter().map(|topic| settings.topic(*topic)).collect();
    let new = Topic::ALL.iter().zip(&names).map(|(topic, name)| {
        let new = NewTopic::new(name, topics.partitions, TopicReplication::Fixed(topics.replication));
        match retention_ms(*topic) {
            Some(retention) => new.set("retention.ms", retention),
            None => new,
        }
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let options =
        AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    for outcome in admin.create_topics(&new, &options).await.map_err(failed)? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(QueueError(format!("topic {name}: {code}").into())),
        }
    }
    Ok(names)
}

/// Whether the brokers answer and have every topic; otherwise what is wrong.
pub async fn check(settings: &KafkaSettings) -> Result<(), QueueError> {
    let settings = settings.clone();
    // The client library waits on a thread.
    let looked = tokio::task::spawn_blocking(move || {
        let failed = |error: rdkafka::error::KafkaError| QueueError(error.into());
        let client: BaseConsumer = settings.client().create().map_err(failed)?;
        let metadata = client.fetch_metadata(None, ADMIN_TIMEOUT).map_err(failed)?;
        for topic in Topic::ALL {
            let name = settings.topic(*topic);
            if !metadata.topics().iter().any(|known| known.name() == name && !known.partitions().is_empty()) {
                return Err(QueueError(format!("no topic {name}: run `confab migrate`").into()));
            }
        }
        Ok(())
    });
    looked.await.map_err(|error| QueueError(error.into()))?
}
