//! The learners. Each combines the votes of one round into a P(unsafe) and learns from the round's target.
//!
//! There is one algorithm per file, behind [`Learner`]. A learner is a state machine over `f64`: the same
//! rounds in the same order give the same bits on every machine, so a state can be hashed, published as a
//! predictor, saved as a checkpoint and compared with a replay.
//!
//! `docs/learning.md` describes the purpose of each learner, its parameters and its proven bound.

mod adahedge;
mod adanormalhedge;
mod brier;
mod default;
mod error;
mod fixed_share;
mod fpl;
mod grid;
mod hedge;
mod interval;
mod log_loss;
pub mod majority;
mod mix;
mod name;
mod parameters;
mod reading;
mod recalibrated;
mod spec;
mod squint;
mod stacking;
pub mod tally;
mod weighted_majority;

use super::features::Features;
pub use error::SpecError;
pub use interval::Interval;
pub use name::Name;
pub use parameters::{Noise, Parameter, Value};
pub use spec::LearnerSpec;
pub use tally::Tally;

/// One round, as the input of a learner.
#[derive(Debug, Clone, Copy)]
pub struct RoundInput<'a> {
    /// P(unsafe) in \[0,1\] per expert, NaN if it is asleep, in the learner's order of experts (UTF-8 bytes of
    /// the ids).
    pub votes: &'a [f64],
    /// The features of the judged text; `None` if the event has none, or those of another encoder.
    pub features: Option<&'a Features>,
    /// The event's id, for keyed draws.
    pub event: &'a str,
}

/// A member of a learner and its mass in the learner's aggregation, for display.
#[derive(Debug, Clone, PartialEq)]
pub struct Mass {
    /// The expert's id, or the inner learner's name (`share 0.3/0.001`, `stacking 0.9995`, `reading 1/1`).
    pub member: String,
    /// The share of the aggregation in \[0,1\]; the masses of all members sum to one.
    pub mass: f64,
}

/// The loss in which a learner's regret is measured, for one round with the prediction p and the target y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// (p - y)².
    Brier,
    /// |p - y|; for a learner that plays weights w over the experts, the sum of `w_i |v_i - y|`.
    Absolute,
    /// -y ln p - (1 - y) ln(1 - p), the votes clipped to \[.01,.99\].
    Log,
    /// 1 if p >= .5 and y >= .5 differ, else 0.
    Mistakes,
}

impl LossKind {
    /// The name in the JSON report of a replay.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brier => "brier",
            Self::Absolute => "absolute",
            Self::Log => "log",
            Self::Mistakes => "mistakes",
        }
    }
}

impl std::fmt::Display for LossKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The record of an expert so far, on which the bound on the regret against it may depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Against {
    /// The index of the expert in the learner's order.
    pub expert: usize,
    /// The number of rounds folded.
    pub rounds: u64,
    /// The rounds in which this expert was awake.
    pub awake: u64,
    /// The mistakes of this expert in them.
    pub mistakes: u64,
    /// `true` if any expert slept in any round.
    pub slept: bool,
}

/// An online learner, which combines votes and learns from targets.
///
/// At least one expert of a round must be awake, a vote must be NaN or in \[0,1\], and a target must be in
/// \[0,1\]. The ledger refuses all other records.
///
/// # Panics
/// The methods that take a round may panic if its votes are not as many as the learner's experts, or if all
/// experts sleep.
pub trait Learner: Send {
    /// Returns P(unsafe) for this round. Only scratch space changes.
    fn predict(&mut self, round: &RoundInput<'_>) -> f64;

    /// Returns an interval that contains the [`predict`](Self::predict)ion for all votes that lie between those of the
    /// round, which are the least, and `greatest`. An expert sleeps in both rows or in neither.
    ///
    /// Up to rounding, which the caller's slack covers ([`decisive`](crate::decisive)). The default is for learners whose
    /// prediction does not fall when a vote rises and the same experts are awake: weighted means, counts of sides, the
    /// vote of a leader that does not depend on the votes, and Vovk's substitution, which rises with each prediction.
    fn range(&mut self, round: &RoundInput<'_>, greatest: &[f64]) -> Interval {
        let low = self.predict(round);
        Interval::of(low, self.predict(&RoundInput { votes: greatest, ..*round }))
    }

    /// Returns the [`predict`](Self::predict)ion for this round, and learns its target.
    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64;

    /// Does the same as [`step`](Self::step). If the round has features and the learner reads them, it also
    /// returns the prediction without them.
    fn step_ablated(&mut self, round: &RoundInput<'_>, target: f64) -> (f64, Option<f64>) {
        (self.step(round, target), None)
    }

    /// Writes the weight played on each expert in this round, zero for sleepers, to `out`, which is as long as
    /// the votes. Returns `false` and leaves `out` unchanged if the learner plays a p of its own instead.
    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool;

    /// Returns the current mass of each member, in member order.
    fn masses(&self) -> Vec<Mass>;

    /// Appends the whole state, that of each member in member order.
    fn save(&self, out: &mut Vec<f64>);

    /// Replaces the state by one that [`save`](Self::save) wrote for the same parameters and experts.
    ///
    /// # Errors
    /// Returns an error if the length or a value cannot be that of such a state, which may come from a topic or
    /// a disk. The learner is then unchanged.
    fn load(&mut self, state: &[f64]) -> Result<(), BadState>;

    /// Returns the loss in which [`bound`](Self::bound) holds and the regret is reported.
    fn loss_kind(&self) -> LossKind {
        LossKind::Absolute
    }

    /// Returns the proven bound on the regret against one expert: the learner's loss minus the expert's, both
    /// summed over the rounds in which that expert was awake, for any sequence of rounds folded without delay.
    /// `None` if no bound is proven for this learner.
    fn bound(&self, against: &Against) -> Option<f64> {
        let _ = against;
        None
    }
}

/// The reason for which numbers are not a learner's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadState {
    /// The state has another length than that of these parameters and experts.
    Length {
        /// The expected length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A number is NaN or infinite.
    NotFinite,
    /// A number is finite but outside of the range of such a state.
    OutOfRange,
}

impl std::fmt::Display for BadState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "a state of {found} numbers where these parameters and experts give {expected}")
            }
            Self::NotFinite => f.write_str("a number of the state is NaN or infinite"),
            Self::OutOfRange => f.write_str("a number of the state is out of its range"),
        }
    }
}

impl std::error::Error for BadState {}

/// The greatest sum of losses or regrets that a state may hold. No real sum comes near it.
const GREATEST_SUM: f64 = 1e15;

/// Returns an error if a state has another length, or a number outside of `range`.
fn check(state: &[f64], expected: usize, range: std::ops::RangeInclusive<f64>) -> Result<(), BadState> {
    if state.len() != expected {
        return Err(BadState::Length { expected, found: state.len() });
    }
    if state.iter().any(|x| !x.is_finite()) {
        return Err(BadState::NotFinite);
    }
    if state.iter().any(|x| !range.contains(x)) {
        return Err(BadState::OutOfRange);
    }
    Ok(())
}

/// The verdict of a number in \[0,1\]: unsafe from .5 on.
#[inline(always)]
fn flagged(p: f64) -> bool {
    p >= 0.5
}

/// Pairs names with masses in proportion to `parts`, which sum to one.
fn shares(names: &[String], parts: &[f64]) -> Vec<Mass> {
    let total: f64 = parts.iter().sum();
    let mass = |part: f64| {
        if total > 0.0 { part / total } else { 1.0 / parts.len() as f64 }
    };
    names.iter().zip(parts).map(|(name, part)| Mass { member: name.clone(), mass: mass(*part) }).collect()
}

/// The ids as owned strings.
fn owned(experts: &[&str]) -> Vec<String> {
    experts.iter().map(|id| (*id).to_owned()).collect()
}
