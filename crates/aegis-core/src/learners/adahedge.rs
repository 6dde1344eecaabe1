//! AdaHedge (de Rooij, van Erven, Grünwald & Koolen 2014): Hedge whose step η = ln N / Δ falls with
//! the cumulative mixability gap Δ, so that it has no parameter.
//!
//! Proven: the regret against each expert over its awake rounds is at most 2Δ, which the state
//! contains. A sleeper is charged the mix loss, so that the mix losses sum to those of the whole, and
//! the gaps of an expert's awake rounds are a part of all gaps.

use super::mix::{mean, normalise, played};
use super::{Against, BadState, GREATEST_SUM, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::{exp, ln};

/// AdaHedge over experts, uniform prior.
#[derive(Debug, Clone)]
pub struct AdaHedge {
    names: Vec<String>,
    ln_n: f64,
    gap: f64,
    loss: Vec<f64>,
    masses: Vec<f64>,
}

impl AdaHedge {
    /// AdaHedge before its first round.
    #[must_use]
    pub fn new(experts: &[&str]) -> Self {
        let n = experts.len();
        Self { names: owned(experts), ln_n: ln(n as f64), gap: 0.0, loss: vec![0.0; n], masses: vec![0.0; n] }
    }

    /// Writes the unnormalised weights of the awake experts (zero for sleepers) and returns their sum.
    /// While the gap is zero, or so small that η overflows, η is infinite and the leaders share all weight.
    #[inline(always)]
    fn weigh(&self, awake: impl Fn(usize) -> bool, out: &mut [f64]) -> f64 {
        let eta = self.ln_n / self.gap;
        let mut least = f64::INFINITY;
        for (at, loss) in self.loss.iter().enumerate() {
            least = if awake(at) && *loss < least { *loss } else { least };
        }
        let mut total = 0.0;
        for (at, (out, loss)) in out.iter_mut().zip(&self.loss).enumerate() {
            let lead = loss - least;
            let mass = if eta.is_finite() { exp(-eta * lead) } else { f64::from(u8::from(lead == 0.0)) };
            *out = if awake(at) { mass } else { 0.0 };
            total += *out;
        }
        total
    }

    #[inline(always)]
    fn weigh_awake(&mut self, votes: &[f64]) -> f64 {
        let mut masses = std::mem::take(&mut self.masses);
        let total = self.weigh(|at| votes.get(at).is_some_and(|vote| !vote.is_nan()), &mut masses);
        self.masses = masses;
        total
    }

    /// The mix loss -ln(sum w e^(-ηl)) / η over awake experts; for an infinite η the least loss among
    /// the leaders.
    fn mix_loss(&self, votes: &[f64], total: f64, target: f64) -> f64 {
        let weighing = || votes.iter().zip(&self.masses).filter(|(_, mass)| **mass > 0.0);
        let least = weighing().map(|(vote, _)| (vote - target).abs()).fold(f64::INFINITY, f64::min);
        let eta = self.ln_n / self.gap;
        if !eta.is_finite() {
            return least;
        }
        let sum: f64 =
            weighing().map(|(vote, mass)| mass * exp(-eta * ((vote - target).abs() - least))).sum();
        least - ln(sum / total) / eta
    }
}

impl Learner for AdaHedge {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        let total = self.weigh_awake(round.votes);
        mean(round.votes, &self.masses, total)
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let total = self.weigh_awake(round.votes);
        let p = mean(round.votes, &self.masses, total);
        if self.names.len() < 2 {
            return p; // nothing to learn, and ln N = 0 would make the step 0
        }
        let played = played(round.votes, &self.masses, total, target);
        let mix_loss = self.mix_loss(round.votes, total, target);
        for (loss, vote) in self.loss.iter_mut().zip(round.votes) {
            *loss += if vote.is_nan() { mix_loss } else { (vote - target).abs() };
        }
        self.gap += (played - mix_loss).max(0.0);
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let total = self.weigh(|at| round.votes.get(at).is_some_and(|vote| !vote.is_nan()), out);
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let mut parts = vec![0.0; self.names.len()];
        self.weigh(|_| true, &mut parts);
        shares(&self.names, &parts)
    }

    fn save(&self, out: &mut Vec<f64>) {
        out.push(self.gap);
        out.extend_from_slice(&self.loss);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, 1 + self.names.len(), -GREATEST_SUM..=GREATEST_SUM)?;
        let (gap, losses) = state.split_first().expect("the length was checked");
        if *gap < 0.0 {
            return Err(BadState::OutOfRange);
        }
        self.gap = *gap;
        self.loss.copy_from_slice(losses);
        Ok(())
    }

    fn bound(&self, _: &Against) -> Option<f64> {
        Some(2.0 * self.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_close_to_the_least_number_do_no_harm() {
        let mut learner = AdaHedge::new(&["a", "b"]);
        for votes in [[0.0, 1e-309], [0.9, 0.1], [0.8, 0.2]] {
            let round = RoundInput { votes: &votes, features: None, event: "e" };
            let p = learner.step(&round, 0.0);
            assert!((0.0..=1.0).contains(&p), "{p}");
        }
        let votes = [0.9, 0.1];
        let p = learner.predict(&RoundInput { votes: &votes, features: None, event: "e" });
        assert!(p < 0.3, "{p}: the second expert was right");
    }
}
