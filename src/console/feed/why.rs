//! The explanation of a decision, as `aegis explain` gives it.

use serde_json::{Value, json};

use super::recent::Recent;
use crate::codec::explained_decision;
use crate::config::Policies;
use crate::core::decision::Decision;
use crate::core::explain::{Explanation, explain};
use crate::core::predictor::{Predictor, Published};

/// Computes a decision again with its predictor, which is the prior if it names none. Returns `None` if the predictor is not
/// available or cannot be used.
#[must_use]
pub fn recompute(
    decision: &Decision,
    published: Option<&Published>,
    policies: &Policies,
) -> Option<Explanation> {
    let policy = policies.get(&decision.id.policy);
    let built = if decision.predictor.ledger_offset < 0 {
        let policy = policy?;
        let experts: Vec<_> = decision.votes.iter().map(|weighed| weighed.vote.expert.clone()).collect();
        Predictor::prior(&policy.learner, &policy.name, &experts)
    } else {
        let mut published = published?.clone();
        // The secret of keyed draws is never published.
        published.learner.seed = policy.and_then(|policy| policy.learner.seed.clone());
        Predictor::published(&published)
    };
    Some(explain(decision, &mut built.ok()?))
}

/// Returns a decision with its explanation as JSON.
#[must_use]
pub fn as_json(recent: &Recent, explanation: Option<&Explanation>, topic: &str) -> Value {
    let decision = &recent.decision;
    let categories = decision.categories.iter();
    let mut fields = explained_decision(decision, explanation);
    fields.extend([
        ("topic".to_owned(), topic.into()),
        ("partition".to_owned(), recent.partition.into()),
        ("offset".to_owned(), recent.offset.into()),
        ("time".to_owned(), recent.time.into()),
        ("conversation".to_owned(), decision.conversation.as_str().into()),
        ("latency_micros".to_owned(), decision.latency_micros.into()),
        (
            "categories".to_owned(),
            categories.map(|found| json!({ "category": found.category, "score": found.score })).collect(),
        ),
    ]);
    fields.into()
}
