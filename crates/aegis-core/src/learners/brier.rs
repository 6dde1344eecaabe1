//! Vovk's aggregating algorithm in Brier loss: η = 2 with the substitution
//! p = ½ + (g0 - g1)/2, `g_y` = -½ ln sum w e^(-2(x-y)²).
//!
//! Proven: the regret in Brier loss against each entry over its awake rounds is at most ½ ln(1/π_i),
//! for any number of rounds. (p - y)² is at most `g_y` at y = 0 and at y = 1; because `g_y` - (p - y)² is
//! concave in y, this holds for every soft target between them. A sleeper is charged the mix loss `g_y`.

use super::mix::{Aggregate, Mix};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned, shares};
use crate::math::{exp, ln_normal};

/// The η of Vovk's algorithm for Brier loss on \[0,1\], the greatest that the substitution allows.
const RATE: f64 = 2.0;

/// The aggregating algorithm over any entries that predict or sleep.
#[derive(Debug, Clone)]
pub(super) struct Aggregation {
    mix: Mix,
}

/// The combined prediction of one round, with the sums that [`Aggregation::learn`] uses again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prediction {
    /// P(unsafe).
    pub(super) p: f64,
    aggregate: Aggregate,
    /// The sums of mass times e^(-2(x-y)²) for y = 0 and y = 1.
    sums: [f64; 2],
}

impl Aggregation {
    pub(super) fn new(prior: &[f64]) -> Self {
        Self { mix: Mix::new(RATE, prior) }
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Combines the predictions of all entries. NaN means that an entry sleeps.
    #[inline(always)]
    pub(super) fn combine(&mut self, predictions: &[f64]) -> Prediction {
        let aggregate = self.mix.aggregate(predictions);
        let sums = self.mix.sums(|x| [exp(-RATE * x * x), exp(-RATE * (x - 1.0) * (x - 1.0))]);
        // g0 - g1 = -½ ln(sum0 / sum1); both are at least e^-2 of a positive total.
        let p = 0.5 - 0.5 / RATE * ln_normal(sums[0] / sums[1]);
        Prediction { p: p.clamp(0.0, 1.0), aggregate, sums }
    }

    /// Learns the target of the round that was combined last, with that round's prediction.
    #[inline(always)]
    pub(super) fn learn(&mut self, prediction: Prediction, target: f64) {
        let square = |x: f64| (x - target) * (x - target);
        if target == 0.0 || target == 1.0 {
            let sum = if target == 0.0 { prediction.sums[0] } else { prediction.sums[1] };
            self.mix.learn_with(-ln_normal(sum / prediction.aggregate.total) / RATE, square);
        } else {
            self.mix.learn(prediction.aggregate, square);
        }
    }

    pub(super) fn save(&self, out: &mut Vec<f64>) {
        self.mix.save(out);
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.mix.load(state)
    }
}

/// The aggregation over the experts alone.
#[derive(Debug, Clone)]
pub struct Brier {
    names: Vec<String>,
    aggregation: Aggregation,
}

impl Brier {
    /// The aggregation before its first round. The prior masses sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64]) -> Self {
        Self { names: owned(experts), aggregation: Aggregation::new(prior) }
    }
}

impl Learner for Brier {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.aggregation.combine(round.votes).p
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let prediction = self.aggregation.combine(round.votes);
        self.aggregation.learn(prediction, target);
        prediction.p
    }

    fn weights(&self, _: &RoundInput<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &self.aggregation.mix().masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.aggregation.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.aggregation.load(state)
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Brier
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        Some(-0.5 * self.aggregation.mix().ln_prior(against.expert))
    }
}
