//! The fold: a learner's state as a pure function of the set in the [`LedgerState`](super::ledger_state::LedgerState).
//!
//! Rounds are folded in the order (round time, tenant, event id). What changes in the past is folded
//! again from the newest checkpoint before it: a label k rounds late costs about 1.03 k steps (see
//! `checkpoints.rs`), and many changes cost one pass from the earliest. A round counts where a label
//! of it is live and an expert awake; the experts are all names in the rounds that count, and a new
//! or vanished name folds everything again.

mod checkpoints;
mod order;
mod publish;
mod roster;
mod walk;

use thiserror::Error;

use super::features::EncoderId;
use super::label::Mapping;
use super::learners::tally::Certificate;
use super::learners::tally::Costs;
use super::learners::{Learner, LearnerSpec, RoundInput, SpecError, Tally};
use super::ledger_state::{Change, LedgerState, Rounds};
use checkpoints::Checkpoints;
use order::Order;
use roster::Roster;

pub use walk::FoldStep;

/// Checkpoints take this much memory unless told otherwise, in bytes.
pub const DEFAULT_MEMORY: usize = 64 << 20;

/// What a fold is of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The policy whose rounds are folded.
    pub policy: String,
    /// The learner.
    pub learner: LearnerSpec,
    /// How labels become targets.
    pub mapping: Mapping,
    /// The encoder whose features are read; `None`: the one that most rounds carry.
    pub encoder: Option<EncoderId>,
    /// Memory for checkpoints, in bytes.
    pub memory: usize,
    /// Whether to keep a [`Tally`] of what the fold says, right after rewinds too.
    pub tally: bool,
    /// Costs for the tally.
    pub costs: Option<Costs>,
}

impl Settings {
    /// A fold with default memory and a tally.
    #[must_use]
    pub fn new(policy: &str, learner: LearnerSpec, mapping: Mapping) -> Self {
        Self {
            policy: policy.to_owned(),
            learner,
            mapping,
            encoder: None,
            memory: DEFAULT_MEMORY,
            tally: true,
            costs: None,
        }
    }
}

/// Why rounds cannot be folded. The names are metric labels.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FoldError {
    /// The learner refuses these experts or parameters.
    #[error("policy {policy}: {reason}")]
    Learner {
        /// The policy.
        policy: String,
        /// What the learner says.
        reason: SpecError,
    },
    /// A checkpoint does not load: a fault of this program.
    #[error("policy {policy}: a checkpoint does not fit its learner")]
    Checkpoint {
        /// The policy.
        policy: String,
    },
}

/// One policy's learner, its rounds in order, and its checkpoints.
pub struct Fold {
    settings: Settings,
    /// Learner and mapping in the lines that the state hash takes.
    learner_line: String,
    mapping_line: String,
    order: Order,
    roster: Roster,
    encoder: Option<EncoderId>,
    /// `None` before the first round.
    learner: Option<Box<dyn Learner>>,
    tally: Option<Tally>,
    checkpoints: Checkpoints,
    /// Rounds folded.
    at: usize,
    next_checkpoint: usize,
    /// The experts or the encoder changed, and the learner is still the old one.
    outdated: bool,
    /// One round's votes, and weights.
    votes: Vec<f64>,
    weights: Vec<f64>,
}

/// How a fold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldProgress {
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds folded.
    pub folded: usize,
    /// Checkpoints kept.
    pub checkpoints: usize,
    /// Their bytes.
    pub checkpoint_bytes: usize,
}

impl Fold {
    /// A fold of nothing yet. For a book that holds rounds already see [`Fold::mark_all_changed`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            encoder: settings.encoder,
            checkpoints: Checkpoints::new(settings.memory),
            learner_line: settings.learner.canonical(),
            mapping_line: settings.mapping.canonical(),
            settings,
            order: Order::default(),
            roster: Roster::default(),
            learner: None,
            tally: None,
            at: 0,
            next_checkpoint: 0,
            outdated: false,
            votes: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// What it is of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How it stands.
    #[must_use]
    pub fn progress(&self) -> FoldProgress {
        let (checkpoints, checkpoint_bytes) = self.checkpoints.size();
        FoldProgress { rounds: self.order.len(), folded: self.at, checkpoints, checkpoint_bytes }
    }

    /// Notes that a round changed; nothing is folded yet.
    pub fn mark_changed(&mut self, change: &Change) {
        self.order.touch(change.row, change.votes);
    }

    /// Notes that all rounds of the book may have changed.
    pub fn mark_all_changed(&mut self, ledger: &LedgerState) {
        if let Some(rounds) = self.rounds(ledger) {
            rounds.rows().for_each(|row| self.order.touch(row, true));
        }
    }

    fn rounds<'a>(&self, ledger: &'a LedgerState) -> Option<&'a Rounds> {
        ledger.find(&self.settings.policy).and_then(|policy| ledger.rounds(policy))
    }

    /// Rounds noted as changed and not yet looked at.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.order.touched()
    }

    /// Puts what changed in its place, without folding: how many steps [`Fold::advance`] will take.
    ///
    /// # Errors
    /// Where the learner refuses these experts.
    pub fn reorder(&mut self, ledger: &LedgerState) -> Result<usize, FoldError> {
        let Some(rounds) = self.rounds(ledger) else {
            return Ok(0);
        };
        let settings = &self.settings;
        let first = self.order.update(rounds, &settings.mapping, ledger.edits(), &mut self.roster);
        if let Some(first) = first {
            let others = self.roster.refresh(rounds);
            let encoder = self.settings.encoder.or_else(|| self.roster.encoder(rounds));
            self.outdated |= others || encoder != self.encoder;
            self.encoder = encoder;
            if !self.outdated && first < self.at {
                self.rewind(first)?;
            }
        }
        Ok(if self.outdated { self.order.len() } else { self.order.len() - self.at })
    }

    /// Folds everything that is known.
    ///
    /// # Errors
    /// Where the learner refuses these experts.
    pub fn catch_up(&mut self, ledger: &LedgerState) -> Result<(), FoldError> {
        self.advance(ledger, usize::MAX).map(|_| ())
    }

    /// Folds at most `limit` rounds; `true` once everything known is folded. Between two calls more
    /// may change: it is one pass all the same.
    ///
    /// # Errors
    /// Where the learner refuses these experts.
    pub fn advance(&mut self, ledger: &LedgerState, limit: usize) -> Result<bool, FoldError> {
        self.reorder(ledger)?;
        if self.outdated {
            self.rebuild()?;
        }
        let Some(rounds) = self.rounds(ledger) else {
            return Ok(true);
        };
        let end = self.at.saturating_add(limit).min(self.order.len());
        let reads = self.encoder.and_then(|id| rounds.encoders().iter().position(|known| *known == id));
        while self.at < end {
            let stop = self.next_checkpoint.min(end);
            self.run(rounds, reads, stop);
            if self.at == self.next_checkpoint {
                self.save();
            }
        }
        Ok(self.at == self.order.len())
    }

    /// Whether everything known is folded.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.at == self.order.len() && self.order.touched() == 0 && !self.outdated
    }

    /// The hot loop: folds up to `stop`. Allocates nothing.
    fn run(&mut self, rounds: &Rounds, reads: Option<usize>, stop: usize) {
        let Some(learner) = self.learner.as_deref_mut() else {
            self.at = stop;
            return;
        };
        while self.at < stop {
            let Some(row) = self.order.row(self.at) else {
                break;
            };
            self.at += 1;
            let Some((panel, scores)) = rounds.votes(row) else {
                continue;
            };
            self.roster.seat(panel, scores, &mut self.votes);
            let features = rounds.features(row).filter(|(encoder, _)| Some(*encoder) == reads);
            let input = RoundInput {
                votes: &self.votes,
                features: features.map(|(_, features)| features),
                event: rounds.event(row),
            };
            let target = self.order.target(row);
            match &mut self.tally {
                None => {
                    learner.step(&input, target);
                }
                Some(tally) => {
                    let plays = learner.weights(&input, &mut self.weights);
                    let (p, unread) = learner.step_unread(&input, target);
                    tally.add(&self.votes, plays.then_some(&self.weights), p, target);
                    if let Some(unread) = unread {
                        tally.add_unread(unread, p, target);
                    }
                }
            }
        }
    }

    fn save(&mut self) {
        let Some(learner) = self.learner.as_deref() else {
            return;
        };
        let end = self.order.len();
        self.checkpoints.save(self.at, end, self.tally.as_ref(), |state| learner.save(state));
        self.next_checkpoint = self.checkpoints.next(end);
    }

    fn rewind(&mut self, first: usize) -> Result<(), FoldError> {
        let fault = FoldError::Checkpoint { policy: self.settings.policy.clone() };
        let Some(learner) = self.learner.as_deref_mut() else {
            return Ok(());
        };
        let (at, state, tally) = self.checkpoints.rewind(first).ok_or_else(|| fault.clone())?;
        learner.load(state).map_err(|_| fault)?;
        if let (Some(tally), Some(then)) = (&mut self.tally, tally) {
            tally.clone_from(then);
        }
        self.at = at;
        self.next_checkpoint = self.checkpoints.next(self.order.len());
        Ok(())
    }

    /// Starts over with the experts and the encoder as they are now.
    fn rebuild(&mut self) -> Result<(), FoldError> {
        self.at = 0;
        self.checkpoints.clear();
        self.learner = self.build(&self.settings.learner)?;
        let experts = self.roster.experts().len();
        self.votes = vec![f64::NAN; experts];
        self.weights = vec![0.0; experts];
        let tally = |learner: &dyn Learner| Tally::new(experts, learner.loss_kind(), self.settings.costs);
        self.tally = self.learner.as_deref().filter(|_| self.settings.tally).map(tally);
        self.outdated = false;
        self.save();
        Ok(())
    }

    fn build(&self, spec: &LearnerSpec) -> Result<Option<Box<dyn Learner>>, FoldError> {
        let names: Vec<&str> = self.roster.experts().iter().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let policy = &self.settings.policy;
        spec.build(&names, policy)
            .map(Some)
            .map_err(|reason| FoldError::Learner { policy: policy.clone(), reason })
    }

    /// The experts, by the UTF-8 bytes of their ids.
    #[must_use]
    pub fn experts(&self) -> &[String] {
        self.roster.experts()
    }

    /// The encoder whose features are read.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.encoder
    }

    /// The learner as it stands; `None` before the first round.
    #[must_use]
    pub fn learner(&self) -> Option<&dyn Learner> {
        self.learner.as_deref()
    }

    /// What the fold said so far, where a tally is kept.
    #[must_use]
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// The greatest regret against an expert, with what is proven for it, where a tally is kept.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.tally.as_ref()?.certificate(self.learner.as_deref()?)
    }
}

impl std::fmt::Debug for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fold").field("settings", &self.settings).field("progress", &self.progress()).finish()
    }
}
