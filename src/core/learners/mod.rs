//! The learners: each combines the votes of one round into a P(unsafe) and learns from its target.
//!
//! One algorithm a file, behind [`Learner`]. A learner is a plain state machine over `f64`: the same
//! rounds in the same order give the same bits on every machine, so a state can be hashed, published
//! as a predictor, put away as a checkpoint and compared with a replay.

use super::features::Features;

/// One round as a learner sees it.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
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

/// Combines votes and learns from targets.
///
/// `predict` and `step` are called only where at least one expert is awake; all votes are finite or
/// NaN and the target is in \[0,1\] (the fold refuses everything else at its door).
pub trait Learner: Send {
    /// P(unsafe) for this round. Changes nothing but scratch space.
    fn predict(&mut self, round: &Sight<'_>) -> f64;

    /// What [`predict`](Self::predict) gives for this round, then learns its target.
    fn step(&mut self, round: &Sight<'_>, target: f64) -> f64;

    /// Played weight per expert for this round, zero for sleepers, into `out` (as long as the votes).
    /// `false`, and `out` untouched, where the learner plays no weights over experts but a p of its own.
    fn weights(&self, round: &Sight<'_>, out: &mut [f64]) -> bool;

    /// The mass of each member as it stands, in member order.
    fn masses(&self) -> Vec<Mass>;

    /// Appends the whole state, each member's in member order.
    fn save(&self, out: &mut Vec<f64>);

    /// Takes a state that [`save`](Self::save) gave for the same parameters and experts.
    ///
    /// # Errors
    /// Where the length or a value cannot be such a state (for hostile bytes from a topic or disk).
    fn load(&mut self, state: &[f64]) -> Result<(), BadState>;
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
}
