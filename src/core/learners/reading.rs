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
type Lanes = [f64; LANES];

/// 4 / (127·√384): what one step of a stored byte is worth.
const STEP: f64 = 4.0 / (127.0 * 19.595_917_942_265_423);

/// Lanes of z.
const LEADING: usize = DIMENSIONS / LANES;

/// Eight inputs and their squares.
#[derive(Debug, Clone, Copy)]
struct Input {
    value: Lanes,
    square: Lanes,
}

/// Eights of inputs that φ takes, the last of them filled up with zeros.
fn lanes_of_phi(n: usize) -> usize {
    width(n).div_ceil(LANES)
}

/// The inputs of one round, converted once for all members that read it: z, φ, and each vote times
/// the first eight coordinates of z.
#[derive(Debug, Clone)]
pub(super) struct Text {
    inputs: Vec<Input>,
}

impl Text {
    pub(super) fn new(n: usize) -> Self {
        let zero = Input { value: [0.0; LANES], square: [0.0; LANES] };
        Self { inputs: vec![zero; LEADING + lanes_of_phi(n) + n] }
    }

    /// Reads features and φ.
    #[inline(always)]
    pub(super) fn read(&mut self, features: &Features, phi: &[f64]) {
        let n = phi.len() / 2 - 1;
        let (z, rest) = self.inputs.split_at_mut(LEADING);
        let (linear, products) = rest.split_at_mut(lanes_of_phi(n));
        for (input, q) in z.iter_mut().zip(features.as_chunks::<LANES>().0) {
            for (lane, q) in q.iter().enumerate() {
                let x = f64::from(*q) * STEP;
                input.value[lane] = x;
                input.square[lane] = x * x;
            }
        }
        for (input, phi) in linear.iter_mut().zip(phi.chunks(LANES)) {
            for ((value, square), x) in input.value.iter_mut().zip(&mut input.square).zip(phi) {
                *value = *x;
                *square = x * x;
            }
        }
        let Some(first) = z.first().map(|input| input.value) else {
            return;
        };
        for (input, vote) in products.iter_mut().zip(phi) {
            for (lane, z) in first.iter().enumerate() {
                let x = vote * z;
                input.value[lane] = x;
                input.square[lane] = x * x;
            }
        }
    }
}

/// Mean and variance of eight weights.
#[derive(Debug, Clone, Copy)]
struct Weight {
    mean: Lanes,
    variance: Lanes,
}

/// One reading member.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    variance: f64,
    gamma: f64,
    experts: usize,
    /// Whether it reads the products of votes with z: whom to trust where.
    crosses: bool,
    weights: Vec<Weight>,
}

#[inline(always)]
fn sum(lanes: Lanes) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

impl Reader {
    /// Prior variance `variance` for the coordinates of z (.1 for φ's), memory 0 < γ <= 1.
    pub(super) fn new(n: usize, variance: f64, gamma: f64) -> Self {
        let weight = |variance| Weight { mean: [0.0; LANES], variance: [variance; LANES] };
        let mut weights = vec![weight(variance); LEADING];
        weights.resize(LEADING + lanes_of_phi(n), weight(VARIANCE));
        // Lanes past the last input are zero throughout.
        let variances = weights.iter_mut().flat_map(|weight| &mut weight.variance);
        variances.skip(DIMENSIONS + 2 * n + 1).for_each(|x| *x = 0.0);
        Self { variance, gamma, experts: n, crosses: false, weights }
    }

    /// One that reads the products too, with the variance of z's coordinates, and forgets nothing.
    pub(super) fn crossing(n: usize, variance: f64) -> Self {
        let mut reader = Self::new(n, variance, 1.0);
        let weight = Weight { mean: [0.0; LANES], variance: [variance; LANES] };
        reader.weights.extend(std::iter::repeat_n(weight, n));
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
        let (mut s, mut u) = ([0.0; LANES], [0.0; LANES]);
        for (input, weight) in text.inputs.iter().zip(&self.weights) {
            for lane in 0..LANES {
                s[lane] += input.value[lane] * weight.mean[lane];
                u[lane] += input.square[lane] * weight.variance[lane];
            }
        }
        Seen { s: sum(s), u: sum(u) }
    }

    /// Learns the target of the round seen, q = σ(s).
    #[inline(always)]
    pub(super) fn learn(&mut self, text: &Text, q: f64, target: f64) {
        let h = curvature(q);
        let off = target - q;
        let (z, rest) = self.weights.split_at_mut(LEADING);
        let (phi, products) = rest.split_at_mut(lanes_of_phi(self.experts));
        let (z_inputs, rest) = text.inputs.split_at(LEADING);
        let (phi_inputs, product_inputs) = rest.split_at(lanes_of_phi(self.experts));
        if self.gamma < 1.0 {
            let inverse = 1.0 / self.gamma;
            learn::<true>(z, z_inputs, inverse, self.variance, h, off);
            learn::<true>(phi, phi_inputs, inverse, VARIANCE, h, off);
        } else {
            learn::<false>(z, z_inputs, 1.0, self.variance, h, off);
            learn::<false>(phi, phi_inputs, 1.0, VARIANCE, h, off);
        }
        if self.crosses {
            learn::<false>(products, product_inputs, 1.0, self.variance, h, off);
        }
    }

    /// Whether a place in the lanes is an input: φ's last eight are filled up with others.
    fn is_input(&self, at: usize) -> bool {
        at < DIMENSIONS + 2 * self.experts + 1 || at >= (LEADING + lanes_of_phi(self.experts)) * LANES
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
        let mut save = |of: fn(&Weight) -> &Lanes| {
            let all = self.weights.iter().flat_map(of).enumerate();
            out.extend(all.filter(|(at, _)| self.is_input(*at)).map(|(_, x)| *x));
        };
        save(|weight| &weight.mean);
        save(|weight| &weight.variance);
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
        let (means, variances) = state.split_at(self.inputs());
        let places: Vec<usize> = (0..self.weights.len() * LANES).filter(|at| self.is_input(*at)).collect();
        for ((at, mean), variance) in places.into_iter().zip(means).zip(variances) {
            if let Some(weight) = self.weights.get_mut(at / LANES) {
                weight.mean[at % LANES] = *mean;
                weight.variance[at % LANES] = *variance;
            }
        }
        Ok(())
    }
}

/// P ← min(P/γ, prior) where it forgets; P ← P / (1 + h f² P); w ← w + P f (y - q).
#[inline(always)]
fn learn<const FORGETS: bool>(
    weights: &mut [Weight],
    inputs: &[Input],
    inverse: f64,
    prior: f64,
    h: f64,
    off: f64,
) {
    for (weight, input) in weights.iter_mut().zip(inputs) {
        for lane in 0..LANES {
            let mut variance = weight.variance[lane];
            if FORGETS {
                variance *= inverse;
                variance = if variance < prior { variance } else { prior };
            }
            variance /= 1.0 + h * input.square[lane] * variance;
            weight.variance[lane] = variance;
            weight.mean[lane] += variance * input.value[lane] * off;
        }
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
