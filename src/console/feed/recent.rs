//! The newest decisions, and the predictors that explain them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::MAX_POLICIES;
use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::predictor::{Published, StateHash};

/// The number of decisions that are kept.
const MAX_DECISIONS: usize = 2_000;
/// The memory of the states of predictors that are kept besides the newest of each policy, in bytes.
const MAX_STATES: usize = 64 << 20;
/// The score from which a decision counts for a category.
const CATEGORY: f64 = 0.5;

/// A decision with its position.
#[derive(Debug, Clone)]
pub struct Recent {
    /// The partition of the decisions' topic.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The broker timestamp.
    pub time: Option<Millis>,
    /// The decision.
    pub decision: Decision,
}

/// The selection of a list of decisions. An empty word selects everything.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The policy.
    pub policy: String,
    /// The action.
    pub action: String,
    /// The slug of a category with a score of .5 or more.
    pub category: String,
    /// The code of the judged text's language.
    pub language: String,
    /// The greatest number of decisions.
    pub limit: Option<usize>,
}

impl Filter {
    fn takes(&self, decision: &Decision) -> bool {
        let is = |wanted: &String, found: &str| wanted.is_empty() || wanted == found;
        is(&self.policy, &decision.id.policy)
            && is(&self.action, decision.action.word())
            && is(&self.language, decision.language.code())
            && (self.category.is_empty()
                || categories(decision).any(|(category, _)| category == self.category))
    }
}

/// Returns the categories of a decision with a score of .5 or more.
pub fn categories(decision: &Decision) -> impl Iterator<Item = (&str, f64)> {
    let all = decision.categories.iter().filter(|found| found.score >= CATEGORY);
    all.map(|found| (found.category.as_str(), found.score))
}

/// The newest decisions, the oldest first. Its memory is bounded.
#[derive(Debug, Default)]
pub struct Decisions(VecDeque<Arc<Recent>>);

impl Decisions {
    /// Adds a decision.
    pub fn add(&mut self, recent: Recent) {
        if self.0.len() >= MAX_DECISIONS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(recent));
    }

    /// Returns the decisions that a filter takes, the newest first.
    #[must_use]
    pub fn newest(&self, filter: &Filter) -> Vec<Arc<Recent>> {
        let mut found: Vec<_> =
            self.0.iter().filter(|recent| filter.takes(&recent.decision)).map(Arc::clone).collect();
        // Partitions are read one after the other.
        found.sort_by_key(|recent| std::cmp::Reverse((recent.time, recent.partition, recent.offset)));
        found.truncate(filter.limit.unwrap_or(100).min(MAX_DECISIONS));
        found
    }

    /// Returns the decision at a position.
    #[must_use]
    pub fn at(&self, partition: i32, offset: i64) -> Option<Arc<Recent>> {
        let is = |recent: &&Arc<Recent>| recent.partition == partition && recent.offset == offset;
        self.0.iter().rev().find(is).map(Arc::clone)
    }

    /// Returns the categories that filters can name.
    #[must_use]
    pub fn categories(&self) -> Vec<String> {
        let all = self.0.iter().flat_map(|recent| categories(&recent.decision));
        let found: std::collections::BTreeSet<&str> = all.map(|(category, _)| category).collect();
        found.into_iter().take(256).map(str::to_owned).collect()
    }

    /// Returns the codes of the languages that filters can name.
    #[must_use]
    pub fn languages(&self) -> Vec<&'static str> {
        let found: std::collections::BTreeSet<_> =
            self.0.iter().map(|recent| recent.decision.language.code()).collect();
        found.into_iter().collect()
    }
}

/// A predictor as published.
#[derive(Debug, Clone)]
pub struct Version {
    /// The offset.
    pub offset: i64,
    /// The time of the record.
    pub time: Option<Millis>,
    /// The predictor.
    pub published: Arc<Published>,
}

/// The newest predictors of each policy. Its memory is bounded.
#[derive(Debug, Default)]
pub struct Predictors {
    /// The versions of each policy, the oldest first.
    by_policy: BTreeMap<String, VecDeque<Version>>,
    /// All versions in the order of their arrival: policy and size of the state.
    order: VecDeque<(String, usize)>,
    bytes: usize,
}

impl Predictors {
    /// Adds a predictor.
    pub fn add(&mut self, version: Version) {
        let policy = version.published.policy.clone();
        if self.by_policy.len() >= MAX_POLICIES && !self.by_policy.contains_key(&policy) {
            return;
        }
        let size = version.published.state.len() * size_of::<f64>();
        self.bytes += size;
        self.order.push_back((policy.clone(), size));
        self.by_policy.entry(policy).or_default().push_back(version);
        let mut left = self.order.len();
        while self.bytes > MAX_STATES && left > 0 {
            left -= 1;
            let Some((policy, size)) = self.order.pop_front() else { break };
            let versions = self.by_policy.entry(policy.clone()).or_default();
            if versions.len() > 1 {
                versions.pop_front();
                self.bytes -= size;
            } else {
                self.order.push_back((policy, size));
            }
        }
    }

    /// Removes the predictors of a policy, which the learner has withdrawn.
    pub fn withdraw(&mut self, policy: &str) {
        self.by_policy.remove(policy);
        let removed: usize = self.order.iter().filter(|(of, _)| of == policy).map(|(_, size)| size).sum();
        self.bytes -= removed;
        self.order.retain(|(of, _)| of != policy);
    }

    /// Returns the newest predictor of a policy.
    #[must_use]
    pub fn newest(&self, policy: &str) -> Option<&Version> {
        self.by_policy.get(policy)?.back()
    }

    /// Returns the policies that have a predictor.
    pub fn policies(&self) -> impl Iterator<Item = &String> {
        self.by_policy.keys()
    }

    /// Returns the predictor with this hash, if it is kept.
    #[must_use]
    pub fn find(&self, policy: &str, hash: &StateHash) -> Option<&Version> {
        self.by_policy.get(policy)?.iter().rev().find(|version| version.published.state_hash == *hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::language::Language;
    use crate::core::ledger::RoundId;
    use crate::core::policy::Action;
    use crate::core::vote::CategoryScore;

    fn recent(number: i64, policy: &str, action: Action, category: &str) -> Recent {
        let id = RoundId { tenant: "t".into(), policy: policy.into(), event: format!("e{number}") };
        let categories = vec![CategoryScore { category: category.into(), score: 0.6 }];
        let language = if number % 5 == 0 { Language::German } else { Language::English };
        let decision = Decision { action, categories, language, ..Decision::example(id, number) };
        Recent { partition: 0, offset: number, time: Some(number), decision }
    }

    #[test]
    fn the_newest_are_kept_and_filtered() {
        let mut decisions = Decisions::default();
        for number in 0..3_000 {
            let (policy, action) = if number % 2 == 0 { ("p", Action::Block) } else { ("q", Action::Allow) };
            decisions.add(recent(number, policy, action, if number % 3 == 0 { "violence" } else { "spam" }));
        }
        let offsets = |filter: Filter| -> Vec<i64> {
            decisions.newest(&filter).iter().map(|recent| recent.offset).collect()
        };
        let limit = Some(3);
        assert_eq!(offsets(Filter { limit, ..Filter::default() }), [2999, 2998, 2997]);
        assert_eq!(offsets(Filter { limit, policy: "p".into(), ..Filter::default() }), [2998, 2996, 2994]);
        assert_eq!(
            offsets(Filter { limit, action: "allow".into(), ..Filter::default() }),
            [2999, 2997, 2995]
        );
        let category = Filter { limit, category: "violence".into(), policy: "p".into(), ..Filter::default() };
        assert_eq!(offsets(category), [2994, 2988, 2982]);
        assert_eq!(offsets(Filter { limit: Some(99_999), ..Filter::default() }).len(), MAX_DECISIONS);
        assert!(
            decisions.at(0, 2_000).is_some()
                && decisions.at(0, 5).is_none()
                && decisions.at(1, 2_000).is_none()
        );
        assert_eq!(decisions.categories(), ["spam", "violence"]);
        let german = Filter { limit, language: "de".into(), ..Filter::default() };
        assert_eq!(offsets(german), [2995, 2990, 2985]);
        assert_eq!(decisions.languages(), ["de", "en"]);
    }

    fn version(policy: &str, number: u8, size: usize) -> Version {
        let published =
            Published { state_hash: [number; 32], state: vec![0.0; size], ..Published::example(policy) };
        Version { offset: number.into(), time: None, published: Arc::new(published) }
    }

    #[test]
    fn predictors_are_bounded_and_the_newest_of_each_policy_stays() {
        let mut predictors = Predictors::default();
        let half = MAX_STATES / size_of::<f64>() / 2;
        predictors.add(version("small", 9, 10));
        for number in 1..=5 {
            predictors.add(version("p", number, half));
        }
        assert!(predictors.bytes <= MAX_STATES, "{}", predictors.bytes);
        assert!(predictors.find("p", &[5; 32]).is_some() && predictors.find("p", &[1; 32]).is_none());
        assert!(predictors.find("small", &[9; 32]).is_some());
        predictors.withdraw("p");
        assert!(predictors.newest("p").is_none() && predictors.newest("small").is_some());
        assert_eq!(predictors.bytes, 80);
    }
}
