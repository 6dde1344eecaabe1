//! The explanation of a decision, as `aegis explain` gives it.

use serde_json::{Value, json};

use super::recent::Recent;
use crate::codec::hex;
use crate::config::Policies;
use crate::core::decision::{Decision, WeighedVote};
use crate::core::explain::{Explanation, explain};
use crate::core::predictor::{Predictor, Published};
use crate::core::vote::Outcome;

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

/// Returns a decision with its explanation as JSON. It has no message's text, because decisions have none.
#[must_use]
pub fn as_json(recent: &Recent, explanation: Option<&Explanation>, topic: &str) -> Value {
    let decision = &recent.decision;
    let same = |explained: &Explanation| {
        explained.probability.map(f64::to_bits) == decision.probability.map(f64::to_bits)
    };
    let computed = explanation.map(|explained| {
        json!({
            "same": same(explained),
            "probability": explained.probability,
            "without_features": explained.without_features,
            "flip": explained.flip.as_ref().map(|flip| json!({
                "expert": flip.expert, "from": flip.from, "to": flip.to, "probability": flip.probability,
            })),
        })
    });
    let categories: Vec<_> = decision
        .categories
        .iter()
        .map(|found| json!({ "category": found.category, "score": found.score }))
        .collect();
    json!({
        "topic": topic,
        "partition": recent.partition,
        "offset": recent.offset,
        "time": recent.time,
        "event": decision.id.event,
        "tenant": decision.id.tenant,
        "policy": decision.id.policy,
        "policy_version": decision.policy_version,
        "conversation": decision.conversation,
        "source": {
            "topic": decision.origin.topic,
            "partition": decision.origin.partition,
            "offset": decision.origin.offset,
        },
        "action": decision.action.word(),
        "probability": decision.probability,
        "threshold": decision.threshold,
        "categories": categories,
        "degraded": decision.degraded,
        "nothing_to_judge": decision.nothing_to_judge,
        "hidden_text": decision.hidden_text.iter().map(|way| way.word()).collect::<Vec<_>>(),
        "reasons": decision.reasons.iter().map(|reason| reason.word()).collect::<Vec<_>>(),
        "review_probability": decision.review_probability,
        "sampling": {
            "audit": decision.sampling.audit,
            "uncertainty": decision.sampling.uncertainty,
            "thinned": decision.sampling.thinned,
        },
        "latency_micros": decision.latency_micros,
        "predictor": {
            "learner": decision.predictor.learner,
            "rounds": decision.predictor.rounds,
            "ledger_offset": decision.predictor.ledger_offset,
            "state_hash": hex(&decision.predictor.state_hash),
            "pinned": decision.predictor.pinned,
        },
        "votes": decision.votes.iter().map(vote).collect::<Vec<_>>(),
        "computed": computed,
    })
}

fn vote(weighed: &WeighedVote) -> Value {
    let vote = &weighed.vote;
    let (score, abstention) = match &vote.outcome {
        Outcome::Voted { score, .. } => (Some(score), None),
        Outcome::Abstained(reason) => (None, Some(reason.word())),
    };
    json!({
        "expert": vote.expert,
        "score": score,
        "abstention": abstention,
        "weight": weighed.weight,
        "contribution": weighed.contribution,
        "shadow": vote.shadow,
        "truncated": vote.truncated,
        "cached": vote.cached,
        "windows": vote.windows,
        "explored": vote.explored,
        "decisive": vote.decisive,
    })
}
