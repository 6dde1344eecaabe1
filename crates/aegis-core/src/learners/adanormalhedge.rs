//! AdaNormalHedge (Luo & Schapire 2015): weights in proportion to
//! π ½(Φ(R+1, C+1) - Φ(R-1, C+1)) with Φ(R, C) = e^(\[R\]₊²/3C); R the regret against an expert, C the
//! sum of its absolute values. No parameter; sleepers and newcomers are native.
//!
//! Proven (their theorem 1, for one comparator): R <= √(3C ln(B/π)), B <= 5/2 + 3/2 ln(1 + T), over
//! the rounds in which that expert was awake: others' rounds leave its R and C as they are.

use super::super::math::{exp, ln};
use super::mix::{mean, normalise};
use super::{Against, BadState, GREATEST_SUM, Learner, Mass, RoundInput, check, owned, shares};

/// Regrets and weights of any entries that suffer losses, shared with the Fixed-Share grid.
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

    /// Unnormalised weights of those that `awake` names into `out`, and their sum. Where no such
    /// regret exceeds -1 all would be zero: the prior is played.
    pub(super) fn weigh(&self, awake: impl Fn(usize) -> bool, out: &mut [f64]) -> f64 {
        let exponents = |at: usize| {
            let (Some(r), Some(c)) = (self.regret.get(at), self.spread.get(at)) else {
                return (0.0, 0.0);
            };
            let potential = |x: f64| {
                if x > 0.0 { x * x / (3.0 * (c + 1.0)) } else { 0.0 }
            };
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

    /// Learns the regret of one round against entry `at` (not called for sleepers).
    #[inline(always)]
    pub(super) fn learn(&mut self, at: usize, r: f64) {
        if let (Some(regret), Some(spread)) = (self.regret.get_mut(at), self.spread.get_mut(at)) {
            *regret += r;
            *spread += r.abs();
        }
    }

    #[inline(always)]
    pub(super) fn count_round(&mut self) {
        self.rounds += 1.0;
    }

    /// √(3C ln(B/π)) against entry `at`.
    pub(super) fn bound(&self, at: usize) -> Option<f64> {
        let b = 2.5 + 1.5 * ln(1.0 + self.rounds);
        Some((3.0 * self.spread.get(at)? * ln(b / self.prior.get(at)?)).sqrt())
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
        let Some((rounds, state)) = state.split_first() else {
            return Ok(());
        };
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
    /// AdaNormalHedge with prior masses that sum to one.
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
        let played = super::mix::played(round.votes, &self.masses, total, target);
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
        self.regrets.bound(against.expert)
    }
}
