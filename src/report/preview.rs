//! The preview: what another policy would have done with the decisions of the period.

use std::collections::BTreeMap;

use super::estimates::in_force;
use super::figures::{Changed, PreviewReport};
use crate::core::decision::Decision;
use crate::core::estimate::{Accumulator, Thresholds};
use crate::core::policy::{Action, CategoryRule, Policy};
use crate::core::preview::preview;

/// The changes of a policy that are previewed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// The threshold, in (0,1).
    pub threshold: Option<f64>,
    /// The cost of a miss.
    pub cost_false_negative: Option<f64>,
    /// The cost of a false alarm.
    pub cost_false_positive: Option<f64>,
    /// The rules of categories that are added or replaced, by slug.
    pub categories: BTreeMap<String, CategoryRule>,
}

impl Changes {
    /// Returns `true` if nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changed policy.
    #[must_use]
    pub fn apply(&self, policy: &Policy) -> Policy {
        let mut changed = policy.clone();
        changed.cost_false_negative = self.cost_false_negative.unwrap_or(policy.cost_false_negative);
        changed.cost_false_positive = self.cost_false_positive.unwrap_or(policy.cost_false_positive);
        if let Some(threshold) = self.threshold {
            // The sum of both is 1 after rounding, so that the policy's threshold is this number to the bit.
            (changed.cost_false_positive, changed.cost_false_negative) = (threshold, 1.0 - threshold);
        }
        changed.categories.extend(self.categories.iter().map(|(slug, rule)| (slug.clone(), rule.clone())));
        changed
    }

    /// The changes in words.
    fn words(&self) -> Vec<String> {
        let number = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value}"));
        let mut words: Vec<String> = [
            number("threshold", self.threshold),
            number("cost_false_negative", self.cost_false_negative),
            number("cost_false_positive", self.cost_false_positive),
        ]
        .into_iter()
        .flatten()
        .collect();
        let rule = |(slug, rule): (&String, &CategoryRule)| {
            format!("category {slug} from {}: {}", rule.threshold, rule.action.word())
        };
        words.extend(self.categories.iter().map(rule));
        words
    }
}

/// The decisions of one policy under a changed one.
#[derive(Debug)]
pub(super) struct PreviewTally {
    changes: Changes,
    changed: Policy,
    moves: BTreeMap<(&'static str, &'static str), u64>,
    unchanged: u64,
    uncertain: u64,
    other_versions: u64,
    /// The decisions that were not requested; at the end, all decisions.
    pub(super) unrequested: Accumulator,
}

impl PreviewTally {
    pub(super) fn new(changes: &Changes, policy: &Policy, thresholds: &Thresholds) -> Self {
        Self {
            changes: changes.clone(),
            changed: changes.apply(policy),
            moves: BTreeMap::new(),
            unchanged: 0,
            uncertain: 0,
            other_versions: 0,
            unrequested: Accumulator::new(thresholds),
        }
    }

    /// Counts a decision that `policy` made. Returns `true` if the changed policy does not allow the event.
    pub(super) fn add(&mut self, decision: &Decision, policy: &Policy) -> bool {
        let found = preview(decision, &self.changed, policy);
        if found.action == decision.action {
            self.unchanged += 1;
        } else {
            *self.moves.entry((decision.action.word(), found.action.word())).or_default() += 1;
        }
        self.uncertain += u64::from(!found.certain);
        self.other_versions += u64::from(decision.policy_version != policy.version);
        found.action != Action::Allow
    }

    pub(super) fn report(&self) -> PreviewReport {
        let changed = |(&(from, to), &decisions): (&(&'static str, &'static str), &u64)| Changed {
            from,
            to,
            decisions,
        };
        PreviewReport {
            changes: self.changes.words(),
            threshold: self.changed.threshold(),
            changed: self.moves.iter().map(changed).collect(),
            unchanged: self.unchanged,
            uncertain: self.uncertain,
            other_versions: self.other_versions,
            figures: in_force(&self.unrequested).1,
        }
    }
}
