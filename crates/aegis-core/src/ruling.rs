//! The ruling of a policy on one event: the action, the certain reasons for a review, and the probabilities of the draws.

use super::decision::ReviewReason;
use super::policy::{Action, Policy};
use super::sampling::{ReviewDraws, Sampled, Sampling};
use super::vote::{CategoryScore, Outcome, Vote};

/// The consequences of an event's outcome before any draw is made. If two outcomes have equal rulings, their decisions have the same
/// action, the same reasons and the same probabilities of the draws, whatever is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ruling {
    pub(crate) action: Action,
    /// The reasons for a human review that hold without a draw, the most important first.
    certain: Vec<ReviewReason>,
    /// The probability of the audit draw.
    audit: f64,
    /// The probability of the uncertainty draw, before the review budget lowers it.
    uncertainty: f64,
}

impl Ruling {
    fn certain(policy: &Policy, action: Action, certain: Vec<ReviewReason>) -> Self {
        Self { action, certain, audit: policy.audit_rates.of(action), uncertainty: 0.0 }
    }

    /// The ruling on an event with nothing to judge. An audit of it teaches nothing, so it is drawn only if the event
    /// is reviewed in any case.
    pub(crate) fn nothing_to_judge(policy: &Policy) -> Self {
        let action = policy.nothing_to_judge;
        if action == Action::Review {
            return Self::certain(policy, action, vec![ReviewReason::NothingToJudge]);
        }
        Self { action, certain: Vec::new(), audit: 0.0, uncertainty: 0.0 }
    }

    /// Makes the draws. `thinning` is the factor by which the review budget lowers the probability of the uncertainty
    /// draw. It is not applied to an event that is reviewed for a certain reason, whose draw costs no request.
    pub(crate) fn sample(self, draws: ReviewDraws, thinning: f64) -> Sampled {
        assert!((0.0..=1.0).contains(&thinning), "a thinning of {thinning} is not a factor from 0 to 1");
        let Self { certain: mut reasons, audit, uncertainty, .. } = self;
        let is_certain = !reasons.is_empty();
        let thinned = !is_certain && uncertainty > 0.0 && thinning < 1.0;
        let uncertainty = if thinned { uncertainty * thinning } else { uncertainty };
        let sampling = Sampling { audit, uncertainty, thinned };
        let review_probability = if is_certain { 1.0 } else { sampling.inclusion() };
        // A draw lies between 0 and 1, so a probability of 0 or 1 decides.
        if draws.uncertainty < uncertainty {
            reasons.push(ReviewReason::NearThreshold);
        }
        if draws.audit < audit {
            reasons.push(ReviewReason::Audit);
        }
        Sampled { reasons, review_probability, sampling }
    }
}

/// The rank of an action by strictness.
pub(crate) fn strictness(action: Action) -> u8 {
    match action {
        Action::Allow => 0,
        Action::Review => 1,
        Action::Block => 2,
    }
}

/// The strictest action of the category rules that apply; `Allow` if none does.
pub(crate) fn rule_categories(policy: &Policy, categories: &[CategoryScore]) -> Action {
    let rule_action = |CategoryScore { category, score }: &CategoryScore| {
        policy.categories.get(category).filter(|rule| *score >= rule.threshold).map(|rule| rule.action)
    };
    let strictest = categories.iter().filter_map(rule_action).max_by_key(|action| strictness(*action));
    strictest.unwrap_or(Action::Allow)
}

/// The ruling on an event with `awake` experts awake, whose category rules ask for the action `category`. `p` is `None`
/// if there are none.
pub(crate) fn rule(policy: &Policy, p: Option<f64>, awake: usize, category: Action) -> Ruling {
    let Some(p) = p.filter(|_| awake >= policy.min_awake) else {
        return Ruling::certain(policy, Action::Review, vec![ReviewReason::TooFewAwake]);
    };
    let flagged = if p >= policy.threshold() { policy.flagged } else { Action::Allow };
    let action = if strictness(category) > strictness(flagged) { category } else { flagged };
    let mut reasons = Vec::new();
    if action == Action::Review {
        let causes = [(flagged, ReviewReason::Flagged), (category, ReviewReason::Category)];
        reasons.extend(causes.into_iter().filter(|(by, _)| *by == action).map(|(_, reason)| reason));
    }
    // If the uncertainty draw comes up, a review is requested, and the action meanwhile is that of the verdict.
    Ruling { uncertainty: policy.uncertainty(p), ..Ruling::certain(policy, action, reasons) }
}

/// The greatest score of each category over all votes that are not in shadow, ordered by slug.
pub(crate) fn greatest(votes: &[Vote]) -> Vec<CategoryScore> {
    let mut found = std::collections::BTreeMap::<&str, f64>::new();
    for vote in votes.iter().filter(|vote| !vote.shadow) {
        let Outcome::Voted { categories, .. } = &vote.outcome else { continue };
        for CategoryScore { category, score } in categories {
            let best = found.entry(category).or_insert(0.0);
            *best = best.max(*score);
        }
    }
    found
        .into_iter()
        .map(|(category, score)| CategoryScore { category: category.to_owned(), score })
        .collect()
}
