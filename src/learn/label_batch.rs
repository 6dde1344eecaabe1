//! The labels of one batch: those that were decoded, and those that become dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::active::ActiveLearner;
use super::join::ReadLabel;
use super::{IDLE_WAIT, LearnError, now};
use crate::codec::{self, DecodeError, Received, Schemas};
use crate::config::{Policies, Tombstones};
use crate::core::event::Millis;
use crate::dead_letter::Reason;
use crate::kafka::{Consumed, Lost, Offsets, Polled, TopicPartition};
use crate::ops::traces::{Labelled, RecordPosition};
use crate::ops::{Traces, metrics};
use crate::registry::{RegistryError, as_schemas};

impl ActiveLearner<'_> {
    /// Reads labels until the batch is full, its interval is over, or no more labels arrive. With `wait`, waits a
    /// moment for the first one.
    ///
    /// # Errors
    /// Returns an error if reading fails, or if the schema registry does not provide a label's schema.
    pub(super) fn gather(&mut self, wait: bool) -> Result<LabelBatch, LearnError> {
        let settings = &self.learn.config.learn;
        let interval = Duration::from_millis(settings.commit_interval_ms);
        let mut batch = LabelBatch::default();
        let mut timeout = if wait { IDLE_WAIT } else { Duration::ZERO };
        // The interval begins with the first label, so that the wait for it does not count.
        while batch.count < self.batch_limit && batch.since.is_none_or(|since| since.elapsed() < interval) {
            let polled = self.labels.poll(timeout)?;
            timeout = Duration::ZERO;
            for Lost { partition: (topic, partition), offsets } in self.labels.take_lost() {
                metrics::lost(&topic, partition, offsets.end - offsets.start);
            }
            match polled {
                Polled::Record(record) => {
                    batch.since.get_or_insert_with(Instant::now);
                    batch.count += 1;
                    if record.payload.is_none() && settings.tombstones == Tombstones::Skip {
                        batch.skip(&record);
                    } else {
                        let schemas = as_schemas(self.registry);
                        batch.add(record, &self.defaults, &self.policies, schemas)?;
                    }
                }
                Polled::Assigned(_) => self.learn.health.set("labels assigned", true),
                // Nothing of this batch has been written: the partitions' next owner reads the labels again.
                Polled::Revoked { partitions, .. } => batch.remove(&partitions),
                Polled::Idle => break,
            }
        }
        // The pending schemas were all requested above, so that waiting for all takes as long as waiting for one.
        for record in std::mem::take(&mut batch.pending) {
            batch.add(record, &self.defaults, &self.policies, self.schemas)?;
        }
        if !batch.pending.is_empty() {
            return Err(RegistryError::Interrupted.into());
        }
        Ok(batch)
    }
}

/// The labels read for one batch.
#[derive(Default)]
pub(super) struct LabelBatch {
    /// The number of records read.
    pub(super) count: usize,
    /// The time at which the first record was read.
    pub(super) since: Option<Instant>,
    /// The decoded labels. Those of one record are adjacent.
    pub(super) labels: Vec<ReadLabel>,
    /// The records that cannot be decoded, with the reason.
    pub(super) refused: Vec<(Consumed, Reason)>,
    /// The records whose schema the registry has not answered yet.
    pending: Vec<Consumed>,
    /// The number of records with a null value that were skipped, by partition.
    pub(super) skipped: BTreeMap<i32, u64>,
    /// The next offset of each partition of labels.
    pub(super) offsets: Offsets,
}

impl LabelBatch {
    fn skip(&mut self, record: &Consumed) {
        self.offsets.advance((Arc::clone(&record.topic), record.partition), record.offset + 1);
        *self.skipped.entry(record.partition).or_default() += 1;
    }

    /// The records of labels, each once.
    fn records(&self) -> impl Iterator<Item = &Consumed> {
        let labels = self.labels.chunk_by(|one, other| Arc::ptr_eq(&one.record, &other.record));
        labels
            .filter_map(|labels| labels.first().map(|label| &*label.record))
            .chain(self.refused.iter().map(|(record, _)| record))
    }

    /// The spans of the records that are traced.
    pub(super) fn traced(&self, traces: &Traces) -> Vec<Labelled> {
        let traced = self.records().filter_map(|record| {
            let Consumed { topic, partition, offset, headers, .. } = record;
            let time = record.timestamp.unwrap_or_default();
            traces.label(headers, RecordPosition { topic, partition: *partition, offset: *offset, time })
        });
        traced.collect()
    }

    /// The age of the oldest label of each partition at the time `now`.
    pub(super) fn ages(&self, now: Millis) -> BTreeMap<i32, Duration> {
        let mut ages = BTreeMap::new();
        for record in self.records() {
            let age = now.saturating_sub(record.timestamp.unwrap_or(now));
            let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
            let oldest = ages.entry(record.partition).or_insert(age);
            *oldest = age.max(*oldest);
        }
        ages
    }

    /// Decodes a record of labels and adds them to the batch.
    fn add(
        &mut self,
        record: Consumed,
        defaults: &codec::Defaults,
        policies: &Policies,
        schemas: Option<&dyn Schemas>,
    ) -> Result<(), RegistryError> {
        self.offsets.advance((Arc::clone(&record.topic), record.partition), record.offset + 1);
        match Received::new(record.payload.as_deref(), &record.headers, schemas).labels(defaults) {
            Ok(labels) if labels.iter().any(|label| policies.get(&label.policy).is_none()) => {
                let message = "the label names a policy that the policies file does not have".to_owned();
                self.refused.push((record, Reason { name: "UnknownPolicy", message }));
            }
            Ok(labels) => {
                if labels.is_empty() {
                    metrics::label("left_out");
                }
                let received = record.timestamp.unwrap_or_else(now).min(now());
                let record = Arc::new(record);
                let read = |label| ReadLabel { record: Arc::clone(&record), label, received };
                self.labels.extend(labels.into_iter().map(read));
            }
            Err(DecodeError::SchemaPending { .. }) => self.pending.push(record),
            Err(DecodeError::RegistryUnavailable { reason, .. }) => {
                return Err(RegistryError::Unavailable { reason });
            }
            Err(error) => {
                let reason = Reason { name: error.name(), message: error.to_string() };
                self.refused.push((record, reason));
            }
        }
        Ok(())
    }

    /// Removes the records of partitions that were revoked.
    fn remove(&mut self, partitions: &[TopicPartition]) {
        let is_gone = |number: i32| partitions.iter().any(|(_, partition)| *partition == number);
        self.labels.retain(|label| !is_gone(label.record.partition));
        self.refused.retain(|(record, _)| !is_gone(record.partition));
        self.pending.retain(|record| !is_gone(record.partition));
        self.skipped.retain(|partition, _| !is_gone(*partition));
        self.offsets.0.retain(|place, _| !partitions.contains(place));
    }
}
