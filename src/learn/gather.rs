//! The labels of one unit: read, and kept apart from those that cannot be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::join::Read;
use super::{IDLE, Learn, LearnError, now};
use crate::codec::{self, DecodeError, Received, Schemas};
use crate::config::{Policies, Tombstones};
use crate::core::event::Millis;
use crate::dead_letter::Reason;
use crate::kafka::{Consumed, Lost, Offsets, Polled, Source, TopicPartition};
use crate::ops::traces::{Labelled, RecordPosition};
use crate::ops::{Traces, metrics};
use crate::registry::{Registry, RegistryError};
use crate::schemas;

impl Learn {
    /// Reads labels until the unit has `most`, its interval is over, or none come.
    ///
    /// # Errors
    /// Where reading fails, or the registry is of no help.
    pub(super) fn gather(
        &self,
        source: &mut Source,
        defaults: &codec::Defaults,
        policies: &Policies,
        registry: Option<&Registry>,
        wait: bool,
        most: usize,
    ) -> Result<Gathered, LearnError> {
        let settings = &self.config.learn;
        let mut gathered = Gathered::default();
        let mut patience = if wait { IDLE } else { Duration::ZERO };
        // Since the first label: the wait for it is not the unit's.
        let mut since: Option<Instant> = None;
        let interval = Duration::from_millis(settings.commit_interval_ms);
        while gathered.count < most && since.is_none_or(|since| since.elapsed() < interval) {
            let polled = source.poll(patience)?;
            for Lost { partition: (topic, partition), offsets } in source.take_lost() {
                metrics::lost(&topic, partition, offsets.end - offsets.start);
            }
            match polled {
                Polled::Record(record) => {
                    gathered.since = Some(*since.get_or_insert_with(Instant::now));
                    patience = Duration::ZERO;
                    gathered.count += 1;
                    if record.payload.is_none() && settings.tombstones == Tombstones::Skip {
                        gathered.skip(&record);
                        continue;
                    }
                    gathered.take(record, defaults, policies, schemas::of(registry))?;
                }
                Polled::Assigned(_) => self.health.set("labels assigned", true),
                // Nothing of this unit has been written: the partitions' next owner reads it again.
                Polled::Revoked { partitions, .. } => gathered.forget(&partitions),
                Polled::Idle => break,
            }
            patience = Duration::ZERO;
        }
        // Their schemas have been asked for together: all of them take no longer than one.
        let stop = || self.shutdown.requested();
        let patient = registry.map(|registry| registry.waiting(&stop));
        let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
        for record in std::mem::take(&mut gathered.waiting) {
            gathered.take(record, defaults, policies, patient)?;
        }
        if !gathered.waiting.is_empty() {
            return Err(RegistryError::Interrupted.into());
        }
        Ok(gathered)
    }
}

/// Labels read for one unit.
#[derive(Default)]
pub struct Gathered {
    count: usize,
    /// When the first was read.
    since: Option<Instant>,
    /// Those that can be read; those of one record are together.
    pub labels: Vec<Read>,
    /// Those that cannot, with the reason.
    pub refused: Vec<(Consumed, Reason)>,
    /// Labels whose schema has not come yet.
    waiting: Vec<Consumed>,
    /// By partition, how many records with a null value were passed over.
    skipped: BTreeMap<i32, u64>,
    /// How far the labels' partitions are read.
    pub offsets: Offsets,
}

impl Gathered {
    /// Whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many records were read.
    pub(super) fn count(&self) -> u64 {
        self.count as u64
    }

    /// How many records with a null value were passed over.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    fn skip(&mut self, record: &Consumed) {
        self.offsets.advance((Arc::clone(&record.topic), record.partition), record.offset + 1);
        *self.skipped.entry(record.partition).or_default() += 1;
    }

    /// When the first was read.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Those that are traced.
    pub(super) fn traced(&self, traces: &Traces) -> Vec<Labelled> {
        // A record with several labels is one span.
        let labels = self.labels.chunk_by(|one, other| Arc::ptr_eq(&one.record, &other.record));
        let all = labels
            .filter_map(|read| read.first().map(|read| &*read.record))
            .chain(self.refused.iter().map(|(record, _)| record));
        let traced = all.filter_map(|record| {
            let Consumed { topic, partition, offset, headers, .. } = record;
            let time = record.timestamp.unwrap_or_default();
            traces.label(headers, RecordPosition { topic, partition: *partition, offset: *offset, time })
        });
        traced.collect()
    }

    /// How old the oldest label of each partition is, at `now`.
    pub(super) fn ages(&self, now: Millis) -> BTreeMap<i32, Duration> {
        let mut ages = BTreeMap::new();
        let records = self.labels.iter().map(|read| &*read.record);
        for record in records.chain(self.refused.iter().map(|(record, _)| record)) {
            let age = now.saturating_sub(record.timestamp.unwrap_or(now));
            let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
            let oldest = ages.entry(record.partition).or_insert(age);
            *oldest = age.max(*oldest);
        }
        ages
    }

    fn take(
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
                let read = |label| Read { record: Arc::clone(&record), label, received };
                self.labels.extend(labels.into_iter().map(read));
            }
            Err(DecodeError::SchemaPending { .. }) => self.waiting.push(record),
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

    fn forget(&mut self, gone: &[TopicPartition]) {
        let is_gone = |record: &Consumed| gone.iter().any(|(_, partition)| *partition == record.partition);
        self.labels.retain(|read| !is_gone(&read.record));
        self.refused.retain(|(record, _)| !is_gone(record));
        self.waiting.retain(|record| !is_gone(record));
        self.skipped.retain(|partition, _| gone.iter().all(|(_, gone)| gone != partition));
        self.offsets.0.retain(|place, _| !gone.contains(place));
    }
}
