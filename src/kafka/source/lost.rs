//! Finds records that were deleted before the group had read them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::{Lost, Source};
use crate::kafka::failure::SourceError;

/// The time-out for the first offsets of partitions, if the brokers are near.
const LOST_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before these offsets are requested again.
const LOST_RETRY_PAUSE: Duration = Duration::from_secs(10);

impl Source {
    /// Compares the group's position in each partition with the partition's first offset. The check is repeated after a
    /// pause if the brokers do not answer.
    pub(super) fn check_lost(&mut self) {
        let timeout =
            self.round_trip.request_timeout(LOST_TIMEOUT) + self.round_trip.partitions(self.assigned().len());
        match self.find_lost(timeout) {
            Ok(lost) => {
                self.check_lost_at = None;
                for Lost { partition: (topic, partition), offsets } in &lost {
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
                self.lost.extend(lost);
            }
            Err(error) => {
                self.check_lost_at = Some(Instant::now() + LOST_RETRY_PAUSE);
                tracing::warn!(target: "kafka", %error, "the number of records deleted unread is not known yet");
            }
        }
    }

    fn find_lost(&self, timeout: Duration) -> Result<Vec<Lost>, SourceError> {
        const DOING: &str = "ask where a partition begins";
        let until = Instant::now() + timeout;
        let mut lost = Vec::new();
        for (partition, committed) in self.committed(timeout)? {
            let Some(next) = self.before_move.get(&partition).copied().or(committed) else { continue };
            // Records that were found to be lost before are counted once.
            let next = self.begins.get(&partition).map_or(next, |begins| next.max(*begins));
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let (begins, _) = self
                .consumer()
                .fetch_watermarks(&partition.0, partition.1, left)
                .map_err(|error| SourceError::of(&error, DOING, &partition.0))?;
            // A record before the first offset was fetched before it was deleted.
            let read =
                self.read_at_move.as_ref().filter(|(read, offset)| *read == partition && *offset < begins);
            let next = read.map_or(next, |(_, offset)| next.max(offset + 1));
            if next < begins {
                lost.push(Lost { partition, offsets: next..begins });
            }
        }
        Ok(lost)
    }
}
