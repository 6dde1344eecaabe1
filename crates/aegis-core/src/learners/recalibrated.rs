//! Each expert recalibrated: Bayesian logistic regression of the target on one expert's log-odds alone,
//! with a slope and a bias, one Laplace step per round, as in stacking.
//!
//! Two numbers can be learned from a few dozen labels, where a combination of all experts needs hundreds.
//! A recalibrated expert starts as the expert itself, and its threshold and confidence soon suit the stream:
//! an expert that ranks well but calls too much unsafe loses its mistakes, and an uninformative expert becomes
//! the base rate of the stream. It sleeps when the expert does.

use super::interval::{InputBox, Interval, Magnitude, Move, Spread};
use super::stacking::{Margin, curvature, probability};
use super::{BadState, check};
use crate::math::sigmoid;

const LANES: usize = 8;
/// The prior mean of the slope. Inputs are half the log-odds, so it starts as the expert itself.
const SLOPE: f64 = 2.0;
/// The prior variance of the slope.
const SLOPE_VARIANCE: f64 = 1.0;
/// The prior variance of the bias.
const BIAS_VARIANCE: f64 = 0.3;
/// The number of numbers in one expert's state.
const NUMBERS: usize = 5;

/// Eight experts side by side: slope, bias, and their covariance.
#[derive(Debug, Clone, Copy)]
struct Cell {
    slope: [f64; LANES],
    bias: [f64; LANES],
    slope_variance: [f64; LANES],
    both: [f64; LANES],
    bias_variance: [f64; LANES],
    /// Half the log-odds in the current round.
    x: [f64; LANES],
    /// 1 if the expert is awake, else 0.
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

    /// The prediction of each lane for the current round, asleep or not.
    #[inline(always)]
    fn predict(&mut self) -> [f64; LANES] {
        let mut predictions = [0.0; LANES];
        for (lane, prediction) in predictions.iter_mut().enumerate() {
            let x = self.x[lane];
            let s = self.slope[lane] * x + self.bias[lane];
            let u = (self.slope_variance[lane] * x + 2.0 * self.both[lane]) * x + self.bias_variance[lane];
            let u = if u > 0.0 { u } else { 0.0 };
            self.s[lane] = s;
            self.u[lane] = u;
            *prediction = sigmoid(Margin { s, u }.log_odds());
        }
        predictions
    }

    /// Learns the target of the round that was predicted last. A sleeper's step is exactly zero.
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

/// All experts, each recalibrated by itself.
#[derive(Debug, Clone)]
pub(super) struct Recalibrated {
    experts: usize,
    cells: Vec<Cell>,
}

impl Recalibrated {
    pub(super) fn new(n: usize) -> Self {
        Self { experts: n, cells: vec![Cell::NEW; n.div_ceil(LANES)] }
    }

    /// Writes the prediction of each recalibrated expert, NaN if it sleeps. `halves` starts with half the
    /// log-odds of each vote, 0 for sleepers.
    #[inline(always)]
    pub(super) fn predict(&mut self, votes: &[f64], halves: &[f64], predictions: &mut [f64]) {
        let inputs = votes.chunks(LANES).zip(halves[..votes.len()].chunks(LANES));
        let outputs = predictions.chunks_mut(LANES);
        for ((cell, (votes, halves)), predictions) in self.cells.iter_mut().zip(inputs).zip(outputs) {
            for (lane, (vote, half)) in votes.iter().zip(halves).enumerate().take(LANES) {
                cell.x[lane] = *half;
                cell.awake[lane] = if vote.is_nan() { 0.0 } else { 1.0 };
            }
            let lanes = cell.predict();
            for ((prediction, p), vote) in predictions.iter_mut().zip(lanes).zip(votes) {
                *prediction = if vote.is_nan() { f64::NAN } else { p };
            }
        }
    }

    /// The interval of the prediction of one recalibrated expert that is awake. The box holds half the log-odds of each
    /// vote.
    pub(super) fn range(&self, expert: usize, halves: &InputBox) -> Interval {
        let (cell, lane) = (&self.cells[expert / LANES], expert % LANES);
        let (x, slope, square) = (halves.centre[expert], cell.slope[lane], cell.slope_variance[lane]);
        let (s, bend) = (slope * x + cell.bias[lane], square * x + cell.both[lane]);
        let u = (bend + cell.both[lane]) * x + cell.bias_variance[lane];
        let sizes =
            |along: f64, both: f64, constant: f64| (along.abs() * x.abs() + both.abs()) * x.abs() + constant;
        let magnitude = Magnitude {
            s: (slope * x).abs() + cell.bias[lane].abs(),
            u: sizes(square, 2.0 * cell.both[lane], cell.bias_variance[lane]),
        };
        let mut spread = Spread::new(Margin { s, u: if u > 0.0 { u } else { 0.0 } }, magnitude);
        spread.push(Move { reach: halves.reach[expert], slope, bend, curve: square });
        probability(spread.log_odds())
    }

    /// Learns the target of the round that was predicted last.
    #[inline(always)]
    pub(super) fn learn(&mut self, target: f64) {
        self.cells.iter_mut().for_each(|cell| cell.learn(target));
    }

    pub(super) fn len(&self) -> usize {
        NUMBERS * self.experts
    }

    /// Appends, by expert: slope, bias, the slope's variance, the covariance, the bias's variance.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        for at in 0..self.experts {
            let mut cell = self.cells[at / LANES];
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
            let rows = self.cells[at / LANES].rows();
            rows.into_iter().zip(numbers).for_each(|(row, x)| row[at % LANES] = *x);
        }
        Ok(())
    }
}
