//! A policy: what its owner does about a verdict, and how its labels teach.

use std::collections::BTreeMap;

use super::label::Mapping;
use super::learners::LearnerSpec;

/// What is done about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is stopped.
    Block,
    /// A person looks at it.
    Review,
}

impl Action {
    /// All actions, in the schema's order.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Block, Self::Review];

    /// The action's word in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Review => "review",
        }
    }
}

/// What is done about a category of the taxonomy on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryRule {
    /// The rule holds from this score on, in \[0,1\].
    pub threshold: f64,
    /// What it asks for; the strictest of all that hold is done.
    pub action: Action,
}

/// A policy, as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name, as events give it.
    pub name: String,
    /// Its version, written into each decision.
    pub version: String,
    /// Cost of letting something unsafe pass, relative to `cost_false_positive`.
    pub cost_false_negative: f64,
    /// Cost of flagging something safe.
    pub cost_false_positive: f64,
    /// What is done about what is flagged.
    pub flagged: Action,
    /// With fewer experts awake than this the action is review, never allow.
    pub min_awake: usize,
    /// A p this close to the threshold goes to review; 0: never for that reason.
    pub review_margin: f64,
    /// What is done about an event with nothing to judge.
    pub nothing_to_judge: Action,
    /// Rules for single categories, by slug.
    pub categories: BTreeMap<String, CategoryRule>,
    /// Whether decisions carry features.
    pub features: bool,
    /// Whether fewer experts may be asked about its events under load.
    pub sheds: bool,
    /// Who is asked about them even then, by id; empty: the configuration's cheap experts.
    pub cheap: Vec<String>,
    /// How labels become targets.
    pub mapping: Mapping,
    /// The learner.
    pub learner: LearnerSpec,
}

impl Policy {
    /// Flag iff p is at least this: c_FP / (c_FP + c_FN).
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.cost_false_positive / (self.cost_false_positive + self.cost_false_negative)
    }
}
