//! Finds records that were deleted before the group had read them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::Source;
use crate::kafka::failure::{SourceError, left};
use crate::kafka::record::{Consumed, TopicPartition};

/// The time-out for the first offsets of partitions, if the brokers are near.
const LOST_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before these offsets are requested again.
const LOST_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Records that the brokers deleted before the group had read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The partition.
    pub partition: TopicPartition,
    /// The offsets from the group's position to the first offset of the partition. Some may be markers of transactions.
    pub offsets: Range<i64>,
}

/// The search for lost records. It begins when the client moves a position, and ends when the brokers have answered where
/// the partitions begin.
#[derive(Debug, Default)]
pub(super) struct LossSearch {
    /// When to request the first offsets of the partitions. `None` if there is nothing to search.
    check_at: Option<Instant>,
    /// The positions before the move, so that records read before the brokers answer do not hide the skipped offsets.
    before_move: BTreeMap<TopicPartition, i64>,
    /// The partition and offset of the record of the poll that noticed the move. It may have been fetched before.
    read_at_move: Option<(TopicPartition, i64)>,
    /// The lost records that were not returned yet.
    found: Vec<Lost>,
    /// The first offset of each partition when records of it were last found to be lost.
    begins: BTreeMap<TopicPartition, i64>,
}

impl LossSearch {
    /// Begins a search, or repeats one that waits for the brokers. `record`: the record of the poll that noticed the move.
    pub(super) fn on_moved(&mut self, positions: &BTreeMap<TopicPartition, i64>, record: Option<&Consumed>) {
        if self.check_at.replace(Instant::now()).is_none() {
            self.before_move.clone_from(positions);
            self.read_at_move =
                record.map(|record| ((Arc::clone(&record.topic), record.partition), record.offset));
        }
    }

    /// Forgets the positions in partitions that were assigned.
    pub(super) fn on_assigned(&mut self, partitions: &[TopicPartition]) {
        self.before_move.retain(|known, _| !partitions.contains(known));
    }

    /// Returns `true` if the first offsets of the partitions are to be requested now.
    pub(super) fn is_due(&self) -> bool {
        self.check_at.is_some_and(|at| at <= Instant::now())
    }

    /// Returns the records that were found since the last call.
    pub(super) fn take(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.found)
    }

    /// Returns the position from which records of a partition may be lost. `committed` is the group's offset.
    fn known_position(&self, partition: &TopicPartition, committed: Option<i64>) -> Option<i64> {
        let next = self.before_move.get(partition).copied().or(committed)?;
        // Records that were found to be lost before are counted once.
        Some(self.begins.get(partition).map_or(next, |begins| next.max(*begins)))
    }

    /// Returns the offsets from a known position to the first offset of the partition, if there are any.
    fn lost_before(&self, partition: TopicPartition, known: i64, first: i64) -> Option<Lost> {
        // A record before the first offset was fetched before it was deleted.
        let read = self.read_at_move.as_ref().filter(|(read, offset)| *read == partition && *offset < first);
        let next = read.map_or(known, |(_, offset)| known.max(offset + 1));
        (next < first).then_some(Lost { partition, offsets: next..first })
    }

    /// Ends the search.
    fn on_found(&mut self, found: Vec<Lost>) {
        self.check_at = None;
        for Lost { partition: (topic, partition), offsets } in &found {
            tracing::error!(
                target: "kafka",
                topic = &**topic,
                partition,
                offsets = offsets.end - offsets.start,
                first = offsets.start,
                "deleted before the group had read it: keep records longer than the group can be away"
            );
            self.begins.insert((Arc::clone(topic), *partition), offsets.end);
        }
        self.found.extend(found);
    }

    /// Repeats the search after a pause.
    fn on_failed(&mut self, error: &SourceError) {
        self.check_at = Some(Instant::now() + LOST_RETRY_PAUSE);
        tracing::warn!(target: "kafka", %error, "the number of records deleted unread is not known yet");
    }
}

impl Source {
    /// Compares the group's position in each partition with the partition's first offset. The check is repeated after a
    /// pause if the brokers do not answer.
    pub(super) fn check_lost(&mut self) {
        let timeout =
            self.round_trip.request_timeout(LOST_TIMEOUT) + self.round_trip.partitions(self.assigned().len());
        match self.find_lost(timeout) {
            Ok(found) => self.losses.on_found(found),
            Err(error) => self.losses.on_failed(&error),
        }
    }

    fn find_lost(&self, timeout: Duration) -> Result<Vec<Lost>, SourceError> {
        const DOING: &str = "ask where a partition begins";
        let until = Instant::now() + timeout;
        let mut lost = Vec::new();
        for (partition, committed) in self.committed(timeout)? {
            let Some(known) = self.losses.known_position(&partition, committed) else { continue };
            let timeout = left(until).max(Duration::from_millis(1));
            let (first, _) = self
                .consumer()
                .fetch_watermarks(&partition.0, partition.1, timeout)
                .map_err(|error| SourceError::of(&error, DOING, &partition.0))?;
            lost.extend(self.losses.lost_before(partition, known, first));
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_lost_from_the_position_before_the_move_and_once() {
        let partition = |number: i32| -> TopicPartition { ("t".into(), number) };
        let mut losses = LossSearch::default();
        losses.on_moved(&BTreeMap::from([(partition(0), 5), (partition(1), 5)]), None);
        assert!(losses.is_due());
        losses.on_assigned(&[partition(1)]);
        assert_eq!(losses.known_position(&partition(0), Some(3)), Some(5));
        assert_eq!(losses.known_position(&partition(1), Some(3)), Some(3), "it was assigned again");
        assert_eq!(losses.known_position(&partition(2), None), None);
        assert_eq!(losses.lost_before(partition(0), 5, 5), None);
        let lost = losses.lost_before(partition(0), 5, 9).unwrap();
        assert_eq!(lost.offsets, 5..9);
        losses.on_found(vec![lost.clone()]);
        assert_eq!((losses.is_due(), losses.take(), losses.take()), (false, vec![lost], Vec::new()));
        assert_eq!(losses.known_position(&partition(0), Some(5)), Some(9), "they are counted once");
        losses.read_at_move = Some((partition(0), 10));
        assert_eq!(losses.lost_before(partition(0), 9, 11), None, "it was fetched before it was deleted");
        assert_eq!(losses.lost_before(partition(0), 9, 10).unwrap().offsets, 9..10);
    }
}
