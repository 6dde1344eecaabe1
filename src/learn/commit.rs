//! Commits a unit of learn: ledger records, dead letters and the labels' offsets together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::join::Joined;
use super::{Learn, LearnError};
use crate::codec;
use crate::core::ledger::Key;
use crate::dead_letter::{self, CommitOutcome, Outputs, Reason, dead_letter};
use crate::kafka::{Consumed, Offsets, Outbox, Produced, Source};
use crate::ops::metrics;
use crate::ops::traces::Labelled;

/// A unit that was committed.
pub(super) struct Committed {
    /// When that began.
    pub(super) began: Instant,
    /// Its records.
    pub(super) records: usize,
    /// The ledger's offset after it, if it wrote to the ledger.
    pub(super) next: Option<i64>,
    /// The reasons of its dead letters.
    pub(super) refused: Vec<&'static str>,
}

impl Learn {
    /// Commits a unit, if there is anything in it. A ledger record that does not fit its topic is left out, and the
    /// labels that it was made of become dead letters.
    ///
    /// # Errors
    /// Returns the outbox's error, or an error if a dead letter does not fit its topic.
    pub(super) fn commit(
        &self,
        outbox: &mut Outbox,
        labels: &Source,
        joined: &mut Joined,
        offsets: &Offsets,
        spans: &mut [Labelled],
    ) -> Result<Option<Committed>, LearnError> {
        let (mut keys, mut records) = self.ledger_records(joined)?;
        let mut refused = Vec::new();
        let letters = self.letters(std::mem::take(&mut joined.refused), &mut refused, spans);
        records.extend(letters);
        if records.is_empty() && offsets.is_empty() {
            return Ok(None);
        }
        let began = Instant::now();
        let consumed = (!offsets.is_empty()).then_some((labels.membership(), offsets));
        let mut outputs = Outputs::new(records, &self.config.topics.dlq.as_str().into());
        let places = loop {
            let unfit = match dead_letter::commit(outbox, &mut outputs, consumed, || self.shutdown.aborted())?
            {
                CommitOutcome::Committed(places) => break places,
                CommitOutcome::TooLarge(unfit) => unfit,
            };
            let unfit = unfit.into_iter().filter_map(|index| keys.get(index));
            let mut gone = with_labels(unfit, &keys);
            let labels = joined.take_records(&mut gone);
            let mut records = outputs.take();
            let letters = records.split_off(keys.len());
            let (kept, rest): (Vec<_>, Vec<_>) =
                keys.into_iter().zip(records).filter(|(key, _)| !gone.contains(key)).unzip();
            keys = kept;
            let labels: Vec<_> = labels.into_iter().map(|record| (record, too_large())).collect();
            tracing::warn!(
                records = gone.len(),
                labels = labels.len(),
                "ledger records do not fit their topic"
            );
            let more = self.letters(labels, &mut refused, spans);
            outputs.put([rest, letters, more].concat());
        };
        metrics::commit("learn", places.len(), began.elapsed());
        self.progress.note(offsets);
        let last = places.get(..keys.len()).and_then(<[_]>::last);
        let next = last.map(|(_, offset)| offset + 1);
        Ok(Some(Committed { began, records: places.len(), next, refused }))
    }

    fn ledger_records(&self, joined: &Joined) -> Result<(Vec<Key>, Vec<Produced>), LearnError> {
        let rounds: Arc<str> = self.config.topics.rounds.as_str().into();
        let (mut keys, mut records) = (Vec::new(), Vec::new());
        for record in joined.records() {
            let key = record.key();
            records.push(Produced {
                topic: Arc::clone(&rounds),
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

    /// The dead letters of labels; their reasons are noted in `reasons` and in the labels' spans.
    fn letters(
        &self,
        labels: Vec<(Consumed, Reason)>,
        reasons: &mut Vec<&'static str>,
        spans: &mut [Labelled],
    ) -> Vec<Produced> {
        let dlq: Arc<str> = self.config.topics.dlq.as_str().into();
        let mut letters = Vec::with_capacity(labels.len());
        for (record, reason) in labels {
            let own = spans.iter_mut().filter(|label| label.is_at(record.partition, record.offset));
            own.for_each(|label| label.refuse(reason.name));
            reasons.push(reason.name);
            letters.push(dead_letter(&dlq, "learn", record, &reason));
        }
        letters
    }
}

/// The keys that cannot be written: without a round's votes its labels are not either.
fn with_labels<'a>(unfit: impl Iterator<Item = &'a Key>, keys: &[Key]) -> BTreeSet<Key> {
    let mut gone: BTreeSet<Key> = unfit.cloned().collect();
    let labels = keys.iter().filter(|key| match key {
        Key::Label(round, _) => gone.contains(&Key::Round(round.clone())),
        _ => false,
    });
    let labels: Vec<_> = labels.cloned().collect();
    gone.extend(labels);
    gone
}

fn too_large() -> Reason {
    Reason {
        name: "OutputTooLarge",
        message:
            "the label's ledger record is larger than the ledger topic accepts: raise its max.message.bytes"
                .into(),
    }
}
