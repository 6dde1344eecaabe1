//! The accumulation of decisions in bounded memory.

use super::{Estimates, Method, Observed};

/// The thresholds at which an [`Accumulator`] can be evaluated: 0.001, 0.002, …, 1, and any others that are given.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// The thresholds in ascending order.
    at: std::sync::Arc<[f64]>,
}

impl Thresholds {
    /// The thresholds 0.001, 0.002, …, 1, and `others`, for example that of another pair of costs.
    ///
    /// # Panics
    /// Panics if one of `others` is not in \[0,1\].
    #[must_use]
    pub fn new(others: &[f64]) -> Self {
        todo!("{others:?}")
    }

    /// All thresholds in ascending order.
    #[must_use]
    pub fn all(&self) -> &[f64] {
        &self.at
    }
}

/// The decisions of one group: counts by probability, and the labels.
///
/// Its memory is bounded by the number of thresholds, and by the number of labels if every decision has an inclusion
/// probability of its own; labels with equal properties are counted.
#[derive(Debug, Clone)]
pub struct Accumulator {
    thresholds: Thresholds,
}

impl Accumulator {
    /// An empty group.
    #[must_use]
    pub fn new(thresholds: &Thresholds) -> Self {
        Self { thresholds: thresholds.clone() }
    }

    /// Adds a decision.
    ///
    /// # Panics
    /// Panics if a number is not in \[0,1\].
    pub fn observe(&mut self, observed: &Observed) {
        todo!("{observed:?}")
    }

    /// Replaces a decision that was added with [`Review::Unanswered`](super::Review::Unanswered) by the same one with its
    /// label, whose target is `target`.
    ///
    /// # Panics
    /// Panics if no such decision was added, or if `target` is not in \[0,1\].
    pub fn answer(&mut self, observed: &Observed, target: f64) {
        todo!("{observed:?} {target}")
    }

    /// Adds all decisions of another group.
    ///
    /// # Panics
    /// Panics if the groups have different thresholds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.thresholds, other.thresholds, "groups with different thresholds cannot be merged");
        todo!()
    }

    /// The estimates at the thresholds in force.
    #[must_use]
    pub fn in_force(&self, method: Method) -> Estimates {
        todo!("{method:?}")
    }

    /// The estimates if `threshold` had been in force for all decisions; `None` if it is not one of the
    /// [`Thresholds`].
    #[must_use]
    pub fn at(&self, threshold: f64, method: Method) -> Option<Estimates> {
        todo!("{threshold} {method:?}")
    }
}
