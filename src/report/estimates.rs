//! From decisions to core's estimators, and from their estimates to figures.

use super::figures::{Counts, Figure, Figures};
use crate::core::decision::{Decision, ReviewReason};
use crate::core::estimate::{Accumulator, Estimate, Estimates, Method, Observed, Review};
use crate::core::policy::{Action, Policy};
use crate::core::vote::CategoryScore;

/// The least inclusion probability. Below it the weight of a label is not a useful number: it counts as 0.
const LEAST: f64 = 1e-9;

/// Returns a decision as the estimators read it, for the figures at the thresholds in force only. It counts as flagged if
/// its action is not to allow.
pub(super) fn observed_in_force(decision: &Decision, review: Review) -> Observed {
    let flagged = decision.action != Action::Allow;
    Observed {
        probability: decision.probability,
        flagged,
        fixed: true,
        inclusion: inclusion(decision),
        review,
    }
}

/// Returns a decision of `policy` as the estimators read it. Its flag is fixed if no threshold changes it: with too few
/// experts awake, if the rule of a category applies, or if something else than the threshold flagged it.
pub(super) fn observed(decision: &Decision, policy: &Policy, review: Review) -> Observed {
    let observed = observed_in_force(decision, review);
    let too_few = decision.reasons.contains(&ReviewReason::TooFewAwake);
    let is_below = decision.probability.is_none_or(|p| p < decision.threshold);
    let by_rule = decision.categories.iter().any(|CategoryScore { category, score }| {
        let rule = policy.categories.get(category);
        rule.is_some_and(|rule| *score >= rule.threshold && rule.action != Action::Allow)
    });
    Observed { fixed: too_few || by_rule || (observed.flagged && is_below), ..observed }
}

/// The probability with which a decision was sent to review; 0 below [`LEAST`].
pub(super) fn inclusion(decision: &Decision) -> f64 {
    Some(decision.review_probability).filter(|probability| *probability >= LEAST).unwrap_or(0.0)
}

/// Returns `true` if a decision was sent to review with a known probability.
pub(super) fn is_requested(decision: &Decision) -> bool {
    !decision.reasons.is_empty() && inclusion(decision) > 0.0
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
