//! The ledger in memory: the set of records that the learner's state is a function of.
//!
//! Records are applied in any order and any number of times; what the book holds afterwards is a
//! function of their set. Of several decisions about one event the lowest key wins; of several labels
//! under one id the newest of each annotator is kept; edits stand.
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

/// Why a record is no part of a ledger. The names are metric labels.
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
    /// More votes than [`MAX_VOTES`].
    #[error("a round has {votes} votes, more than {MAX_VOTES}")]
    TooManyVotes {
        /// Their number.
        votes: usize,
    },
    /// More than 32 bits can number.
    #[error("the ledger is full: one process keeps up to four billion rounds and votes")]
    Full,
}

/// No number is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full;

impl From<Full> for LedgerError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// A round in which something changed, for its policy's fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The policy, as [`LedgerState::rounds`] counts them.
    pub policy: usize,
    /// The round.
    pub row: Row,
    /// Whether its votes, features or time changed, and not only what is known of its labels.
    pub votes: bool,
}

/// A round's votes, borrowed: [`RoundRecord`] for those who bring many.
#[derive(Debug, Clone, Copy)]
pub struct VotesEntry<'a> {
    /// The user's key, for erasure.
    pub subject: Option<&'a str>,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// Where the decision lies.
    pub decision: DecisionRef,
    /// The experts asked, from [`LedgerState::panel`].
    pub panel: Panel,
    /// What they said, in the panel's order.
    pub scores: &'a [Score],
    /// The judged text's features with their encoder.
    pub features: Option<(&'a EncoderId, &'a Features)>,
}

/// A label with what became of it, borrowed: [`LabelRecord`] for those who bring many. The fields are those
/// of [`LabelRecord`] and [`Label`](super::label::Label).
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
    fn from(filed: &'a LabelRecord) -> Self {
        let label = &filed.label;
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
            received: filed.received,
            status: filed.status,
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

    /// The standing edits.
    #[must_use]
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// The policies' rounds, in order of first appearance.
    #[must_use]
    pub fn policies(&self) -> &[Rounds] {
        &self.policies
    }

    /// A policy's number, if any record names it.
    #[must_use]
    pub fn find(&self, policy: &str) -> Option<usize> {
        self.by_name.get(policy).copied()
    }

    /// A policy's rounds.
    #[must_use]
    pub fn rounds(&self, policy: usize) -> Option<&Rounds> {
        self.policies.get(policy)
    }

    /// A policy's number, new if need be.
    pub fn policy(&mut self, name: &str) -> usize {
        if let Some(known) = self.find(name) {
            return known;
        }
        self.policies.push(Rounds::new(name));
        self.by_name.insert(name.to_owned(), self.policies.len() - 1);
        self.policies.len() - 1
    }

    /// The panel of these experts, who must stand in the order of their ids, none twice.
    ///
    /// # Errors
    /// [`LedgerError::Unordered`], [`LedgerError::TooManyVotes`].
    pub fn panel<'a>(
        &mut self,
        policy: usize,
        experts: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Result<Panel, LedgerError> {
        self.policies.get_mut(policy).ok_or(LedgerError::Full)?.panel(experts)
    }

    /// Adds a record to the set and tells which rounds changed; `false` where the set stays as it is.
    ///
    /// # Errors
    /// Where a number of the record is out of its range; the set then stays as it is.
    pub fn apply(&mut self, record: &Record, changes: &mut Vec<Change>) -> Result<bool, LedgerError> {
        match record {
            Record::Round(judged) => self.resolve_decision(judged, changes),
            Record::Label(filed) => {
                let filing = LabelEntry::from(filed);
                filing.check()?;
                let policy = self.policy(&filed.label.policy);
                let row = self.intern(policy, &filed.label.tenant, &filed.label.event)?;
                self.insert_label(policy, row, &filing, changes)
            }
            Record::Edit(edit) => Ok(self.edit(edit, changes)),
        }
    }

    fn resolve_decision(
        &mut self,
        judged: &RoundRecord,
        changes: &mut Vec<Change>,
    ) -> Result<bool, LedgerError> {
        let policy = self.policy(&judged.id.policy);
        let panel = self.panel(policy, judged.votes.iter().map(|vote| vote.expert.as_str()))?;
        let scores: Result<Vec<_>, _> =
            judged.votes.iter().map(|vote| Score::new(vote.score, vote.shadow)).collect();
        let sitting = VotesEntry {
            subject: judged.subject.as_deref(),
            round_time: judged.round_time,
            decision: judged.decision,
            panel,
            scores: &scores?,
            features: judged.features.as_ref().map(|reading| (&reading.encoder, &*reading.features)),
        };
        let row = self.intern(policy, &judged.id.tenant, &judged.id.event)?;
        self.insert_votes(policy, row, &sitting, changes)
    }

    /// A round's row, new if need be.
    ///
    /// # Errors
    /// [`LedgerError::Full`].
    pub fn intern(&mut self, policy: usize, tenant: &str, event: &str) -> Result<Row, LedgerError> {
        self.policies.get_mut(policy).ok_or(LedgerError::Full)?.intern(tenant, event)
    }

    /// [`LedgerState::apply`] for borrowed votes.
    ///
    /// # Errors
    /// [`LedgerError::Full`].
    pub fn insert_votes(
        &mut self,
        policy: usize,
        row: Row,
        sitting: &VotesEntry<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, LedgerError> {
        let rounds = self.policies.get_mut(policy).ok_or(LedgerError::Full)?;
        let changed = rounds.resolve_decision(row, sitting, &self.edits)?;
        changes.extend(changed.then_some(Change { policy, row, votes: true }));
        Ok(changed)
    }

    /// [`LedgerState::apply`] for a borrowed label.
    ///
    /// # Errors
    /// Where a number of the label is out of its range; the set then stays as it is.
    pub fn insert_label(
        &mut self,
        policy: usize,
        row: Row,
        filing: &LabelEntry<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, LedgerError> {
        let rounds = self.policies.get_mut(policy).ok_or(LedgerError::Full)?;
        let changed = rounds.insert_label(row, filing)?;
        changes.extend(changed.then_some(Change { policy, row, votes: false }));
        Ok(changed)
    }

    fn edit(&mut self, edit: &Edit, changes: &mut Vec<Change>) -> bool {
        if !self.edits.add(edit) {
            return false;
        }
        for (policy, rounds) in self.policies.iter_mut().enumerate() {
            match &edit.action {
                EditAction::Quarantine { tenant, annotator } => {
                    let rows = rounds.labelled_by(tenant, annotator);
                    changes.extend(rows.into_iter().map(|row| Change { policy, row, votes: false }));
                }
                EditAction::Erase { tenant, subject } => {
                    let rows = rounds.erase(tenant, subject);
                    changes.extend(rows.into_iter().map(|row| Change { policy, row, votes: true }));
                }
            }
        }
        true
    }

    /// Whether [`LedgerState::apply`] would change the set: for a label, whether it is the one to keep.
    #[must_use]
    pub fn would_change(&self, record: &Record) -> bool {
        let rounds = |id: &RoundId| self.find(&id.policy).and_then(|policy| self.rounds(policy));
        match record {
            Record::Round(judged) => {
                let erased =
                    judged.subject.as_deref().is_some_and(|of| self.edits.erases(&judged.id.tenant, of));
                !erased && rounds(&judged.id).is_none_or(|rounds| rounds.judgement_is_new(judged))
            }
            Record::Label(filed) => {
                rounds(&filed.label.round()).is_none_or(|rounds| rounds.label_is_new(filed))
            }
            Record::Edit(edit) => !self.edits.has(edit),
        }
    }

    /// Where a round is, if any record names it.
    #[must_use]
    pub fn row(&self, id: &RoundId) -> Option<(&Rounds, Row)> {
        let rounds = self.rounds(self.find(&id.policy)?)?;
        Some((rounds, rounds.find(&id.tenant, &id.event)?))
    }

    /// The smallest set of records that makes this book.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let edits = self.edits.iter().map(Record::Edit);
        edits.chain(self.policies.iter().flat_map(Rounds::records))
    }
}
