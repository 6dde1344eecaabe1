//! Joins labels to decisions: which ledger records, and which dead letters, come of what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::LearnError;
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

/// A label as read, with its record for a dead letter.
pub struct Read {
    /// The record; several labels may be from one.
    pub record: Arc<Consumed>,
    /// The label.
    pub label: Label,
    /// Its broker timestamp.
    pub received: Millis,
}

/// What a unit will write.
#[derive(Default)]
pub struct Joined {
    records: Vec<Record>,
    places: BTreeMap<Key, usize>,
    /// The labels of this unit, by the ledger record that each of them asks for.
    labels: BTreeMap<Key, Vec<Arc<Consumed>>>,
    /// Labels that are refused, with the reason.
    pub refused: Vec<(Consumed, Reason)>,
}

impl Joined {
    /// The ledger records, each key once.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Refuses a record of labels, once: its labels are about one round and were received at one time, so that what
    /// refuses one of them refuses all.
    fn refuse(&mut self, record: Arc<Consumed>, reason: Reason) {
        let place = |record: &Consumed| (Arc::clone(&record.topic), record.partition, record.offset);
        if self.refused.last().is_none_or(|(last, _)| place(last) != place(&record)) {
            self.refused.push((Arc::unwrap_or_clone(record), reason));
        }
    }

    fn put(&mut self, record: Record) {
        let key = record.key();
        if let Some(slot) = self.places.get(&key).and_then(|at| self.records.get_mut(*at)) {
            *slot = record;
        } else {
            self.places.insert(key, self.records.len());
            self.records.push(record);
        }
    }

    /// Takes out the records whose labels asked for the ledger records of these keys, each record once. A record of
    /// several labels has one outcome: the keys of its other labels are added to `keys`.
    pub fn take_records(&mut self, keys: &mut BTreeSet<Key>) -> Vec<Consumed> {
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

    fn get(&self, key: &Key) -> Option<&Record> {
        self.places.get(key).and_then(|at| self.records.get(*at))
    }
}

/// What joining looks at.
pub struct Join<'a> {
    /// The ledger as committed.
    pub book: &'a LedgerState,
    /// The index of decisions.
    pub store: &'a Store,
    /// Fetches decisions.
    pub lookup: &'a mut Lookup,
    /// Where decisions' schemas come from; waits for them.
    pub schemas: Option<&'a dyn Schemas>,
    /// A label is accepted this long after its round.
    pub horizon: Millis,
    /// What has come of the unit so far.
    pub joined: &'a mut Joined,
}

impl Join<'_> {
    /// Joins labels, in the order in which they were read.
    ///
    /// # Errors
    /// Where the index or the decisions topic cannot be read.
    pub fn labels(&mut self, read: Vec<Read>) -> Result<(), LearnError> {
        let wanted = read.iter().map(|read| (read.label.round(), read.label.decision));
        let wanted: Vec<_> = wanted.filter(|(id, _)| self.key(id).is_none()).collect();
        let vanished = self.locate(&wanted)?;
        for Read { record, label, received } in read {
            let id = label.round();
            let Some((round_time, _)) = self.key(&id) else {
                if vanished.contains(&id) {
                    metrics::label("vanished");
                    self.joined.refuse(record, gone());
                } else {
                    self.keep(&label, &record);
                    self.file(LabelRecord { label, received, status: LabelStatus::Waiting }, "waiting");
                }
                continue;
            };
            if received.saturating_sub(round_time) > self.horizon {
                metrics::label("too_late");
                self.joined.refuse(record, too_late());
            } else {
                metrics::label_delay(&label.policy, received.saturating_sub(round_time));
                self.keep(&label, &record);
                self.file(LabelRecord { label, received, status: LabelStatus::Accepted }, "accepted");
            }
        }
        Ok(())
    }

    /// Keeps a label's record until the commit: its ledger record may not fit its topic.
    fn keep(&mut self, label: &Label, record: &Arc<Consumed>) {
        let key = Key::Label(label.round(), label.id.clone());
        self.joined.labels.entry(key).or_default().push(Arc::clone(record));
    }

    /// Looks for the decisions of labels that wait and of `foreign` rounds. To be done after restoring: the
    /// learner that wrote them may have known fewer decisions than this one's index, which will not read
    /// those again.
    ///
    /// # Errors
    /// Where the index or the decisions topic cannot be read.
    pub fn search(&mut self, foreign: &BTreeSet<RoundId>) -> Result<(), LearnError> {
        let mut wanted: Vec<_> = foreign.iter().map(|id| (id.clone(), None)).collect();
        for rounds in self.book.policies() {
            for row in rounds.without_votes() {
                let waiting = rounds.labels(row).into_iter();
                let waiting = waiting.filter(|filed| filed.status == LabelStatus::Waiting);
                wanted.extend(waiting.map(|filed| (filed.label.round(), filed.label.decision)));
            }
        }
        self.locate(&wanted)?;
        Ok(())
    }

    /// Takes a decision that was read in its topic: it matters where its event has a ledger record.
    pub fn decision(&mut self, judged: RoundRecord) {
        if self.book.row(&judged.id).is_some()
            || self.joined.places.contains_key(&Key::Round(judged.id.clone()))
        {
            self.judge(judged);
        }
    }

    /// The key of the decision that gives the round its votes, as committed or as this unit will have it.
    fn key(&self, id: &RoundId) -> Option<(Millis, DecisionRef)> {
        if let Some(Record::Round(judged)) = self.joined.get(&Key::Round(id.clone())) {
            return Some(judged.key());
        }
        let (rounds, row) = self.book.row(id)?;
        rounds.has_votes(row).then(|| (rounds.round_time(row), rounds.decision(row)))
    }

    /// Fetches the rounds' decisions, of those whose votes are known only the ones that would take their
    /// place; the rounds whose decisions are known to have been there and are no more.
    fn locate(&mut self, read: &[(RoundId, Option<DecisionRef>)]) -> Result<BTreeSet<RoundId>, LearnError> {
        let mut wanted: BTreeMap<(i32, i64), RoundId> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (id, reference) in read {
            let id = id.clone();
            let known = self.key(&id);
            // The reference only locates: the round's votes are those of the lowest decision known.
            if let Some(DecisionRef { partition, offset }) = *reference {
                wanted.insert((partition, offset), id.clone());
            }
            if asked.insert(id.clone()) {
                let lower = |key: &(Millis, DecisionRef)| known.is_none_or(|known| *key < known);
                for (_, at) in self.store.find(&id)?.into_iter().filter(lower) {
                    wanted.insert((at.partition, at.offset), id.clone());
                }
            }
        }
        let places: Vec<_> = wanted.keys().copied().collect();
        let mut vanished = BTreeSet::new();
        let mut found: BTreeMap<RoundId, RoundRecord> = BTreeMap::new();
        for ((place, id), record) in wanted.into_iter().zip(self.lookup.fetch(&places, super::ANSWER)?) {
            let Some(record) = record.filter(|record| record.payload.is_some()) else {
                vanished.insert(id);
                continue;
            };
            // A hash that two rounds share, or a reference that is wrong, leads to another's decision.
            let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
            let decision = match received.decision().map_err(RegistryError::of) {
                Ok(decision) => decision,
                Err(Ok(error)) => return Err(error.into()),
                Err(Err(_)) => continue,
            };
            if decision.id != id {
                continue;
            }
            let judged = decision.into_round_record(DecisionRef { partition: place.0, offset: place.1 });
            match found.get(&id) {
                Some(best) if best.key() <= judged.key() => {}
                _ => {
                    found.insert(id, judged);
                }
            }
        }
        for (id, judged) in found {
            vanished.remove(&id);
            self.judge(judged);
        }
        Ok(vanished)
    }

    /// Gives a round its votes, if these are the ones to keep, and the labels that waited for them their
    /// standing.
    fn judge(&mut self, judged: RoundRecord) {
        let key = Key::Round(judged.id.clone());
        if let Some(Record::Round(other)) = self.joined.get(&key)
            && other.key() <= judged.key()
        {
            return;
        }
        let round_time = judged.round_time;
        let id = judged.id.clone();
        let record = Record::Round(judged);
        if !self.book.would_change(&record) {
            return;
        }
        self.joined.put(record);
        let Some((rounds, row)) = self.book.row(&id) else { return };
        for filed in rounds.labels(row).into_iter().filter(|filed| filed.status == LabelStatus::Waiting) {
            let late = filed.received.saturating_sub(round_time) > self.horizon;
            let standing = if late { LabelStatus::TooLate } else { LabelStatus::Accepted };
            let outcome = if late { "waited_too_late" } else { "waited_accepted" };
            self.file(LabelRecord { status: standing, ..filed }, outcome);
        }
    }

    fn file(&mut self, filed: LabelRecord, outcome: &'static str) {
        let record = Record::Label(filed);
        let older = match (&record, self.joined.get(&record.key())) {
            // Of the same label the one received first, as in the book: units end anywhere.
            (Record::Label(new), Some(Record::Label(old))) => {
                new.label.newer(&old.label).then(old.received.cmp(&new.received)).is_lt()
            }
            _ => false,
        };
        if older || !self.book.would_change(&record) {
            metrics::label("duplicate");
            return;
        }
        metrics::label(outcome);
        // One that waited was counted when it came.
        if let Record::Label(filed) = &record
            && !outcome.starts_with("waited")
        {
            if filed.label.corrects.is_some() {
                metrics::correction(&filed.label.policy, "corrects");
            } else if filed.label.retracts.is_some() {
                metrics::correction(&filed.label.policy, "retracts");
            }
        }
        self.joined.put(record);
    }

    /// Ends the wait of labels whose decision has not come within twice the horizon before `now`.
    pub fn expire(&mut self, now: Millis) {
        let before = now.saturating_sub(self.horizon.saturating_mul(2));
        let mut over = Vec::new();
        for rounds in self.book.policies() {
            for row in rounds.without_votes() {
                let waiting = rounds.labels(row).into_iter();
                over.extend(
                    waiting.filter(|filed| filed.status == LabelStatus::Waiting && filed.received < before),
                );
            }
        }
        for filed in over {
            self.file(LabelRecord { status: LabelStatus::Expired, ..filed }, "expired");
        }
    }
}

fn gone() -> Reason {
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
