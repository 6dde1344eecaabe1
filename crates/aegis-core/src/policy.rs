//! A policy: the actions for a verdict, and the mapping of labels to targets.

use std::collections::BTreeMap;

use super::label::Mapping;
use super::learners::LearnerSpec;

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
    /// The distance from the threshold below which p goes to review; 0 disables this.
    pub review_margin: f64,
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

    /// The values of p at which action or review may change. Between two neighbours all p have the same ruling.
    #[must_use]
    pub fn boundaries(&self) -> Vec<f64> {
        let (threshold, margin) = (self.threshold(), self.review_margin);
        if margin > 0.0 { vec![threshold - margin, threshold, threshold + margin] } else { vec![threshold] }
    }
}
