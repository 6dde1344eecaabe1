//! A pass over all rounds with a separate learner, for figures that the fold does not keep.

use super::influence::Influence;
use super::order::Order;
use super::steps::round_input;
use super::{Fold, FoldError};
use crate::label::Mapping;
use crate::learners::{Learner, LearnerSpec, RoundInput};
use crate::ledger_state::{Edits, LedgerState, Rounds, Row};

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

/// The targets of a fold's rounds, one after the other.
#[derive(Debug)]
pub struct Targets<'a> {
    order: &'a Order,
    mapping: &'a Mapping,
    edits: &'a Edits,
    influence: Option<Influence>,
}

impl Targets<'_> {
    /// The target of the next round; `None` if all of its labels are above the cap of their annotators.
    ///
    /// # Panics
    /// Panics if `row` is not of the ledger that was folded.
    pub fn next(&mut self, rounds: &Rounds, row: Row) -> Option<f64> {
        match &mut self.influence {
            None => Some(self.order.target(row)),
            Some(influence) => influence.target(rounds, row, self.mapping, self.edits),
        }
    }
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
        self.walk_selected(ledger, spec, &mut |_, target| Some(target), visit)
    }

    /// Does the same as [`Fold::walk`], but the learner predicts every round and learns only some of them: `learns`
    /// returns the target to learn, given the round's own, or `None` to hide the round from the learner.
    ///
    /// # Errors
    /// Returns [`FoldError::Learner`] if the learner cannot be built from the experts.
    ///
    /// # Panics
    /// Panics as [`Fold::walk`] does.
    pub fn walk_selected(
        &self,
        ledger: &LedgerState,
        spec: &LearnerSpec,
        learns: &mut dyn FnMut(Row, f64) -> Option<f64>,
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
        let mut targets = self.targets(ledger);
        for (at, row) in self.rows().enumerate() {
            let Some(input) = round_input(rounds, &self.roster, encoder, row, &mut votes) else {
                continue;
            };
            let Some(target) = targets.next(rounds, row) else {
                continue;
            };
            // The ledger may have changed since the order was made.
            if input.votes.iter().all(|vote| vote.is_nan()) {
                continue;
            }
            let plays = learner.weights(&input, &mut weights);
            let p = match learns(row, target) {
                Some(learned) => learner.step(&input, learned),
                None => learner.predict(&input),
            };
            let weights = plays.then_some(&*weights);
            visit(&FoldStep { at, row, input, target, p, weights }, &*learner);
        }
        Ok(Some(learner))
    }

    /// The rounds that count, in the order in which they are folded.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        (0..self.order.len()).filter_map(|at| self.order.row(at))
    }

    /// The targets of the rounds, to be asked for in the order of [`Fold::rows`]. `ledger` is the one that was folded.
    #[must_use]
    pub fn targets<'a>(&'a self, ledger: &'a LedgerState) -> Targets<'a> {
        let mapping = &self.settings.mapping;
        Targets { order: &self.order, mapping, edits: ledger.edits(), influence: Influence::new(mapping) }
    }

    /// The p that the learner gives a round in its present state, as score would: experts that are in no round
    /// that counts have no weight, and before the first such round the learner is the prior over the experts of
    /// the round. `None` if no expert with a weight is awake. `ledger` is the one that is folded.
    ///
    /// # Errors
    /// Returns [`FoldError::Learner`] if the learner cannot be built from the experts.
    ///
    /// # Panics
    /// Panics if `row` is not of this ledger.
    pub fn predict(&mut self, ledger: &LedgerState, row: Row) -> Result<Option<f64>, FoldError> {
        let Some(rounds) = self.rounds(ledger) else { return Ok(None) };
        let Some((panel, scores)) = rounds.votes(row) else { return Ok(None) };
        let awake = |votes: &[f64]| votes.iter().any(|vote| !vote.is_nan());
        if self.learner.is_none() {
            let names: Vec<&str> = rounds.panels()[panel.number()].iter().map(String::as_str).collect();
            let votes: Vec<f64> = scores.iter().map(|score| score.awake()).collect();
            if !awake(&votes) {
                return Ok(None);
            }
            let policy = &self.settings.policy;
            let prior = self.settings.learner.build(&names, policy);
            let mut prior = prior.map_err(|reason| FoldError::Learner { policy: policy.clone(), reason })?;
            let input = RoundInput { votes: &votes, features: None, event: rounds.event(row) };
            return Ok(Some(prior.predict(&input)));
        }
        let encoder = self.encoder_number(rounds);
        let input = round_input(rounds, &self.roster, encoder, row, &mut self.votes);
        let learner = self.learner.as_deref_mut();
        Ok(input
            .filter(|input| awake(input.votes))
            .zip(learner)
            .map(|(input, learner)| learner.predict(&input)))
    }
}
