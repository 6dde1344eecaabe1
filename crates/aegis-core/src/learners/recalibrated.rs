//! Each expert recalibrated: Bayesian logistic regression of the target on one expert's log-odds alone,
//! slope and bias, one Laplace step a round, as in stacking.
//!
//! Two numbers are learned from a few dozen labels, where a combination of all experts needs hundreds.
//! It starts as the expert itself, and soon is one whose threshold and sureness suit this stream: an
//! expert that ranks well but calls too much unsafe loses its mistakes, and one that tells nothing becomes
//! the stream's base rate. Asleep when the expert is.

use super::super::math::sigmoid;
use super::stacking::{Seen, curvature};
use super::{BadState, check};

const LANES: usize = 8;
/// Prior mean of the slope: inputs are half the log-odds, so it starts as the expert itself.
const SLOPE: f64 = 2.0;
/// Prior variances of slope and bias.
const SLOPE_VARIANCE: f64 = 1.0;
const BIAS_VARIANCE: f64 = 0.3;
/// Numbers of one expert's state.
const NUMBERS: usize = 5;

/// Eight experts side by side: slope, bias, and their covariance.
#[derive(Debug, Clone, Copy)]
struct Cell {
    slope: [f64; LANES],
    bias: [f64; LANES],
    slope_variance: [f64; LANES],
    both: [f64; LANES],
    bias_variance: [f64; LANES],
    /// Half the log-odds of the round at hand.
    x: [f64; LANES],
    /// 1 where the expert is awake, else 0.
    awake: [f64; LANES],
    s: [f64; LANES],
    u: [f64; LANES],
}

impl Cell {
    const NEW: Self = Self {
        slope: [SLOPE; LANES],
        bias: [0.0; LANES],
        slope_variance: [SLOPE_VARIANCE; LANES],
        both: [0.0; LANES],
        bias_variance: [BIAS_VARIANCE; LANES],
        x: [0.0; LANES],
        awake: [0.0; LANES],
        s: [0.0; LANES],
        u: [0.0; LANES],
    };

    /// What each lane says of the round at hand, asleep or not.
    #[inline(always)]
    fn see(&mut self) -> [f64; LANES] {
        let mut said = [0.0; LANES];
        for (lane, said) in said.iter_mut().enumerate() {
            let x = self.x[lane];
            let s = self.slope[lane] * x + self.bias[lane];
            let u = (self.slope_variance[lane] * x + 2.0 * self.both[lane]) * x + self.bias_variance[lane];
            let u = if u > 0.0 { u } else { 0.0 };
            self.s[lane] = s;
            self.u[lane] = u;
            *said = sigmoid(Seen { s, u }.log_odds());
        }
        said
    }

    /// Learns the target of the round seen last. A sleeper's step is zero, to the bit.
    #[inline(always)]
    fn learn(&mut self, target: f64) {
        for lane in 0..LANES {
            let q = sigmoid(self.s[lane]);
            let h = curvature(q) * self.awake[lane];
            let shrink = 1.0 / (1.0 + h * self.u[lane]);
            let along_slope = self.slope_variance[lane] * self.x[lane] + self.both[lane];
            let along_bias = self.both[lane] * self.x[lane] + self.bias_variance[lane];
            let step = shrink * (target - q) * self.awake[lane];
            self.slope[lane] += along_slope * step;
            self.bias[lane] += along_bias * step;
            let scale = h * shrink;
            self.slope_variance[lane] -= scale * (along_slope * along_slope);
            self.both[lane] -= scale * (along_slope * along_bias);
            self.bias_variance[lane] -= scale * (along_bias * along_bias);
        }
    }

    fn rows(&mut self) -> [&mut [f64; LANES]; NUMBERS] {
        [&mut self.slope, &mut self.bias, &mut self.slope_variance, &mut self.both, &mut self.bias_variance]
    }
}

/// All experts, each by itself.
#[derive(Debug, Clone)]
pub(super) struct Recalibrated {
    experts: usize,
    cells: Vec<Cell>,
}

impl Recalibrated {
    pub(super) fn new(n: usize) -> Self {
        Self { experts: n, cells: vec![Cell::NEW; n.div_ceil(LANES)] }
    }

    /// Writes what each recalibrated expert says, NaN where it sleeps. `halves` are half the votes'
    /// log-odds, 0 where asleep.
    #[inline(always)]
    pub(super) fn hear(&mut self, votes: &[f64], halves: &[f64], said: &mut [f64]) {
        let rounds = votes.chunks(LANES).zip(halves.get(..votes.len()).unwrap_or_default().chunks(LANES));
        for ((cell, (votes, halves)), said) in self.cells.iter_mut().zip(rounds).zip(said.chunks_mut(LANES)) {
            for (lane, (vote, half)) in votes.iter().zip(halves).enumerate().take(LANES) {
                cell.x[lane] = *half;
                cell.awake[lane] = if vote.is_nan() { 0.0 } else { 1.0 };
            }
            let seen = cell.see();
            for ((said, p), vote) in said.iter_mut().zip(seen).zip(votes) {
                *said = if vote.is_nan() { f64::NAN } else { p };
            }
        }
    }

    /// Learns the target of the round heard last.
    #[inline(always)]
    pub(super) fn learn(&mut self, target: f64) {
        self.cells.iter_mut().for_each(|cell| cell.learn(target));
    }

    pub(super) fn len(&self) -> usize {
        NUMBERS * self.experts
    }

    /// By expert: slope, bias, the slope's variance, the covariance, the bias's variance.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        for at in 0..self.experts {
            let mut cell = self.cells.get(at / LANES).copied().unwrap_or(Cell::NEW);
            out.extend(cell.rows().map(|row| row[at % LANES]));
        }
    }

    pub(super) fn check(&self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), -1e6..=1e6)?;
        let variance = |x: &f64| (0.0..=1.0 + 1e-9).contains(x);
        let sane = |of: &[f64; NUMBERS]| variance(&of[2]) && of[3].abs() <= 1.0 && variance(&of[4]);
        if state.as_chunks::<NUMBERS>().0.iter().all(sane) { Ok(()) } else { Err(BadState::OutOfRange) }
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.check(state)?;
        for (at, numbers) in state.as_chunks::<NUMBERS>().0.iter().enumerate() {
            if let Some(cell) = self.cells.get_mut(at / LANES) {
                cell.rows().into_iter().zip(numbers).for_each(|(row, x)| row[at % LANES] = *x);
            }
        }
        Ok(())
    }
}
