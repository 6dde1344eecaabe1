//! A pass over all rounds with a separate learner, for figures that the fold does not keep.

use super::{Fold, FoldError, round_input};
use crate::learners::{Learner, LearnerSpec, RoundInput};
use crate::ledger_state::{LedgerState, Row};

/// One round of [`Fold::walk`].
#[derive(Debug, Clone, Copy)]
pub struct FoldStep<'a> {
    /// The index of the round in the fold's order.
    pub at: usize,
    /// The row of the round in the ledger.
    pub row: Row,
    /// The learner's input.
    pub input: RoundInput<'a>,
    /// The round's target, in \[0,1\].
    pub target: f64,
    /// The learner's prediction, in \[0,1\].
    pub p: f64,
    /// The weights that it played over the experts; `None` if it plays a p of its own.
    pub weights: Option<&'a [f64]>,
}

impl Fold {
    /// Folds all rounds that count with a new learner of `spec`. `visit` is called for each round with the
    /// learner in its state after that round. The fold itself does not change. Returns the learner after
    /// the last round, or `None` if no round counts. A round in which none of the fold's
    /// experts is awake any more, because it changed since the last [`Fold::reorder`], is skipped. `ledger` is the one
    /// that was folded.
    ///
    /// # Errors
    /// Returns [`FoldError::Learner`] if the learner cannot be built from the experts.
    ///
    /// # Panics
    /// Panics if `ledger` is another one, without some of the rounds that count.
    pub fn walk(
        &self,
        ledger: &LedgerState,
        spec: &LearnerSpec,
        visit: &mut dyn FnMut(&FoldStep<'_>, &dyn Learner),
    ) -> Result<Option<Box<dyn Learner>>, FoldError> {
        let Some(rounds) = self.rounds(ledger) else {
            return Ok(None);
        };
        let Some(mut learner) = self.build(spec)? else {
            return Ok(None);
        };
        let encoder = self.encoder_number(rounds);
        let mut votes = vec![f64::NAN; self.experts().len()];
        let mut weights = vec![0.0; votes.len()];
        for at in 0..self.order.len() {
            let row = self.order.row(at).expect("the order does not change during a walk");
            let Some(input) = round_input(rounds, &self.roster, encoder, row, &mut votes) else {
                continue;
            };
            // The ledger may have changed since the order was made.
            if input.votes.iter().all(|vote| vote.is_nan()) {
                continue;
            }
            let target = self.order.target(row);
            let plays = learner.weights(&input, &mut weights);
            let p = learner.step(&input, target);
            let weights = plays.then_some(&*weights);
            visit(&FoldStep { at, row, input, target, p, weights }, &*learner);
        }
        Ok(Some(learner))
    }
}
