//! A decision with its explanation as JSON, for people and their programs. It has no message's text, because decisions have
//! none.

use serde_json::{Map, Value, json};

use super::hex;
use crate::core::decision::{Decision, WeighedVote};
use crate::core::explain::Explanation;
use crate::core::vote::Outcome;

/// Returns `true` if the same p was computed again, to the bit. It differs if a learner that draws has another seed, or if
/// the features of the decision are not available.
#[must_use]
pub fn is_same(decision: &Decision, explained: &Explanation) -> bool {
    explained.probability.map(f64::to_bits) == decision.probability.map(f64::to_bits)
}

/// Returns the fields of a decision and of its explanation. Those of its place and its categories are the caller's.
#[must_use]
pub fn explained_decision(decision: &Decision, explained: Option<&Explanation>) -> Map<String, Value> {
    let fields = json!({
        "event": decision.id.event,
        "tenant": decision.id.tenant,
        "policy": decision.id.policy,
        "policy_version": decision.policy_version,
        "source": {
            "topic": decision.origin.topic,
            "partition": decision.origin.partition,
            "offset": decision.origin.offset,
        },
        "action": decision.action.word(),
        "probability": decision.probability,
        "threshold": decision.threshold,
        "degraded": decision.degraded,
        "nothing_to_judge": decision.nothing_to_judge,
        "language": decision.language.code(),
        "hidden_text": decision.hidden_text.iter().map(|way| way.word()).collect::<Vec<_>>(),
        "reasons": decision.reasons.iter().map(|reason| reason.word()).collect::<Vec<_>>(),
        "review_probability": decision.review_probability,
        "sampling": {
            "audit": decision.sampling.audit,
            "uncertainty": decision.sampling.uncertainty,
            "thinned": decision.sampling.thinned,
        },
        "predictor": {
            "learner": decision.predictor.learner,
            "rounds": decision.predictor.rounds,
            "ledger_offset": decision.predictor.ledger_offset,
            "state_hash": hex(&decision.predictor.state_hash),
            "pinned": decision.predictor.pinned,
        },
        "votes": decision.votes.iter().map(vote).collect::<Vec<_>>(),
        "computed": explained.map(|explained| computed(decision, explained)),
    });
    let Value::Object(fields) = fields else { unreachable!("it is written as an object") };
    fields
}

fn computed(decision: &Decision, explained: &Explanation) -> Value {
    json!({
        "same": is_same(decision, explained),
        "probability": explained.probability,
        "without_features": explained.without_features,
        "flip": explained.flip.as_ref().map(|flip| json!({
            "expert": flip.expert, "from": flip.from, "to": flip.to, "probability": flip.probability,
        })),
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
        "revision": vote.revision,
        "model": vote.model.map(|model| hex(&model)),
    })
}
