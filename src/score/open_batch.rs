//! The open batch: the records that were read and not committed, and their outcomes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commit_waits::CommitWaits;
use super::now;
use super::outcome::Outcome;
use crate::config::Config;
use crate::core::event::Millis;
use crate::core::review::ReviewRequest;
use crate::core::watermark::{Ready, Ticket, Watermark};
use crate::kafka::{Connection, Consumed, Offsets, Produced, RecordAges, RoundTrip, TopicPartition};
use crate::ops::metrics::Counted;
use crate::ops::traces::Moderation;

/// While the scorer is behind, a batch stays open for this many commit intervals: many small commits would cost the brokers,
/// and no throughput is gained by them.
const BEHIND_INTERVALS: u32 = 5;
/// While the scorer is behind, a batch stays open for at least this part of the time that its first event waited for the
/// panel.
const BEHIND_WAIT_DIVISOR: u32 = 2;
/// The longest time for which a batch stays open because the scorer is behind.
const BEHIND_LIMIT: Duration = Duration::from_secs(1);

/// Outcomes that are committed together with the offsets of their records.
#[derive(Default)]
pub struct Batch {
    /// The decisions and dead letters, in order per partition.
    pub outputs: Vec<Produced>,
    /// By output, the partition and offset of its record.
    pub origins: Vec<(i32, i64)>,
    /// By output, its record's broker timestamp.
    pub timestamps: Vec<Millis>,
    /// By output, the labels under which it is counted.
    pub counted: Vec<Counted>,
    /// The review requests, each with the index of its decision in `outputs`.
    pub reviews: Vec<(usize, ReviewRequest)>,
    /// The spans of sampled events.
    pub spans: Vec<Moderation>,
    /// The offsets to commit.
    pub offsets: Offsets,
    /// The number of tombstones that were skipped.
    pub skipped: u64,
    /// The number of decisions that were replaced by dead letters because they are larger than their topic accepts.
    pub oversized: u64,
}

impl Batch {
    fn add(&mut self, outcome: Outcome) {
        let Outcome::Output(output) = outcome else {
            self.skipped += 1;
            return;
        };
        let output = *output;
        self.reviews.extend(output.review.map(|request| (self.outputs.len(), request)));
        self.outputs.push(output.produced);
        self.origins.push(output.origin);
        self.timestamps.push(output.timestamp);
        self.counted.push(output.counted);
        self.spans.extend(output.span.map(|span| *span));
    }
}

/// Collects outcomes until they are committed.
///
/// The watermark holds every record from [`on_record`](Self::on_record) until a batch takes its outcome, so that the
/// committed offset of a partition never passes a record without an outcome.
pub struct OpenBatch {
    events_topic: Arc<str>,
    round_trip: RoundTrip,
    interval: Duration,
    /// The configured number of records in a batch.
    min_records: usize,
    /// The number of records in a batch that the round trip to the brokers asks for, at least `min_records`.
    max_records: usize,
    /// Every record that was read, with its outcome if it has one.
    watermark: Watermark<i32, Outcome>,
    /// The broker timestamps of the records that are not committed.
    ages: RecordAges,
    /// The time since which each partition waits for a commit.
    waits: CommitWaits,
    /// The time since which an outcome waits, and how long its event had waited for the panel.
    open: Option<(Instant, Duration)>,
    /// `true` if a batch failed and the consumer is not back at the committed offsets yet.
    failed: bool,
}

impl OpenBatch {
    /// Creates an empty batch. Its size follows the round trip of `connection`.
    #[must_use]
    pub fn new(config: &Config, connection: &Connection) -> Self {
        let min_records = config.score.commit_records.max(1);
        Self {
            events_topic: config.topics.events.as_str().into(),
            round_trip: connection.round_trip.clone(),
            interval: config.score.commit_interval(),
            min_records,
            max_records: min_records,
            watermark: Watermark::new(),
            ages: RecordAges::default(),
            waits: CommitWaits::default(),
            open: None,
            failed: false,
        }
    }

    /// Begins a tenure of each partition. Tickets of an earlier tenure are void.
    pub fn on_assigned(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.begin(*partition);
            self.ages.forget(*partition);
        }
    }

    /// Ends the tenures of partitions. Their uncommitted records and outcomes are discarded, and the outcomes of events
    /// still in flight will be: the partitions' next owner reads these records again.
    pub fn on_revoked(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.end(partition);
            self.ages.forget(*partition);
            self.waits.forget(*partition);
        }
    }

    /// Adds a record that was read. Returns the ticket for its outcome, or `None` if the record was read already or its
    /// partition is not assigned.
    pub fn on_record(&mut self, record: &Consumed) -> Option<Ticket<i32>> {
        let ticket = self.watermark.consume(&record.partition, record.offset)?;
        self.ages.read(record.partition, record.offset, record.timestamp.unwrap_or_else(now));
        self.waits.read(record.partition, Instant::now());
        Some(ticket)
    }

    /// Records the outcome of a record whose event `waited` for the panel. An outcome from an earlier tenure of its
    /// partition is discarded: the record is then read again, here or by the partition's next owner.
    pub fn settle(&mut self, ticket: &Ticket<i32>, outcome: Outcome, waited: Duration) {
        if self.watermark.settle(ticket, outcome) {
            self.open.get_or_insert_with(|| (Instant::now(), waited));
        }
    }

    /// Notes that a batch failed. [`restart`](Self::restart) discards everything that is not committed, and no outcomes are
    /// taken until [`on_rewound`](Self::on_rewound).
    pub fn on_failed(&mut self) {
        self.failed = true;
        // A batch that was too large to be committed in time is not made as large again.
        self.max_records = self.min_records;
    }

    /// Resumes after a failed batch: the consumer is back at the committed offsets.
    pub fn on_rewound(&mut self) {
        self.failed = false;
    }

    /// Begins new tenures of all assigned partitions, so that everything uncommitted is void.
    pub fn restart(&mut self, assigned: &[TopicPartition]) {
        self.on_assigned(assigned);
        self.open = None;
    }

    /// Returns `true` after a failed batch, until the consumer is back at the committed offsets.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Notes that the offsets of a batch were committed within `took`, which sets the size of the next batches.
    pub fn on_committed(&mut self, offsets: &Offsets, took: Duration) {
        self.max_records = self.round_trip.scaled_batch(self.min_records, took);
        for ((_, partition), next) in &offsets.0 {
            self.ages.committed(*partition, *next);
            let more = self.ages.oldest(*partition).is_some();
            self.waits.committed(*partition, more, Instant::now());
        }
    }

    /// Returns the broker timestamp of the oldest uncommitted record of a partition.
    #[must_use]
    pub fn oldest_timestamp(&self, partition: i32) -> Option<Millis> {
        self.ages.oldest(partition)
    }

    /// Returns the earliest time since which a partition waits for a commit, or `None` if none does. `lag` is the number of
    /// unread messages of each partition.
    #[must_use]
    pub fn waiting_since(&mut self, lag: &[(TopicPartition, i64)]) -> Option<Instant> {
        let now = Instant::now();
        for ((_, partition), messages) in lag {
            let quiet = !self.failed && *messages == 0 && self.ages.oldest(*partition).is_none();
            self.waits.observe(*partition, quiet, now);
        }
        self.waits.since()
    }

    /// Returns `true` if reading must wait for a commit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.watermark.held() >= 2 * (self.min_records + self.max_records)
    }

    /// Returns the number of records that were read and are not in a committed batch or one being committed.
    #[must_use]
    pub fn held(&self) -> usize {
        self.watermark.held()
    }

    /// Returns `true` if the batch should be committed now. `behind` says that the scorer [is behind](super::backlog::Backlog).
    #[must_use]
    pub fn is_due(&self, behind: bool) -> bool {
        self.due_in(behind).is_some_and(|left| left.is_zero())
    }

    /// Returns the time until the batch should be committed, or `None` if it has no outcomes.
    #[must_use]
    pub fn due_in(&self, behind: bool) -> Option<Duration> {
        let (since, waited) = self.open?;
        let left = open_duration(self.interval, waited, behind).saturating_sub(since.elapsed());
        let full = self.watermark.held() >= self.max_records && self.watermark.ready() >= self.max_records;
        Some(if full { Duration::ZERO } else { left })
    }

    /// Returns `true` if an outcome can be committed: no earlier record of its partition lacks one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.watermark.ready() > 0
    }

    /// Takes the outcomes that can be committed, at most the size of a batch. Returns `None` if there are none, or if a
    /// batch has failed.
    pub fn take(&mut self) -> Option<Batch> {
        if self.failed {
            return None;
        }
        let Ready { outcomes, offsets } = self.watermark.take(self.max_records);
        // Outcomes that are left over have been open for as long as those that are taken.
        if self.watermark.ready() == 0 {
            self.open = None;
        }
        if outcomes.is_empty() {
            return None;
        }
        let partition = |(partition, next)| ((Arc::clone(&self.events_topic), partition), next);
        let mut batch = Batch { offsets: offsets.into_iter().map(partition).collect(), ..Batch::default() };
        outcomes.into_iter().for_each(|outcome| batch.add(outcome));
        Some(batch)
    }
}

/// Returns how long a batch stays open whose first event `waited` for its answer. Larger batches cost the brokers less, and
/// otherwise would only delay events.
fn open_duration(interval: Duration, waited: Duration, behind: bool) -> Duration {
    if behind {
        interval.max((interval * BEHIND_INTERVALS).max(waited / BEHIND_WAIT_DIVISOR).min(BEHIND_LIMIT))
    } else {
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_open_longer_while_behind_up_to_a_second() {
        let after = |interval, waited, behind| {
            open_duration(Duration::from_millis(interval), Duration::from_millis(waited), behind).as_millis()
        };
        assert_eq!(after(20, 60_000, false), 20);
        assert_eq!(after(20, 0, true), 100);
        assert_eq!(after(20, 200, true), 100);
        assert_eq!(after(20, 1_800, true), 900);
        assert_eq!(after(20, 60_000, true), 1_000);
        assert_eq!(after(500, 0, true), 1_000);
        assert_eq!(after(5_000, 60_000, true), 5_000);
    }
}
