//! Follow the Perturbed Leader (Hannan 1957; Kalai & Vempala 2005): follow the awake expert with the
//! least L - Z, where L is its loss so far and Z is drawn again in every round.
//!
//! With Gumbel noise of scale 1/η, the leader is distributed exactly as Hedge's weights. The known
//! bounds (e^η (L* + H_N/η) for exponential noise, Hedge's for Gumbel) hold for the *expected* loss.
//! This learner plays one draw, so no bound is claimed.

use super::mix::Mix;
use super::{BadState, Learner, Mass, Noise, RoundInput, owned, shares};
use crate::draw::{Draws, exponential, gumbel};

/// Follow the Perturbed Leader with keyed draws.
#[derive(Debug, Clone)]
pub struct Fpl {
    names: Vec<String>,
    mix: Mix,
    noise: Noise,
    draws: Draws,
}

impl Fpl {
    /// Follow the Perturbed Leader with noise of scale 1/`eta`, drawn by (secret, policy, event, expert).
    #[must_use]
    pub fn new(experts: &[&str], uniform: &[f64], eta: f64, noise: Noise, draws: Draws) -> Self {
        let mix = Mix::new(eta, uniform);
        Self { names: owned(experts), mix, noise, draws }
    }

    /// The awake expert to follow in this round, the first of several.
    fn leader(&self, round: &RoundInput<'_>) -> usize {
        let mut least: Option<(f64, usize)> = None;
        let awake = self.names.iter().zip(round.votes).zip(self.mix.losses()).enumerate();
        for (at, ((name, vote), loss)) in awake {
            if vote.is_nan() {
                continue;
            }
            let uniform = self.draws.uniform(round.event, name, "fpl");
            let noise = match self.noise {
                Noise::Exponential => exponential(uniform),
                Noise::Gumbel => gumbel(uniform),
            };
            let perturbed = loss - noise / self.mix.rate();
            if least.is_none_or(|(best, _)| perturbed < best) {
                least = Some((perturbed, at));
            }
        }
        least.expect("a round has an awake expert").1
    }
}

impl Learner for Fpl {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        round.votes[self.leader(round)]
    }

    /// A sleeper is charged Hedge's mix loss under Gumbel noise, for which it is exact, and the followed
    /// expert's loss under exponential noise.
    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let p = self.predict(round);
        let aggregate = self.mix.aggregate(round.votes);
        let loss = |vote: f64| (vote - target).abs();
        match self.noise {
            Noise::Gumbel => self.mix.learn(aggregate, loss),
            Noise::Exponential => self.mix.learn_with(loss(p), loss),
        }
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let leader = self.leader(round);
        for (at, out) in out.iter_mut().enumerate() {
            *out = if at == leader { 1.0 } else { 0.0 };
        }
        true
    }

    /// Under Gumbel noise, a mass is the probability that its expert is followed. Exponential noise has no
    /// closed form, so the masses are Hedge's weights, which depend on the same losses.
    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &self.mix.masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.mix.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.mix.load(state)
    }
}
