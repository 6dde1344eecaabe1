//! A pass over all rounds with a learner of its own, for figures that nobody keeps.

use super::{Fold, FoldError};
use crate::learners::{Learner, LearnerSpec, RoundInput};
use crate::ledger_state::{LedgerState, Row};

/// One round of a walk.
#[derive(Debug, Clone, Copy)]
pub struct FoldStep<'a> {
    /// Its place in the order, from 0.
    pub at: usize,
    /// Its row in the book.
    pub row: Row,
    /// What the learner saw.
    pub input: RoundInput<'a>,
    /// What it was to say.
    pub target: f64,
    /// What it said.
    pub p: f64,
    /// The weights that it played over the experts; `None` where it plays a p of its own.
    pub weights: Option<&'a [f64]>,
}

impl Fold {
    /// Folds all rounds with a learner built for the occasion, and shows each round with the learner
    /// as it is after it. The fold itself stays as it is. The learner at the end, if there is a round.
    ///
    /// # Errors
    /// Where the learner refuses these experts.
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
        let reads = self.encoder.and_then(|id| rounds.encoders().iter().position(|known| *known == id));
        let mut votes = vec![f64::NAN; self.experts().len()];
        let mut weights = vec![0.0; votes.len()];
        for at in 0..self.order.len() {
            let Some(row) = self.order.row(at) else { break };
            let Some((panel, scores)) = rounds.votes(row) else {
                continue;
            };
            self.roster.seat(panel, scores, &mut votes);
            let features = rounds.features(row).filter(|(encoder, _)| Some(*encoder) == reads);
            let input = RoundInput {
                votes: &votes,
                features: features.map(|(_, features)| features),
                event: rounds.event(row),
            };
            let target = self.order.target(row);
            let plays = learner.weights(&input, &mut weights);
            let p = learner.step(&input, target);
            let weights = plays.then_some(&*weights);
            visit(&FoldStep { at, row, input, target, p, weights }, &*learner);
        }
        Ok(Some(learner))
    }
}
