//! The fold: a learner's state as a pure function of the set in the [`LedgerState`](super::ledger_state::LedgerState).
//!
//! Rounds are folded in the order (round time, tenant, event id). If a past round changes, the fold resumes
//! from the newest checkpoint before it: a label k rounds late costs about 1.03 k steps (see
//! `checkpoints.rs`), and several changes cost one pass from the earliest. A round *counts* if a label of it
//! is live and an expert is awake. The learner's experts are those of all rounds that count; if an expert
//! appears or disappears, all rounds are folded again.

mod checkpoints;
mod influence;
mod order;
mod publish;
mod roster;
mod steps;
mod walk;

use thiserror::Error;

use super::features::EncoderId;
use super::label::Mapping;
use super::learners::tally::{Certificate, Costs};
use super::learners::{Learner, LearnerSpec, SpecError, Tally};
use super::ledger_state::{Change, LedgerState, Rounds};
use checkpoints::Checkpoints;
use influence::Influence;
use order::Order;
use roster::Roster;

pub use influence::START as FREE_LABELS;
pub use walk::{FoldStep, Targets};

/// The default of [`Settings::memory`], in bytes.
pub const DEFAULT_MEMORY: usize = 64 << 20;

/// The settings of a fold.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The policy whose rounds are folded.
    pub policy: String,
    /// The learner.
    pub learner: LearnerSpec,
    /// The mapping of labels to targets.
    pub mapping: Mapping,
    /// The encoder whose features are read. `None` selects the encoder of most rounds.
    pub encoder: Option<EncoderId>,
    /// The memory for checkpoints, in bytes.
    pub memory: usize,
    /// `true` to keep a [`Tally`] of the fold's predictions. It is restored when the fold rewinds.
    pub tally: bool,
    /// The costs for the tally.
    pub costs: Option<Costs>,
}

impl Settings {
    /// The settings of a fold with default memory and a tally.
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

/// The reason for which rounds cannot be folded. The variants' names are metric labels.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FoldError {
    /// The learner cannot be built from these experts or parameters.
    #[error("policy {policy}: {reason}")]
    Learner {
        /// The policy.
        policy: String,
        /// The learner's error.
        reason: SpecError,
    },
    /// A checkpoint cannot be loaded, which is an error in this program.
    #[error("policy {policy}: a checkpoint does not fit its learner")]
    Checkpoint {
        /// The policy.
        policy: String,
    },
}

/// The learner of one policy, with its rounds in order and its checkpoints.
pub struct Fold {
    settings: Settings,
    /// The learner and the mapping as they enter the state hash.
    learner_line: String,
    mapping_line: String,
    order: Order,
    roster: Roster,
    encoder: Option<EncoderId>,
    /// `None` before the first round that counts.
    learner: Option<Box<dyn Learner>>,
    tally: Option<Tally>,
    /// The labels so far by annotator; `None` without a cap.
    influence: Option<Influence>,
    checkpoints: Checkpoints,
    /// The number of rounds folded.
    at: usize,
    next_checkpoint: usize,
    /// `true` if the experts or the encoder changed and the learner was not rebuilt since.
    outdated: bool,
    /// Scratch space for the votes of one round.
    votes: Vec<f64>,
    /// Scratch space for the weights of one round.
    weights: Vec<f64>,
}

/// The progress of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldProgress {
    /// The rounds that count.
    pub rounds: usize,
    /// The rounds of these that are folded.
    pub folded: usize,
    /// The number of checkpoints.
    pub checkpoints: usize,
    /// The size of the checkpoints' states, in bytes.
    pub checkpoint_bytes: usize,
}

impl Fold {
    /// An empty fold. If the ledger already holds rounds, call [`Fold::mark_all_changed`] next.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            encoder: settings.encoder,
            checkpoints: Checkpoints::new(settings.memory),
            learner_line: settings.learner.canonical(),
            mapping_line: settings.mapping.canonical(),
            influence: Influence::new(&settings.mapping),
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

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The progress of the fold.
    #[must_use]
    pub fn progress(&self) -> FoldProgress {
        let (checkpoints, checkpoint_bytes) = self.checkpoints.size();
        FoldProgress { rounds: self.order.len(), folded: self.at, checkpoints, checkpoint_bytes }
    }

    /// Marks a round as changed, without folding.
    pub fn mark_changed(&mut self, change: &Change) {
        self.order.touch(change.row, change.votes);
    }

    /// Marks all rounds of the ledger as changed, without folding.
    pub fn mark_all_changed(&mut self, ledger: &LedgerState) {
        if let Some(rounds) = self.rounds(ledger) {
            rounds.rows().for_each(|row| self.order.touch(row, true));
        }
    }

    /// The rounds of the fold's policy; `None` if no record names it.
    fn rounds<'a>(&self, ledger: &'a LedgerState) -> Option<&'a Rounds> {
        ledger.find(&self.settings.policy).and_then(|policy| ledger.rounds(policy))
    }

    /// The number of changes since the last [`reorder`](Self::reorder).
    #[must_use]
    pub fn pending(&self) -> usize {
        self.order.touched()
    }

    /// Moves changed rounds to their place in the order and rewinds, without folding. Returns the number of
    /// steps that [`Fold::advance`] will take.
    ///
    /// # Errors
    /// Returns [`FoldError::Checkpoint`] if the checkpoint to rewind to cannot be loaded.
    ///
    /// # Panics
    /// Panics if `ledger` is another one than that of the changes, without some of the changed rounds.
    pub fn reorder(&mut self, ledger: &LedgerState) -> Result<usize, FoldError> {
        let Some(rounds) = self.rounds(ledger) else {
            return Ok(0);
        };
        let settings = &self.settings;
        let first = self.order.update(rounds, &settings.mapping, ledger.edits(), &mut self.roster);
        if let Some(first) = first {
            let experts_changed = self.roster.refresh(rounds);
            let encoder = self.settings.encoder.or_else(|| self.roster.encoder(rounds));
            self.outdated |= experts_changed || encoder != self.encoder;
            self.encoder = encoder;
            if !self.outdated && first < self.at {
                self.rewind(first)?;
            }
        }
        Ok(if self.outdated { self.order.len() } else { self.order.len() - self.at })
    }

    /// Folds all rounds that count.
    ///
    /// # Errors
    /// Returns an error if the learner cannot be built from the experts, or a checkpoint cannot be loaded.
    ///
    /// # Panics
    /// Panics as [`Fold::reorder`] does.
    pub fn catch_up(&mut self, ledger: &LedgerState) -> Result<(), FoldError> {
        self.advance(ledger, usize::MAX).map(|_| ())
    }

    /// Folds at most `limit` rounds. Returns `true` if all rounds that count are folded. Rounds may change
    /// between two calls; the next call takes the changes into the same pass.
    ///
    /// # Errors
    /// Returns an error if the learner cannot be built from the experts, or a checkpoint cannot be loaded.
    ///
    /// # Panics
    /// Panics as [`Fold::reorder`] does.
    pub fn advance(&mut self, ledger: &LedgerState, limit: usize) -> Result<bool, FoldError> {
        self.reorder(ledger)?;
        if self.outdated {
            self.rebuild()?;
        }
        let Some(rounds) = self.rounds(ledger) else {
            return Ok(true);
        };
        let end = self.at.saturating_add(limit).min(self.order.len());
        let encoder = self.encoder_number(rounds);
        while self.at < end {
            let stop = self.next_checkpoint.min(end);
            self.run(rounds, ledger.edits(), encoder, stop);
            if self.at == self.next_checkpoint {
                self.save();
            }
        }
        Ok(self.at == self.order.len())
    }

    /// Returns `true` if all rounds that count are folded and no change is pending.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.at == self.order.len() && self.order.touched() == 0 && !self.outdated
    }

    /// The number of the encoder whose features are read, among those of the ledger.
    fn encoder_number(&self, rounds: &Rounds) -> Option<usize> {
        self.encoder.and_then(|id| rounds.encoders().iter().position(|known| *known == id))
    }

    /// The ids of the experts, in the order of their UTF-8 bytes.
    #[must_use]
    pub fn experts(&self) -> &[String] {
        self.roster.experts()
    }

    /// The encoder whose features are read, if there is one.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.encoder
    }

    /// The learner in its current state; `None` before the first round.
    #[must_use]
    pub fn learner(&self) -> Option<&dyn Learner> {
        self.learner.as_deref()
    }

    /// The figures of the fold's predictions, if a tally is kept.
    #[must_use]
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// The greatest regret against an expert, with its proven bound, if a tally is kept.
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
