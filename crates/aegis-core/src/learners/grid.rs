//! The Fixed-Share grid: η in {.1, .3, 1} times α in {0, .0001, .001, .01}, mixed by AdaNormalHedge.
//! It has no parameter, and one of its twelve members suits the pace at which the experts change.
//!
//! Proven: the regret against an expert that was always awake is at most AdaNormalHedge's bound against any of the twelve
//! members plus that member's own bound against the expert. The least of these twelve sums is reported. Against an expert that
//! slept there is no bound: the regret counts its awake rounds only, and AdaNormalHedge's bound is over all rounds.

use super::adanormalhedge::Regrets;
use super::fixed_share::{self, LEAST_SHARE};
use super::mix::normalise;
use super::{Against, BadState, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::{exp, ln};

/// The number of members.
pub(super) const MEMBERS: usize = 12;
/// The steps η. Four members in a row have the same step.
const ETAS: [f64; 3] = [0.1, 0.3, 1.0];
/// The shares α, in turn for every step.
const ALPHAS: [f64; 4] = [0.0, 1e-4, 1e-3, 1e-2];

type Lanes = [f64; MEMBERS];

/// The η and α of each member.
fn parameters() -> impl Iterator<Item = (f64, f64)> {
    ETAS.into_iter().flat_map(|eta| ALPHAS.into_iter().map(move |alpha| (eta, alpha)))
}

/// The names of the members, `share η/α`.
pub(super) fn names() -> impl Iterator<Item = String> {
    parameters().map(|(eta, alpha)| format!("share {eta}/{alpha}"))
}

/// Twelve Fixed Shares side by side, one per lane. The row of an expert holds its twelve weights.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    weights: Vec<Lanes>,
    /// e^(-.1 l) of each expert in this round. The factors of the other steps are its powers.
    factors: Vec<f64>,
    keep: Lanes,
    give: Lanes,
}

/// The predictions of the members for one round, and the weight of the awake experts in each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregates {
    /// P(unsafe) of each member.
    pub(super) predictions: Lanes,
    total: Lanes,
}

/// The factors of all members for one expert: x, x³ and x¹⁰ for x = e^(-.1 l).
#[inline(always)]
fn powers(x: f64) -> Lanes {
    let cube = x * x * x;
    let tenth = cube * cube * cube * x;
    [x, x, x, x, cube, cube, cube, cube, tenth, tenth, tenth, tenth]
}

impl Shares {
    pub(super) fn new(n: usize) -> Self {
        let (mut keep, mut give) = ([0.0; MEMBERS], [0.0; MEMBERS]);
        for ((keep, give), (_, alpha)) in keep.iter_mut().zip(&mut give).zip(parameters()) {
            *keep = 1.0 - alpha;
            *give = (alpha / n as f64).max(LEAST_SHARE);
        }
        Self { weights: vec![[1.0 / n as f64; MEMBERS]; n], factors: vec![0.0; n], keep, give }
    }

    #[inline(always)]
    pub(super) fn aggregate(&self, votes: &[f64]) -> Aggregates {
        let (mut predictions, mut total) = ([0.0; MEMBERS], [0.0; MEMBERS]);
        for (row, vote) in self.weights.iter().zip(votes).filter(|(_, vote)| !vote.is_nan()) {
            for ((prediction, total), weight) in predictions.iter_mut().zip(&mut total).zip(row) {
                *prediction += weight * vote;
                *total += weight;
            }
        }
        for (prediction, total) in predictions.iter_mut().zip(&total) {
            *prediction /= total;
        }
        Aggregates { predictions, total }
    }

    #[inline(always)]
    pub(super) fn learn(&mut self, votes: &[f64], aggregates: &Aggregates, target: f64) {
        for (factor, vote) in self.factors.iter_mut().zip(votes) {
            *factor = exp(-ETAS[0] * (vote - target).abs());
        }
        let mut sum = [0.0; MEMBERS];
        let mut asleep = false;
        for ((row, factor), vote) in self.weights.iter().zip(&self.factors).zip(votes) {
            if vote.is_nan() {
                asleep = true;
                continue;
            }
            for ((sum, weight), power) in sum.iter_mut().zip(row).zip(powers(*factor)) {
                *sum += weight * power;
            }
        }
        // The awake experts keep their total weight, which charges the sleepers the mix loss.
        let mut kept = [0.0; MEMBERS];
        for (((kept, total), sum), keep) in kept.iter_mut().zip(&aggregates.total).zip(&sum).zip(&self.keep) {
            *kept = keep * if asleep { *total } else { 1.0 } / sum;
        }
        for ((row, factor), vote) in self.weights.iter_mut().zip(&self.factors).zip(votes) {
            if vote.is_nan() {
                for ((weight, keep), give) in row.iter_mut().zip(&self.keep).zip(&self.give) {
                    *weight = keep * *weight + give;
                }
            } else {
                let powers = powers(*factor);
                for (((weight, kept), give), power) in row.iter_mut().zip(&kept).zip(&self.give).zip(powers) {
                    *weight = kept * (*weight * power) + give;
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        MEMBERS * self.weights.len()
    }

    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.extend_from_slice(self.weights.as_flattened());
    }

    /// Returns an error if these numbers cannot be such a state.
    pub(super) fn check(&self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.len(), LEAST_SHARE..=2.0)
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.check(state)?;
        self.weights.as_flattened_mut().copy_from_slice(state);
        Ok(())
    }
}

/// The grid under AdaNormalHedge.
#[derive(Debug, Clone)]
pub struct FixedShareGrid {
    names: Vec<String>,
    shares: Shares,
    regrets: Regrets,
    masses: Lanes,
}

impl FixedShareGrid {
    /// The grid over experts, uniform prior.
    #[must_use]
    pub fn new(experts: &[&str]) -> Self {
        let uniform = [1.0 / MEMBERS as f64; MEMBERS];
        Self {
            names: owned(experts),
            shares: Shares::new(experts.len()),
            regrets: Regrets::new(&uniform),
            masses: [0.0; MEMBERS],
        }
    }

    /// The members' predictions, the sum of the masses, and the combined prediction.
    fn combine(&mut self, votes: &[f64]) -> (Aggregates, f64, f64) {
        let aggregates = self.shares.aggregate(votes);
        let total = self.regrets.weigh(|_| true, &mut self.masses);
        let sum: f64 = self.masses.iter().zip(&aggregates.predictions).map(|(mass, p)| mass * p).sum();
        (aggregates, total, (sum / total).min(1.0))
    }
}

impl Learner for FixedShareGrid {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.combine(round.votes).2
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let (aggregates, total, p) = self.combine(round.votes);
        let mut losses = [0.0; MEMBERS];
        let awake = self.shares.weights.iter().zip(round.votes).filter(|(_, vote)| !vote.is_nan());
        for (row, vote) in awake {
            for (loss, weight) in losses.iter_mut().zip(row) {
                *loss += weight * (vote - target).abs();
            }
        }
        for (loss, total) in losses.iter_mut().zip(&aggregates.total) {
            *loss /= total;
        }
        let played = self.masses.iter().zip(&losses).map(|(mass, loss)| mass * loss).sum::<f64>() / total;
        for (at, loss) in losses.iter().enumerate() {
            self.regrets.learn(at, played - loss);
        }
        self.regrets.count_round();
        self.shares.learn(round.votes, &aggregates, target);
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let aggregates = self.shares.aggregate(round.votes);
        let mut masses = [0.0; MEMBERS];
        let total = self.regrets.weigh(|_| true, &mut masses);
        for ((out, row), vote) in out.iter_mut().zip(&self.shares.weights).zip(round.votes) {
            let lanes = row.iter().zip(&aggregates.total).zip(&masses);
            let weight: f64 = lanes.map(|((weight, awake), mass)| mass / total * (weight / awake)).sum();
            *out = if vote.is_nan() { 0.0 } else { weight };
        }
        let total = out.iter().sum();
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let mut masses = [0.0; MEMBERS];
        self.regrets.weigh(|_| true, &mut masses);
        shares(&names().collect::<Vec<_>>(), &masses)
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.regrets.save(out);
        self.shares.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        let expected = self.regrets.len() + self.shares.len();
        if state.len() != expected {
            return Err(BadState::Length { expected, found: state.len() });
        }
        let (regrets, shares) = state.split_at(self.regrets.len());
        self.shares.check(shares)?;
        self.regrets.load(regrets)?;
        self.shares.load(shares)
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        if against.awake < against.rounds {
            return None;
        }
        let n = self.names.len();
        let uniform = -ln(n as f64);
        let through = parameters().enumerate().map(|(member, (eta, alpha))| {
            self.regrets.bound(member) + fixed_share::bound(uniform, n, eta, alpha, against)
        });
        through.reduce(f64::min)
    }
}
