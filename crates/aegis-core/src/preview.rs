//! The action that a policy would have taken on a past decision.

use super::decision::Decision;
use super::policy::{Action, Policy};
use super::ruling::{rule, rule_categories, strictness};
use super::vote::Abstention;

/// The action of another policy on a past decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    /// The action.
    pub action: Action,
    /// `false` if an expert was not asked because its vote could not matter under the policy in force, and it could matter
    /// under the other one. The action is then that of the votes that there are.
    pub certain: bool,
}

/// Returns the action that `policy` takes on the votes of a past decision. `in_force` is the policy that made the decision.
///
/// The action is exact unless an expert was skipped as not needed ([`Abstention::NotNeeded`]): skipping proves only that
/// the action under the policy in force does not depend on the expert, so that p is only known to be on its side of the
/// threshold in force. [`Preview::certain`] tells the two cases apart.
#[must_use]
pub fn preview(decision: &Decision, policy: &Policy, in_force: &Policy) -> Preview {
    let action = action(decision, policy, decision.probability);
    if decision.nothing_to_judge {
        return Preview { action, certain: true };
    }
    let category = rule_categories(policy, &decision.categories);
    let skipped =
        decision.votes.iter().any(|weighed| weighed.vote.abstention() == Some(Abstention::NotNeeded));
    Preview { action, certain: !skipped || holds(decision, policy, in_force, awake(decision), category) }
}

/// Returns the action that `policy` takes on the votes of a past decision if they have the probability `p`.
#[must_use]
pub fn action(decision: &Decision, policy: &Policy, p: Option<f64>) -> Action {
    if decision.nothing_to_judge {
        return policy.nothing_to_judge;
    }
    rule(policy, p, awake(decision), rule_categories(policy, &decision.categories)).action
}

/// The number of experts that are awake.
fn awake(decision: &Decision) -> usize {
    decision.votes.iter().filter(|weighed| weighed.vote.awake().is_some()).count()
}

/// Returns `true` if the proof that the skipped experts do not matter also holds under `policy`.
fn holds(decision: &Decision, policy: &Policy, in_force: &Policy, awake: usize, category: Action) -> bool {
    let same_rules = decision.policy_version == in_force.version
        && policy.categories == in_force.categories
        && policy.flagged == in_force.flagged
        && awake >= policy.min_awake.max(in_force.min_awake);
    let Some(p) = decision.probability.filter(|_| same_rules) else {
        return false;
    };
    // The rules of the categories are at least as strict: the action does not depend on p.
    if strictness(category) >= strictness(policy.flagged) {
        return true;
    }
    // p is known to be at least the threshold in force, or less.
    let (before, after) = (decision.threshold, policy.threshold());
    if p >= before { after <= before } else { after >= before }
}
