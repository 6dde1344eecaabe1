//! The labels of a ledger or of a file, and the answers that they give.

use std::collections::HashSet;

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
    /// The mean of the live labels, in \[0,1\].
    pub(super) target: f64,
    /// `true` if one of them answers a review. The others were sent without a request: gold labels, and reports and appeals
    /// that teach.
    pub(super) reviewed: bool,
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

    /// The answer for one round.
    pub(super) fn answer(&self, id: &RoundId, mapping: &Mapping) -> Option<Answer> {
        let (rounds, row) = self.ledger.row(id)?;
        self.answer_of(rounds, row, mapping)
    }

    /// The answers for all labelled rounds of a policy, each with its tenant and event.
    pub(super) fn answers<'a>(
        &'a self,
        policy: &str,
        mapping: &'a Mapping,
    ) -> impl Iterator<Item = (&'a str, &'a str, Answer)> + 'a {
        let rounds = self.ledger.find(policy).and_then(|number| self.ledger.rounds(number));
        rounds.into_iter().flat_map(move |rounds| {
            rounds.rows().filter_map(move |row| {
                let answer = self.answer_of(rounds, row, mapping)?;
                Some((rounds.tenant(row), rounds.event(row), answer))
            })
        })
    }

    fn answer_of(&self, rounds: &Rounds, row: Row, mapping: &Mapping) -> Option<Answer> {
        let edits = self.ledger.edits();
        // Without a live label there is no answer; this is the cheap test.
        let target = rounds.target(row, mapping, edits)?;
        let labels: Vec<Label> = rounds
            .labels(row)
            .into_iter()
            .filter(|record| record.status.counts())
            .map(|record| record.label)
            .collect();
        let tenant = rounds.tenant(row);
        let live = label::live(&labels, mapping, |annotator| edits.quarantines(tenant, annotator));
        let reviewed = live.iter().any(|(label, _)| label.source == Source::Review);
        Some(Answer { target, reviewed })
    }
}
