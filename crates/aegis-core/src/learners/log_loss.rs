//! The Bayes mixture: the aggregating algorithm in log loss, for votes that are probabilities.
//!
//! Proven: the regret in log loss against each expert over its awake rounds is at most ln(1/π_i), for any
//! number of rounds, for soft targets too (Hölder's inequality), and with sleepers, which are charged the
//! mixture's own loss.

use super::mix::{Aggregate, Mix};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned, shares};
use crate::math::ln_normal;

/// Votes are clipped to \[CLIP, 1 - CLIP\], because one wrong vote of 0 or 1 would remove its expert for good.
const CLIP: f64 = 0.01;

/// The log loss -y ln x - (1 - y) ln(1 - x), with x clipped to \[CLIP, 1 - CLIP\].
#[inline(always)]
pub(super) fn log_loss(x: f64, y: f64) -> f64 {
    let x = clip(x);
    -(y * ln_normal(x) + (1.0 - y) * ln_normal(1.0 - x))
}

#[inline(always)]
fn clip(x: f64) -> f64 {
    x.clamp(CLIP, 1.0 - CLIP) // NaN stays
}

/// The Bayes mixture over experts.
#[derive(Debug, Clone)]
pub struct LogLoss {
    names: Vec<String>,
    mix: Mix,
    clipped: Vec<f64>,
}

impl LogLoss {
    /// The mixture before its first round. The prior masses sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64]) -> Self {
        let n = experts.len();
        Self { names: owned(experts), mix: Mix::new(1.0, prior), clipped: vec![0.0; n] }
    }

    #[inline(always)]
    fn aggregate(&mut self, votes: &[f64]) -> Aggregate {
        for (clipped, vote) in self.clipped.iter_mut().zip(votes) {
            *clipped = clip(*vote);
        }
        self.mix.aggregate(&self.clipped)
    }
}

impl Learner for LogLoss {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        clip(self.aggregate(round.votes).mean())
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let aggregate = self.aggregate(round.votes);
        self.mix.learn(aggregate, |vote| log_loss(vote, target));
        clip(aggregate.mean())
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        self.mix.weights(round.votes, out);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &self.mix.masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.mix.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.mix.load(state)
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Log
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        Some(-self.mix.ln_prior(against.expert))
    }
}
