//! Exponential weights: what Hedge, the aggregating algorithms and the default have in common.

use super::super::math::{exp, exp_all, greatest, ln};
use super::{BadState, GREATEST_SUM, check};

/// Below this the mass of those awake is computed anew, relative to the best of them.
const FAINT: f64 = 1e-200;

/// Masses π e^(-ηL) over entries, kept as losses L: a weight that is multiplied round by round
/// underflows and never comes back.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    rate: f64,
    ln_prior: Vec<f64>,
    loss: Vec<f64>,
    /// exp(ln π - ηL - the greatest such exponent), kept in step with `loss`.
    mass: Vec<f64>,
}

impl Mix {
    /// Entries with these prior masses (which sum to one) and no loss yet.
    pub(super) fn new(rate: f64, prior: &[f64]) -> Self {
        let ln_prior = prior.iter().map(|mass| ln(*mass)).collect();
        let mut mix = Self { rate, ln_prior, loss: vec![0.0; prior.len()], mass: vec![0.0; prior.len()] };
        mix.refresh();
        mix
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes another η for the rounds that follow.
    #[inline(always)]
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
        self.refresh();
    }

    /// The masses of all entries, awake or not, unnormalised.
    pub(super) fn masses(&self) -> &[f64] {
        &self.mass
    }

    /// Losses, to be followed by [`refresh`](Self::refresh).
    #[inline(always)]
    pub(super) fn losses(&mut self) -> &mut [f64] {
        &mut self.loss
    }

    /// The losses so far.
    pub(super) fn sums(&self) -> &[f64] {
        &self.loss
    }

    /// ln of entry i's prior mass.
    pub(super) fn ln_prior(&self, entry: usize) -> f64 {
        self.ln_prior.get(entry).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// Computes the masses after losses changed.
    #[inline(always)]
    pub(super) fn refresh(&mut self) {
        for ((mass, loss), prior) in self.mass.iter_mut().zip(&self.loss).zip(&self.ln_prior) {
            *mass = prior - self.rate * loss;
        }
        let top = greatest(&self.mass);
        for mass in &mut self.mass {
            *mass -= top;
        }
        exp_all(&mut self.mass);
    }

    /// The unnormalised masses of entries whose vote is no NaN, zero for the others, into `out`.
    /// Gives their sum, in order, and whether any sleeps.
    #[inline(always)]
    pub(super) fn awake(&self, votes: &[f64], out: &mut [f64]) -> (f64, bool) {
        let mut total = 0.0;
        let mut asleep = 0u32;
        for ((out, vote), mass) in out.iter_mut().zip(votes).zip(&self.mass) {
            *out = if vote.is_nan() { 0.0 } else { *mass };
            asleep += u32::from(vote.is_nan());
            total += *out;
        }
        if total < FAINT {
            total = self.awake_anew(votes, out);
        }
        (total, asleep > 0)
    }

    /// The same relative to the best entry awake: the best of all may sleep.
    #[cold]
    fn awake_anew(&self, votes: &[f64], out: &mut [f64]) -> f64 {
        for (((out, vote), loss), prior) in out.iter_mut().zip(votes).zip(&self.loss).zip(&self.ln_prior) {
            *out = if vote.is_nan() { f64::NEG_INFINITY } else { prior - self.rate * loss };
        }
        let top = greatest(out);
        let mut total = 0.0;
        for out in out {
            *out = if *out == f64::NEG_INFINITY { 0.0 } else { exp(*out - top) };
            total += *out;
        }
        total
    }

    /// Learns one round: an entry awake gets its own loss, a sleeper the mix loss
    /// m = -ln(sum w e^(-ηl)) / η, so that its share of the whole stays what it was.
    /// `masses` and `total` are what [`awake`](Self::awake) gave for these votes.
    #[inline(always)]
    pub(super) fn learn(&mut self, votes: &[f64], masses: &[f64], total: f64, asleep: bool, loss: impl Fn(f64) -> f64) {
        let mix_loss = if asleep { self.mix_loss(votes, masses, total, &loss) } else { 0.0 };
        for (sum, vote) in self.loss.iter_mut().zip(votes) {
            *sum += if vote.is_nan() { mix_loss } else { loss(*vote) };
        }
    }

    /// -ln(sum w e^(-ηl)) / η over those awake, taken relative to the least loss lest all underflow.
    fn mix_loss(&self, votes: &[f64], masses: &[f64], total: f64, loss: impl Fn(f64) -> f64) -> f64 {
        let weighing = || votes.iter().zip(masses).filter(|(_, mass)| **mass > 0.0);
        let least = weighing().map(|(vote, _)| loss(*vote)).fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return 0.0; // nobody awake: not a round
        }
        let sum: f64 = weighing().map(|(vote, mass)| mass * exp(-self.rate * (loss(*vote) - least))).sum();
        if self.rate > 0.0 { least - ln(sum / total) / self.rate } else { least }
    }

    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.extend_from_slice(&self.loss);
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.loss.len(), -GREATEST_SUM..=GREATEST_SUM)?;
        self.loss.copy_from_slice(state);
        self.refresh();
        Ok(())
    }
}

/// Sum of mass times vote over those awake, divided by their mass: the mean vote, in expert order.
#[inline(always)]
pub(super) fn mean(votes: &[f64], masses: &[f64], total: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * vote };
    }
    sum / total
}

/// Divides by the total, so that `out` sums to one.
#[inline(always)]
pub(super) fn normalise(out: &mut [f64], total: f64) {
    for mass in out {
        *mass /= total;
    }
}

/// Sum of mass times |vote - target| over those awake, divided by their mass: the loss played.
#[inline(always)]
pub(super) fn played(votes: &[f64], masses: &[f64], total: f64, target: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * (vote - target).abs() };
    }
    sum / total
}
