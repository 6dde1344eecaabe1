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
    if decision.nothing_to_judge {
        return Preview { action: policy.nothing_to_judge, certain: true };
    }
    let votes = || decision.votes.iter().map(|weighed| &weighed.vote);
    let awake = votes().filter(|vote| vote.awake().is_some()).count();
    let category = rule_categories(policy, &decision.categories);
    let action = rule(policy, decision.probability, awake, category).action;
    let skipped = votes().any(|vote| vote.abstention() == Some(Abstention::NotNeeded));
    Preview { action, certain: !skipped || holds(decision, policy, in_force, awake, category) }
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
