//! The sampling of events for human review, with probabilities that are known.
//!
//! A review for a certain reason (a category's rule, a flagged event, too few experts awake) tells nothing about the events
//! for which no such reason holds. Two draws choose among all events: the *audit* draw, whose probability depends on the
//! action alone, and the *uncertainty* draw, whose probability falls with the distance of p from the threshold. A decision
//! contains both probabilities, so that a label can be weighted by the inverse of the probability with which its event was
//! sent to review.
//!
//! That weighting is unbiased only if nothing that determines the probabilities depends on what is drawn. The numbers are
//! therefore keyed by the event alone ([`ReviewDraws`]); no expert is asked or skipped for what they say (see
//! [`decisive`](super::decisive)); and the review budget lowers probabilities by what earlier events demanded.

use super::decision::ReviewReason;
use super::draw::Draws;
use super::policy::{Action, Policy};

/// The probabilities of the two draws that sample events for review. The draws are independent; their results are among
/// the [reasons](super::decision::Decision::reasons), as [`ReviewReason::Audit`] and [`ReviewReason::NearThreshold`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampling {
    /// The probability of the audit draw, in \[0,1\].
    pub audit: f64,
    /// The probability of the uncertainty draw, in \[0,1\], as it was used.
    pub uncertainty: f64,
    /// `true` if the review budget lowered `uncertainty`.
    pub thinned: bool,
}

impl Sampling {
    /// The probability that at least one of the draws comes up.
    #[must_use]
    pub fn inclusion(&self) -> f64 {
        // Equals 1 - (1 - a)(1 - u), and is exactly a if u is 0.
        (self.audit + self.uncertainty * (1.0 - self.audit)).min(1.0)
    }
}

/// The probabilities of the audit draw by action, each in \[0,1\].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditRates {
    /// The rate of events that pass.
    pub allow: f64,
    /// The rate of events that are blocked.
    pub block: f64,
    /// The rate of events whose action is review. They are reviewed in any case; an audit marks them as drawn.
    pub review: f64,
}

impl AuditRates {
    /// No audits.
    pub const NONE: Self = Self::flat(0.0);

    /// The same rate for all actions.
    #[must_use]
    pub const fn flat(rate: f64) -> Self {
        Self { allow: rate, block: rate, review: rate }
    }

    /// The rate of an action.
    #[must_use]
    pub fn of(&self, action: Action) -> f64 {
        match action {
            Action::Allow => self.allow,
            Action::Block => self.block,
            Action::Review => self.review,
        }
    }
}

/// The random numbers of one event, each uniform in (0,1). A draw comes up if its number is below its probability, so a
/// lower probability never brings up a draw that a higher one does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReviewDraws {
    /// The number of the audit draw.
    pub audit: f64,
    /// The number of the uncertainty draw.
    pub uncertainty: f64,
}

impl ReviewDraws {
    /// The numbers of an event, which follow from the policy's secret, its name, the tenant and the event's id. They are
    /// the same after a restart and in a replay. Without a secret (`parameters.seed`) the key is empty: the numbers are
    /// as random, but a sender that chooses the ids of events can compute them.
    #[must_use]
    pub fn of(policy: &Policy, tenant: &str, event: &str) -> Self {
        let draws = Draws::new(policy.learner.seed.as_deref().unwrap_or_default(), &policy.name);
        let number = |purpose: &str| draws.uniform(event, "", &format!("{purpose} {tenant}"));
        Self { audit: number("audit"), uncertainty: number("uncertainty") }
    }
}

/// The result of the draws for one event.
pub(crate) struct Sampled {
    /// The reasons for a human review: the certain ones, then those of the draws that came up.
    pub(crate) reasons: Vec<ReviewReason>,
    /// The probability with which an event like this is sent to review.
    pub(crate) review_probability: f64,
    /// The probabilities of the draws.
    pub(crate) sampling: Sampling,
}
