//! The learners: each combines the votes of one round into a P(unsafe) and learns from its target.
//!
//! One algorithm a file, behind [`Learner`]. A learner is a plain state machine over `f64`: the same
//! rounds in the same order give the same bits on every machine, so a state can be hashed, published
//! as a predictor, put away as a checkpoint and compared with a replay.
//!
//! `docs/learning.md` tells what each one is for, what it supports and which bound holds.

pub mod adahedge;
pub mod adanormalhedge;
pub mod brier;
pub mod default;
mod error;
pub mod fixed_share;
pub mod fpl;
pub mod grid;
pub mod hedge;
pub mod log_loss;
pub mod majority;
mod mix;
mod name;
pub mod parameters;
pub mod reading;
mod recalibrated;
pub mod spec;
pub mod squint;
pub mod stacking;
pub mod tally;
pub mod weighted_majority;

use super::features::Features;
pub use error::SpecError;
pub use name::Name;
pub use parameters::{Noise, Parameter, Value};
pub use spec::LearnerSpec;
pub use tally::Tally;

/// One round as a learner sees it.
#[derive(Debug, Clone, Copy)]
pub struct RoundInput<'a> {
    /// P(unsafe) in \[0,1\] per expert, in the learner's expert order (UTF-8 bytes of the ids); NaN: asleep.
    pub votes: &'a [f64],
    /// The judged text's features; `None` where the event has none or those of another encoder.
    pub features: Option<&'a Features>,
    /// The event's id, for keyed draws.
    pub event: &'a str,
}

/// A member of a learner and the mass that the learner's aggregation gives it, for people to read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mass {
    /// The expert's id, or the inner learner's name (`share 0.3/0.001`, `stacking 0.9995`, `reading 1/1`).
    pub member: String,
    /// Share of the aggregation in \[0,1\]; all members' masses sum to one.
    pub mass: f64,
}

/// The loss in which a learner's regret is measured, per round, for a P(unsafe) of p and a target of y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// (p - y)².
    Brier,
    /// |p - y|; for a learner that plays weights w over the experts, the sum of `w_i |v_i - y|`.
    Absolute,
    /// -y ln p - (1 - y) ln(1 - p), the votes clipped to \[.01,.99\].
    Log,
    /// 1 where p >= .5 and y >= .5 differ, else 0.
    Mistakes,
}

impl LossKind {
    /// The name in a replay's JSON.
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

/// An expert's record so far, which a bound on the regret against it may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Against {
    /// The expert's place in the learner's order.
    pub expert: usize,
    /// Rounds folded.
    pub rounds: u64,
    /// Rounds in which this expert was awake.
    pub awake: u64,
    /// This expert's mistakes in them.
    pub mistakes: u64,
    /// Whether any expert slept in any round.
    pub slept: bool,
}

/// Combines votes and learns from targets.
///
/// `predict` and `step` are called only where at least one expert is awake; all votes are finite or
/// NaN and the target is in \[0,1\] (the fold refuses everything else at its door).
pub trait Learner: Send {
    /// P(unsafe) for this round. Changes nothing but scratch space.
    fn predict(&mut self, round: &RoundInput<'_>) -> f64;

    /// What [`predict`](Self::predict) gives for this round, then learns its target.
    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64;

    /// [`step`](Self::step); with it what [`predict`](Self::predict) would have given without the features, where
    /// there are some and it reads them.
    fn step_unread(&mut self, round: &RoundInput<'_>, target: f64) -> (f64, Option<f64>) {
        (self.step(round, target), None)
    }

    /// Played weight per expert for this round, zero for sleepers, into `out` (as long as the votes).
    /// `false`, and `out` untouched, where the learner plays no weights over experts but a p of its own.
    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool;

    /// The mass of each member as it stands, in member order.
    fn masses(&self) -> Vec<Mass>;

    /// Appends the whole state, each member's in member order.
    fn save(&self, out: &mut Vec<f64>);

    /// Takes a state that [`save`](Self::save) gave for the same parameters and experts.
    ///
    /// # Errors
    /// Where the length or a value cannot be such a state (for hostile bytes from a topic or disk);
    /// the learner is then as it was before.
    fn load(&mut self, state: &[f64]) -> Result<(), BadState>;

    /// The loss in which [`bound`](Self::bound) holds and the regret is reported.
    fn loss_kind(&self) -> LossKind {
        LossKind::Absolute
    }

    /// The proven bound on the regret against one expert: the learner's loss minus the expert's, both
    /// summed over the rounds in which that expert was awake, for any sequence of rounds folded
    /// without delay. `None` where nothing is proven for what is played.
    fn bound(&self, against: &Against) -> Option<f64> {
        let _ = against;
        None
    }
}

/// Why bytes are not a learner's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadState {
    /// The state has another length than these parameters and experts give.
    Length {
        /// Numbers expected.
        expected: usize,
        /// Numbers found.
        found: usize,
    },
    /// A number is NaN or infinite.
    NotFinite,
    /// A number is finite but out of the range in which such a state can be.
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

/// No sum of losses or regrets comes near it; a state beyond is not one of ours.
const GREATEST_SUM: f64 = 1e15;

/// Refuses a state of another length, or with a number that cannot be.
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

/// The verdict that a number in \[0,1\] stands for: unsafe from .5 on.
#[inline(always)]
fn flagged(p: f64) -> bool {
    p >= 0.5
}

/// Pairs names with masses that are proportional to `parts`.
fn shares(names: &[String], parts: &[f64]) -> Vec<Mass> {
    let total: f64 = parts.iter().sum();
    let mass = |part: f64| {
        if total > 0.0 { part / total } else { 1.0 / parts.len() as f64 }
    };
    names.iter().zip(parts).map(|(name, part)| Mass { member: name.clone(), mass: mass(*part) }).collect()
}

/// The ids as owned texts.
fn owned(experts: &[&str]) -> Vec<String> {
    experts.iter().map(|id| (*id).to_owned()).collect()
}
