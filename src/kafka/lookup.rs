//! Fetches single records by partition and offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::{SourceError, is_retryable};
use super::follower::{NO_GROUP, reader};
use super::record::Consumed;
use super::round_trip::RoundTrip;
use super::topics;

/// The distance in offsets up to which reading the records in between is faster than seeking.
const MAX_READ_THROUGH: i64 = 200;

/// Fetches records of one topic.
pub struct Lookup {
    consumer: BaseConsumer<Quiet>,
    topic: [Arc<str>; 1],
    partitions: i32,
    round_trip: RoundTrip,
}

/// The offsets of one partition that are still to be fetched, and the last offset the client was sent to.
struct Search {
    wanted: BTreeSet<i64>,
    sent: i64,
}

impl Search {
    /// Returns the offset to seek to if that is faster than reading on from `at`.
    fn jump(&self, at: i64) -> Option<i64> {
        let first = *self.wanted.first()?;
        (first > at + MAX_READ_THROUGH && first > self.sent).then_some(first)
    }
}

impl Lookup {
    /// Opens `topic`.
    ///
    /// # Errors
    /// Returns an error if the topic is missing or the brokers do not answer within `timeout`.
    pub fn open(connection: &Connection, topic: &str, timeout: Duration) -> Result<Self, SourceError> {
        // Little is fetched beyond the wanted records, and a seek never waits for a fetch that finds nothing.
        let settings = [
            ("fetch.wait.max.ms", "5"),
            ("max.partition.fetch.bytes", "262144"),
            ("queued.min.messages", "200"),
        ];
        let (consumer, partitions) = reader(connection, topic, timeout, &settings)?;
        Ok(Self { consumer, topic: [topic.into()], partitions, round_trip: connection.round_trip.clone() })
    }

    /// Returns the records at `wanted` (partition, offset), in that order. A record is `None` if it was deleted, never
    /// existed, is not committed, or is the marker of a transaction.
    ///
    /// # Errors
    /// Returns an error if the brokers do not answer within `timeout`. The call can be repeated.
    pub fn fetch(
        &mut self,
        wanted: &[(i32, i64)],
        timeout: Duration,
    ) -> Result<Vec<Option<Consumed>>, SourceError> {
        let partitions: BTreeSet<i32> = wanted.iter().map(|(partition, _)| *partition).collect();
        let until = Instant::now() + timeout + self.round_trip.partitions(partitions.len());
        if wanted.iter().any(|(partition, _)| *partition >= self.partitions) {
            // The topic may have gained partitions since it was opened.
            self.partitions = topics::count(self.consumer.client(), &self.topic[0], left(until))?;
        }
        let mut searches = self.searches(wanted, until)?;
        let mut found = BTreeMap::new();
        let read = self.read(&mut searches, &mut found, until);
        let released = self.consumer.unassign().map_err(|error| self.failed(&error));
        read.and(released)?;
        // The same record may be wanted twice.
        Ok(wanted.iter().map(|position| found.get(position).cloned()).collect())
    }

    /// Groups the wanted offsets by partition, without those outside the partition.
    fn searches(&self, wanted: &[(i32, i64)], until: Instant) -> Result<BTreeMap<i32, Search>, SourceError> {
        let mut searches: BTreeMap<i32, Search> = BTreeMap::new();
        for (partition, offset) in wanted {
            if (0..self.partitions).contains(partition) {
                let empty = || Search { wanted: BTreeSet::new(), sent: -1 };
                searches.entry(*partition).or_insert_with(empty).wanted.insert(*offset);
            }
        }
        for (partition, search) in &mut searches {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic[0], *partition, left(until))
                .map_err(|error| self.failed(&error))?;
            search.wanted.retain(|offset| (low..high).contains(offset));
        }
        searches.retain(|_, search| !search.wanted.is_empty());
        Ok(searches)
    }

    fn read(
        &self,
        searches: &mut BTreeMap<i32, Search>,
        found: &mut BTreeMap<(i32, i64), Consumed>,
        until: Instant,
    ) -> Result<(), SourceError> {
        self.assign(searches)?;
        while !searches.is_empty() {
            if Instant::now() > until {
                let missing: usize = searches.values().map(|search| search.wanted.len()).sum();
                return Err(SourceError::Timeout {
                    doing: "fetch records",
                    reason: format!("{missing} of {} still missing", self.topic[0]),
                });
            }
            match self.consumer.poll(left(until)) {
                Some(Ok(message)) => {
                    let record = Consumed::copy(&message, &self.topic);
                    let (partition, at) = (record.partition, record.offset);
                    let Some(search) = searches.get_mut(&partition) else {
                        continue;
                    };
                    if search.wanted.remove(&at) {
                        found.insert((partition, at), record);
                    }
                    // Offsets are read in order, so earlier wanted ones do not exist.
                    search.wanted = search.wanted.split_off(&at);
                    if search.wanted.is_empty() {
                        searches.remove(&partition);
                    } else if let Some(next) = search.jump(at) {
                        search.sent = next;
                        self.consumer
                            .seek(&self.topic[0], partition, Offset::Offset(next), Duration::ZERO)
                            .map_err(|error| self.failed(&error))?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    searches.remove(&partition);
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => self.drop_vanished(searches, until)?,
                Some(Err(KafkaError::MessageConsumption(code))) if is_retryable(code) => {}
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {}
            }
        }
        Ok(())
    }

    /// Continues after records were deleted while they were searched for.
    fn drop_vanished(&self, searches: &mut BTreeMap<i32, Search>, until: Instant) -> Result<(), SourceError> {
        let positions: Vec<_> = searches
            .iter()
            .flat_map(|(partition, search)| search.wanted.iter().map(|offset| (*partition, *offset)))
            .collect();
        *searches = self.searches(&positions, until)?;
        self.assign(searches)
    }

    fn assign(&self, searches: &mut BTreeMap<i32, Search>) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(searches.len());
        for (partition, search) in searches {
            search.sent = search.wanted.first().copied().unwrap_or_default();
            list.add_partition_offset(&self.topic[0], *partition, Offset::Offset(search.sent))
                .map_err(|error| self.failed(&error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &KafkaError) -> SourceError {
        SourceError::in_group(error, "fetch records", &self.topic[0], NO_GROUP)
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
