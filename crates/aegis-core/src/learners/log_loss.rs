//! The Bayes mixture: aggregation in log loss, for votes that are probabilities.
//!
//! Proven: regret in log loss against each expert over its awake rounds is at most ln(1/π_i), for any
//! number of rounds, with soft targets too (Hölder's inequality) and with sleepers, which take the
//! mixture's own loss.

use super::super::math::ln_normal;
use super::mix::{Heard, Mix};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned, shares};

/// Votes are clipped to \[CLIP, 1 - CLIP\]: a vote of 0 or 1 that is wrong once would end its expert.
pub const CLIP: f64 = 0.01;

/// -y ln x - (1 - y) ln(1 - x), with x clipped.
#[inline(always)]
#[must_use]
pub fn log_loss(x: f64, y: f64) -> f64 {
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
    /// A mixture with prior masses that sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64]) -> Self {
        let n = experts.len();
        Self { names: owned(experts), mix: Mix::new(1.0, prior), clipped: vec![0.0; n] }
    }

    #[inline(always)]
    fn hear(&mut self, votes: &[f64]) -> Heard {
        for (clipped, vote) in self.clipped.iter_mut().zip(votes) {
            *clipped = clip(*vote);
        }
        self.mix.hear(&self.clipped)
    }
}

impl Learner for LogLoss {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        clip(self.hear(round.votes).mean())
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let heard = self.hear(round.votes);
        self.mix.learn(heard, |vote| log_loss(vote, target));
        clip(heard.mean())
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
