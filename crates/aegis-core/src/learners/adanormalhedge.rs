//! AdaNormalHedge (Luo & Schapire 2015): weights in proportion to
//! π ½(Φ(R+1, C+1) - Φ(R-1, C+1)) with Φ(R, C) = e^(\[R\]₊²/3C); R the regret against an expert, C the
//! sum of its absolute values. It has no parameter and supports sleepers and newcomers by design.
//!
//! Proven (their theorem 1, for one comparator): R <= √(3C ln(B/π)), B <= 5/2 + 3/2 ln(1 + T), over
//! the rounds in which that expert was awake. The other rounds do not change its R and C.

use super::mix::{mean, normalise, played};
use super::{Against, BadState, GREATEST_SUM, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::{exp, ln};

/// The regrets of any entries that have losses, and the weights that follow. The Fixed-Share grid uses
/// it too.
#[derive(Debug, Clone)]
pub(super) struct Regrets {
    prior: Vec<f64>,
    regret: Vec<f64>,
    spread: Vec<f64>,
    rounds: f64,
}

impl Regrets {
    pub(super) fn new(prior: &[f64]) -> Self {
        Self {
            prior: prior.to_vec(),
            regret: vec![0.0; prior.len()],
            spread: vec![0.0; prior.len()],
            rounds: 0.0,
        }
    }

    /// Writes the unnormalised weights of the awake entries (zero for sleepers) and returns their sum.
    /// If no awake entry's regret exceeds -1, all weights would be zero, and the prior is used instead.
    pub(super) fn weigh(&self, awake: impl Fn(usize) -> bool, out: &mut [f64]) -> f64 {
        let exponents = |at: usize| {
            let (r, c) = (self.regret[at], self.spread[at]);
            let potential = |x: f64| if x > 0.0 { x * x / (3.0 * (c + 1.0)) } else { 0.0 };
            (potential(r + 1.0), potential(r - 1.0))
        };
        let mut top = 0.0;
        for at in 0..out.len() {
            let exponent = exponents(at).0;
            top = if awake(at) && exponent > top { exponent } else { top };
        }
        let mut total = 0.0;
        for (at, (out, prior)) in out.iter_mut().zip(&self.prior).enumerate() {
            let (up, down) = exponents(at);
            *out = if awake(at) { prior * (exp(up - top) - exp(down - top)) } else { 0.0 };
            total += *out;
        }
        if total > 0.0 {
            return total;
        }
        for (at, (out, prior)) in out.iter_mut().zip(&self.prior).enumerate() {
            *out = if awake(at) { *prior } else { 0.0 };
            total += *out;
        }
        total
    }

    /// Adds the regret `r` of one round against entry `at`. It is not called for sleepers.
    #[inline(always)]
    pub(super) fn learn(&mut self, at: usize, r: f64) {
        self.regret[at] += r;
        self.spread[at] += r.abs();
    }

    #[inline(always)]
    pub(super) fn count_round(&mut self) {
        self.rounds += 1.0;
    }

    /// The proven bound √(3C ln(B/π)) on the regret against entry `at`.
    pub(super) fn bound(&self, at: usize) -> f64 {
        let b = 2.5 + 1.5 * ln(1.0 + self.rounds);
        (3.0 * self.spread[at] * ln(b / self.prior[at])).sqrt()
    }

    pub(super) fn len(&self) -> usize {
        1 + 2 * self.prior.len()
    }

    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.push(self.rounds);
        out.extend_from_slice(&self.regret);
        out.extend_from_slice(&self.spread);
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), -GREATEST_SUM..=GREATEST_SUM)?;
        let (rounds, state) = state.split_first().expect("the length was checked");
        let (regret, spread) = state.split_at(self.prior.len());
        if *rounds < 0.0 || spread.iter().any(|c| *c < 0.0) {
            return Err(BadState::OutOfRange);
        }
        self.rounds = *rounds;
        self.regret.copy_from_slice(regret);
        self.spread.copy_from_slice(spread);
        Ok(())
    }
}

/// AdaNormalHedge over experts.
#[derive(Debug, Clone)]
pub struct AdaNormalHedge {
    names: Vec<String>,
    regrets: Regrets,
    masses: Vec<f64>,
}

impl AdaNormalHedge {
    /// AdaNormalHedge before its first round. The prior masses sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64]) -> Self {
        Self { names: owned(experts), regrets: Regrets::new(prior), masses: vec![0.0; experts.len()] }
    }

    fn weigh_awake(&mut self, votes: &[f64]) -> f64 {
        self.regrets.weigh(|at| votes.get(at).is_some_and(|vote| !vote.is_nan()), &mut self.masses)
    }
}

impl Learner for AdaNormalHedge {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        let total = self.weigh_awake(round.votes);
        mean(round.votes, &self.masses, total)
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let total = self.weigh_awake(round.votes);
        let p = mean(round.votes, &self.masses, total);
        let played = played(round.votes, &self.masses, total, target);
        for (at, vote) in round.votes.iter().enumerate().filter(|(_, vote)| !vote.is_nan()) {
            self.regrets.learn(at, played - (vote - target).abs());
        }
        self.regrets.count_round();
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let total = self.regrets.weigh(|at| round.votes.get(at).is_some_and(|vote| !vote.is_nan()), out);
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let mut parts = vec![0.0; self.names.len()];
        self.regrets.weigh(|_| true, &mut parts);
        shares(&self.names, &parts)
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.regrets.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.regrets.load(state)
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        Some(self.regrets.bound(against.expert))
    }
}
