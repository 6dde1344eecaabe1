//! The ledger in memory: the set of records that the learner's state is a function of.
//!
//! Records can be applied in any order and any number of times; the resulting state is a function of their
//! set. Of several decisions about one event the one with the lowest key is used. Of several labels with one
//! id the newest of each annotator is kept. Edits are never removed.
//!
//! A round takes about 150 bytes beside its votes (8 bytes each), features (384 bytes) and names.

mod edits;
mod labels;
mod names;
mod reliability;
mod resolve;
mod rounds;
mod scores;
mod stored;
mod votes;

use std::collections::HashMap;

use thiserror::Error;

use super::features::{EncoderId, Features};
use super::label::{DecisionRef, Finding, Source};
use super::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord};
use crate::event::Millis;

pub use edits::Edits;
pub use reliability::Reliability;
pub use rounds::{Counts, Rounds, Row};
pub use votes::{MAX_VOTES, Panel, Score};

/// The reason for which a record cannot be part of a ledger. The variants' names are metric labels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// A score is not a number in \[0,1\].
    #[error("a vote's score is not a number from 0 to 1: send null where an expert has no answer")]
    Score,
    /// A severity is not a number in \[0,1\].
    #[error("a label's severity is not a number from 0 to 1")]
    Severity,
    /// An inclusion probability is not a number in (0,1\].
    #[error("a label's inclusion probability is not a number above 0 and up to 1")]
    Inclusion,
    /// The votes are not in the order of their experts' ids, or an expert voted twice.
    #[error("a round's votes are not in the order of the experts' ids, each once")]
    Unordered,
    /// A round has more votes than [`MAX_VOTES`].
    #[error("a round has {votes} votes, more than {MAX_VOTES}")]
    TooManyVotes {
        /// The number of votes.
        votes: usize,
    },
    /// The rounds or votes exceed a numbering of 32 bits.
    #[error("the ledger is full: one process keeps up to four billion rounds and votes")]
    Full,
}

/// A numbering of 32 bits is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full;

impl From<Full> for LedgerError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// A change of a round, for the fold of its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The number of the policy, as [`LedgerState::rounds`] takes it.
    pub policy: usize,
    /// The round.
    pub row: Row,
    /// `true` if its votes, features or time changed, `false` if only its labels did.
    pub votes: bool,
}

/// The votes of a round, borrowed: a cheaper form of [`RoundRecord`].
#[derive(Debug, Clone, Copy)]
pub struct VotesEntry<'a> {
    /// The user's key, for erasure.
    pub subject: Option<&'a str>,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The position of the decision.
    pub decision: DecisionRef,
    /// The experts, from [`LedgerState::panel`].
    pub panel: Panel,
    /// The experts' votes, in the panel's order.
    pub scores: &'a [Score],
    /// The features of the judged text with their encoder.
    pub features: Option<(&'a EncoderId, &'a Features)>,
}

/// A label with its status, borrowed: a cheaper form of [`LabelRecord`]. The fields are those of
/// [`LabelRecord`] and [`Label`](super::label::Label).
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of LabelRecord and Label")]
pub struct LabelEntry<'a> {
    pub id: &'a str,
    pub annotator: Option<&'a str>,
    pub verdict: Option<Finding>,
    pub severity: Option<f64>,
    pub categories: &'a [String],
    pub time: Millis,
    pub source: Source,
    pub inclusion_probability: Option<f64>,
    pub decision: Option<DecisionRef>,
    pub corrects: Option<&'a str>,
    pub retracts: Option<&'a str>,
    pub received: Millis,
    pub status: LabelStatus,
}

impl<'a> From<&'a LabelRecord> for LabelEntry<'a> {
    fn from(record: &'a LabelRecord) -> Self {
        let label = &record.label;
        Self {
            id: &label.id,
            annotator: label.annotator.as_deref(),
            verdict: label.verdict,
            severity: label.severity,
            categories: &label.categories,
            time: label.time,
            source: label.source,
            inclusion_probability: label.inclusion_probability,
            decision: label.decision,
            corrects: label.corrects.as_deref(),
            retracts: label.retracts.as_deref(),
            received: record.received,
            status: record.status,
        }
    }
}

impl LabelEntry<'_> {
    fn check(&self) -> Result<(), LedgerError> {
        if self.severity.is_some_and(|severity| !(0.0..=1.0).contains(&severity)) {
            return Err(LedgerError::Severity);
        }
        if self.inclusion_probability.is_some_and(|q| !(q > 0.0 && q <= 1.0)) {
            return Err(LedgerError::Inclusion);
        }
        Ok(())
    }
}

/// The ledger of all policies.
#[derive(Debug, Default)]
pub struct LedgerState {
    policies: Vec<Rounds>,
    by_name: HashMap<String, usize>,
    edits: Edits,
}

impl LedgerState {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edits.
    #[must_use]
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// The rounds of all policies, in the order of the policies' numbers.
    #[must_use]
    pub fn policies(&self) -> &[Rounds] {
        &self.policies
    }

    /// The number of a policy, if any record names it.
    #[must_use]
    pub fn find(&self, policy: &str) -> Option<usize> {
        self.by_name.get(policy).copied()
    }

    /// The rounds of the policy with this number.
    #[must_use]
    pub fn rounds(&self, policy: usize) -> Option<&Rounds> {
        self.policies.get(policy)
    }

    /// The number of a policy, which is added if it is new.
    pub fn policy(&mut self, name: &str) -> usize {
        if let Some(known) = self.find(name) {
            return known;
        }
        self.policies.push(Rounds::new(name));
        self.by_name.insert(name.to_owned(), self.policies.len() - 1);
        self.policies.len() - 1
    }

    /// The panel of these experts, which must be in the order of their ids, each once.
    ///
    /// # Errors
    /// Returns [`LedgerError::Unordered`] or [`LedgerError::TooManyVotes`] if they are not a valid panel.
    ///
    /// # Panics
    /// Panics if no policy has this number.
    pub fn panel<'a>(
        &mut self,
        policy: usize,
        experts: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Result<Panel, LedgerError> {
        self.policies[policy].panel(experts)
    }

    /// Adds a record to the set and appends the rounds that changed. Returns `false` if the set did not change.
    ///
    /// # Errors
    /// Returns an error if a number of the record is out of range, and the set does not change. Returns
    /// [`LedgerError::Full`] if the ledger is full.
    pub fn apply(&mut self, record: &Record, changes: &mut Vec<Change>) -> Result<bool, LedgerError> {
        match record {
            Record::Round(round) => self.insert_round(round, changes),
            Record::Label(record) => {
                let entry = LabelEntry::from(record);
                entry.check()?;
                let policy = self.policy(&record.label.policy);
                let row = self.intern(policy, &record.label.tenant, &record.label.event)?;
                self.insert_label(policy, row, &entry, changes)
            }
            Record::Edit(edit) => self.insert_edit(edit, changes),
        }
    }

    fn insert_round(&mut self, round: &RoundRecord, changes: &mut Vec<Change>) -> Result<bool, LedgerError> {
        let policy = self.policy(&round.id.policy);
        let panel = self.panel(policy, round.votes.iter().map(|vote| vote.expert.as_str()))?;
        let scores: Result<Vec<_>, _> = round.votes.iter().map(Score::of).collect();
        let votes = VotesEntry {
            subject: round.subject.as_deref(),
            round_time: round.round_time,
            decision: round.decision,
            panel,
            scores: &scores?,
            features: round.features.as_ref().map(|known| (&known.encoder, &*known.features)),
        };
        let row = self.intern(policy, &round.id.tenant, &round.id.event)?;
        self.insert_votes(policy, row, &votes, changes)
    }

    /// The row of a round, which is added if it is new.
    ///
    /// # Errors
    /// Returns [`LedgerError::Full`] if the ledger is full.
    ///
    /// # Panics
    /// Panics if no policy has this number.
    pub fn intern(&mut self, policy: usize, tenant: &str, event: &str) -> Result<Row, LedgerError> {
        self.policies[policy].intern(tenant, event)
    }

    /// Does the same as [`LedgerState::apply`] for borrowed votes.
    ///
    /// # Errors
    /// Returns [`LedgerError::Full`] if the ledger is full.
    ///
    /// # Panics
    /// Panics if the policy, the row or the panel is not of this ledger.
    pub fn insert_votes(
        &mut self,
        policy: usize,
        row: Row,
        votes: &VotesEntry<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, LedgerError> {
        let changed = self.policies[policy].resolve_decision(row, votes, &self.edits)?;
        changes.extend(changed.then_some(Change { policy, row, votes: true }));
        Ok(changed)
    }

    /// Does the same as [`LedgerState::apply`] for a borrowed label.
    ///
    /// # Errors
    /// Returns an error if a number of the label is out of range, and the set does not change. Returns
    /// [`LedgerError::Full`] if the ledger is full.
    ///
    /// # Panics
    /// Panics if the policy or the row is not of this ledger.
    pub fn insert_label(
        &mut self,
        policy: usize,
        row: Row,
        label: &LabelEntry<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, LedgerError> {
        let changed = self.policies[policy].insert_label(row, label)?;
        changes.extend(changed.then_some(Change { policy, row, votes: false }));
        Ok(changed)
    }

    fn insert_edit(&mut self, edit: &Edit, changes: &mut Vec<Change>) -> Result<bool, LedgerError> {
        if !self.edits.add(edit) {
            return Ok(false);
        }
        for (policy, rounds) in self.policies.iter_mut().enumerate() {
            match &edit.action {
                EditAction::Quarantine { tenant, annotator } => {
                    let rows = rounds.labelled_by(tenant, annotator);
                    changes.extend(rows.into_iter().map(|row| Change { policy, row, votes: false }));
                }
                EditAction::Erase { tenant, subject } => {
                    let rows = rounds.erase(tenant, subject)?;
                    changes.extend(rows.into_iter().map(|row| Change { policy, row, votes: true }));
                }
            }
        }
        Ok(true)
    }

    /// Returns `true` if [`LedgerState::apply`] would change the set.
    #[must_use]
    pub fn would_change(&self, record: &Record) -> bool {
        let rounds = |id: &RoundId| self.find(&id.policy).and_then(|policy| self.rounds(policy));
        match record {
            Record::Round(round) => {
                let erased =
                    round.subject.as_deref().is_some_and(|of| self.edits.erases(&round.id.tenant, of));
                !erased && rounds(&round.id).is_none_or(|rounds| rounds.decision_is_new(round))
            }
            Record::Label(record) => {
                rounds(&record.label.round()).is_none_or(|rounds| rounds.label_is_new(record))
            }
            Record::Edit(edit) => !self.edits.has(edit),
        }
    }

    /// The row of a round with the rounds of its policy, if any record names it.
    #[must_use]
    pub fn row(&self, id: &RoundId) -> Option<(&Rounds, Row)> {
        let rounds = self.rounds(self.find(&id.policy)?)?;
        Some((rounds, rounds.find(&id.tenant, &id.event)?))
    }

    /// The smallest set of records that results in this state.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let edits = self.edits.iter().map(Record::Edit);
        edits.chain(self.policies.iter().flat_map(Rounds::records))
    }
}
