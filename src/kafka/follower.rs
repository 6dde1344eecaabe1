//! Reads all partitions of a topic for itself: no group, no offsets of its own on the brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::{SourceError, is_retryable, left};
use super::record::Consumed;
use super::topics;

/// The group named to the client, which wants one; it is never joined.
pub(super) const NO_GROUP: &str = "aegis-reader";

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the first record kept.
    Beginning,
    /// At the next offset to read of each partition; those not named at the first record kept.
    Offsets(BTreeMap<i32, i64>),
}

/// What a poll met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A record; a value that is none is a tombstone.
    Record(Consumed),
    /// Everything that the topic held when it was opened has been read. Told once.
    End,
    /// Records from `asked` to before `from` are gone from the topic: retention or compaction of a whole
    /// segment. TextFeatures goes on at `from`.
    Skipped {
        /// The partition.
        partition: i32,
        /// The position that was asked for.
        asked: i64,
        /// The first record kept.
        from: i64,
    },
    /// Nothing within the time.
    Idle,
}

/// One partition's way.
struct Way {
    /// Next offset to read.
    next: i64,
    /// Where the partition ended when the topic was opened.
    end: i64,
    /// Whether that end was reached.
    reached: bool,
}

/// A reader of all partitions of one topic, from given positions.
pub struct Follower {
    consumer: BaseConsumer<Quiet>,
    topic: [Arc<str>; 1],
    ways: BTreeMap<i32, Way>,
    skipped: Vec<Followed>,
    told: bool,
}

impl Follower {
    /// Opens `topic`. Needs the brokers to answer within `timeout`.
    ///
    /// # Errors
    /// Where the topic is missing, ends before a position that was asked for, or the brokers do not answer.
    pub fn open(
        connection: &Connection,
        topic: &str,
        from: &From,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let (consumer, count) = reader(connection, topic, timeout, &[])?;
        let mut follower =
            Self { consumer, topic: [topic.into()], ways: BTreeMap::new(), skipped: Vec::new(), told: false };
        let trips = connection.round_trip.partitions(usize::try_from(count).unwrap_or(0));
        let until = Instant::now() + timeout + trips;
        for partition in 0..count {
            let asked = match from {
                From::Beginning => None,
                From::Offsets(all) => all.get(&partition).copied(),
            };
            let (next, end) = follower.meet(partition, asked, until)?;
            follower.ways.insert(partition, Way { next, end, reached: next >= end });
        }
        follower.assign()?;
        Ok(follower)
    }

    /// The next record or piece of news, waiting at most `timeout`.
    ///
    /// # Errors
    /// Where waiting does not help: the topic is gone or was made anew, access is denied, the client is
    /// broken.
    pub fn poll(&mut self, timeout: Duration) -> Result<Followed, SourceError> {
        if let Some(skipped) = self.skipped.pop() {
            return Ok(skipped);
        }
        let until = Instant::now() + timeout;
        loop {
            if !self.told && self.at_end() {
                self.told = true;
                return Ok(Followed::End);
            }
            return match self.consumer.poll(left(until)) {
                Some(Ok(message)) => {
                    let record = Consumed::copy(&message, &self.topic);
                    if let Some(way) = self.ways.get_mut(&record.partition) {
                        way.next = record.offset + 1;
                        way.reached |= way.next >= way.end;
                    }
                    Ok(Followed::Record(record))
                }
                // One partition's end says nothing of the others: their records may lie right behind it.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(way) = self.ways.get_mut(&partition) {
                        way.reached = true;
                    }
                    continue;
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => {
                    self.meet_again()?;
                    Ok(Followed::Idle)
                }
                Some(Err(KafkaError::MessageConsumption(code))) if is_retryable(code) => Ok(Followed::Idle),
                Some(Err(error)) => Err(SourceError::in_group(&error, "read", &self.topic[0], NO_GROUP)),
                None => Ok(Followed::Idle),
            };
        }
    }

    /// Takes the partitions that the topic has got since it was opened, from their first record on; how many.
    ///
    /// # Errors
    /// Where the topic is gone, or the brokers do not answer within `timeout`: nothing is taken then, and the
    /// same call can be made again.
    pub fn grow(&mut self, timeout: Duration) -> Result<usize, SourceError> {
        let until = Instant::now() + timeout;
        let count = topics::count(self.consumer.client(), &self.topic[0], timeout)?;
        let known = self.ways.keys().next_back().map_or(0, |last| last + 1);
        let mut more = BTreeMap::new();
        for partition in known..count {
            let (next, end) = self.meet(partition, None, until).map_err(|error| match error {
                // The brokers tell of a partition before its leader knows of it.
                SourceError::MissingTopic { topic } => SourceError::Timeout {
                    doing: "take a new partition",
                    reason: format!("{topic} partition {partition} has no leader yet"),
                },
                other => other,
            })?;
            more.insert(partition, Way { next, end, reached: next >= end });
        }
        let taken = more.len();
        if taken > 0 {
            self.ways.extend(more);
            self.assign()?;
        }
        Ok(taken)
    }

    /// Whether everything that the topic held when it was opened, or its partitions when they were taken, has
    /// been read. Control records and
    /// compaction use offsets up, so this goes by the client's end-of-partition events, or by a record at
    /// or past the end known then.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.ways.values().all(|way| way.reached)
    }

    /// The next offset to read of each partition: where a later reader may go on.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.ways.iter().map(|(partition, way)| (*partition, way.next)).collect()
    }

    /// Where each partition ended when it was opened: with [`positions`](Self::positions), the progress.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.ways.iter().map(|(partition, way)| (*partition, way.end)).collect()
    }

    /// The same in words, over all partitions: `41 of 100 records`.
    #[must_use]
    pub fn progress(&self) -> String {
        let (next, end) =
            self.ways.values().fold((0, 0), |(next, end), way| (next + way.next.min(way.end), end + way.end));
        format!("{next} of {end} records")
    }

    /// Finds where to begin: at `asked`, or at the first record kept where that is later. Also the end.
    fn meet(
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

    /// Goes on after the brokers said that a position does not exist (any more).
    fn meet_again(&mut self) -> Result<(), SourceError> {
        let until = Instant::now() + Duration::from_secs(10);
        for (partition, asked) in self.positions() {
            let (next, _) = self.meet(partition, Some(asked), until)?;
            if let Some(way) = self.ways.get_mut(&partition) {
                way.next = next;
            }
        }
        self.assign()
    }

    fn assign(&self) -> Result<(), SourceError> {
        let [topic] = &self.topic;
        let failed = |error: KafkaError| SourceError::of(&error, "take partitions", topic);
        let mut list = TopicPartitionList::with_capacity(self.ways.len());
        for (partition, way) in &self.ways {
            list.add_partition_offset(topic, *partition, Offset::Offset(way.next)).map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }
}

/// A consumer without a group, and how many partitions the topic has. A position that does not exist is an
/// error: nothing is passed over silently.
pub(super) fn reader(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
    more: &[(&str, &str)],
) -> Result<(BaseConsumer<Quiet>, i32), SourceError> {
    connection.check()?;
    let mut config = connection.consumer(NO_GROUP);
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
    for (key, value) in more {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer<Quiet> =
        config.create_with_context(Quiet).map_err(|error| SourceError::of(&error, "open", topic))?;
    let count = topics::count(consumer.client(), topic, timeout)?;
    Ok((consumer, count))
}
