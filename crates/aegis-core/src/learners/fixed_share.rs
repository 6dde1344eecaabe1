//! Fixed Share (Herbster & Warmuth 1998): Hedge that redistributes a share α of all weight in every
//! round, so that an expert that becomes the best one does not have to recover its past losses first.
//!
//! Proven: the regret against expert i over its `T_i` awake rounds is at most
//! (ln(1/π_i) - (T-1) ln(1 - α + α/N))/η + η `T_i`/8, and ln((1 - α + α/N) N/α)/η more for every shift of
//! the comparator in these rounds. A sleeper is charged the mix loss and shares like the others.

use super::mix::{mean, normalise};
use super::{Against, BadState, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::{exp, ln};

/// The least weight that every expert is given each round. It keeps a weight from vanishing if α = 0.
/// It is too small to change any digit of a weight that counts, and it changes the bounds by less than
/// 1e-280.
pub(super) const LEAST_SHARE: f64 = 1e-290;

/// The proven bound (ln(1/π) - (T-1) ln(1 - α + α/N))/η + η `T_i`/8.
pub(super) fn bound(ln_prior: f64, n: usize, eta: f64, alpha: f64, against: &Against) -> f64 {
    let stay = ln(1.0 - alpha + alpha / n as f64);
    let passed = against.rounds.saturating_sub(1) as f64;
    (-ln_prior - passed * stay) / eta + eta * against.awake as f64 / 8.0
}

/// Fixed Share over experts.
#[derive(Debug, Clone)]
pub struct FixedShare {
    names: Vec<String>,
    ln_prior: Vec<f64>,
    eta: f64,
    alpha: f64,
    weights: Vec<f64>,
    masses: Vec<f64>,
}

impl FixedShare {
    /// Fixed Share before its first round. The prior masses sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64], eta: f64, alpha: f64) -> Self {
        Self {
            names: owned(experts),
            ln_prior: prior.iter().map(|mass| ln(*mass)).collect(),
            eta,
            alpha,
            weights: prior.to_vec(),
            masses: vec![0.0; experts.len()],
        }
    }

    /// Writes the weights of the awake experts (zero for sleepers). Returns their sum, and `true` if any
    /// expert sleeps.
    fn awake(&self, votes: &[f64], out: &mut [f64]) -> (f64, bool) {
        let (mut total, mut asleep) = (0.0, false);
        for ((out, vote), weight) in out.iter_mut().zip(votes).zip(&self.weights) {
            *out = if vote.is_nan() { 0.0 } else { *weight };
            asleep |= vote.is_nan();
            total += *out;
        }
        (total, asleep)
    }
}

impl Learner for FixedShare {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        let mut masses = std::mem::take(&mut self.masses);
        let (total, _) = self.awake(round.votes, &mut masses);
        self.masses = masses;
        mean(round.votes, &self.masses, total)
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let mut masses = std::mem::take(&mut self.masses);
        let (total, asleep) = self.awake(round.votes, &mut masses);
        let p = mean(round.votes, &masses, total);
        // Losses relative to the least one of the awake experts, so that not all factors can underflow.
        let losses = round.votes.iter().map(|vote| (vote - target).abs());
        let least = losses.fold(f64::INFINITY, f64::min);
        let mut sum = 0.0;
        for (mass, vote) in masses.iter_mut().zip(round.votes) {
            if !vote.is_nan() {
                *mass *= exp(-self.eta * ((vote - target).abs() - least));
                sum += *mass;
            }
        }
        // The awake experts keep their total weight, which charges the sleepers the mix loss.
        let kept = (1.0 - self.alpha) * if asleep { total } else { 1.0 } / sum;
        let given = (self.alpha / self.names.len() as f64).max(LEAST_SHARE);
        for ((weight, mass), vote) in self.weights.iter_mut().zip(&masses).zip(round.votes) {
            let kept = if vote.is_nan() { (1.0 - self.alpha) * *weight } else { kept * mass };
            *weight = kept + given;
        }
        self.masses = masses;
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let (total, _) = self.awake(round.votes, out);
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &self.weights)
    }

    fn save(&self, out: &mut Vec<f64>) {
        out.extend_from_slice(&self.weights);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.names.len(), LEAST_SHARE..=2.0)?;
        self.weights.copy_from_slice(state);
        Ok(())
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        Some(bound(self.ln_prior[against.expert], self.names.len(), self.eta, self.alpha, against))
    }
}
