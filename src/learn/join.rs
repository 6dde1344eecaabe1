//! Joins labels to decisions: computes the ledger records and the dead letters of a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{LearnError, REQUEST_TIMEOUT};
use crate::codec::{Received, Schemas};
use crate::core::event::Millis;
use crate::core::label::{DecisionRef, Label};
use crate::core::ledger::{Key, LabelRecord, LabelStatus, Record, RoundId, RoundRecord};
use crate::core::ledger_state::LedgerState;
use crate::dead_letter::Reason;
use crate::kafka::{Consumed, Lookup};
use crate::ops::metrics;
use crate::registry::RegistryError;
use crate::store::Store;

/// A label as read, with its record, which becomes a dead letter if the label is refused.
pub(super) struct ReadLabel {
    /// The record. A record may contain several labels.
    pub(super) record: Arc<Consumed>,
    /// The label.
    pub(super) label: Label,
    /// The record's broker timestamp.
    pub(super) received: Millis,
}

/// The outputs of a batch.
#[derive(Default)]
pub(super) struct JoinOutput {
    records: Vec<Record>,
    /// The index in `records` of each key.
    places: BTreeMap<Key, usize>,
    /// The records of labels, by the ledger record that each of them leads to.
    labels: BTreeMap<Key, Vec<Arc<Consumed>>>,
    /// The records of labels that are refused, with the reason.
    pub(super) refused: Vec<(Consumed, Reason)>,
}

impl JoinOutput {
    /// The ledger records, each key once.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Refuses a record of labels, once. All its labels are about one round and were received at one time, so that the
    /// reason to refuse one of them holds for all.
    fn refuse(&mut self, record: Arc<Consumed>, reason: Reason) {
        let place = |record: &Consumed| (Arc::clone(&record.topic), record.partition, record.offset);
        if self.refused.last().is_none_or(|(last, _)| place(last) != place(&record)) {
            self.refused.push((Arc::unwrap_or_clone(record), reason));
        }
    }

    fn put(&mut self, record: Record) {
        let key = record.key();
        if let Some(known) = self.places.get(&key).and_then(|at| self.records.get_mut(*at)) {
            *known = record;
        } else {
            self.places.insert(key, self.records.len());
            self.records.push(record);
        }
    }

    fn get(&self, key: &Key) -> Option<&Record> {
        self.places.get(key).and_then(|at| self.records.get(*at))
    }

    /// Takes out the records whose labels led to the ledger records of these keys, each record once. A record of
    /// several labels has one outcome, so that the keys of its other labels are added to `keys`.
    pub(super) fn take_records(&mut self, keys: &mut BTreeSet<Key>) -> Vec<Consumed> {
        let place = |record: &Arc<Consumed>| (record.partition, record.offset);
        let mut places = BTreeSet::new();
        loop {
            let before = (keys.len(), places.len());
            for (_, records) in self.labels.iter().filter(|(key, _)| keys.contains(key)) {
                places.extend(records.iter().map(place));
            }
            let same = |records: &Vec<_>| records.iter().map(place).any(|at| places.contains(&at));
            keys.extend(self.labels.iter().filter(|(_, records)| same(records)).map(|(key, _)| key.clone()));
            if (keys.len(), places.len()) == before {
                break;
            }
        }
        let mut taken = BTreeMap::new();
        for record in keys.iter().filter_map(|key| self.labels.remove(key)).flatten() {
            taken.entry(place(&record)).or_insert(record);
        }
        taken.into_values().map(Arc::unwrap_or_clone).collect()
    }
}

/// A join of one batch: the inputs, and the output so far.
pub(super) struct Join<'a> {
    /// The ledger as committed.
    pub(super) state: &'a LedgerState,
    /// The index of decisions.
    pub(super) store: &'a Store,
    /// Fetches decisions by their offsets.
    pub(super) lookup: &'a mut Lookup,
    /// The source of decisions' schemas. It waits for pending answers.
    pub(super) schemas: Option<&'a dyn Schemas>,
    /// The time after its round up to which a label is accepted, in milliseconds.
    pub(super) horizon: Millis,
    /// The outputs so far.
    pub(super) output: JoinOutput,
}

impl Join<'_> {
    /// Joins labels, in the order in which they were read.
    ///
    /// # Errors
    /// Returns an error if the index or the decisions topic cannot be read.
    pub(super) fn labels(&mut self, labels: Vec<ReadLabel>) -> Result<(), LearnError> {
        let wanted = labels.iter().map(|read| (read.label.round(), read.label.decision));
        let wanted: Vec<_> = wanted.filter(|(id, _)| self.votes_key(id).is_none()).collect();
        let vanished = self.locate(&wanted)?;
        for ReadLabel { record, label, received } in labels {
            let id = label.round();
            let (status, outcome) = match self.votes_key(&id) {
                Some((round_time, _)) if received.saturating_sub(round_time) > self.horizon => {
                    metrics::label("too_late");
                    self.output.refuse(record, too_late());
                    continue;
                }
                Some((round_time, _)) => {
                    metrics::label_delay(&label.policy, received.saturating_sub(round_time));
                    (LabelStatus::Accepted, "accepted")
                }
                None if vanished.contains(&id) => {
                    metrics::label("vanished");
                    self.output.refuse(record, decision_vanished());
                    continue;
                }
                None => (LabelStatus::Waiting, "waiting"),
            };
            // The record is kept until the commit, because the ledger record may not fit its topic.
            self.output.labels.entry(label.key()).or_default().push(record);
            self.insert_label(LabelRecord { label, received, status }, outcome);
        }
        Ok(())
    }

    /// Looks up the decisions of labels that wait and of `foreign` rounds. This is needed once after a restore: the
    /// learner that wrote these records may have indexed fewer decisions than this one's index, which does not read the
    /// decisions before its positions again.
    ///
    /// # Errors
    /// Returns an error if the index or the decisions topic cannot be read.
    pub(super) fn search(&mut self, foreign: &BTreeSet<RoundId>) -> Result<(), LearnError> {
        let mut wanted: Vec<_> = foreign.iter().map(|id| (id.clone(), None)).collect();
        wanted.extend(self.waiting().map(|waiting| (waiting.label.round(), waiting.label.decision)));
        self.locate(&wanted)?;
        Ok(())
    }

    /// The committed labels that wait for a decision.
    fn waiting(&self) -> impl Iterator<Item = LabelRecord> {
        let labels = self
            .state
            .policies()
            .iter()
            .flat_map(|rounds| rounds.without_votes().flat_map(|row| rounds.labels(row)));
        labels.filter(|label| label.status == LabelStatus::Waiting)
    }

    /// Takes a decision that was read from its topic. It only matters if the ledger has a record of its event.
    pub(super) fn decision(&mut self, round: RoundRecord) {
        if self.state.row(&round.id).is_some()
            || self.output.places.contains_key(&Key::Round(round.id.clone()))
        {
            self.insert_votes(round);
        }
    }

    /// The key of the decision whose votes the round has, as committed or as of this batch.
    fn votes_key(&self, id: &RoundId) -> Option<(Millis, DecisionRef)> {
        if let Some(Record::Round(round)) = self.output.get(&Key::Round(id.clone())) {
            return Some(round.key());
        }
        let (rounds, row) = self.state.row(id)?;
        rounds.has_votes(row).then(|| (rounds.round_time(row), rounds.decision(row)))
    }

    /// Fetches the decisions of rounds, and takes the lowest of each. If a round has votes already, only lower decisions
    /// are fetched. Returns the rounds whose decisions were indexed or named, and are no longer in their topic.
    fn locate(&mut self, wanted: &[(RoundId, Option<DecisionRef>)]) -> Result<BTreeSet<RoundId>, LearnError> {
        let wanted = self.candidates(wanted)?;
        let places: Vec<_> = wanted.keys().copied().collect();
        let mut vanished = BTreeSet::new();
        let mut found: BTreeMap<RoundId, RoundRecord> = BTreeMap::new();
        for ((place, id), record) in wanted.into_iter().zip(self.lookup.fetch(&places, REQUEST_TIMEOUT)?) {
            let Some(record) = record.filter(|record| record.payload.is_some()) else {
                vanished.insert(id);
                continue;
            };
            let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
            let decision = match received.decision().map_err(RegistryError::of) {
                Ok(decision) => decision,
                Err(Ok(error)) => return Err(error.into()),
                Err(Err(_)) => continue,
            };
            // A hash that two rounds share, or a wrong reference, leads to the decision of another round.
            if decision.id != id {
                continue;
            }
            let round = decision.into_round_record(DecisionRef { partition: place.0, offset: place.1 });
            if found.get(&id).is_none_or(|best| round.key() < best.key()) {
                found.insert(id, round);
            }
        }
        for (id, round) in found {
            vanished.remove(&id);
            self.insert_votes(round);
        }
        Ok(vanished)
    }

    /// The (partition, offset) of each decision that may give a round its votes.
    fn candidates(
        &self,
        wanted: &[(RoundId, Option<DecisionRef>)],
    ) -> Result<BTreeMap<(i32, i64), RoundId>, LearnError> {
        let mut candidates = BTreeMap::new();
        let mut searched = BTreeSet::new();
        for (id, reference) in wanted {
            // A reference is only a place to look at: the round's votes are those of the lowest decision known.
            if let Some(DecisionRef { partition, offset }) = *reference {
                candidates.insert((partition, offset), id.clone());
            }
            if searched.insert(id) {
                let known = self.votes_key(id);
                let lower = |key: &(Millis, DecisionRef)| known.is_none_or(|known| *key < known);
                for (_, at) in self.store.find(id)?.into_iter().filter(lower) {
                    candidates.insert((at.partition, at.offset), id.clone());
                }
            }
        }
        Ok(candidates)
    }

    /// Gives a round its votes if the decision is the lowest known, and decides about the labels that waited for it.
    fn insert_votes(&mut self, round: RoundRecord) {
        if let Some(Record::Round(other)) = self.output.get(&Key::Round(round.id.clone()))
            && other.key() <= round.key()
        {
            return;
        }
        let (id, round_time) = (round.id.clone(), round.round_time);
        let record = Record::Round(round);
        if !self.state.would_change(&record) {
            return;
        }
        self.output.put(record);
        let Some((rounds, row)) = self.state.row(&id) else { return };
        for label in rounds.labels(row).into_iter().filter(|label| label.status == LabelStatus::Waiting) {
            let late = label.received.saturating_sub(round_time) > self.horizon;
            let status = if late { LabelStatus::TooLate } else { LabelStatus::Accepted };
            let outcome = if late { "waited_too_late" } else { "waited_accepted" };
            self.insert_label(LabelRecord { status, ..label }, outcome);
        }
    }

    fn insert_label(&mut self, label: LabelRecord, outcome: &'static str) {
        let record = Record::Label(label);
        let older = match (&record, self.output.get(&record.key())) {
            // As in the state, the label received first wins, so that the ends of batches do not matter.
            (Record::Label(new), Some(Record::Label(old))) => {
                new.label.newer(&old.label).then(old.received.cmp(&new.received)).is_lt()
            }
            _ => false,
        };
        if older || !self.state.would_change(&record) {
            metrics::label("duplicate");
            return;
        }
        metrics::label(outcome);
        // A label that waited was counted when it was read.
        if let Record::Label(label) = &record
            && !outcome.starts_with("waited")
        {
            if label.label.corrects.is_some() {
                metrics::correction(&label.label.policy, "corrects");
            } else if label.label.retracts.is_some() {
                metrics::correction(&label.label.policy, "retracts");
            }
        }
        self.output.put(record);
    }

    /// Ends the wait of labels whose decision has not come within twice the horizon before `now`.
    pub(super) fn expire(&mut self, now: Millis) {
        let before = now.saturating_sub(self.horizon.saturating_mul(2));
        let expired: Vec<_> = self.waiting().filter(|label| label.received < before).collect();
        for label in expired {
            self.insert_label(LabelRecord { status: LabelStatus::Expired, ..label }, "expired");
        }
    }
}

fn decision_vanished() -> Reason {
    Reason {
        name: "DecisionVanished",
        message: "the label's decision is no longer in the decisions topic: keep decisions at least as long \
                  as learn.horizon_days"
            .into(),
    }
}

fn too_late() -> Reason {
    Reason { name: "TooLate", message: "the label came later than learn.horizon_days after its round".into() }
}

#[cfg(test)]
mod tests;
