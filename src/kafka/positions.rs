//! Positions that the brokers know: the committed offsets of a group, and the offset at which a time begins.

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

/// The first wait for a group's coordinator, after which errors of the client are checked.
const COORDINATOR_WAIT: Duration = Duration::from_millis(500);

/// Returns the offset that `group` has committed for each partition of `topic`, for those with one. The group is not
/// joined.
///
/// # Errors
/// Returns an error if the topic is missing, access is denied or the brokers do not answer within `timeout`.
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
    let mut requested = TopicPartitionList::new();
    for partition in 0..topics::count(consumer.client(), topic, timeout)? {
        requested.add_partition(topic, partition);
    }
    let mut wait = COORDINATOR_WAIT;
    loop {
        match consumer.committed_offsets(requested.clone(), left(until).min(wait)) {
            Ok(list) => return offsets(&list).map_err(failed),
            Err(error) => {
                // If this client may not describe the group, the request times out, and a poll returns the reason.
                while let Some(polled) = consumer.poll(Duration::ZERO) {
                    polled
                        .map(drop)
                        .or_else(|error| if denied(&error) { Err(failed(error)) } else { Ok(()) })?;
                }
                let timed_out = error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut);
                if !timed_out || Instant::now() >= until {
                    return Err(failed(error));
                }
                // In the last millisecond the client does not wait, and the loop runs often: the wait must stay bounded.
                wait = (wait * 2).min(timeout);
            }
        }
    }
}

/// Returns the offset of the first record of each partition of `topic` whose timestamp is `millis` or later, for those with
/// such a record.
///
/// # Errors
/// Returns an error if the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn at_time(
    connection: &Connection,
    topic: &str,
    millis: i64,
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, SourceError> {
    let failed = |error: KafkaError| SourceError::of(&error, "ask where a time begins", topic);
    let (consumer, count) = reader(connection, topic, timeout, &[])?;
    let mut requested = TopicPartitionList::new();
    for partition in 0..count {
        // A negative time would be read as a special offset.
        requested.add_partition_offset(topic, partition, Offset::Offset(millis.max(0))).map_err(failed)?;
    }
    offsets(&consumer.offsets_for_times(requested, timeout).map_err(failed)?).map_err(failed)
}

/// Returns the offset of the first record that is kept of each partition of `topic`, and the offset after its last record.
///
/// # Errors
/// Returns an error if the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn bounds(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
) -> Result<BTreeMap<i32, (i64, i64)>, SourceError> {
    let failed = |error: KafkaError| SourceError::of(&error, "ask where the topic begins and ends", topic);
    let (consumer, count) = reader(connection, topic, timeout, &[])?;
    let until =
        Instant::now() + timeout + connection.round_trip.partitions(usize::try_from(count).unwrap_or(0));
    let of = |partition| {
        let found = consumer.fetch_watermarks(topic, partition, left(until)).map_err(failed)?;
        Ok((partition, found))
    };
    (0..count).map(of).collect()
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
