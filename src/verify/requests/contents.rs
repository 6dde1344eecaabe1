//! The contents that a decision and its review request have in common, and their fingerprint.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::decision::{Decision, Origin, ReviewReason, Sampling};
use crate::core::event::Millis;
use crate::core::ledger::RoundId;
use crate::core::policy::Action;
use crate::core::review::ReviewRequest;

/// The contents that a decision and its request have in common.
#[derive(Hash)]
pub(super) struct Contents<'a> {
    id: &'a RoundId,
    origin: &'a Origin,
    round_time: Millis,
    action: Action,
    reasons: &'a [ReviewReason],
    numbers: Numbers,
    thinned: bool,
}

/// The probability, the threshold, the probability of review, and those of the draws.
struct Numbers([Option<f64>; 5]);

impl Hash for Numbers {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.0.map(|number| number.map(f64::to_bits)).hash(to);
    }
}

impl<'a> Contents<'a> {
    /// The contents of a decision.
    pub(super) fn of_decision(decision: &'a Decision) -> Self {
        let Decision { id, origin, round_time, action, sampling, .. } = decision;
        Self {
            id,
            origin,
            round_time: *round_time,
            action: *action,
            reasons: common_reasons(&decision.reasons, *sampling),
            numbers: Numbers([
                decision.probability,
                Some(decision.threshold),
                Some(decision.review_probability),
                Some(sampling.audit),
                Some(sampling.uncertainty),
            ]),
            thinned: sampling.thinned,
        }
    }

    /// The contents of a request.
    pub(super) fn of_request(request: &'a ReviewRequest) -> Self {
        let ReviewRequest { id, origin, round_time, action, sampling, .. } = request;
        Self {
            id,
            origin,
            round_time: *round_time,
            action: *action,
            reasons: common_reasons(&request.reasons, *sampling),
            numbers: Numbers([
                request.probability,
                Some(request.threshold),
                Some(request.inclusion_probability),
                Some(sampling.audit),
                Some(sampling.uncertainty),
            ]),
            thinned: sampling.thinned,
        }
    }

    /// A hash of the contents.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The reasons that a decision and its request have in common. A decision without sampling may have been written by an
/// earlier version, which wrote all reasons into the request and only the first into the decision.
fn common_reasons(all: &[ReviewReason], sampling: Sampling) -> &[ReviewReason] {
    if sampling == Sampling::default() { all.get(..1).unwrap_or_default() } else { all }
}
