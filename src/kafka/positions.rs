//! Positions that the brokers know: what a group has committed, and where a time begins.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::SourceError;
use super::follower::reader;
use super::topics;

/// The next offset that `group` will read of each partition of `topic`, where it has committed one. The group
/// is asked about and not joined.
///
/// # Errors
/// Where the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn committed(
    connection: &Connection,
    group: &str,
    topic: &str,
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, SourceError> {
    connection.check()?;
    let failed = |error: KafkaError| SourceError::of(&error, "ask what the group has committed", topic);
    let consumer: BaseConsumer<Quiet> =
        connection.consumer(group).create_with_context(Quiet).map_err(failed)?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..topics::count(consumer.client(), topic, timeout)? {
        asked.add_partition(topic, partition);
    }
    offsets(&consumer.committed_offsets(asked, timeout).map_err(failed)?).map_err(failed)
}

/// The first record of each partition of `topic` whose timestamp is `millis` or later; partitions without one
/// are left out.
///
/// # Errors
/// Where the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn at_time(
    connection: &Connection,
    topic: &str,
    millis: i64,
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, SourceError> {
    let failed = |error: KafkaError| SourceError::of(&error, "ask where a time begins", topic);
    let (consumer, count) = reader(connection, topic, timeout, &[])?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..count {
        // A time before 1970 would be read as one of the names of offsets.
        asked.add_partition_offset(topic, partition, Offset::Offset(millis.max(0))).map_err(failed)?;
    }
    offsets(&consumer.offsets_for_times(asked, timeout).map_err(failed)?).map_err(failed)
}

fn offsets(list: &TopicPartitionList) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut found = BTreeMap::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert(element.partition(), offset);
        }
    }
    Ok(found)
}
