//! The steps of a fold: the learner learns rounds, and its state is saved in checkpoints and restored from them.

use super::influence::Influence;
use super::roster::Roster;
use super::{Fold, FoldError};
use crate::learners::{Learner, LearnerSpec, RoundInput, Tally};
use crate::ledger_state::{Edits, Rounds, Row};

impl Fold {
    /// Folds rounds until `self.at` is `stop`. This is the hot loop; it does not allocate, unless a cap meets a new
    /// annotator.
    pub(super) fn run(&mut self, rounds: &Rounds, edits: &Edits, encoder: Option<usize>, stop: usize) {
        let learner = self.learner.as_deref_mut().expect("rounds that count have experts");
        while self.at < stop {
            let row = self.order.row(self.at).expect("at most all rounds that count are folded");
            self.at += 1;
            // The votes of a round may be gone without a change that was marked.
            let Some(input) = round_input(rounds, &self.roster, encoder, row, &mut self.votes) else {
                continue;
            };
            let mut target = self.order.target(row);
            if let Some(influence) = &mut self.influence {
                let Some(capped) = influence.target(rounds, row, &self.settings.mapping, edits) else {
                    continue;
                };
                target = capped;
            }
            match &mut self.tally {
                None => {
                    learner.step(&input, target);
                }
                Some(tally) => {
                    let plays = learner.weights(&input, &mut self.weights);
                    let (p, ablated) = learner.step_ablated(&input, target);
                    tally.add(input.votes, plays.then_some(&self.weights), p, target);
                    if let Some(ablated) = ablated {
                        tally.add_ablated(ablated, p, target);
                    }
                }
            }
        }
    }

    /// Saves a checkpoint, if there is a learner.
    pub(super) fn save(&mut self) {
        let Some(learner) = self.learner.as_deref() else {
            return;
        };
        let end = self.order.len();
        let influence = self.influence.as_ref();
        self.checkpoints.save(self.at, end, self.tally.as_ref(), |state| {
            learner.save(state);
            if let Some(influence) = influence {
                influence.save(state);
            }
        });
        self.next_checkpoint = self.checkpoints.next(end);
    }

    /// Restores the newest checkpoint at or before the round number `first`.
    pub(super) fn rewind(&mut self, first: usize) -> Result<(), FoldError> {
        let learner = self.learner.as_deref_mut().expect("folded rounds have experts");
        let (at, mut state, tally) = self.checkpoints.rewind(first);
        if let Some(influence) = &mut self.influence {
            state = influence.load(state);
        }
        learner.load(state).map_err(|_| FoldError::Checkpoint { policy: self.settings.policy.clone() })?;
        if let (Some(tally), Some(then)) = (&mut self.tally, tally) {
            tally.clone_from(then);
        }
        self.at = at;
        self.next_checkpoint = self.checkpoints.next(self.order.len());
        Ok(())
    }

    /// Builds the learner over the current experts and encoder, and starts again from the first round.
    pub(super) fn rebuild(&mut self) -> Result<(), FoldError> {
        self.at = 0;
        self.checkpoints.clear();
        self.influence = Influence::new(&self.settings.mapping);
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

    /// The learner of `spec` over the experts; `None` if there are none.
    pub(super) fn build(&self, spec: &LearnerSpec) -> Result<Option<Box<dyn Learner>>, FoldError> {
        let names: Vec<&str> = self.roster.experts().iter().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let policy = &self.settings.policy;
        spec.build(&names, policy)
            .map(Some)
            .map_err(|reason| FoldError::Learner { policy: policy.clone(), reason })
    }
}

/// The learner's input for the round at `row`; `None` if its votes are no longer in the ledger. They are written to
/// `votes`.
#[inline]
pub(super) fn round_input<'a>(
    rounds: &'a Rounds,
    roster: &Roster,
    encoder: Option<usize>,
    row: Row,
    votes: &'a mut [f64],
) -> Option<RoundInput<'a>> {
    let (panel, scores) = rounds.votes(row)?;
    roster.arrange(panel, scores, votes);
    let features = rounds.features(row).filter(|(number, _)| Some(*number) == encoder);
    Some(RoundInput { votes, features: features.map(|(_, features)| features), event: rounds.event(row) })
}
