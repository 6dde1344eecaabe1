//! The output of a decision with its explanation.

use serde_json::{Map, Value};

use super::{Located, PredictorStatus};
use crate::cli::print::{self, printable, row, short};
use crate::codec::{explained_decision, hex, is_same, time::format_millis};
use crate::config::Config;
use crate::core::decision::{Decision, Sampling, WeighedVote};
use crate::core::explain::Explanation;
use crate::core::vote::Outcome;
use crate::ops::stdout::outln;

/// Returns a decision as JSON.
pub fn as_json(found: &Located, status: &PredictorStatus, explained: Option<&Explanation>) -> Value {
    let decision = &found.decision;
    let categories = decision.categories.iter();
    let categories: Map<_, _> =
        categories.map(|found| (found.category.clone(), found.score.into())).collect();
    let mut fields = explained_decision(decision, explained);
    fields.extend([
        ("partition".to_owned(), found.partition.into()),
        ("offset".to_owned(), found.offset.into()),
        ("time".to_owned(), found.time.map(format_millis).into()),
        ("categories".to_owned(), categories.into()),
        ("review".to_owned(), decision.review().map(|reason| reason.word()).into()),
        ("features".to_owned(), decision.features.is_some().into()),
    ]);
    let mut json = Value::Object(fields);
    json["predictor"]["standing"] = status.word().into();
    json
}

/// Prints a decision for people.
pub fn text(found: &Located, status: &PredictorStatus, explained: Option<&Explanation>, config: &Config) {
    let decision = &found.decision;
    let id = &decision.id;
    outln!(
        "event      {} of tenant {}, {} {}:{}",
        printable(&id.event),
        printable(&id.tenant),
        printable(&decision.origin.topic),
        decision.origin.partition,
        decision.origin.offset
    );
    let time = found.time.map_or_else(|| "-".into(), format_millis);
    outln!("decision   {} {}:{}, {time}", config.topics.decisions, found.partition, found.offset);
    outln!("action     {}: {}", decision.action.word(), why(decision));
    outln!("policy     {}, version {}", printable(&id.policy), printable(&decision.policy_version));
    outln!("review     {}", review(decision));
    outln!("language   {}", decision.language);
    if !decision.hidden_text.is_empty() {
        let ways: Vec<_> = decision.hidden_text.iter().map(|way| way.word()).collect();
        outln!("hidden     {}: experts read what they encode", ways.join(", "));
    }
    let named = &decision.predictor;
    let status = match status {
        PredictorStatus::Prior => "nothing was learned yet",
        PredictorStatus::Newest => "it is the newest",
        PredictorStatus::Pinned => "a person has pinned it, and scorers use it",
        PredictorStatus::Replaced => "newer ones have been published since",
        PredictorStatus::Gone => {
            "it is no longer on its topic, so that only what the decision names is shown"
        }
    };
    if named.ledger_offset < 0 {
        outln!("predictor  {}: {status}", printable(&named.learner));
    } else {
        outln!(
            "predictor  {}{}, {} rounds, ledger offset {}, state {}: {status}",
            printable(&named.learner),
            if named.pinned { ", pinned when this was decided" } else { "" },
            named.rounds,
            named.ledger_offset,
            short(&hex(&named.state_hash))
        );
    }
    if let Some(explained) = explained {
        text_of(decision, explained);
    }
    let mut rows = vec![row(["expert", "vote", "weight", "contribution", "model", "also"])];
    rows.extend(decision.votes.iter().map(vote_row));
    print::table(&rows, &[1, 2, 3]);
}

fn text_of(decision: &Decision, explained: &Explanation) {
    if !is_same(decision, explained) {
        outln!(
            "again      p cannot be reproduced: it was computed with features that the decision does not carry, or \
             with another seed or program"
        );
        return;
    }
    match (decision.probability, explained.without_features) {
        (Some(p), Some(unread)) => outln!(
            "features   p {p:.4} with the text's features, {unread:.4} without: the members that read add {:+.4}",
            p - unread
        ),
        _ => outln!("features   none that the learner reads"),
    }
    match &explained.flip {
        Some(flip) => outln!(
            "flip       {} {:.4} instead of {:.4} ({:+.4}) would make p {:.4}, on the other side of the threshold",
            printable(&flip.expert),
            flip.to,
            flip.from,
            flip.to - flip.from,
            flip.probability
        ),
        None => outln!("flip       no single vote could move p to the other side of the threshold"),
    }
}

/// Describes the reason for the action.
fn why(decision: &Decision) -> String {
    if decision.nothing_to_judge {
        return "there is nothing to judge, and the policy determines the action".to_owned();
    }
    let Some(p) = decision.probability else { return "no expert was awake".to_owned() };
    let side = if p >= decision.threshold { "at or above" } else { "below" };
    let highest = decision.categories.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let category = highest.map_or_else(String::new, |highest| {
        format!("; highest category {} {:.4}", printable(&highest.category), highest.score)
    });
    format!("p {p:.4} is {side} the threshold {:.4}{category}", decision.threshold)
}

/// Describes the reasons for a review, and the probabilities of the draws.
fn review(decision: &Decision) -> String {
    let reasons: Vec<_> = decision.reasons.iter().map(|reason| reason.word()).collect();
    let requested = if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") };
    let Sampling { audit, uncertainty, thinned } = decision.sampling;
    let thinned = if thinned { ", lowered by the review budget" } else { "" };
    format!(
        "{requested}; the probability of a review was {:.4}: audit {audit:.4}, near the threshold {uncertainty:.4}{thinned}",
        decision.review_probability
    )
}

fn vote_row(weighed: &WeighedVote) -> Vec<String> {
    let vote = &weighed.vote;
    let mut also = Vec::new();
    let score = match &vote.outcome {
        Outcome::Voted { score, categories } => {
            also.extend(
                categories.iter().map(|one| format!("{} {:.3}", printable(&one.category), one.score)),
            );
            format!("{score:.4}")
        }
        Outcome::Abstained(reason) => {
            also.push(format!("abstained: {}", reason.word()));
            "-".into()
        }
    };
    if vote.shadow {
        also.insert(0, "shadow".into());
    }
    if vote.truncated {
        also.insert(0, "read only the beginning".into());
    }
    if vote.windows > 1 {
        also.insert(0, format!("greatest of {} windows", vote.windows));
    }
    if vote.cached {
        also.insert(0, "answer of an equal text".into());
    }
    if vote.explored {
        also.push("drawn to be asked in any case".into());
    }
    if vote.decisive {
        also.push("asked because it could change the decision".into());
    }
    also.extend(vote.revision.as_deref().map(printable));
    let model = vote.model.map_or_else(|| "-".into(), |model| short(&hex(&model)).to_owned());
    vec![
        printable(&vote.expert),
        score,
        format!("{:.4}", weighed.weight),
        format!("{:+.4}", weighed.contribution),
        model,
        also.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::decision::ReviewReason;
    use crate::core::ledger::RoundId;
    use crate::core::text::HiddenText;

    #[test]
    fn nothing_to_judge_and_hidden_text_are_explained() {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: "e".into() };
        let mut decision = Decision { nothing_to_judge: true, ..Decision::example(id, 0) };
        assert_eq!(why(&decision), "there is nothing to judge, and the policy determines the action");
        decision.reasons = vec![ReviewReason::NothingToJudge];
        decision.review_probability = 1.0;
        assert_eq!(
            review(&decision),
            "nothing_to_judge; the probability of a review was 1.0000: audit 0.0000, near the threshold 0.0000"
        );
        decision.hidden_text = vec![HiddenText::TagCharacters];
        let found = Located { partition: 0, offset: 0, time: None, decision };
        let json = as_json(&found, &PredictorStatus::Prior, None);
        assert_eq!(json["nothing_to_judge"], true);
        assert_eq!(json["reasons"], json!(["nothing_to_judge"]));
        assert_eq!(json["hidden_text"], json!(["tag_characters"]));
    }

    #[test]
    fn the_draws_of_a_review_are_explained_with_their_probabilities() {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: "e".into() };
        let sampling = Sampling { audit: 0.01, uncertainty: 0.25, thinned: true };
        let decision = Decision {
            reasons: vec![ReviewReason::NearThreshold, ReviewReason::Audit],
            sampling,
            review_probability: sampling.inclusion(),
            ..Decision::example(id, 0)
        };
        assert_eq!(
            review(&decision),
            "near_threshold, audit; the probability of a review was 0.2575: audit 0.0100, near the threshold 0.2500, \
             lowered by the review budget"
        );
        let json = as_json(
            &Located { partition: 0, offset: 0, time: None, decision },
            &PredictorStatus::Prior,
            None,
        );
        assert_eq!(json["reasons"], json!(["near_threshold", "audit"]));
        assert_eq!(json["sampling"], json!({ "audit": 0.01, "uncertainty": 0.25, "thinned": true }));
    }
}
