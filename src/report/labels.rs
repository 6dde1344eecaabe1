//! The labels of a ledger or of a file, and the answers that they give.

use std::collections::{BTreeSet, HashSet};

use crate::core::event::Millis;
use crate::core::label::{self, Label, Mapping, Source};
use crate::core::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId};
use crate::core::ledger_state::{LedgerError, LedgerState, Rounds, Row};

use super::keys::Keys;

/// The labels, and the edits of the ledger. The votes of rounds are not kept.
#[derive(Debug, Default)]
pub(super) struct Labels {
    ledger: LedgerState,
    /// The erased subjects: the tenant's and the subject's key. The tenant's is that of the empty name for all tenants.
    erased: HashSet<(u64, u64)>,
}

/// The answer of people to one event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// The mean of the live review labels, in \[0,1\]. Without any, that of the live gold labels.
    pub(super) target: f64,
    /// The time at which the newest of them was received.
    pub(super) received: Millis,
}

/// The mapping of answers to requests: only labels of this source count, whatever the policy learns from.
fn only(source: Source, mapping: &Mapping) -> Mapping {
    Mapping { teaches: BTreeSet::from([source]), ..mapping.clone() }
}

impl Labels {
    /// Adds a label of a file. It counts as accepted.
    pub(super) fn add_label(&mut self, label: Label) -> Result<(), LedgerError> {
        let record = LabelRecord { received: label.time, label, status: LabelStatus::Accepted };
        self.ledger.apply(&Record::Label(record), &mut Vec::new()).map(|_| ())
    }

    /// Adds a record of the ledger. The votes of a round are not needed.
    pub(super) fn add_record(&mut self, record: &Record, keys: &Keys) -> Result<(), LedgerError> {
        match record {
            Record::Round(_) => return Ok(()),
            Record::Edit(Edit { action: EditAction::Erase { tenant, subject }, .. }) => {
                self.erased.insert((keys.name(tenant), keys.name(subject)));
            }
            _ => {}
        }
        self.ledger.apply(record, &mut Vec::new()).map(|_| ())
    }

    /// Returns `true` if the subject with this key was erased in the tenant with this key.
    pub(super) fn erases(&self, tenant: u64, subject: u64, keys: &Keys) -> bool {
        let has = |tenant| self.erased.contains(&(tenant, subject));
        !self.erased.is_empty() && (has(tenant) || has(keys.name("")))
    }

    /// Forgets the labels that were received before `time`.
    pub(super) fn forget(&mut self, time: Millis) {
        let mut kept = LedgerState::new();
        for record in self.ledger.records() {
            let is_old = matches!(&record, Record::Label(label) if label.received < time);
            if !is_old {
                kept.apply(&record, &mut Vec::new()).expect("the record comes from a ledger");
            }
        }
        self.ledger = kept;
    }

    /// Returns `true` if a round has a label that the policy learns from.
    pub(super) fn has_label(&self, id: &RoundId, mapping: &Mapping) -> bool {
        let found = self.ledger.row(id);
        found.is_some_and(|(rounds, row)| rounds.target(row, mapping, self.ledger.edits()).is_some())
    }

    /// The answers for all rounds of a policy that have one, each with its tenant and event.
    ///
    /// An event with a gold label is reviewed no more, so that its request would stay unanswered for good, chosen by those who
    /// give reference answers. The gold label is therefore its answer unless there is a review.
    pub(super) fn answers<'a>(
        &'a self,
        policy: &str,
        mapping: &Mapping,
    ) -> impl Iterator<Item = (&'a str, &'a str, Answer)> + 'a {
        let mappings = [Source::Review, Source::Gold].map(|source| only(source, mapping));
        let rounds = self.ledger.find(policy).and_then(|number| self.ledger.rounds(number));
        rounds.into_iter().flat_map(move |rounds| {
            let mappings = mappings.clone();
            rounds.rows().filter_map(move |row| {
                let answer = mappings.iter().find_map(|mapping| self.answer(rounds, row, mapping))?;
                Some((rounds.tenant(row), rounds.event(row), answer))
            })
        })
    }

    /// Appeals and the decisions about them are left out: people appeal against some decisions and not against others, so
    /// that they are no sample.
    fn answer(&self, rounds: &Rounds, row: Row, mapping: &Mapping) -> Option<Answer> {
        let counts = |record: &LabelRecord| {
            let label = &record.label;
            record.status.counts() && label.source != Source::Appeal && !label.decides_appeal()
        };
        let records: Vec<LabelRecord> = rounds.labels(row).into_iter().filter(counts).collect();
        let tenant = rounds.tenant(row);
        let labels = || records.iter().map(|record| &record.label);
        let quarantined = |annotator: &str| self.ledger.edits().quarantines(tenant, annotator);
        let target = label::target(labels(), mapping, quarantined)?;
        let live = label::live(labels(), mapping, quarantined);
        let is_live =
            |record: &&LabelRecord| live.iter().any(|(label, _)| std::ptr::eq(*label, &record.label));
        let received = records.iter().filter(is_live).map(|record| record.received).max()?;
        Some(Answer { target, received })
    }
}
