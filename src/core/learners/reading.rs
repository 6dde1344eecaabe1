//! Reading members: diagonal Bayesian logistic regression over the judged text's features and the
//! votes. Weighing votes cannot know that an expert is right about slurs and wrong about sarcasm; the
//! text can tell, and the encoder has read it already.
//!
//! Inputs f: z (384 numbers, `z_j` = `q_j`·4/(127·√384) of the stored bytes q), then stacking's φ. The
//! diagonal works because the basis is whitened. Sums run in eight fixed lanes, so that a vectorised
//! and a plain build give the same bits. Without features a member sleeps.

use super::super::features::{DIMENSIONS, Features};
use super::super::math::sigmoid;
use super::stacking::{Form, Seen, VARIANCE, curvature, look, width};
use super::{BadState, Learner, LossKind, Mass, Sight, check};

const LANES: usize = 8;

/// 4 / (127·√384): what one step of a stored byte is worth.
const STEP: f64 = 4.0 / (127.0 * 19.595_917_942_265_423);

/// Numbers that φ takes: as many eights as hold it, the last filled up with zeros.
fn width_of_phi(n: usize) -> usize {
    width(n).next_multiple_of(LANES)
}

/// The inputs of one round, converted once for all members that read it: z, φ, and each vote times
/// the first eight coordinates of z.
#[derive(Debug, Clone)]
pub(super) struct Text {
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl Text {
    pub(super) fn new(n: usize) -> Self {
        let zeros = vec![0.0; DIMENSIONS + width_of_phi(n) + LANES * n];
        Self { values: zeros.clone(), squares: zeros }
    }

    /// Reads features and φ.
    #[inline(always)]
    pub(super) fn read(&mut self, features: &Features, phi: &[f64]) {
        let n = phi.len() / 2 - 1;
        let (z, rest) = self.values.split_at_mut(DIMENSIONS);
        let (linear, products) = rest.split_at_mut(width_of_phi(n));
        for (z, q) in z.iter_mut().zip(features) {
            *z = f64::from(*q) * STEP;
        }
        for (f, phi) in linear.iter_mut().zip(phi) {
            *f = *phi;
        }
        for (products, vote) in products.chunks_exact_mut(LANES).zip(phi) {
            for (product, z) in products.iter_mut().zip(&*z) {
                *product = vote * z;
            }
        }
        for (square, f) in self.squares.iter_mut().zip(&self.values) {
            *square = f * f;
        }
    }
}

/// One reading member.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    variance: f64,
    gamma: f64,
    experts: usize,
    /// Whether it reads the products of votes with z: whom to trust where.
    crosses: bool,
    means: Vec<f64>,
    variances: Vec<f64>,
}

#[inline(always)]
fn sum(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Sum of a·b in eight lanes.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += a[lane] * b[lane];
        }
    }
    sum(lanes)
}

impl Reader {
    /// Prior variance `variance` for the coordinates of z (.1 for φ's), memory 0 < γ <= 1.
    pub(super) fn new(n: usize, variance: f64, gamma: f64) -> Self {
        let mut variances = vec![variance; DIMENSIONS];
        variances.resize(DIMENSIONS + 2 * n + 1, VARIANCE);
        variances.resize(DIMENSIONS + width_of_phi(n), 0.0);
        Self { variance, gamma, experts: n, crosses: false, means: vec![0.0; variances.len()], variances }
    }

    /// One that reads the products too, with the variance of z's coordinates, and forgets nothing.
    pub(super) fn crossing(n: usize, variance: f64) -> Self {
        let mut reader = Self::new(n, variance, 1.0);
        let all = reader.variances.len() + LANES * n;
        reader.variances.resize(all, variance);
        reader.means.resize(all, 0.0);
        reader.crosses = true;
        reader
    }

    pub(super) fn name(&self) -> String {
        if self.crosses {
            format!("cross reading {}", self.variance)
        } else {
            format!("reading {}/{}", self.variance, self.gamma)
        }
    }

    #[inline(always)]
    pub(super) fn see(&self, text: &Text) -> Seen {
        Seen { s: dot(&text.values, &self.means), u: dot(&text.squares, &self.variances) }
    }

    /// Learns the target of the round seen, q = σ(s).
    pub(super) fn learn(&mut self, text: &Text, q: f64, target: f64) {
        let (h, off) = (curvature(q), target - q);
        if self.gamma < 1.0 {
            let inverse = 1.0 / self.gamma;
            let (z, rest) = self.variances.split_at_mut(DIMENSIONS);
            widen(z, inverse, self.variance);
            // φ's; a crossing member forgets nothing.
            widen(rest, inverse, VARIANCE);
        }
        let inputs = text.values.iter().zip(&text.squares);
        let weights = self.variances.iter_mut().zip(&mut self.means);
        // One flat loop, so that it is vectorised along the numbers.
        for ((variance, mean), (f, square)) in weights.zip(inputs) {
            *variance /= 1.0 + h * square * *variance;
            *mean += *variance * f * off;
        }
    }

    /// Whether a place is an input: φ is filled up with others to a whole number of eights.
    fn is_input(&self, at: usize) -> bool {
        at < DIMENSIONS + 2 * self.experts + 1 || at >= DIMENSIONS + width_of_phi(self.experts)
    }

    fn inputs(&self) -> usize {
        let products = if self.crosses { LANES } else { 0 };
        DIMENSIONS + 2 * self.experts + 1 + products * self.experts
    }

    pub(super) fn len(&self) -> usize {
        2 * self.inputs()
    }

    /// w, then P.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        for part in [&self.means, &self.variances] {
            let places = part.iter().enumerate();
            out.extend(places.filter(|(at, _)| self.is_input(*at)).map(|(_, x)| *x));
        }
    }

    pub(super) fn check(&self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), -1e6..=1e6)?;
        let mut variances = state.iter().skip(self.inputs());
        if variances.any(|variance| *variance < 0.0) {
            return Err(BadState::OutOfRange);
        }
        Ok(())
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.check(state)?;
        let mut saved = state.iter();
        let places: Vec<bool> = (0..self.means.len()).map(|at| self.is_input(at)).collect();
        for part in [&mut self.means, &mut self.variances] {
            for (x, _) in part.iter_mut().zip(&places).filter(|(_, input)| **input) {
                *x = saved.next().copied().unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// P ← min(P/γ, prior).
#[inline(always)]
fn widen(variances: &mut [f64], inverse: f64, prior: f64) {
    for variance in variances {
        let widened = *variance * inverse;
        *variance = if widened < prior { widened } else { prior };
    }
}

/// A reading member as a learner of its own. A round without features it does not know: it says .5
/// and learns nothing.
#[derive(Debug, Clone)]
pub struct Reading {
    reader: Reader,
    text: Text,
    phi: Vec<f64>,
}

impl Reading {
    /// A reading member over n experts.
    #[must_use]
    pub fn new(n: usize, variance: f64, gamma: f64) -> Self {
        Self { reader: Reader::new(n, variance, gamma), text: Text::new(n), phi: vec![0.0; width(n)] }
    }

    fn see(&mut self, round: &Sight<'_>) -> Option<Seen> {
        look(Form::Sign, round.votes, &mut self.phi);
        self.text.read(round.features?, &self.phi);
        Some(self.reader.see(&self.text))
    }
}

impl Learner for Reading {
    fn predict(&mut self, round: &Sight<'_>) -> f64 {
        self.see(round).map_or(0.5, |seen| sigmoid(seen.log_odds()))
    }

    fn step(&mut self, round: &Sight<'_>, target: f64) -> f64 {
        let Some(seen) = self.see(round) else {
            return 0.5;
        };
        self.reader.learn(&self.text, sigmoid(seen.s), target);
        sigmoid(seen.log_odds())
    }

    fn weights(&self, _: &Sight<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn reads(&self) -> bool {
        true
    }

    fn masses(&self) -> Vec<Mass> {
        vec![Mass { member: self.reader.name(), mass: 1.0 }]
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.reader.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.reader.load(state)
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Brier
    }
}
