//! Tasks that have died: to be looked at, and to be sent on their way again.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};

use super::{ADMIN_TIMEOUT, KafkaSettings};
use crate::port::queue::{DeadRecord, QueueError, Record, Topic};

/// The header of a dead record that says why.
pub(super) const REASON: &str = "reason";
const POLL: Duration = Duration::from_millis(200);
/// How long a broker may take to hand out what it says it has.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The dead that nobody has sent again, at most `limit` of each topic. Blocks.
pub fn list(settings: &KafkaSettings, limit: usize) -> Result<Vec<DeadRecord>, QueueError> {
    let mut found = Vec::new();
    for topic in Topic::TASKS {
        read(settings, *topic, limit, |record| {
            let reason =
                record.headers().and_then(|headers| headers.iter().find(|header| header.key == REASON));
            let reason = reason.and_then(|header| header.value).unwrap_or_default();
            found.push(DeadRecord {
                topic: *topic,
                place: format!("{}:{}", record.partition(), record.offset()),
                reason: String::from_utf8_lossy(reason).into_owned(),
                payload: record.payload().unwrap_or_default().to_vec(),
            });
        })?;
    }
    Ok(found)
}

/// The dead as they came, and what to call once they have been delivered again. Blocks.
pub fn take(settings: &KafkaSettings, limit: usize) -> Result<(Vec<Record>, Taken), QueueError> {
    let (mut records, mut taken) = (Vec::new(), Vec::new());
    for topic in Topic::TASKS {
        let (consumer, until) = read(settings, *topic, limit, |record| {
            records.push(Record {
                topic: *topic,
                key: record.key().unwrap_or_default().to_vec(),
                payload: record.payload().unwrap_or_default().to_vec(),
            });
        })?;
        taken.push((consumer, until));
    }
    Ok((records, Taken(taken)))
}

/// What has been read, not yet noted.
pub struct Taken(Vec<(BaseConsumer, TopicPartitionList)>);

impl Taken {
    /// They count as sent again. Blocks.
    pub fn note(self) -> Result<(), QueueError> {
        for (consumer, until) in self.0 {
            if until.count() > 0 {
                consumer.commit(&until, CommitMode::Sync).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn read(
    settings: &KafkaSettings,
    topic: Topic,
    limit: usize,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(BaseConsumer, TopicPartitionList), QueueError> {
    let Some(dead) = topic.dead() else { return Err(QueueError("no such topic of the dead".into())) };
    let name = settings.topic(dead);
    let consumer: BaseConsumer = settings
        .client()
        .set("group.id", format!("{}.replay", settings.prefix))
        .set("enable.auto.commit", "false")
        .create()
        .map_err(failed)?;
    let metadata = consumer.fetch_metadata(Some(&name), ADMIN_TIMEOUT).map_err(failed)?;
    let mut wanted = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        wanted.add_partition(&name, partition.id());
    }
    let committed = consumer.committed_offsets(wanted, ADMIN_TIMEOUT).map_err(failed)?;
    let (mut assignment, mut until) = (TopicPartitionList::new(), TopicPartitionList::new());
    let mut left = 0_usize;
    for partition in committed.elements() {
        let (low, high) =
            consumer.fetch_watermarks(&name, partition.partition(), ADMIN_TIMEOUT).map_err(failed)?;
        let from = match partition.offset() {
            Offset::Offset(offset) => offset.max(low),
            _ => low,
        };
        if from < high {
            left = left.saturating_add(usize::try_from(high - from).unwrap_or(usize::MAX));
            assignment
                .add_partition_offset(&name, partition.partition(), Offset::Offset(from))
                .map_err(failed)?;
        }
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut heard_at = Instant::now();
    let mut taken = 0;
    while taken < left.min(limit) {
        if heard_at.elapsed() > SILENCE_MAX {
            return Err(QueueError(format!("{name}: the broker does not hand out what it has").into()));
        }
        let Some(record) = consumer.poll(POLL) else { continue };
        let record = record.map_err(failed)?;
        heard_at = Instant::now();
        taken += 1;
        each(&record);
        let next = Offset::Offset(record.offset() + 1);
        if until.set_partition_offset(&name, record.partition(), next).is_err() {
            until.add_partition_offset(&name, record.partition(), next).map_err(failed)?;
        }
    }
    Ok((consumer, until))
}

fn failed(error: KafkaError) -> QueueError {
    QueueError(error.into())
}
