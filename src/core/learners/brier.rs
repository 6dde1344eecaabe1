//! Vovk's aggregating algorithm in Brier loss: η = 2 with the substitution
//! p = ½ + (g0 - g1)/2, `g_y` = -½ ln sum w e^(-2(x-y)²).
//!
//! Proven: regret in Brier against each entry over its awake rounds is at most ½ ln(1/π_i), for any
//! number of rounds. (p - y)² is at most `g_y` at y = 0 and 1, hence, `g_y` - (p - y)² being concave in
//! y, for every soft target between; a sleeper takes the mix loss `g_y`.

use super::super::math::{exp, exp_all, ln_normal};
use super::mix::Mix;
use super::{Against, BadState, Learner, LossKind, Mass, Sight, owned, shares};

/// The aggregation itself, over any entries that predict or sleep.
#[derive(Debug, Clone)]
pub(super) struct Aggregation {
    mix: Mix,
    masses: Vec<f64>,
    /// e^(-2x²) and e^(-2(x-1)²) of each entry in turn.
    safe: Vec<f64>,
    flag: Vec<f64>,
}

/// What the masses say about one round, for [`Aggregation::learn`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    /// P(unsafe).
    pub(super) p: f64,
    total: f64,
    asleep: bool,
    if_safe: f64,
    if_unsafe: f64,
}

impl Aggregation {
    pub(super) fn new(prior: &[f64]) -> Self {
        let zeros = vec![0.0; prior.len()];
        Self { mix: Mix::new(2.0, prior), masses: zeros.clone(), safe: zeros.clone(), flag: zeros }
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Combines what the entries say; NaN sleeps.
    #[inline(always)]
    pub(super) fn combine(&mut self, said: &[f64]) -> Said {
        let (total, asleep) = self.mix.awake(said, &mut self.masses);
        for ((safe, flag), x) in self.safe.iter_mut().zip(&mut self.flag).zip(said) {
            let x = if x.is_nan() { 0.0 } else { *x };
            *safe = -2.0 * x * x;
            *flag = -2.0 * (x - 1.0) * (x - 1.0);
        }
        exp_all(&mut self.safe);
        exp_all(&mut self.flag);
        let (mut if_safe, mut if_unsafe) = (0.0, 0.0);
        for ((mass, safe), flag) in self.masses.iter().zip(&self.safe).zip(&self.flag) {
            if_safe += mass * safe;
            if_unsafe += mass * flag;
        }
        // g0 - g1 = -½ ln(if_safe / if_unsafe); both are at least e^-2 of a positive total.
        let p = 0.5 - 0.25 * ln_normal(if_safe / if_unsafe);
        Said { p: p.clamp(0.0, 1.0), total, asleep, if_safe, if_unsafe }
    }

    /// Learns the target of the round that was combined last.
    #[inline(always)]
    pub(super) fn learn(&mut self, said: &[f64], of: Said, target: f64) {
        let mix_loss = if of.asleep {
            let sum = if target == 0.0 {
                of.if_safe
            } else if target == 1.0 {
                of.if_unsafe
            } else {
                let square = |x: f64| (x - target) * (x - target);
                let awake = said.iter().zip(&self.masses).filter(|(x, _)| !x.is_nan());
                awake.map(|(x, mass)| mass * exp(-2.0 * square(*x))).sum()
            };
            -0.5 * ln_normal(sum / of.total)
        } else {
            0.0
        };
        for (loss, x) in self.mix.losses().iter_mut().zip(said) {
            let off = x - target;
            *loss += if x.is_nan() { mix_loss } else { off * off };
        }
        self.mix.refresh();
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
    fn predict(&mut self, round: &Sight<'_>) -> f64 {
        self.aggregation.combine(round.votes).p
    }

    fn step(&mut self, round: &Sight<'_>, target: f64) -> f64 {
        let said = self.aggregation.combine(round.votes);
        self.aggregation.learn(round.votes, said, target);
        said.p
    }

    fn weights(&self, _: &Sight<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, self.aggregation.mix().masses())
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
