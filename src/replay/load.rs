//! The ledger of a replay and the folds that follow it. Records of the ledger are applied as the learner does, by
//! [`LedgerState::apply`]. Lines with votes are inserted by calls that allocate nothing.

use std::collections::BTreeMap;

use super::ReplayError;
use super::batch::{Batch, Item, RoundLabel, RoundSpan, Savepoint, Votes};
use super::header::HeaderPolicy;
use super::write::Policy;
use crate::core::event::Millis;
use crate::core::features::{EncoderId, Features};
use crate::core::fold::{DEFAULT_MEMORY, Fold, Settings};
use crate::core::hash::hex;
use crate::core::label::{DecisionRef, Source};
use crate::core::learners::LearnerSpec;
use crate::core::learners::tally::Costs;
use crate::core::ledger::{LabelStatus, Record};
use crate::core::ledger_state::{
    Change, LabelEntry, LedgerError, LedgerState, Panel, Row, Score, VotesEntry,
};

/// A round whose text must be read by an encoder before its votes are inserted.
#[derive(Debug)]
pub(super) struct UnreadRound {
    pub(super) text: String,
    policy: usize,
    row: Row,
    subject: Option<String>,
    round_time: Millis,
    decision: DecisionRef,
    panel: Panel,
    scores: Vec<Score>,
}

/// The fold of one policy, and its distance to the ledger.
#[derive(Debug, Default)]
struct PolicyFold {
    /// `None` if the fold could not be built so far.
    fold: Option<Fold>,
    /// Changes since the fold last advanced.
    pending: usize,
    /// The fold does not advance before this many changes are pending.
    min_pending: usize,
}

/// The ledger of a replay, and its folds.
#[derive(Debug, Default)]
pub(super) struct Loader {
    pub(super) ledger: LedgerState,
    /// The folds by policy number.
    folds: Vec<PolicyFold>,
    /// The policies of headers and configuration.
    pub(super) headers: BTreeMap<String, HeaderPolicy>,
    /// The learner of the flags, which takes precedence over headers.
    pub(super) learner: Option<LearnerSpec>,
    /// `--seed`.
    pub(super) seed: Option<Vec<u8>>,
    pub(super) costs: Option<Costs>,
    /// `true` if lines with votes have times. `None` before the first such line.
    pub(super) timed: Option<bool>,
    /// The number of lines with votes so far.
    pub(super) position: i64,
    /// If `true`, nothing is folded before all lines are read.
    pub(super) folds_last: bool,
    /// If `true`, a savepoint is being read, whose lines contain their positions.
    pub(super) resuming: bool,
    /// If `true`, only the ledger is wanted, and lines with and without times may be mixed, as in a savepoint.
    pub(super) ledger_only: bool,
    pub(super) savepoint: Option<Savepoint>,
    pub(super) unread: Vec<UnreadRound>,
    /// The experts of each panel by the reading thread's numbers.
    panels: Vec<Vec<String>>,
    /// By policy, the ledger's panels by the reading thread's numbers.
    ledger_panels: Vec<Vec<Option<Panel>>>,
    /// The name and number of the last policy.
    last_policy: Option<(String, usize)>,
    changes: Vec<Change>,
}

/// The reason why a line is not in the ledger.
#[derive(Debug)]
pub(super) enum Refused {
    /// The line is malformed; the run goes on.
    Line(String),
    /// The run fails.
    Run(ReplayError),
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Full => Self::Run(ReplayError::Internal(error.to_string())),
            _ => Self::Line(error.to_string()),
        }
    }
}

impl Loader {
    /// Inserts one item of a batch.
    pub(super) fn insert(&mut self, item: &Item, batch: &Batch) -> Result<(), Refused> {
        match item {
            Item::Round { id, votes, label } => self.round(*id, votes, label.as_ref(), batch),
            Item::Records(records) => records.iter().try_for_each(|record| self.record(record)),
            Item::Header(policies) => self.header(policies),
            Item::Savepoint(savepoint) if self.resuming || self.ledger_only => {
                self.timed = savepoint.timed;
                self.position = savepoint.position;
                self.savepoint = Some(savepoint.clone());
                Ok(())
            }
            Item::Savepoint(_) => Err(Refused::Line("a savepoint is read with --resume".to_owned())),
            Item::Malformed(reason) => Err(Refused::Line(reason.clone())),
        }
    }

    /// Adds the panels that are new in a batch.
    pub(super) fn add_panels(&mut self, batch: &Batch) {
        self.panels.extend(batch.panels.iter().cloned());
    }

    /// Forgets the reading thread's panels: a new parser numbers them from 0 again.
    pub(super) fn on_new_parser(&mut self) {
        self.panels.clear();
        self.ledger_panels.clear();
    }

    /// Inserts a record of the ledger.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Refused> {
        let applied = self.ledger.apply(record, &mut self.changes);
        self.notify_folds();
        applied.map(|_| ()).map_err(Refused::from)
    }

    fn header(&mut self, policies: &BTreeMap<String, HeaderPolicy>) -> Result<(), Refused> {
        for (name, given) in policies {
            match self.headers.get(name) {
                Some(known) if known.same_fold(given) => {}
                Some(_) => {
                    let reason = format!("two headers contradict one another about the policy {name:?}");
                    return Err(Refused::Run(ReplayError::Data(reason)));
                }
                None => {
                    self.headers.insert(name.clone(), given.clone());
                    if let Some(fold) = self.ledger.find(name).and_then(|at| self.folds.get_mut(at)) {
                        *fold = PolicyFold::default();
                    }
                }
            }
        }
        Ok(())
    }

    fn policy(&mut self, name: &str) -> usize {
        if let Some((last, number)) = &self.last_policy
            && last == name
        {
            return *number;
        }
        let number = self.ledger.policy(name);
        self.last_policy = Some((name.to_owned(), number));
        number
    }

    /// Returns the ledger's panel for one of the reading thread's.
    fn panel(&mut self, policy: usize, number: usize) -> Result<Panel, LedgerError> {
        if self.ledger_panels.len() <= policy {
            self.ledger_panels.resize(policy + 1, Vec::new());
        }
        let known = &mut self.ledger_panels[policy];
        if known.len() <= number {
            known.resize(number + 1, None);
        }
        if let Some(panel) = known[number] {
            return Ok(panel);
        }
        let panel = self.ledger.panel(policy, self.panels[number].iter().map(String::as_str))?;
        self.ledger_panels[policy][number] = Some(panel);
        Ok(panel)
    }

    fn round(
        &mut self,
        id: RoundSpan,
        votes: &Votes,
        label: Option<&RoundLabel>,
        batch: &Batch,
    ) -> Result<(), Refused> {
        let policy = self.policy(batch.text(id.policy));
        let row = self.ledger.intern(policy, batch.text(id.tenant), batch.text(id.event))?;
        self.votes(policy, row, votes, batch)?;
        let entry = label.map(|label| match label {
            RoundLabel::Record(record) => LabelEntry::from(&**record),
            RoundLabel::Plain { id, annotator, verdict, severity } => LabelEntry {
                id: batch.text(*id),
                annotator: annotator.map(|annotator| batch.text(annotator)),
                verdict: *verdict,
                severity: *severity,
                categories: &[],
                time: 0,
                source: Source::Review,
                inclusion_probability: None,
                decision: None,
                corrects: None,
                retracts: None,
                received: 0,
                status: LabelStatus::Accepted,
            },
        });
        if let Some(entry) = entry {
            self.ledger.insert_label(policy, row, &entry, &mut self.changes)?;
        }
        self.notify_folds();
        Ok(())
    }

    fn votes(&mut self, policy: usize, row: Row, votes: &Votes, batch: &Batch) -> Result<(), Refused> {
        let position = self.position;
        let timed = votes.time.is_some();
        if !self.resuming && !self.ledger_only {
            if *self.timed.get_or_insert(timed) != timed {
                let reason =
                    "event_time stands on some lines with votes and not on others: give it on all or on none";
                return Err(Refused::Run(ReplayError::Data(reason.to_owned())));
            }
            self.position += 1;
        }
        let implied = DecisionRef { partition: 0, offset: if timed { 0 } else { position } };
        let panel = self.panel(policy, votes.panel)?;
        let experts = self.panels[votes.panel].len();
        let entry = VotesEntry {
            subject: votes.subject.map(|span| batch.text(span)),
            round_time: votes.time.unwrap_or(position),
            decision: votes.decision.unwrap_or(implied),
            panel,
            scores: &batch.scores[votes.scores..votes.scores + experts],
            features: votes
                .features
                .map(|at| &batch.features[at])
                .map(|(encoder, features)| (encoder, features)),
        };
        if let Some(text) = votes.text {
            self.unread.push(UnreadRound {
                text: batch.text(text).to_owned(),
                policy,
                row,
                subject: entry.subject.map(str::to_owned),
                round_time: entry.round_time,
                decision: entry.decision,
                panel,
                scores: entry.scores.to_vec(),
            });
            return Ok(());
        }
        self.ledger.insert_votes(policy, row, &entry, &mut self.changes)?;
        Ok(())
    }

    /// Inserts the votes of a round after its text was read. `None` if the text has no features.
    pub(super) fn insert_read(
        &mut self,
        round: &UnreadRound,
        features: Option<(&EncoderId, &Features)>,
    ) -> Result<(), Refused> {
        let entry = VotesEntry {
            subject: round.subject.as_deref(),
            round_time: round.round_time,
            decision: round.decision,
            panel: round.panel,
            scores: &round.scores,
            features,
        };
        self.ledger.insert_votes(round.policy, round.row, &entry, &mut self.changes)?;
        self.notify_folds();
        Ok(())
    }

    /// Passes changes on to the folds that exist.
    fn notify_folds(&mut self) {
        for change in self.changes.drain(..) {
            let Some(policy) = self.folds.get_mut(change.policy) else { continue };
            if let Some(fold) = &mut policy.fold {
                fold.mark_changed(&change);
                policy.pending += 1;
            }
        }
    }

    /// Returns the settings of a policy's fold by flags and headers.
    pub(super) fn settings(&self, policy: &str) -> Result<Policy, ReplayError> {
        let known = self.headers.get(policy).cloned();
        let mut header = known.unwrap_or_else(|| Policy::unknown(policy).into());
        if let Some(learner) = &self.learner {
            header.settings.learner = learner.clone();
            return Ok(header.settings);
        }
        let seeded = header.set_seed(self.seed.as_deref());
        seeded.map_err(|reason| ReplayError::Usage(format!("policy {policy:?}: {reason}")))?;
        Ok(header.settings)
    }

    /// Drops the folds, whose settings changed.
    pub(super) fn reset_folds(&mut self) {
        self.folds.clear();
    }

    /// Compares the states with those of a savepoint. The error is a policy whose state differs.
    pub(super) fn check(&mut self, states: &BTreeMap<String, String>) -> Result<(), String> {
        for (name, hash) in states {
            let policy = self.ledger.find(name).and_then(|at| self.folds.get_mut(at));
            let fold = policy.and_then(|policy| policy.fold.as_mut()).ok_or_else(|| name.clone())?;
            fold.catch_up(&self.ledger).map_err(|_| name.clone())?;
            if hex(&fold.state_hash(&self.ledger)) != *hash {
                return Err(name.clone());
            }
        }
        Ok(())
    }

    fn fold(&self, policy: &str) -> Result<Fold, ReplayError> {
        let mut fold = Fold::new(self.fold_settings(policy)?);
        fold.mark_all_changed(&self.ledger);
        Ok(fold)
    }

    /// Returns the settings of the fold of a policy.
    pub(super) fn fold_settings(&self, policy: &str) -> Result<Settings, ReplayError> {
        let settings = self.settings(policy)?;
        Ok(Settings {
            policy: policy.to_owned(),
            learner: settings.learner,
            mapping: settings.mapping,
            encoder: settings.encoder,
            memory: DEFAULT_MEMORY,
            tally: true,
            costs: self.costs,
        })
    }

    /// Advances the folds if that does not cost much more than it saves: lines in order are folded as they come, shuffled
    /// ones when their number has doubled.
    pub(super) fn advance_folds(&mut self) {
        if self.folds_last {
            return;
        }
        for number in self.folds.len()..self.ledger.policies().len() {
            // An error is reported by `finish`, when all headers are known.
            let fold = self.fold(self.ledger.policies()[number].policy()).ok();
            let pending = fold.as_ref().map_or(0, Fold::pending);
            self.folds.push(PolicyFold { fold, pending, min_pending: 0 });
        }
        for policy in &mut self.folds {
            let Some(fold) = &mut policy.fold else { continue };
            if policy.pending == 0 || policy.pending < policy.min_pending {
                continue;
            }
            match fold.reorder(&self.ledger) {
                Ok(steps) if steps <= 2 * policy.pending + 1_000 => {
                    // A learner may refuse the experts known so far and accept those of all lines.
                    let _ = fold.advance(&self.ledger, usize::MAX);
                    policy.pending = 0;
                }
                Ok(steps) => policy.min_pending = steps / 2,
                Err(_) => policy.min_pending = policy.pending * 2,
            }
        }
    }

    /// Folds everything and returns the folds in the order of the policies' names.
    pub(super) fn finish(&mut self) -> Result<Vec<Fold>, ReplayError> {
        let policies = self.ledger.policies().iter().enumerate();
        let numbers: BTreeMap<String, usize> =
            policies.map(|(number, rounds)| (rounds.policy().to_owned(), number)).collect();
        let mut folds = Vec::new();
        for (name, number) in numbers {
            let started = self.folds.get_mut(number).and_then(|policy| policy.fold.take());
            let mut fold = match started {
                Some(fold) => fold,
                None => self.fold(&name)?,
            };
            fold.catch_up(&self.ledger).map_err(|error| ReplayError::Data(error.to_string()))?;
            folds.push(fold);
        }
        Ok(folds)
    }
}
