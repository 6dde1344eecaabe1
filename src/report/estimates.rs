//! From decisions to core's estimators, and from their estimates to figures.

use super::figures::{Counts, Figure, Figures};
use crate::core::decision::Decision;
use crate::core::estimate::{Accumulator, Estimate, Estimates, Method, Observed, Review};
use crate::core::policy::Action;

/// Returns a decision as the estimators read it. It counts as flagged if its action is not to allow.
pub(super) fn observed(decision: &Decision, review: Review) -> Observed {
    let flagged = decision.action != Action::Allow;
    let probability = decision.probability;
    // With p on the other side of the threshold, something else decided: a category, or too few experts.
    let by_threshold = probability.is_some_and(|p| (p >= decision.threshold) == flagged);
    Observed { probability, flagged, fixed: !by_threshold, inclusion: decision.review_probability, review }
}

/// Returns `true` if a decision was sent to review with a known probability.
pub(super) fn is_requested(decision: &Decision) -> bool {
    !decision.reasons.is_empty() && decision.review_probability > 0.0
}

/// The review of a request with this answer.
pub(super) fn review(target: Option<f64>) -> Review {
    target.map_or(Review::Unanswered, Review::Answered)
}

/// The figures of a group at the thresholds in force.
pub(super) fn in_force(accumulator: &Accumulator) -> (Counts, Figures) {
    let estimates = accumulator.in_force(Method::Assisted);
    (counts(&estimates), figures(&estimates))
}

/// The numbers of a group.
fn counts(estimates: &Estimates) -> Counts {
    Counts {
        decisions: estimates.decisions,
        flagged: estimates.flagged,
        requests: estimates.requests,
        answered: estimates.labels,
        uncovered: estimates.uncovered,
    }
}

/// The figures of estimates.
pub(super) fn figures(estimates: &Estimates) -> Figures {
    Figures {
        labels: estimates.labels,
        prevalence: estimates.prevalence.map(figure),
        precision: estimates.precision.map(figure),
        recall: estimates.recall.map(figure),
        false_positive_rate: estimates.false_positive_rate.map(figure),
        error_rate: estimates.error_rate.map(figure),
    }
}

fn figure(estimate: Estimate) -> Figure {
    Figure {
        value: estimate.value,
        low: estimate.low,
        high: estimate.high,
        labels: estimate.labels,
        effective: Some(estimate.effective).filter(|effective| effective.is_finite()),
        unanswered: (estimate.unanswered.low, estimate.unanswered.high),
    }
}
