//! A policy: the actions for a verdict, and the mapping of labels to targets.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::label::Mapping;
use super::learners::LearnerSpec;
use super::sampling::AuditRates;

/// The action on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The event passes.
    Allow,
    /// The event is stopped.
    Block,
    /// The event is sent to a human review.
    Review,
}

impl Action {
    /// All actions, in the schema's order.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Block, Self::Review];

    /// The name of the action in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Review => "review",
        }
    }
}

/// The way in which published predictors come into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// The newest one is in use, unless a person has pinned another.
    #[default]
    Automatic,
    /// Only a predictor that a person has released is in use. Before the first release it is the prior.
    Manual,
}

impl Release {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Automatic, Self::Manual];

    /// The name in policies.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

/// The rule for one category of the taxonomy.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryRule {
    /// The least score at which the rule applies, in \[0,1\].
    pub threshold: f64,
    /// The action. The strictest of all rules that apply is taken.
    pub action: Action,
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The name, as in events.
    pub name: String,
    /// The version, which each decision contains.
    pub version: String,
    /// The cost of passing an unsafe event, relative to `cost_false_positive`.
    pub cost_false_negative: f64,
    /// The cost of flagging a safe event.
    pub cost_false_positive: f64,
    /// The action on flagged events.
    pub flagged: Action,
    /// The least number of awake experts. With fewer the action is review.
    pub min_awake: usize,
    /// The distance from the threshold below which p goes to review with probability 1; 0 disables this.
    pub review_margin: f64,
    /// The width beyond `review_margin` over which the probability of a review falls from 1 to 0, linearly.
    pub review_slope: f64,
    /// The probabilities with which an event is audited, whatever its p is.
    pub audit_rates: AuditRates,
    /// The number of review requests an hour above which those near the threshold are thinned; `None` for no limit.
    pub review_budget: Option<NonZeroU32>,
    /// The action on an event with nothing to judge.
    pub nothing_to_judge: Action,
    /// The rules for single categories, by slug.
    pub categories: BTreeMap<String, CategoryRule>,
    /// `true` if decisions contain features.
    pub features: bool,
    /// `true` if fewer experts may run on its events under load.
    pub sheds: bool,
    /// The ids of the experts that run on them even then; empty for the configuration's cheap experts.
    pub cheap: Vec<String>,
    /// The mapping of labels to targets.
    pub mapping: Mapping,
    /// The learner.
    pub learner: LearnerSpec,
    /// The way in which its predictors come into use.
    pub release: Release,
}

impl Policy {
    /// The least p that is flagged: c_FP / (c_FP + c_FN).
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.cost_false_positive / (self.cost_false_positive + self.cost_false_negative)
    }

    /// The probability of the uncertainty draw at p, before the review budget lowers it: 1 if p is less than
    /// `review_margin` away from the threshold, and falling to 0 over `review_slope` beyond it.
    #[must_use]
    pub fn uncertainty(&self, p: f64) -> f64 {
        let distance = (p - self.threshold()).abs();
        if distance < self.review_margin {
            return 1.0;
        }
        if self.review_slope > 0.0 {
            return (1.0 - (distance - self.review_margin) / self.review_slope).clamp(0.0, 1.0);
        }
        0.0
    }

    /// The values of p at which the ruling may change, in ascending order. Between two neighbours all p have the same
    /// action and certain reasons. The probability of the uncertainty draw is either the same for all of them, or differs
    /// between any two of them: on a slope.
    #[must_use]
    pub fn boundaries(&self) -> Vec<f64> {
        let (threshold, margin) = (self.threshold(), self.review_margin);
        let mut distances = Vec::new();
        if margin > 0.0 {
            distances.push(margin);
        }
        if self.review_slope > 0.0 {
            distances.push(margin + self.review_slope);
        }
        let below = distances.iter().rev().map(|distance| threshold - distance);
        below.chain([threshold]).chain(distances.iter().map(|distance| threshold + distance)).collect()
    }
}

#[cfg(any(test, feature = "examples"))]
impl Policy {
    /// A policy that blocks from p = 0.5 on, without reviews near the threshold, audits or rules for categories, for tests.
    #[must_use]
    pub fn example(name: &str) -> Self {
        Self {
            name: name.into(),
            version: "1".into(),
            cost_false_negative: 1.0,
            cost_false_positive: 1.0,
            flagged: Action::Block,
            min_awake: 1,
            review_margin: 0.0,
            review_slope: 0.0,
            audit_rates: AuditRates::NONE,
            review_budget: None,
            nothing_to_judge: Action::Allow,
            categories: BTreeMap::new(),
            features: true,
            sheds: true,
            cheap: Vec::new(),
            mapping: Mapping::default(),
            learner: LearnerSpec::new(super::learners::Name::Hedge),
            release: Release::Automatic,
        }
    }
}
