//! Positions that the brokers know: what a group has committed, and where a time begins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::{SourceError, denied, left};
use super::follower::reader;
use super::topics;

/// How long is waited for a group's coordinator before it is asked whether we may have it.
const LOOK: Duration = Duration::from_millis(500);

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
    const DOING: &str = "ask what the group has committed";
    connection.check()?;
    let failed = |error: KafkaError| SourceError::in_group(&error, DOING, topic, group);
    let consumer: BaseConsumer<Quiet> =
        connection.consumer(group).create_with_context(Quiet).map_err(failed)?;
    let until = Instant::now() + timeout;
    let mut asked = TopicPartitionList::new();
    for partition in 0..topics::count(consumer.client(), topic, timeout)? {
        asked.add_partition(topic, partition);
    }
    let mut patience = LOOK;
    loop {
        match consumer.committed_offsets(asked.clone(), left(until).min(patience)) {
            Ok(list) => return offsets(&list).map_err(failed),
            Err(error) => {
                // Who may not look at the group is told so where records would come, and here waits in vain.
                while let Some(told) = consumer.poll(Duration::ZERO) {
                    told.map(drop)
                        .or_else(|error| if denied(&error) { Err(failed(error)) } else { Ok(()) })?;
                }
                let waited = error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut);
                if !waited || Instant::now() >= until {
                    return Err(failed(error));
                }
                // Bounded: in the last millisecond the client waits no more, and this comes by often.
                patience = (patience * 2).min(timeout);
            }
        }
    }
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
