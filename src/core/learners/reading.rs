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

/// The inputs of one round, converted once for all members that read it.
#[derive(Debug, Clone)]
pub(super) struct Text {
    inputs: Vec<Lanes>,
    squares: Vec<Lanes>,
}

impl Text {
    pub(super) fn new(n: usize) -> Self {
        let zeros = vec![[0.0; LANES]; LEADING + width(n).div_ceil(LANES)];
        Self { inputs: zeros.clone(), squares: zeros }
    }

    /// Reads features and φ.
    #[inline(always)]
    pub(super) fn read(&mut self, features: &Features, phi: &[f64]) {
        let (z, rest) = self.inputs.as_flattened_mut().split_at_mut(DIMENSIONS);
        for (z, q) in z.iter_mut().zip(features) {
            *z = f64::from(*q) * STEP;
        }
        for (f, phi) in rest.iter_mut().zip(phi) {
            *f = *phi;
        }
        for (square, f) in self.squares.as_flattened_mut().iter_mut().zip(self.inputs.as_flattened()) {
            *square = f * f;
        }
    }
}

/// One reading member.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    variance: f64,
    gamma: f64,
    inputs: usize,
    mean: Vec<Lanes>,
    covariance: Vec<Lanes>,
}

#[inline(always)]
fn sum(lanes: Lanes) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

impl Reader {
    /// Prior variance `variance` for the coordinates of z (.1 for φ's), memory 0 < γ <= 1.
    pub(super) fn new(n: usize, variance: f64, gamma: f64) -> Self {
        let lanes = LEADING + width(n).div_ceil(LANES);
        let inputs = DIMENSIONS + 2 * n + 1;
        let mut covariance = vec![[variance; LANES]; LEADING];
        covariance.resize(lanes, [VARIANCE; LANES]);
        // Lanes past the last input are zero throughout.
        covariance.as_flattened_mut().iter_mut().skip(inputs).for_each(|x| *x = 0.0);
        Self { variance, gamma, inputs, mean: vec![[0.0; LANES]; lanes], covariance }
    }

    pub(super) fn name(&self) -> String {
        format!("reading {}/{}", self.variance, self.gamma)
    }

    #[inline(always)]
    pub(super) fn see(&self, text: &Text) -> Seen {
        let (mut s, mut u) = ([0.0; LANES], [0.0; LANES]);
        let state = self.mean.iter().zip(&self.covariance);
        for ((f, square), (mean, variance)) in text.inputs.iter().zip(&text.squares).zip(state) {
            for lane in 0..LANES {
                s[lane] += f[lane] * mean[lane];
                u[lane] += square[lane] * variance[lane];
            }
        }
        Seen { s: sum(s), u: sum(u) }
    }

    /// Learns the target of the round seen, q = σ(s).
    #[inline(always)]
    pub(super) fn learn(&mut self, text: &Text, q: f64, target: f64) {
        let h = curvature(q);
        let off = target - q;
        let (z, phi) = self.covariance.split_at_mut(LEADING);
        let (z_mean, phi_mean) = self.mean.split_at_mut(LEADING);
        let (z_input, phi_input) = text.inputs.split_at(LEADING);
        let (z_square, phi_square) = text.squares.split_at(LEADING);
        let inverse = 1.0 / self.gamma;
        // With γ = 1 the variances only fall: the prior's cap never binds and the bits are the same.
        learn(z, z_mean, z_input, z_square, inverse, self.variance, h, off);
        learn(phi, phi_mean, phi_input, phi_square, inverse, VARIANCE, h, off);
    }

    pub(super) fn len(&self) -> usize {
        2 * self.inputs
    }

    /// w, then P.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.extend(self.mean.as_flattened().iter().take(self.inputs));
        out.extend(self.covariance.as_flattened().iter().take(self.inputs));
    }

    pub(super) fn check(&self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), -1e6..=1e6)?;
        if state.iter().skip(self.inputs).any(|variance| *variance < 0.0) {
            return Err(BadState::OutOfRange);
        }
        Ok(())
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.check(state)?;
        let (mean, covariance) = state.split_at(self.inputs);
        self.mean.as_flattened_mut().iter_mut().zip(mean).for_each(|(to, x)| *to = *x);
        self.covariance.as_flattened_mut().iter_mut().zip(covariance).for_each(|(to, x)| *to = *x);
        Ok(())
    }
}

/// P ← min(P/γ, prior); P ← P / (1 + h f² P); w ← w + P f (y - q).
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn learn(
    covariance: &mut [Lanes],
    mean: &mut [Lanes],
    inputs: &[Lanes],
    squares: &[Lanes],
    inverse: f64,
    prior: f64,
    h: f64,
    off: f64,
) {
    for (((variance, mean), f), square) in covariance.iter_mut().zip(mean).zip(inputs).zip(squares) {
        for lane in 0..LANES {
            let widened = variance[lane] * inverse;
            let widened = if widened < prior { widened } else { prior };
            let now = widened / (1.0 + h * square[lane] * widened);
            variance[lane] = now;
            mean[lane] += now * f[lane] * off;
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
        let Some(seen) = self.see(round) else { return 0.5 };
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
