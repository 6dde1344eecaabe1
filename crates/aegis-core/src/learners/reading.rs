//! Reading members: diagonal Bayesian logistic regression over the features of the judged text and the
//! votes. An aggregation of votes cannot learn that an expert is right about slurs and wrong about sarcasm.
//! The features of the text can show this, and the encoder has already computed them.
//!
//! The inputs f are z (384 numbers, `z_j` = `q_j`·4/(127·√384) of the stored bytes q), then stacking's φ. The
//! diagonal covariance works because the basis is whitened. Sums run in eight fixed lanes, so that a
//! vectorised and a plain build give the same bits. Without features a member sleeps.

use super::interval::{InputBox, Interval, Magnitude, Move, Spread};
use super::stacking::{Form, Margin, VARIANCE, curvature, encode, fill, probability, width};
use super::{BadState, Learner, LossKind, Mass, RoundInput, check};
use crate::features::{DIMENSIONS, Features};
use crate::math::sigmoid;

const LANES: usize = 8;

/// √384, the root of the number of coordinates.
const ROOT: f64 = 19.595_917_942_265_423;
/// The value of one step of a stored byte.
const STEP: f64 = 4.0 / (127.0 * ROOT);
/// The number of pairs of the first eight coordinates: each with itself and with the next four, cyclically.
const PAIRS: usize = 5 * LANES;

/// The length of φ with the hint after it, padded with zeros to a multiple of eight.
fn padded_width(n: usize) -> usize {
    width(n).next_multiple_of(LANES)
}

/// The inputs of one round, converted once for all members: z, φ and a hint, each vote times the first eight
/// coordinates of z, and pairs of these coordinates. Each member uses a prefix of them.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl Inputs {
    pub(super) fn new(n: usize) -> Self {
        let zeros = vec![0.0; DIMENSIONS + padded_width(n) + LANES * n + PAIRS];
        Self { values: zeros.clone(), squares: zeros }
    }

    /// Computes the inputs from features, φ, and a hint, which is the log-odds of a member without features.
    #[inline(always)]
    pub(super) fn fill(&mut self, features: &Features, phi: &[f64], hint: f64) {
        let n = phi.len() / 2 - 1;
        let (z, rest) = self.values.split_at_mut(DIMENSIONS);
        let (linear, rest) = rest.split_at_mut(padded_width(n));
        let (products, pairs) = rest.split_at_mut(LANES * n);
        for (z, q) in z.iter_mut().zip(features) {
            *z = f64::from(*q) * STEP;
        }
        for (f, phi) in linear.iter_mut().zip(phi) {
            *f = *phi;
        }
        linear[2 * n + 1] = hint;
        for (products, vote) in products.chunks_exact_mut(LANES).zip(phi) {
            for (product, z) in products.iter_mut().zip(&*z) {
                *product = vote * z;
            }
        }
        let first: [f64; LANES] = *z.first_chunk().expect("there are 384 coordinates");
        for (next, pairs) in pairs.chunks_exact_mut(LANES).enumerate() {
            for (at, pair) in pairs.iter_mut().enumerate() {
                *pair = ROOT * first[at] * first[(at + next) % LANES];
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
    name: String,
    gamma: f64,
    /// The prior variances; 0 at an index that the member does not use.
    priors: Vec<f64>,
    means: Vec<f64>,
    variances: Vec<f64>,
}

/// Prior variances of z that fall with the coordinate, to half of `variance` at index `half`. All coordinates
/// of whitened features vary alike, but the topic of a text is in the first of them.
fn falling(variance: f64, half: f64) -> Vec<f64> {
    (0..DIMENSIONS).map(|at| variance / (1.0 + at as f64 / half)).collect()
}

#[inline(always)]
fn sum(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The sum of a·b in eight lanes.
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
    fn with(name: String, priors: Vec<f64>, gamma: f64) -> Self {
        Self { name, gamma, means: vec![0.0; priors.len()], variances: priors.clone(), priors }
    }

    /// Appends the prior variances of φ to those of z.
    fn with_votes(mut priors: Vec<f64>, n: usize) -> Vec<f64> {
        priors.resize(DIMENSIONS + 2 * n + 1, VARIANCE);
        priors.resize(DIMENSIONS + padded_width(n), 0.0);
        priors
    }

    /// A member with the prior variance `variance` for z, the stackings' for φ, and the memory 0 < γ <= 1.
    pub(super) fn new(n: usize, variance: f64, gamma: f64) -> Self {
        let priors = Self::with_votes(vec![variance; DIMENSIONS], n);
        Self::with(format!("reading {variance}/{gamma}"), priors, gamma)
    }

    /// A member that also reads the products, with the same prior variance as z, and forgets nothing.
    pub(super) fn crossing(n: usize, variance: f64) -> Self {
        let mut priors = Self::with_votes(vec![variance; DIMENSIONS], n);
        priors.resize(priors.len() + LANES * n, variance);
        Self::with(format!("cross reading {variance}"), priors, 1.0)
    }

    /// A member whose prior variances fall from 20 at the first coordinate to half of it at the seventeenth.
    pub(super) fn leading(n: usize, gamma: f64) -> Self {
        let priors = Self::with_votes(falling(20.0, 16.0), n);
        Self::with("leading reading".to_owned(), priors, gamma)
    }

    /// A member that starts from the hint instead of the votes, and also reads products and pairs. Its prior
    /// variances fall from 10 at the first coordinate to half of it at the thirty-third.
    pub(super) fn pairing(n: usize) -> Self {
        let mut priors = falling(10.0, 32.0);
        priors.resize(DIMENSIONS + 2 * n, 0.0);
        priors.resize(DIMENSIONS + 2 * n + 2, VARIANCE);
        priors.resize(DIMENSIONS + padded_width(n), 0.0);
        priors.resize(priors.len() + LANES * n + PAIRS, 10.0);
        let mut reader = Self::with("pair reading".to_owned(), priors, 1.0);
        reader.means[DIMENSIONS + 2 * n + 1] = 1.0;
        reader
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    #[inline(always)]
    pub(super) fn margin(&self, inputs: &Inputs) -> Margin {
        Margin { s: dot(&inputs.values, &self.means), u: dot(&inputs.squares, &self.variances) }
    }

    /// The interval of the log-odds over a box of φ, and hints that are at most `hint_reach` from the one in `inputs`,
    /// which are filled for the box's centre.
    pub(super) fn range(&self, inputs: &Inputs, phi: &InputBox, hint_reach: f64) -> Interval {
        let n = phi.centre.len() / 2 - 1;
        let products = DIMENSIONS + padded_width(n);
        let sizes = inputs.values.iter().zip(&self.means).map(|(f, mean)| (f * mean).abs());
        let margin = self.margin(inputs);
        let mut spread = Spread::new(margin, Magnitude { s: sizes.sum(), u: margin.u });
        // A vote is an input by itself, and in eight products with coordinates that do not move.
        for at in &phi.moving {
            let vote = DIMENSIONS + at;
            let (mut slope, mut curve) = (self.means[vote], self.variances[vote]);
            let first = products + LANES * at;
            if let (Some(means), Some(variances)) =
                (self.means.get(first..first + LANES), self.variances.get(first..first + LANES))
            {
                for ((mean, variance), z) in means.iter().zip(variances).zip(&inputs.values) {
                    slope += mean * z;
                    curve += variance * z * z;
                }
            }
            let bend = curve * phi.centre[*at];
            spread.push(Move { reach: phi.reach[*at], slope, bend, curve });
        }
        let hint = DIMENSIONS + 2 * n + 1;
        let (slope, curve) = (self.means[hint], self.variances[hint]);
        if hint_reach > 0.0 && (slope != 0.0 || curve != 0.0) {
            spread.push(Move { reach: hint_reach, slope, bend: curve * inputs.values[hint], curve });
        }
        spread.log_odds()
    }

    /// Learns the target of a round whose margin has the mean s. `q` is σ(s).
    pub(super) fn learn(&mut self, inputs: &Inputs, q: f64, target: f64) {
        let (h, off) = (curvature(q), target - q);
        if self.gamma < 1.0 {
            widen(&mut self.variances, 1.0 / self.gamma, &self.priors);
        }
        let inputs = inputs.values.iter().zip(&inputs.squares);
        let weights = self.variances.iter_mut().zip(&mut self.means);
        // One flat loop, so that it is vectorised over the inputs.
        for ((variance, mean), (f, square)) in weights.zip(inputs) {
            *variance /= 1.0 + h * square * *variance;
            *mean += *variance * f * off;
        }
    }

    fn inputs(&self) -> usize {
        self.priors.iter().filter(|prior| **prior > 0.0).count()
    }

    pub(super) fn len(&self) -> usize {
        2 * self.inputs()
    }

    /// Appends the means w, then the variances P.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        for part in [&self.means, &self.variances] {
            let places = part.iter().zip(&self.priors);
            out.extend(places.filter(|(_, prior)| **prior > 0.0).map(|(x, _)| *x));
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
        for part in [&mut self.means, &mut self.variances] {
            for (x, _) in part.iter_mut().zip(&self.priors).filter(|(_, prior)| **prior > 0.0) {
                *x = *saved.next().expect("the length was checked");
            }
        }
        Ok(())
    }
}

/// Replaces each P by min(P/γ, prior).
#[inline(always)]
fn widen(variances: &mut [f64], inverse: f64, priors: &[f64]) {
    for (variance, prior) in variances.iter_mut().zip(priors) {
        let widened = *variance * inverse;
        *variance = if widened < *prior { widened } else { *prior };
    }
}

/// A reading member as a learner of its own. For a round without features it predicts .5 and learns nothing.
#[derive(Debug, Clone)]
pub struct Reading {
    reader: Reader,
    inputs: Inputs,
    phi: Vec<f64>,
    votes: InputBox,
}

impl Reading {
    /// A reading member over `n` experts with the prior variance `variance` and the memory `gamma`.
    #[must_use]
    pub fn new(n: usize, variance: f64, gamma: f64) -> Self {
        let (phi, votes) = (vec![0.0; width(n)], InputBox::new(width(n)));
        Self { reader: Reader::new(n, variance, gamma), inputs: Inputs::new(n), phi, votes }
    }

    fn margin(&mut self, round: &RoundInput<'_>) -> Option<Margin> {
        encode(Form::Sign, round.votes, &mut self.phi);
        self.inputs.fill(round.features?, &self.phi, 0.0);
        Some(self.reader.margin(&self.inputs))
    }
}

impl Learner for Reading {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.margin(round).map_or(0.5, |margin| sigmoid(margin.log_odds()))
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let Some(margin) = self.margin(round) else {
            return 0.5;
        };
        self.reader.learn(&self.inputs, sigmoid(margin.s), target);
        sigmoid(margin.log_odds())
    }

    fn step_ablated(&mut self, round: &RoundInput<'_>, target: f64) -> (f64, Option<f64>) {
        (self.step(round, target), round.features.map(|_| 0.5))
    }

    fn range(&mut self, round: &RoundInput<'_>, greatest: &[f64]) -> Interval {
        let Some(features) = round.features else { return Interval::of(0.5, 0.5) };
        fill(Form::Sign, &mut self.votes, round.votes, greatest);
        self.inputs.fill(features, &self.votes.centre, 0.0);
        probability(self.reader.range(&self.inputs, &self.votes, 0.0))
    }

    fn weights(&self, _: &RoundInput<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        vec![Mass { member: self.reader.name().to_owned(), mass: 1.0 }]
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
