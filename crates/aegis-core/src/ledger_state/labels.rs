//! A round's labels, and what they say together.

use std::collections::BTreeMap;

use super::edits::Edits;
use super::rounds::{Rounds, Row};
use super::stored::{Entry, Stored};
use super::{LabelEntry, LedgerError};
use crate::label::{Label, Mapping, target};
use crate::ledger::{LabelRecord, LabelStatus};

impl Rounds {
    pub(super) fn stored(&self, row: Row) -> &Stored {
        const NONE: &Stored = &Stored::NONE;
        self.labels.get(row.0 as usize).unwrap_or(NONE)
    }

    /// Takes a label; whether the set is another now.
    pub(super) fn insert_label(&mut self, row: Row, filing: &LabelEntry<'_>) -> Result<bool, LedgerError> {
        filing.check()?;
        let annotator = match filing.annotator {
            Some(annotator) => self.annotators.intern(0, annotator)? + 1,
            None => 0,
        };
        let mut replaced = None;
        if let Some((at, known)) = self.same(row, filing.id, annotator) {
            if !supersedes(&self.named(row, filing), &self.filed(row, &known)) {
                return Ok(false);
            }
            *self.counts.of(known.status) -= 1;
            replaced = Some(at);
        }
        *self.counts.of(filing.status) += 1;
        if let Some(stored) = self.labels.get_mut(row.0 as usize) {
            stored.put(filing, annotator, self.events.text(row.0), replaced);
        }
        if !self.has_votes(row) {
            self.without_votes.insert(row);
        }
        Ok(true)
    }

    /// Whether a label would change anything.
    pub(super) fn label_is_new(&self, filed: &LabelRecord) -> bool {
        let label = &filed.label;
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
        known.is_none_or(|(_, known)| supersedes(filed, &self.filed(row, &known)))
    }

    /// The label of the same id and annotator. An annotator who takes another's id replaces nothing
    /// here (the algebra keeps one per id): quarantined, the other's label counts again.
    fn same(&self, row: Row, id: &str, annotator: u32) -> Option<(usize, Entry<'_>)> {
        self.stored(row)
            .entries()
            .enumerate()
            .find(|(_, entry)| entry.annotator == annotator && entry.id.unwrap_or(self.event(row)) == id)
    }

    fn filed(&self, row: Row, entry: &Entry<'_>) -> LabelRecord {
        entry.filed(self.tenant(row), &self.policy, self.event(row), self.annotator(entry))
    }

    fn named(&self, row: Row, filing: &LabelEntry<'_>) -> LabelRecord {
        let text = |text: &str| text.to_owned();
        let label = Label {
            id: text(filing.id),
            tenant: text(self.tenant(row)),
            policy: self.policy.clone(),
            event: text(self.event(row)),
            annotator: filing.annotator.map(text),
            verdict: filing.verdict,
            severity: filing.severity,
            categories: filing.categories.to_vec(),
            time: filing.time,
            source: filing.source,
            inclusion_probability: filing.inclusion_probability,
            decision: filing.decision,
            corrects: filing.corrects.map(text),
            retracts: filing.retracts.map(text),
        };
        LabelRecord { label, received: filing.received, status: filing.status }
    }

    pub(super) fn annotator(&self, entry: &Entry<'_>) -> Option<&str> {
        entry.annotator.checked_sub(1).map(|number| self.annotators.text(number))
    }

    /// A round's labels, whatever became of them.
    #[must_use]
    pub fn labels(&self, row: Row) -> Vec<LabelRecord> {
        self.stored(row).entries().map(|entry| self.filed(row, &entry)).collect()
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

    /// What the round's live labels say, in \[0,1\], known votes or not; `None` where no label is live.
    #[must_use]
    pub fn target(&self, row: Row, mapping: &Mapping, edits: &Edits) -> Option<f64> {
        let tenant = self.tenant(row);
        if let Some(only) = self.stored(row).only() {
            let id = only.id.unwrap_or(self.event(row));
            let quarantined = edits.quarantine_anyone()
                && self.annotator(&only).is_some_and(|annotator| edits.quarantines(tenant, annotator));
            let teaches = only.status.counts()
                && mapping.teaches.contains(&only.source)
                && only.retracts.is_none()
                && only.corrects != Some(id);
            return (teaches && !quarantined).then(|| mapping.says(only.verdict, only.severity)).flatten();
        }
        let labels = self.accepted(row);
        target(&labels, mapping, |annotator| edits.quarantines(tenant, annotator))
    }

    /// A round's labels that may teach.
    pub(super) fn accepted(&self, row: Row) -> Vec<Label> {
        let entries = self.stored(row).entries().filter(|entry| entry.status.counts());
        entries.map(|entry| self.filed(row, &entry).label).collect()
    }

    /// Labels by annotator, those without one under the empty name.
    #[must_use]
    pub fn labels_by_annotator(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        for entry in self.labels.iter().flat_map(Stored::entries) {
            *found.entry(self.annotator(&entry).unwrap_or("").to_owned()).or_insert(0) += 1;
        }
        found
    }
}

/// Whether a label takes the place of one with the same id and annotator: the newer does, and of the
/// same label the one further on its way, then the one received first.
fn supersedes(new: &LabelRecord, known: &LabelRecord) -> bool {
    let further = |filed: &LabelRecord| match filed.status {
        LabelStatus::Waiting => 0,
        LabelStatus::Accepted => 1,
        LabelStatus::TooLate => 2,
        LabelStatus::Expired => 3,
    };
    new.label
        .newer(&known.label)
        .then(further(new).cmp(&further(known)))
        .then(known.received.cmp(&new.received))
        .is_gt()
}
