//! Online logistic stacking: Bayesian logistic regression over the votes, one Laplace step per round
//! (second order; compare the Online Newton Step of Hazan, Agarwal & Kale 2007).
//!
//! It competes with the best *linear combination* of the experts and gives a calibrated p. There are
//! d = 2N + 1 inputs φ: each expert's vote (0 if it sleeps), then 1 or 0 for each expert that is awake or
//! asleep, then the constant 1. With a memory γ < 1, one direction of the prior is refreshed per round
//! (stabilised forgetting). Without it the directions of P that no round informs grow as γ^-k, and the
//! learner breaks down after some 19,000 rounds.

use super::interval::{InputBox, Interval, Magnitude, Move, Spread};
use super::{BadState, Learner, Mass, RoundInput, check};
use crate::math::{ln_normal, sigmoid};

/// The prior variance of each weight.
pub(super) const VARIANCE: f64 = 0.1;
/// The least curvature of a round, so that a certain prediction still learns.
const LEAST_CURVATURE: f64 = 1e-6;
pub(super) const EIGHTH_PI: f64 = std::f64::consts::PI / 8.0;
/// The number of experts up to which the matrix operations are compiled for their exact width.
const UNROLLED: usize = 12;

/// The form in which votes are inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 2v - 1.
    Sign,
    /// ln((v + .001) / (1 - v + .001)) / 2, within ±3.5.
    LogOdds,
}

/// The length of φ and of a row of P: 2N + 1, and one zero that makes it even.
pub(super) fn width(n: usize) -> usize {
    2 * n + 2
}

/// Writes φ for these votes. `phi` has the [`width`] of their number.
#[inline(always)]
pub(super) fn encode(form: Form, votes: &[f64], phi: &mut [f64]) {
    let (values, rest) = phi.split_at_mut(votes.len());
    for (value, vote) in values.iter_mut().zip(votes) {
        let given = match form {
            Form::Sign => 2.0 * vote - 1.0,
            Form::LogOdds => 0.5 * ln_normal((vote + 0.001) / (1.001 - vote)),
        };
        *value = if vote.is_nan() { 0.0 } else { given };
    }
    for (flag, vote) in rest.iter_mut().zip(votes) {
        *flag = if vote.is_nan() { 0.0 } else { 1.0 };
    }
    rest[votes.len()] = 1.0;
}

/// Sets the box of the inputs φ for votes between two rows. Each form is increasing in a vote.
pub(super) fn fill(form: Form, inputs: &mut InputBox, least: &[f64], greatest: &[f64]) {
    inputs.fill(|phi| encode(form, least, phi), |phi| encode(form, greatest, phi));
}

/// The interval of the probabilities with these log-odds.
pub(super) fn probability(log_odds: Interval) -> Interval {
    Interval { low: sigmoid(log_odds.low), high: sigmoid(log_odds.high) }
}

/// The margin of a linear member in one round: its mean s = φ·w, and the variance u of s.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Margin {
    pub(super) s: f64,
    pub(super) u: f64,
}

impl Margin {
    /// The log-odds of the prediction: s, shrunk by its uncertainty.
    #[inline(always)]
    pub(super) fn log_odds(self) -> f64 {
        self.s / (1.0 + EIGHTH_PI * self.u).sqrt()
    }
}

/// The curvature max(q(1-q), 1e-6) of the log loss at the prediction q.
#[inline(always)]
pub(super) fn curvature(q: f64) -> f64 {
    let h = q * (1.0 - q);
    if h < LEAST_CURVATURE { LEAST_CURVATURE } else { h }
}

/// One stacking: the mean w and the covariance P of its weights.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    gamma: f64,
    /// The prior variance of each weight.
    variance: f64,
    inputs: usize,
    rounds: u64,
    mean: Vec<f64>,
    /// The whole of P, in rows of even width. Both triangles get the same bits, because each product is formed
    /// of the same two factors on either side.
    covariance: Vec<f64>,
    /// Pφ of the last round.
    image: Vec<f64>,
    refreshed: Vec<f64>,
}

impl Stack {
    /// The stacking of the votes of `n` experts with the memory `gamma`.
    pub(super) fn new(n: usize, gamma: f64) -> Self {
        Self::with_prior(&vec![0.0; 2 * n + 1], VARIANCE, gamma)
    }

    /// A stacking with one input for each prior mean.
    pub(super) fn with_prior(means: &[f64], variance: f64, gamma: f64) -> Self {
        let inputs = means.len();
        let width = (inputs + 1).next_multiple_of(2);
        let mut covariance = vec![0.0; inputs * width];
        covariance.iter_mut().step_by(width + 1).for_each(|x| *x = variance);
        let zeros = vec![0.0; width];
        let mut mean = zeros.clone();
        mean.iter_mut().zip(means).for_each(|(to, x)| *to = *x);
        Self { gamma, variance, inputs, rounds: 0, mean, covariance, image: zeros.clone(), refreshed: zeros }
    }

    #[inline(always)]
    pub(super) fn margin(&mut self, phi: &[f64]) -> Margin {
        multiply(&self.covariance, phi, &mut self.image);
        let (mut s, mut u) = (0.0, 0.0);
        for ((f, mean), image) in phi.iter().zip(&self.mean).zip(&self.image) {
            s += f * mean;
            u += f * image;
        }
        Margin { s, u: if u > 0.0 { u } else { 0.0 } }
    }

    /// The interval of the log-odds over a box of inputs.
    pub(super) fn range(&mut self, inputs: &InputBox) -> Interval {
        let margin = self.margin(&inputs.centre);
        let width = self.mean.len();
        let covariance = |row: usize, column: usize| self.covariance[row * width + column];
        let (mut s, mut sizes, mut variance) = (0.0, 0.0, 0.0f64);
        for (at, (f, mean)) in inputs.centre.iter().zip(&self.mean).enumerate().take(self.inputs) {
            s += (f * mean).abs();
            sizes += f.abs();
            variance = variance.max(covariance(at, at).abs());
        }
        let mut spread = Spread::new(margin, Magnitude { s, u: sizes * sizes * variance });
        for (place, at) in inputs.moving.iter().enumerate() {
            let reach = inputs.reach[*at];
            let (slope, bend, curve) = (self.mean[*at], self.image[*at], covariance(*at, *at));
            spread.push(Move { reach, slope, bend, curve });
            for other in &inputs.moving[..place] {
                spread.cross(2.0 * covariance(*at, *other) * reach * inputs.reach[*other]);
            }
        }
        spread.log_odds()
    }

    /// Learns the target of the round whose margin was computed last. `q` is σ(s).
    #[inline(always)]
    pub(super) fn learn(&mut self, phi: &[f64], margin: Margin, q: f64, target: f64) {
        let h = curvature(q);
        let mut u = margin.u;
        let mut inverse = 1.0;
        if self.gamma < 1.0 {
            // P/γ, then P - c P_i P_iᵀ / (1 + c P_ii): the new Pφ and u follow from P_i alone.
            inverse = 1.0 / self.gamma;
            let at = (self.rounds % self.inputs as u64) as usize;
            let c = (1.0 - self.gamma) * self.inputs as f64 / self.variance;
            let width = self.mean.len();
            let row = &self.covariance[at * width..(at + 1) * width];
            let diagonal = row[at] * inverse;
            let towards = self.image[at] * inverse;
            let scale = c / (1.0 + c * diagonal);
            let root = scale.sqrt() * inverse;
            let along = scale * inverse * towards;
            u = 0.0;
            for (((image, refreshed), x), f) in
                self.image.iter_mut().zip(&mut self.refreshed).zip(row).zip(phi)
            {
                *image = *image * inverse - along * x;
                *refreshed = root * x;
                u += f * *image;
            }
            u = if u > 0.0 { u } else { 0.0 };
        }
        // P - h Pφ(Pφ)ᵀ / (1 + hu); Pφ with the new P is Pφ / (1 + hu).
        let shrink = 1.0 / (1.0 + h * u);
        let step = shrink * (target - q);
        let root = (h * shrink).sqrt();
        for (mean, image) in self.mean.iter_mut().zip(&mut self.image) {
            *mean += *image * step;
            *image *= root;
        }
        if self.gamma < 1.0 {
            forget(&mut self.covariance, inverse, &self.refreshed, &self.image);
        } else {
            narrow(&mut self.covariance, &self.image);
        }
        self.rounds += 1;
    }

    pub(super) fn len(&self) -> usize {
        1 + self.inputs + self.inputs * (self.inputs + 1) / 2
    }

    /// Appends the number of rounds, w, and the lower triangle of P by rows.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.push(self.rounds as f64);
        out.extend(self.mean.iter().take(self.inputs));
        for (at, row) in self.covariance.chunks_exact(self.mean.len()).enumerate() {
            out.extend(row.iter().take(at + 1));
        }
    }

    pub(super) fn check(&self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), -super::GREATEST_SUM..=super::GREATEST_SUM)?;
        let (rounds, rest) = state.split_first().expect("the length was checked");
        let (weights, matrix) = rest.split_at(self.inputs);
        let sane = *rounds >= 0.0 && rounds.fract() == 0.0;
        if sane && weights.iter().all(|w| w.abs() < 1e6) && matrix.iter().all(|x| x.abs() < 1e3) {
            Ok(())
        } else {
            Err(BadState::OutOfRange)
        }
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.check(state)?;
        let (rounds, rest) = state.split_first().expect("the length was checked");
        let (weights, matrix) = rest.split_at(self.inputs);
        self.rounds = *rounds as u64;
        self.mean[..self.inputs].copy_from_slice(weights);
        let width = self.mean.len();
        let places = (0..self.inputs).flat_map(|row| (0..=row).map(move |column| (row, column)));
        for ((row, column), x) in places.zip(matrix) {
            self.covariance[row * width + column] = *x;
            self.covariance[column * width + row] = *x;
        }
        Ok(())
    }
}

/// Calls the function for the width as a constant if it is a usual one, because rows of known length stay in
/// registers. The operations, and so the bits, are the same.
macro_rules! by_width {
    ($width:expr, $name:ident($($argument:expr),*)) => {
        match $width {
            4 => fixed::$name::<4>($($argument),*),
            6 => fixed::$name::<6>($($argument),*),
            8 => fixed::$name::<8>($($argument),*),
            10 => fixed::$name::<10>($($argument),*),
            12 => fixed::$name::<12>($($argument),*),
            14 => fixed::$name::<14>($($argument),*),
            16 => fixed::$name::<16>($($argument),*),
            18 => fixed::$name::<18>($($argument),*),
            20 => fixed::$name::<20>($($argument),*),
            22 => fixed::$name::<22>($($argument),*),
            24 => fixed::$name::<24>($($argument),*),
            26 => fixed::$name::<26>($($argument),*),
            _ => any::$name($($argument),*),
        }
    };
}
const _: () = assert!(2 * UNROLLED + 2 == 26);

/// Writes Pφ, summed in row order.
#[inline(always)]
fn multiply(p: &[f64], phi: &[f64], out: &mut [f64]) {
    by_width!(out.len(), multiply(p, phi, out));
}

/// Replaces P by P - b bᵀ.
#[inline(always)]
fn narrow(p: &mut [f64], b: &[f64]) {
    by_width!(b.len(), narrow(p, b));
}

/// Replaces P by P·inverse - a aᵀ - b bᵀ.
#[inline(always)]
fn forget(p: &mut [f64], inverse: f64, a: &[f64], b: &[f64]) {
    by_width!(b.len(), forget(p, inverse, a, b));
}

mod fixed {
    fn array<const W: usize>(xs: &[f64]) -> [f64; W] {
        *xs.first_chunk().expect("the length is the width")
    }

    pub(super) fn multiply<const W: usize>(p: &[f64], phi: &[f64], out: &mut [f64]) {
        let mut sum = [0.0; W];
        for (row, f) in p.as_chunks::<W>().0.iter().zip(phi) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += f * x;
            }
        }
        out.copy_from_slice(&sum);
    }

    pub(super) fn narrow<const W: usize>(p: &mut [f64], b: &[f64]) {
        let b = array::<W>(b);
        for (row, bi) in p.as_chunks_mut::<W>().0.iter_mut().zip(b) {
            for (x, bj) in row.iter_mut().zip(&b) {
                *x -= bi * bj;
            }
        }
    }

    pub(super) fn forget<const W: usize>(p: &mut [f64], inverse: f64, a: &[f64], b: &[f64]) {
        let (a, b) = (array::<W>(a), array::<W>(b));
        for ((row, ai), bi) in p.as_chunks_mut::<W>().0.iter_mut().zip(a).zip(b) {
            for ((x, aj), bj) in row.iter_mut().zip(&a).zip(&b) {
                *x = *x * inverse - ai * aj - bi * bj;
            }
        }
    }
}

mod any {
    pub(super) fn multiply(p: &[f64], phi: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        for (row, f) in p.chunks_exact(out.len()).zip(phi) {
            for (sum, x) in out.iter_mut().zip(row) {
                *sum += f * x;
            }
        }
    }

    pub(super) fn narrow(p: &mut [f64], b: &[f64]) {
        for (row, bi) in p.chunks_exact_mut(b.len()).zip(b) {
            for (x, bj) in row.iter_mut().zip(b) {
                *x -= bi * bj;
            }
        }
    }

    pub(super) fn forget(p: &mut [f64], inverse: f64, a: &[f64], b: &[f64]) {
        for ((row, ai), bi) in p.chunks_exact_mut(b.len()).zip(a).zip(b) {
            for ((x, aj), bj) in row.iter_mut().zip(a).zip(b) {
                *x = *x * inverse - ai * aj - bi * bj;
            }
        }
    }
}

/// Stacking as a learner of its own.
#[derive(Debug, Clone)]
pub struct Stacking {
    stack: Stack,
    phi: Vec<f64>,
    inputs: InputBox,
}

impl Stacking {
    /// Stacking on 2v - 1 over `n` experts with the memory 0 < γ <= 1.
    #[must_use]
    pub fn new(n: usize, gamma: f64) -> Self {
        Self { stack: Stack::new(n, gamma), phi: vec![0.0; width(n)], inputs: InputBox::new(width(n)) }
    }
}

impl Learner for Stacking {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        encode(Form::Sign, round.votes, &mut self.phi);
        sigmoid(self.stack.margin(&self.phi).log_odds())
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        encode(Form::Sign, round.votes, &mut self.phi);
        let margin = self.stack.margin(&self.phi);
        self.stack.learn(&self.phi, margin, sigmoid(margin.s), target);
        sigmoid(margin.log_odds())
    }

    fn range(&mut self, round: &RoundInput<'_>, greatest: &[f64]) -> Interval {
        fill(Form::Sign, &mut self.inputs, round.votes, greatest);
        probability(self.stack.range(&self.inputs))
    }

    fn weights(&self, _: &RoundInput<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        vec![Mass { member: format!("stacking {}", self.stack.gamma), mass: 1.0 }]
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.stack.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.stack.load(state)
    }

    fn loss_kind(&self) -> super::LossKind {
        super::LossKind::Brier
    }
}
