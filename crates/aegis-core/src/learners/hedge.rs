//! Hedge, or randomised Weighted Majority (Freund & Schapire 1997): weights in proportion to π e^(-ηL).
//!
//! Proven, with a sleeper charged the mix loss (a specialist in the sense of Freund et al. 1997): the
//! regret against expert i over its `T_i` awake rounds is at most ln(1/π_i)/η + η `T_i`/8, and with the
//! anytime step η_t = 2√(ln N / t) at most √(T ln N).

use super::mix::Mix;
use super::{Against, BadState, GREATEST_SUM, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::ln;

/// Hedge with a fixed step, or with a step that falls with every round and does not depend on the total
/// number of rounds.
#[derive(Debug, Clone)]
pub struct Hedge {
    names: Vec<String>,
    mix: Mix,
    /// 2√(ln N), which is divided by √t for the step of round t. `None` for a fixed step.
    pace: Option<f64>,
    rounds: f64,
}

impl Hedge {
    /// Hedge with the fixed step `eta`. The prior masses sum to one.
    #[must_use]
    pub fn fixed(experts: &[&str], prior: &[f64], eta: f64) -> Self {
        Self::with(experts, Mix::new(eta, prior), None)
    }

    /// Hedge with η_t = 2√(ln N / t) for t = 1, 2, ... and a uniform prior.
    #[must_use]
    pub fn anytime(experts: &[&str], uniform: &[f64]) -> Self {
        let pace = 2.0 * ln(experts.len() as f64).sqrt();
        Self::with(experts, Mix::new(pace, uniform), Some(pace))
    }

    fn with(experts: &[&str], mix: Mix, pace: Option<f64>) -> Self {
        Self { names: owned(experts), mix, pace, rounds: 0.0 }
    }

    /// The step η after `rounds` rounds.
    #[inline(always)]
    fn rate_after(&self, rounds: f64) -> f64 {
        self.pace.map_or(self.mix.rate(), |pace| pace / (rounds + 1.0).sqrt())
    }
}

impl Learner for Hedge {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.mix.aggregate(round.votes).mean()
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let aggregate = self.mix.aggregate(round.votes);
        self.rounds += 1.0;
        self.mix.learn_at(self.rate_after(self.rounds), aggregate, |vote| (vote - target).abs());
        aggregate.mean()
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        self.mix.weights(round.votes, out);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &self.mix.masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        out.push(self.rounds);
        self.mix.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, 1 + self.names.len(), -GREATEST_SUM..=GREATEST_SUM)?;
        let (rounds, losses) = state.split_first().expect("the length was checked");
        if *rounds < 0.0 {
            return Err(BadState::OutOfRange);
        }
        self.mix.load_at(self.rate_after(*rounds), losses)?;
        self.rounds = *rounds;
        Ok(())
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        let eta = self.mix.rate();
        Some(match self.pace {
            None => -self.mix.ln_prior(against.expert) / eta + eta * against.awake as f64 / 8.0,
            Some(_) => (against.rounds as f64 * ln(self.names.len() as f64)).sqrt(),
        })
    }
}
