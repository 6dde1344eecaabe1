//! Estimates of prevalence, precision, recall, false-positive rate and error rate from sampled reviews.
//!
//! Each decision is sent to review with a known probability, its *inclusion probability*, and independently of the
//! others (Poisson sampling). The estimates are for the decisions that were observed, not for a model of them: the truth
//! is the figure that a label of every decision would give.
//!
//! The estimator is in `total.rs`, its intervals in `interval.rs`, with their sources.

mod accumulator;
mod figures;
mod interval;
mod thresholds;
mod total;

pub use accumulator::Accumulator;
pub use figures::{Bounds, Estimate, Estimates};
pub use thresholds::Thresholds;

/// The state of the review of a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Review {
    /// No review was requested.
    NotRequested,
    /// A review was requested, and there is no label.
    Unanswered,
    /// The target of the labels that answer the request, in \[0,1\]. A label that was given without a request, such as a
    /// report or an appeal, must not be used: its inclusion probability is not known.
    Answered(f64),
}

/// A decision as the estimates read it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// P(unsafe) of the ensemble; `None` if all experts are asleep.
    pub probability: Option<f64>,
    /// `true` if the event is flagged at the threshold in force.
    pub flagged: bool,
    /// `true` if `flagged` does not depend on the threshold, for example because the rule of a category decided. A
    /// decision without a probability is always fixed.
    pub fixed: bool,
    /// The inclusion probability, in \[0,1\]: 1 if a reason was certain. 0 is permitted: see
    /// [`Estimates::uncovered`].
    pub inclusion: f64,
    /// The state of the review.
    pub review: Review,
}

/// The estimator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// The Horvitz-Thompson estimator, for comparison.
    HorvitzThompson,
    /// The estimator with the probability of the ensemble as control variate.
    #[default]
    Assisted,
}
