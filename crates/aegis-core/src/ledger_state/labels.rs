//! The labels of a round, and their target.

use super::edits::Edits;
use super::rounds::{Rounds, Row};
use super::stored::{Entry, Stored};
use super::{LabelEntry, LedgerError};
use crate::label::{Label, Mapping, Source, live, target};
use crate::ledger::{LabelRecord, LabelStatus};

impl Rounds {
    pub(super) fn stored(&self, row: Row) -> &Stored {
        &self.labels[row.0 as usize]
    }

    /// Adds a label. Returns `true` if the set changed.
    pub(super) fn insert_label(&mut self, row: Row, label: &LabelEntry<'_>) -> Result<bool, LedgerError> {
        label.check()?;
        let annotator = match label.annotator {
            Some(annotator) => self.annotators.intern(0, annotator)? + 1,
            None => 0,
        };
        let mut replaced = None;
        if let Some((at, known)) = self.same(row, label.id, annotator) {
            if !supersedes(&self.owned_label(row, label), &self.label_record(row, &known)) {
                return Ok(false);
            }
            *self.counts.of(known.status) -= 1;
            replaced = Some(at);
        }
        *self.counts.of(label.status) += 1;
        self.labels[row.0 as usize].put(label, annotator, self.events.text(row.0), replaced);
        if !self.has_votes(row) {
            self.without_votes.insert(row);
        }
        Ok(true)
    }

    /// Returns `true` if adding the label would change the set.
    pub(super) fn label_is_new(&self, record: &LabelRecord) -> bool {
        let label = &record.label;
        let Some(row) = self.find(&label.tenant, &label.event) else {
            return true;
        };
        let annotator = match &label.annotator {
            Some(annotator) => match self.annotators.find(0, annotator) {
                Some(known) => known + 1,
                None => return true,
            },
            None => 0,
        };
        let known = self.same(row, &label.id, annotator);
        known.is_none_or(|(_, known)| supersedes(record, &self.label_record(row, &known)))
    }

    /// The label with this id and annotator, and its index. A label of another annotator with the same id is
    /// kept beside it, although the label algebra keeps one per id: if one annotator is quarantined, the label
    /// of the other counts again.
    fn same(&self, row: Row, id: &str, annotator: u32) -> Option<(usize, Entry<'_>)> {
        self.stored(row)
            .entries()
            .enumerate()
            .find(|(_, entry)| entry.annotator == annotator && entry.id.unwrap_or(self.event(row)) == id)
    }

    fn label_record(&self, row: Row, entry: &Entry<'_>) -> LabelRecord {
        entry.record(self.tenant(row), &self.policy, self.event(row), self.annotator(entry))
    }

    fn owned_label(&self, row: Row, entry: &LabelEntry<'_>) -> LabelRecord {
        let text = |text: &str| text.to_owned();
        let label = Label {
            id: text(entry.id),
            tenant: text(self.tenant(row)),
            policy: self.policy.clone(),
            event: text(self.event(row)),
            annotator: entry.annotator.map(text),
            verdict: entry.verdict,
            severity: entry.severity,
            categories: entry.categories.to_vec(),
            time: entry.time,
            source: entry.source,
            inclusion_probability: entry.inclusion_probability,
            decision: entry.decision,
            corrects: entry.corrects.map(text),
            retracts: entry.retracts.map(text),
        };
        LabelRecord { label, received: entry.received, status: entry.status }
    }

    pub(super) fn annotator(&self, entry: &Entry<'_>) -> Option<&str> {
        entry.annotator.checked_sub(1).map(|number| self.annotators.text(number))
    }

    /// The labels of a round, whatever their status.
    #[must_use]
    pub fn labels(&self, row: Row) -> Vec<LabelRecord> {
        self.stored(row).entries().map(|entry| self.label_record(row, &entry)).collect()
    }

    /// The rounds with a label of this annotator.
    pub(super) fn labelled_by(&self, tenant: &str, annotator: &str) -> Vec<Row> {
        let Some(number) = self.annotators.find(0, annotator) else {
            return Vec::new();
        };
        let theirs = |row: &Row| {
            self.stored(*row).entries().any(|entry| entry.annotator == number + 1)
                && (tenant.is_empty() || self.tenant(*row) == tenant)
        };
        self.rows().filter(theirs).collect()
    }

    /// The target of the round, in \[0,1\], whether its votes are known or not: the mean of its live labels.
    /// `None` if no label is live.
    #[must_use]
    pub fn target(&self, row: Row, mapping: &Mapping, edits: &Edits) -> Option<f64> {
        let tenant = self.tenant(row);
        if let Some(only) = self.stored(row).only() {
            let id = only.id.unwrap_or(self.event(row));
            let quarantined = edits.has_quarantines()
                && self.annotator(&only).is_some_and(|annotator| edits.quarantines(tenant, annotator));
            let teaches = only.status.counts()
                && mapping.teaches.contains(&only.source)
                && only.retracts.is_none()
                && only.corrects != Some(id);
            return (teaches && !quarantined)
                .then(|| mapping.verdict_value(only.verdict, only.severity))
                .flatten();
        }
        let labels = self.accepted(row);
        target(&labels, mapping, |annotator| edits.quarantines(tenant, annotator))
    }

    /// Calls `visit` with the annotator's number, the source and the value of each live label of the round, in the order of
    /// the annotators' names. Labels without an annotator have the number 0.
    pub(crate) fn for_each_live(
        &self,
        row: Row,
        mapping: &Mapping,
        edits: &Edits,
        mut visit: impl FnMut(usize, Source, f64),
    ) {
        let tenant = self.tenant(row);
        let labels = self.accepted(row);
        let number = |name: &str| self.annotators.find(0, name).map_or(0, |number| number as usize + 1);
        for (label, value) in live(&labels, mapping, |annotator| edits.quarantines(tenant, annotator)) {
            visit(label.annotator.as_deref().map_or(0, number), label.source, value);
        }
    }

    /// The labels of a round that may teach.
    pub(super) fn accepted(&self, row: Row) -> Vec<Label> {
        let entries = self.stored(row).entries().filter(|entry| entry.status.counts());
        entries.map(|entry| self.label_record(row, &entry).label).collect()
    }
}

/// Returns `true` if a label replaces one with the same id and annotator: the newer label does. Of equal
/// labels the one with the later status does, then the one received first.
fn supersedes(new: &LabelRecord, known: &LabelRecord) -> bool {
    let progress = |record: &LabelRecord| match record.status {
        LabelStatus::Waiting => 0,
        LabelStatus::Accepted => 1,
        LabelStatus::TooLate => 2,
        LabelStatus::Expired => 3,
    };
    new.label
        .newer(&known.label)
        .then(progress(new).cmp(&progress(known)))
        .then(known.received.cmp(&new.received))
        .is_gt()
}
