//! The Fixed-Share grid: η in {.1, .3, 1} times α in {0, .0001, .001, .01}, mixed by AdaNormalHedge.
//! No parameter is left, and whatever pace the experts change at, one of the twelve keeps it.
//!
//! Proven: regret against an expert <= AdaNormalHedge's bound against any of the twelve plus that one's
//! own bound against the expert; the least of these twelve sums is given.

use super::super::math::exp;
use super::adanormalhedge::Regrets;
use super::fixed_share::{self, LEAST_SHARE};
use super::{Against, BadState, Learner, Mass, RoundInput, check, owned};

/// Members of the grid.
pub const MEMBERS: usize = 12;
/// The steps; four members in a row have the same.
pub const ETAS: [f64; 3] = [0.1, 0.3, 1.0];
/// The shares passed round, in turn under every step.
pub const ALPHAS: [f64; 4] = [0.0, 1e-4, 1e-3, 1e-2];

type Lanes = [f64; MEMBERS];

/// η and α of each member.
pub(super) fn parameters() -> impl Iterator<Item = (f64, f64)> {
    ETAS.into_iter().flat_map(|eta| ALPHAS.into_iter().map(move |alpha| (eta, alpha)))
}

/// The members' names, `share η/α`.
pub(super) fn names() -> impl Iterator<Item = String> {
    parameters().map(|(eta, alpha)| format!("share {eta}/{alpha}"))
}

/// Twelve Fixed Shares side by side, one a lane: each expert's row holds its twelve weights.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    weights: Vec<Lanes>,
    /// e^(-.1 l) of each expert in this round; the other steps' factors are its powers.
    factors: Vec<f64>,
    keep: Lanes,
    give: Lanes,
}

/// What the members say of one round, and the weight of those awake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// P(unsafe) of each member.
    pub(super) said: Lanes,
    total: Lanes,
}

/// Factors of all members for one expert: x, x³ and x¹⁰ for x = e^(-.1 l).
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
    pub(super) fn hear(&self, votes: &[f64]) -> Heard {
        let (mut said, mut total) = ([0.0; MEMBERS], [0.0; MEMBERS]);
        for (row, vote) in self.weights.iter().zip(votes).filter(|(_, vote)| !vote.is_nan()) {
            for ((said, total), weight) in said.iter_mut().zip(&mut total).zip(row) {
                *said += weight * vote;
                *total += weight;
            }
        }
        for (said, total) in said.iter_mut().zip(&total) {
            *said /= total;
        }
        Heard { said, total }
    }

    #[inline(always)]
    pub(super) fn learn(&mut self, votes: &[f64], heard: &Heard, target: f64) {
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
        // Those awake keep their total among themselves; that is the sleepers' mix loss.
        let mut kept = [0.0; MEMBERS];
        for (((kept, total), sum), keep) in kept.iter_mut().zip(&heard.total).zip(&sum).zip(&self.keep) {
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

    /// Whether these numbers can be such a state.
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

    fn hear(&mut self, votes: &[f64]) -> (Heard, f64, f64) {
        let heard = self.shares.hear(votes);
        let total = self.regrets.weigh(|_| true, &mut self.masses);
        let sum: f64 = self.masses.iter().zip(&heard.said).map(|(mass, said)| mass * said).sum();
        (heard, total, (sum / total).min(1.0))
    }
}

impl Learner for FixedShareGrid {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.hear(round.votes).2
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let (heard, total, p) = self.hear(round.votes);
        let mut losses = [0.0; MEMBERS];
        let awake = self.shares.weights.iter().zip(round.votes).filter(|(_, vote)| !vote.is_nan());
        for (row, vote) in awake {
            for (loss, weight) in losses.iter_mut().zip(row) {
                *loss += weight * (vote - target).abs();
            }
        }
        for (loss, total) in losses.iter_mut().zip(&heard.total) {
            *loss /= total;
        }
        let played = self.masses.iter().zip(&losses).map(|(mass, loss)| mass * loss).sum::<f64>() / total;
        for (at, loss) in losses.iter().enumerate() {
            self.regrets.learn(at, played - loss);
        }
        self.regrets.count_round();
        self.shares.learn(round.votes, &heard, target);
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let heard = self.shares.hear(round.votes);
        let mut masses = [0.0; MEMBERS];
        let total = self.regrets.weigh(|_| true, &mut masses);
        for ((out, row), vote) in out.iter_mut().zip(&self.shares.weights).zip(round.votes) {
            let lanes = row.iter().zip(&heard.total).zip(&masses);
            let weight: f64 = lanes.map(|((weight, awake), mass)| mass / total * (weight / awake)).sum();
            *out = if vote.is_nan() { 0.0 } else { weight };
        }
        let total = out.iter().sum();
        super::mix::normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let mut masses = [0.0; MEMBERS];
        self.regrets.weigh(|_| true, &mut masses);
        super::shares(&names().collect::<Vec<_>>(), &masses)
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.regrets.save(out);
        self.shares.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        let expected = self.regrets.len() + self.shares.len();
        let Some((regrets, shares)) = state.split_at_checked(self.regrets.len()) else {
            return Err(BadState::Length { expected, found: state.len() });
        };
        if state.len() != expected {
            return Err(BadState::Length { expected, found: state.len() });
        }
        self.shares.check(shares)?;
        self.regrets.load(regrets)?;
        self.shares.load(shares)
    }

    fn bound(&self, against: &Against) -> Option<f64> {
        let n = self.names.len();
        let uniform = -super::super::math::ln(n as f64);
        let through = parameters().enumerate().filter_map(|(member, (eta, alpha))| {
            Some(self.regrets.bound(member)? + fixed_share::bound(uniform, n, eta, alpha, against))
        });
        through.reduce(f64::min)
    }
}
