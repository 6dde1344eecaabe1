//! The committed offsets of a source's partitions.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Source, Start};
use crate::kafka::failure::SourceError;
use crate::kafka::record::TopicPartition;

impl Source {
    /// Returns the committed offset of each assigned partition, or `None` for a partition without one. Waits for open
    /// transactions that contain these offsets.
    ///
    /// # Errors
    /// Returns an error if the brokers do not answer within `timeout`.
    pub fn committed(&self, timeout: Duration) -> Result<Vec<(TopicPartition, Option<i64>)>, SourceError> {
        let list = self
            .consumer()
            .committed(timeout)
            .map_err(|error| SourceError::of(&error, "ask for committed offsets", ""))?;
        list.elements()
            .iter()
            .map(|one| {
                one.error()
                    .map_err(|error| SourceError::of(&error, "ask for committed offsets", one.topic()))?;
                let offset = match one.offset() {
                    Offset::Offset(next) => Some(next),
                    _ => None,
                };
                Ok((self.membership.name(one.topic(), one.partition()), offset))
            })
            .collect()
    }

    /// Seeks every partition to its committed offset, so that the records of a failed transaction are read again.
    ///
    /// # Errors
    /// Returns an error if the brokers do not answer within `timeout`. The call can be repeated.
    pub fn rewind(&mut self, timeout: Duration) -> Result<(), SourceError> {
        const DOING: &str = "go back to committed offsets";
        self.release()?;
        let start = match self.start {
            Start::Earliest => Offset::Beginning,
            Start::Latest => Offset::End,
        };
        self.positions.clear();
        let failed = |error: KafkaError| match error.rdkafka_error_code() {
            // A time-out has no code. A partition that is just being taken or released cannot seek yet.
            None | Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress) => {
                SourceError::Timeout { doing: DOING, reason: error.to_string() }
            }
            Some(_) => SourceError::of(&error, DOING, ""),
        };
        let mut list = TopicPartitionList::new();
        for ((topic, partition), committed) in self.committed(timeout)? {
            let offset = committed.map_or(start, Offset::Offset);
            list.add_partition_offset(&topic, partition, offset).map_err(failed)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        let sought = self.consumer().seek_partitions(list, timeout).map_err(failed)?;
        sought.elements().iter().try_for_each(|one| one.error().map_err(failed))
    }
}
