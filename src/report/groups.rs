//! The groups by which figures are given: actions, categories, languages and tenants.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::core::decision::Decision;
use crate::core::policy::Policy;

/// The greatest number of groups of a policy. Names beyond it share one group of their dimension.
const MAX_GROUPS: usize = 512;
/// The score from which a decision counts for a category without a rule.
const CATEGORY_SCORE: f64 = 0.5;
/// The name of the group of all names beyond [`MAX_GROUPS`].
const OTHERS: &str = "(others)";

/// The dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// All decisions of the policy.
    All,
    /// The action.
    Action,
    /// A category with a score from which its rule applies, or of 0.5 without a rule. A decision may have several.
    Category,
    /// The language of the judged text.
    Language,
    /// The tenant.
    Tenant,
}

impl Dimension {
    /// The name of the dimension.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Action => "action",
            Self::Category => "category",
            Self::Language => "language",
            Self::Tenant => "tenant",
        }
    }
}

/// The groups of a policy, numbered from 0 for all decisions.
#[derive(Debug)]
pub(super) struct Groups {
    names: Vec<(Dimension, String)>,
    numbers: BTreeMap<Dimension, HashMap<String, u32>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { names: vec![(Dimension::All, String::new())], numbers: BTreeMap::new() }
    }
}

impl Groups {
    /// The dimension and the name of each group, in the order of their numbers.
    pub(super) fn names(&self) -> &[(Dimension, String)] {
        &self.names
    }

    /// The numbers of the groups of a decision: 0, then each further one once, in order.
    pub(super) fn of(&mut self, decision: &Decision, policy: &Policy) -> Vec<u32> {
        let mut groups = vec![
            0,
            self.number(Dimension::Action, decision.action.word()),
            self.number(Dimension::Language, decision.language.code()),
            self.number(Dimension::Tenant, &decision.id.tenant),
        ];
        for found in &decision.categories {
            let rule = policy.categories.get(&found.category);
            if found.score >= rule.map_or(CATEGORY_SCORE, |rule| rule.threshold) {
                groups.push(self.number(Dimension::Category, &found.category));
            }
        }
        // Several categories may share the last group.
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn number(&mut self, dimension: Dimension, name: &str) -> u32 {
        let known = |name: &str| self.numbers.get(&dimension).and_then(|numbers| numbers.get(name)).copied();
        if let Some(number) = known(name) {
            return number;
        }
        // Actions and languages are few, and never in the shared group.
        let is_few = matches!(dimension, Dimension::Action | Dimension::Language);
        let name = if self.names.len() < MAX_GROUPS || is_few { name } else { OTHERS };
        if let Some(number) = known(name) {
            return number;
        }
        let number = u32::try_from(self.names.len()).expect("the number of groups is bounded");
        self.names.push((dimension, name.to_owned()));
        self.numbers.entry(dimension).or_default().insert(name.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policies;
    use crate::core::language::Language;
    use crate::core::ledger::RoundId;
    use crate::core::vote::CategoryScore;

    fn decision(tenant: &str, categories: &[(&str, f64)]) -> Decision {
        let id = RoundId { tenant: tenant.into(), policy: "default".into(), event: "e".into() };
        let score =
            |(category, score): &(&str, f64)| CategoryScore { category: (*category).into(), score: *score };
        Decision { categories: categories.iter().map(score).collect(), ..Decision::example(id, 0) }
    }

    #[test]
    fn the_number_of_groups_is_bounded_and_known_ones_keep_theirs() {
        let policies = Policies::default();
        let policy = policies.get("default").unwrap();
        let mut groups = Groups::default();
        let first = groups.of(&decision("t0", &[("harm", 0.5), ("spam", 0.49)]), policy);
        assert_eq!(first.len(), 5, "all, the action, the language, the tenant and one category");
        for tenant in 0..2 * MAX_GROUPS {
            groups.of(&decision(&format!("t{tenant}"), &[]), policy);
        }
        assert!(groups.names().len() <= MAX_GROUPS + 4);
        assert_eq!(groups.of(&decision("t0", &[("harm", 0.5)]), policy), first);
        let late = groups.of(&decision("a late tenant", &[]), policy);
        assert_eq!(groups.names()[late[3] as usize], (Dimension::Tenant, OTHERS.to_owned()));
        let mut german = decision("t0", &[]);
        german.language = Language::German;
        let german = groups.of(&german, policy);
        assert!(
            german.iter().any(|at| groups.names()[*at as usize] == (Dimension::Language, "de".to_owned()))
        );
    }
}
