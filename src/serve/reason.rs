//! The reason for a block: the categories that reached their thresholds.

use super::server::App;
use crate::core::decision::Decision;
use crate::core::policy::Policy;
use crate::core::vote::CategoryScore;

/// Returns the threshold that the score of a category is compared with: that of the policy's rule, or the decision's.
pub fn category_threshold(decision: &Decision, policy: Option<&Policy>, category: &str) -> f64 {
    let rule = policy.and_then(|policy| policy.categories.get(category));
    rule.map_or(decision.threshold, |rule| rule.threshold)
}

impl App {
    /// Returns the reason for a block, for people. It does not quote the text.
    pub fn reason(&self, decision: &Decision) -> String {
        reason(decision, self.policies.now().get(&decision.id.policy))
    }
}

fn reason(decision: &Decision, policy: Option<&Policy>) -> String {
    let Decision { id, action, probability, categories, .. } = decision;
    let is_reached =
        |found: &&CategoryScore| found.score >= category_threshold(decision, policy, &found.category);
    let mut categories: Vec<_> = categories.iter().filter(is_reached).collect();
    categories.sort_by(|a, b| b.score.total_cmp(&a.score));
    let found: Vec<_> =
        categories.iter().take(3).map(|found| format!("{} {:.2}", found.category, found.score)).collect();
    let p = probability.map_or_else(|| "no expert voted".to_owned(), |p| format!("P(unsafe) {p:.2}"));
    let found = if found.is_empty() { String::new() } else { format!("; {}", found.join(", ")) };
    format!("policy {}: {} ({p}{found}; event {})", id.policy, action.word(), id.event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::RoundId;
    use crate::core::policy::{Action, CategoryRule};

    #[test]
    fn a_reason_names_the_categories_that_reached_their_thresholds() {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e1".into() };
        let score = |category: &str, score| CategoryScore { category: category.into(), score };
        let categories = vec![score("hate", 0.6), score("sexual-minor", 0.4), score("threat", 0.3)];
        let decision = Decision {
            probability: Some(0.2),
            threshold: 0.5,
            action: Action::Block,
            categories,
            ..Decision::example(id, 5)
        };
        assert_eq!(reason(&decision, None), "policy default: block (P(unsafe) 0.20; hate 0.60; event e1)");
        let mut policy = Policy::example("default");
        for (category, threshold) in [("hate", 0.9), ("sexual-minor", 0.3)] {
            let rule = CategoryRule { threshold, action: Action::Block };
            policy.categories.insert(category.into(), rule);
        }
        let expected = "policy default: block (P(unsafe) 0.20; sexual-minor 0.40; event e1)";
        assert_eq!(reason(&decision, Some(&policy)), expected);
    }
}
