//! Vovk's aggregating algorithm in Brier loss: η = 2 with the substitution
//! p = ½ + (g0 - g1)/2, `g_y` = -½ ln sum w e^(-2(x-y)²).
//!
//! Proven: regret in Brier against each entry over its awake rounds is at most ½ ln(1/π_i), for any
//! number of rounds. (p - y)² is at most `g_y` at y = 0 and 1, hence, `g_y` - (p - y)² being concave in
//! y, for every soft target between; a sleeper takes the mix loss `g_y`.

use super::super::math::{exp, ln_normal};
use super::mix::{Heard, Mix};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned, shares};

/// Vovk's η for Brier loss on [0,1], the greatest that the substitution allows.
const RATE: f64 = 2.0;

/// The aggregation itself, over any entries that predict or sleep.
#[derive(Debug, Clone)]
pub(super) struct Aggregation {
    mix: Mix,
}

/// What the aggregation says of one round, for [`Aggregation::learn`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    /// P(unsafe).
    pub(super) p: f64,
    heard: Heard,
    /// Sums of mass times e^(-2(x-y)²) for y = 0 and 1.
    sums: [f64; 2],
}

impl Aggregation {
    pub(super) fn new(prior: &[f64]) -> Self {
        Self { mix: Mix::new(RATE, prior) }
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Combines what the entries say; NaN sleeps.
    #[inline(always)]
    pub(super) fn combine(&mut self, said: &[f64]) -> Said {
        let heard = self.mix.hear(said);
        let sums = self.mix.sums(|x| [exp(-RATE * x * x), exp(-RATE * (x - 1.0) * (x - 1.0))]);
        // g0 - g1 = -½ ln(sum0 / sum1); both are at least e^-2 of a positive total.
        let p = 0.5 - 0.5 / RATE * ln_normal(sums[0] / sums[1]);
        Said { p: p.clamp(0.0, 1.0), heard, sums }
    }

    /// Learns the target of the round that was combined last.
    #[inline(always)]
    pub(super) fn learn(&mut self, of: Said, target: f64) {
        let square = |x: f64| (x - target) * (x - target);
        if target == 0.0 || target == 1.0 {
            let sum = if target == 0.0 { of.sums[0] } else { of.sums[1] };
            self.mix.learn_with(-ln_normal(sum / of.heard.total) / RATE, square);
        } else {
            self.mix.learn(of.heard, square);
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
    /// An aggregation with prior masses that sum to one.
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
        let said = self.aggregation.combine(round.votes);
        self.aggregation.learn(said, target);
        said.p
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
