//! Reads all partitions of a topic without a group and without committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::{SourceError, is_retryable, left};
use super::record::Consumed;
use super::topics;

/// The time-out for locating positions again.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of a group, which the client requires. The group is never joined.
pub(super) const NO_GROUP: &str = "aegis-reader";

/// The position at which a follower begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The first record that is kept.
    Beginning,
    /// The next offset to read of each partition. Other partitions begin at the first record that is kept.
    Offsets(BTreeMap<i32, i64>),
}

/// The result of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A record.
    Record(Consumed),
    /// Everything that the topic contained when it was opened has been read. This is returned once.
    End,
    /// The records from `asked` to before `from` were deleted by retention, or by compaction of a whole segment. Reading
    /// continues at `from`.
    Skipped {
        /// The partition.
        partition: i32,
        /// The requested position.
        asked: i64,
        /// The offset of the first record that is kept.
        from: i64,
    },
    /// There was no record within the time-out.
    Idle,
}

/// The progress of one partition.
struct Progress {
    /// The next offset to read.
    next: i64,
    /// The end of the partition when the topic was opened.
    end: i64,
    /// `true` if this end was reached.
    reached: bool,
}

/// A reader of all partitions of one topic, from given positions.
pub struct Follower {
    consumer: BaseConsumer<Quiet>,
    topic: [Arc<str>; 1],
    partitions: BTreeMap<i32, Progress>,
    skipped: Vec<Followed>,
    /// `true` if [`Followed::End`] was returned.
    end_returned: bool,
}

impl Follower {
    /// Opens `topic`.
    ///
    /// # Errors
    /// Returns an error if the topic is missing or ends before a requested position, or if the brokers do not answer within
    /// `timeout`.
    pub fn open(
        connection: &Connection,
        topic: &str,
        from: &From,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let (consumer, count) = open(connection.follower(NO_GROUP), connection, topic, timeout)?;
        let mut follower = Self {
            consumer,
            topic: [topic.into()],
            partitions: BTreeMap::new(),
            skipped: Vec::new(),
            end_returned: false,
        };
        let trips = connection.round_trip.partitions(usize::try_from(count).unwrap_or(0));
        let until = Instant::now() + timeout + trips;
        for partition in 0..count {
            let asked = match from {
                From::Beginning => None,
                From::Offsets(all) => all.get(&partition).copied(),
            };
            let (next, end) = follower.locate(partition, asked, until)?;
            follower.partitions.insert(partition, Progress { next, end, reached: next >= end });
        }
        follower.assign()?;
        Ok(follower)
    }

    /// Returns the next record or event, waiting at most `timeout`.
    ///
    /// # Errors
    /// Returns an error if the topic was deleted or created again, access is denied, or the client is broken.
    pub fn poll(&mut self, timeout: Duration) -> Result<Followed, SourceError> {
        if let Some(skipped) = self.skipped.pop() {
            return Ok(skipped);
        }
        let until = Instant::now() + timeout;
        loop {
            if !self.end_returned && self.at_end() {
                self.end_returned = true;
                return Ok(Followed::End);
            }
            return match self.consumer.poll(left(until)) {
                Some(Ok(message)) => {
                    let record = Consumed::copy(&message, &self.topic);
                    if let Some(way) = self.partitions.get_mut(&record.partition) {
                        way.next = record.offset + 1;
                        way.reached |= way.next >= way.end;
                    }
                    Ok(Followed::Record(record))
                }
                // The end of one partition says nothing of the others: their records may be next.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(way) = self.partitions.get_mut(&partition) {
                        way.reached = true;
                    }
                    continue;
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => {
                    self.locate_again()?;
                    Ok(Followed::Idle)
                }
                Some(Err(KafkaError::MessageConsumption(code))) if is_retryable(code) => Ok(Followed::Idle),
                Some(Err(error)) => Err(SourceError::in_group(&error, "read", &self.topic[0], NO_GROUP)),
                None => Ok(Followed::Idle),
            };
        }
    }

    /// Adds the partitions that the topic has gained since it was opened, from their first record on. Returns their number.
    ///
    /// # Errors
    /// Returns an error if the topic was deleted, or if the brokers do not answer within `timeout`. No partition is added
    /// then, and the call can be repeated.
    pub fn grow(&mut self, timeout: Duration) -> Result<usize, SourceError> {
        let until = Instant::now() + timeout;
        let count = topics::count(self.consumer.client(), &self.topic[0], timeout)?;
        let known = self.partitions.keys().next_back().map_or(0, |last| last + 1);
        let mut more = BTreeMap::new();
        for partition in known..count {
            let (next, end) = self.locate(partition, None, until).map_err(|error| match error {
                // The brokers report a partition before its leader knows it.
                SourceError::MissingTopic { topic } => SourceError::Timeout {
                    doing: "take a new partition",
                    reason: format!("{topic} partition {partition} has no leader yet"),
                },
                other => other,
            })?;
            more.insert(partition, Progress { next, end, reached: next >= end });
        }
        let taken = more.len();
        if taken > 0 {
            self.partitions.extend(more);
            self.assign()?;
        }
        Ok(taken)
    }

    /// Returns `true` if everything has been read that each partition contained when it was opened or added. Control records
    /// and compaction use up offsets, so this relies on the client's end-of-partition events, or on a record at or past
    /// the end known then.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.partitions.values().all(|way| way.reached)
    }

    /// Returns the next offset to read of each partition, at which a later follower can continue.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.partitions.iter().map(|(partition, way)| (*partition, way.next)).collect()
    }

    /// Returns the end of each partition when it was opened. With [`positions`](Self::positions), this is the progress.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.partitions.iter().map(|(partition, way)| (*partition, way.end)).collect()
    }

    /// Returns the progress over all partitions as a text, such as `41 of 100 records`.
    #[must_use]
    pub fn progress(&self) -> String {
        let (next, end) = self
            .partitions
            .values()
            .fold((0, 0), |(next, end), way| (next + way.next.min(way.end), end + way.end));
        format!("{next} of {end} records")
    }

    /// Returns the offset at which a partition begins, and its end. The begin is `asked`, or the first record that is kept
    /// if that is later.
    fn locate(
        &mut self,
        partition: i32,
        asked: Option<i64>,
        until: Instant,
    ) -> Result<(i64, i64), SourceError> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let topic = &self.topic[0];
        let (low, high) = self
            .consumer
            .fetch_watermarks(topic, partition, left)
            .map_err(|error| SourceError::of(&error, "ask where the topic begins and ends", topic))?;
        match asked {
            Some(position) if position > high => {
                Err(SourceError::Truncated { topic: topic.to_string(), partition, position, end: high })
            }
            Some(asked) if asked < low => {
                self.skipped.push(Followed::Skipped { partition, asked, from: low });
                Ok((low, high))
            }
            Some(asked) => Ok((asked, high)),
            None => Ok((low, high)),
        }
    }

    /// Continues after the brokers reported that a position does not exist.
    fn locate_again(&mut self) -> Result<(), SourceError> {
        let until = Instant::now() + LOCATE_TIMEOUT;
        for (partition, asked) in self.positions() {
            let (next, _) = self.locate(partition, Some(asked), until)?;
            if let Some(way) = self.partitions.get_mut(&partition) {
                way.next = next;
            }
        }
        self.assign()
    }

    fn assign(&self) -> Result<(), SourceError> {
        let [topic] = &self.topic;
        let failed = |error: KafkaError| SourceError::of(&error, "take partitions", topic);
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for (partition, way) in &self.partitions {
            list.add_partition_offset(topic, *partition, Offset::Offset(way.next)).map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }
}

/// Creates a consumer without a group. Returns it with the topic's number of partitions. A position that does not exist is
/// an error, so that nothing is skipped silently.
pub(super) fn reader(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
    settings: &[(&str, &str)],
) -> Result<(BaseConsumer<Quiet>, i32), SourceError> {
    let mut config = connection.consumer(NO_GROUP);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    open(config, connection, topic, timeout)
}

fn open(
    mut config: ClientConfig,
    connection: &Connection,
    topic: &str,
    timeout: Duration,
) -> Result<(BaseConsumer<Quiet>, i32), SourceError> {
    connection.check()?;
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
    let consumer: BaseConsumer<Quiet> =
        config.create_with_context(Quiet).map_err(|error| SourceError::of(&error, "open", topic))?;
    let count = topics::count(consumer.client(), topic, timeout)?;
    Ok((consumer, count))
}
