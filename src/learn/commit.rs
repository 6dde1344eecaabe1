//! Commits a batch of learn: ledger records, dead letters and the labels' offsets together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::active::ActiveLearner;
use super::join::JoinOutput;
use super::{Learn, LearnError};
use crate::codec;
use crate::core::ledger::Key;
use crate::dead_letter::{self, CommitOutcome, Outputs, Reason, dead_letter};
use crate::kafka::{Consumed, Offsets, Produced};
use crate::ops::metrics;
use crate::ops::traces::Labelled;

/// A batch that was committed.
pub(super) struct Committed {
    /// The time at which the commit began.
    pub(super) began: Instant,
    /// The number of records written.
    pub(super) records: usize,
    /// The ledger topic's offset after the batch; `None` if no ledger record was written.
    pub(super) next: Option<i64>,
    /// The reasons of the dead letters.
    pub(super) refused: Vec<&'static str>,
}

impl ActiveLearner<'_> {
    /// Commits a batch; `None` if there is nothing to commit. A ledger record that its topic does not accept is left
    /// out, and the labels that it was made of become dead letters.
    ///
    /// # Errors
    /// Returns the outbox's error, or an error if a dead letter does not fit its topic.
    pub(super) fn commit_outputs(
        &mut self,
        joined: &mut JoinOutput,
        offsets: &Offsets,
        spans: &mut [Labelled],
    ) -> Result<Option<Committed>, LearnError> {
        let learn = self.learn;
        let (mut keys, mut records) = learn.ledger_records(joined)?;
        let mut refused = Vec::new();
        records.extend(learn.dead_letters(std::mem::take(&mut joined.refused), &mut refused, spans));
        if records.is_empty() && offsets.is_empty() {
            return Ok(None);
        }
        let began = Instant::now();
        let consumed = (!offsets.is_empty()).then_some((self.labels.membership(), offsets));
        let mut outputs = Outputs::new(records, &learn.config.topics.dlq.as_str().into());
        let aborted = || learn.shutdown.aborted();
        let places = loop {
            match dead_letter::commit(&mut self.outbox, &mut outputs, consumed, aborted)? {
                CommitOutcome::Committed(places) => break places,
                CommitOutcome::TooLarge(unfit) => {
                    let labels = leave_out(&unfit, &mut keys, &mut outputs, joined);
                    let mut records = outputs.take();
                    records.extend(learn.dead_letters(labels, &mut refused, spans));
                    outputs.put(records);
                }
            }
        };
        metrics::commit("learn", places.len(), began.elapsed());
        learn.progress.add_offsets(offsets);
        // The ledger records come first.
        let last = places.get(..keys.len()).and_then(<[_]>::last);
        let next = last.map(|(_, offset)| offset + 1);
        Ok(Some(Committed { began, records: places.len(), next, refused }))
    }
}

impl Learn {
    /// The ledger records as they are written, with their keys.
    fn ledger_records(&self, joined: &JoinOutput) -> Result<(Vec<Key>, Vec<Produced>), LearnError> {
        let topic: Arc<str> = self.config.topics.rounds.as_str().into();
        let (mut keys, mut records) = (Vec::new(), Vec::new());
        for record in joined.records() {
            let key = record.key();
            records.push(Produced {
                topic: Arc::clone(&topic),
                partition: Some(0),
                key: Some(codec::encode_key(&key)),
                payload: Some(codec::encode_record(record, codec::Encoding::Avro)?),
                headers: Vec::new(),
                timestamp: None,
            });
            keys.push(key);
        }
        Ok((keys, records))
    }

    /// The dead letters of labels. Their reasons are added to `reasons` and to the labels' spans.
    fn dead_letters(
        &self,
        labels: Vec<(Consumed, Reason)>,
        reasons: &mut Vec<&'static str>,
        spans: &mut [Labelled],
    ) -> Vec<Produced> {
        let topic: Arc<str> = self.config.topics.dlq.as_str().into();
        let mut letters = Vec::with_capacity(labels.len());
        for (record, reason) in labels {
            let spans = spans.iter_mut().filter(|span| span.is_at(record.partition, record.offset));
            spans.for_each(|span| span.refuse(reason.name));
            reasons.push(reason.name);
            letters.push(dead_letter(&topic, "learn", record, &reason));
        }
        letters
    }
}

/// Removes the ledger records at the indices `unfit`, and those that depend on them, from `keys` and `outputs`. Returns
/// the labels that they were made of.
fn leave_out(
    unfit: &[usize],
    keys: &mut Vec<Key>,
    outputs: &mut Outputs,
    joined: &mut JoinOutput,
) -> Vec<(Consumed, Reason)> {
    let mut removed = with_labels(unfit.iter().filter_map(|index| keys.get(*index)), keys);
    let labels = joined.take_records(&mut removed);
    let mut records = outputs.take();
    let letters = records.split_off(keys.len());
    let (kept, mut records): (Vec<_>, Vec<_>) =
        std::mem::take(keys).into_iter().zip(records).filter(|(key, _)| !removed.contains(key)).unzip();
    *keys = kept;
    records.extend(letters);
    outputs.put(records);
    tracing::warn!(records = removed.len(), labels = labels.len(), "ledger records do not fit their topic");
    labels.into_iter().map(|record| (record, too_large())).collect()
}

/// The keys that cannot be written. If a round's votes are among them, its labels are too.
fn with_labels<'a>(unfit: impl Iterator<Item = &'a Key>, keys: &[Key]) -> BTreeSet<Key> {
    let mut removed: BTreeSet<Key> = unfit.cloned().collect();
    let labels = keys.iter().filter(|key| match key {
        Key::Label(round, ..) => removed.contains(&Key::Round(round.clone())),
        _ => false,
    });
    let labels: Vec<_> = labels.cloned().collect();
    removed.extend(labels);
    removed
}

fn too_large() -> Reason {
    Reason {
        name: "OutputTooLarge",
        message:
            "the label's ledger record is larger than the ledger topic accepts: raise its max.message.bytes"
                .into(),
    }
}
