//! Weighted Majority (Littlestone & Warmuth 1994): predict unsafe iff the unsafe side holds at least
//! half of the awake weight; every wrong awake expert's weight is multiplied by β, in every round.
//!
//! The state is counts of mistakes, because weights that are multiplied round by round lose the ties on
//! which this learner depends. Proven without sleepers: the mistakes are at most
//! (m ln(1/β) + ln N) / ln(2/(1+β)), where m are those of any expert. With sleepers the potential argument
//! fails; `WeightedMajority::bound` gives the bound that holds then.

use super::mix::normalise;
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, check, flagged, owned, shares};
use crate::math::{ln, power};

/// The greatest number of mistakes that a state can hold, 2^53.
const GREATEST_COUNT: f64 = 9_007_199_254_740_992.0;

/// Deterministic Weighted Majority.
#[derive(Debug, Clone)]
pub struct WeightedMajority {
    names: Vec<String>,
    beta: f64,
    /// The k for which β = 2^-k, if there is one. Sides are then compared in exact integers.
    halvings: Option<u32>,
    mistakes: Vec<u64>,
    /// (mistakes, +1 for unsafe or -1 for safe) of the awake experts, for the comparison.
    ballot: Vec<(u64, i64)>,
    masses: Vec<f64>,
}

impl WeightedMajority {
    /// Weighted Majority before its first round, with 0 < β < 1.
    #[must_use]
    pub fn new(experts: &[&str], beta: f64) -> Self {
        let n = experts.len();
        let halvings = (1..=64u32).find(|k| beta == power(0.5, u64::from(*k)));
        let (mistakes, ballot, masses) = (vec![0; n], Vec::with_capacity(n), vec![0.0; n]);
        Self { names: owned(experts), beta, halvings, mistakes, ballot, masses }
    }

    /// Writes the weights β^(mistakes - the least count awake), zero for sleepers, and returns their sum.
    fn awake(&self, votes: &[f64], out: &mut [f64]) -> f64 {
        let awake = votes.iter().zip(&self.mistakes).filter(|(vote, _)| !vote.is_nan());
        let least = awake.map(|(_, count)| *count).min().expect("a round has an awake expert");
        let mut total = 0.0;
        for ((out, vote), count) in out.iter_mut().zip(votes).zip(&self.mistakes) {
            *out = if vote.is_nan() { 0.0 } else { power(self.beta, count - least) };
            total += *out;
        }
        total
    }

    /// Returns `true` if the unsafe side holds at least half of the weight.
    ///
    /// The comparison is exact if β is a power of ½. For another β equal counts on both sides cancel exactly,
    /// and the rest is compared in doubles: two different sums of its powers are not known to tie.
    fn unsafe_wins(&mut self, votes: &[f64]) -> bool {
        self.ballot.clear();
        for (vote, count) in votes.iter().zip(&self.mistakes).filter(|(vote, _)| !vote.is_nan()) {
            self.ballot.push((*count, if flagged(*vote) { 1 } else { -1 }));
        }
        self.ballot.sort_unstable();
        // Horner's scheme from the heaviest: balance * β^-gap + the net votes of the next count.
        let enough = self.ballot.len() as i64 + 1;
        let (mut exact, mut scaled, mut scale) = (0i64, 0.0, 1.0);
        let mut at = self.ballot[0].0;
        for group in self.ballot.chunk_by(|a, b| a.0 == b.0) {
            let count = group[0].0;
            let net: i64 = group.iter().map(|(_, side)| side).sum();
            match self.halvings {
                Some(halvings) => {
                    let gap = (count - at).saturating_mul(u64::from(halvings)).min(40) as u32;
                    exact = (exact << gap) + net;
                    if exact.abs() >= enough {
                        return exact > 0; // all lighter votes together cannot change the sign
                    }
                }
                None => {
                    scale *= power(self.beta, count - at);
                    scaled += scale * net as f64;
                }
            }
            at = count;
        }
        if self.halvings.is_some() { exact >= 0 } else { scaled >= 0.0 }
    }

    /// The unsafe side's share of the weight, moved to the side of one half that the exact comparison gives.
    fn share(&mut self, votes: &[f64]) -> f64 {
        let mut masses = std::mem::take(&mut self.masses);
        let total = self.awake(votes, &mut masses);
        let side = votes.iter().zip(&masses).filter(|(vote, _)| flagged(**vote));
        let share = side.map(|(_, mass)| mass).sum::<f64>() / total;
        self.masses = masses;
        if self.unsafe_wins(votes) { share.max(0.5) } else { share.min(0.5f64.next_down()) }
    }
}

impl Learner for WeightedMajority {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.share(round.votes)
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let p = self.share(round.votes);
        for (count, vote) in self.mistakes.iter_mut().zip(round.votes) {
            *count += u64::from(!vote.is_nan() && flagged(*vote) != flagged(target));
        }
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let total = self.awake(round.votes, out);
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let least = *self.mistakes.iter().min().expect("a learner has an expert");
        let parts: Vec<f64> = self.mistakes.iter().map(|count| power(self.beta, count - least)).collect();
        shares(&self.names, &parts)
    }

    fn save(&self, out: &mut Vec<f64>) {
        out.extend(self.mistakes.iter().map(|count| *count as f64));
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, self.names.len(), 0.0..=GREATEST_COUNT)?;
        if state.iter().any(|count| count.fract() != 0.0) {
            return Err(BadState::OutOfRange);
        }
        for (count, saved) in self.mistakes.iter_mut().zip(state) {
            *count = *saved as u64;
        }
        Ok(())
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Mistakes
    }

    /// Without sleepers, the classical bound minus the expert's own mistakes m.
    ///
    /// With sleepers, a mistake made while expert i is awake and right requires a wrong side at least as heavy
    /// as i, so another expert whose mistakes are at most m + log(N-1)/log(1/β) errs in that round. Each of
    /// the N - 1 others can do so at most m + ⌊log(N-1)/log(1/β)⌋ + 1 times.
    fn bound(&self, against: &Against) -> Option<f64> {
        let n = self.names.len() as f64;
        let m = against.mistakes as f64;
        let ln_inverse = -ln(self.beta);
        if against.slept {
            let others = n - 1.0;
            let lead = if others > 0.0 { (ln(others) / ln_inverse + 1e-9).floor() } else { 0.0 };
            return Some(others * (m + lead + 1.0));
        }
        let ln_shrink = ln(2.0 / (1.0 + self.beta));
        Some((m * ln_inverse + ln(n)) / ln_shrink - m)
    }
}
