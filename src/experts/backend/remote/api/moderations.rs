//! OpenAI's moderations: a text in, a score for each category out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Judgement, parse, score};
use crate::core::event::Conversation;
use crate::experts::backend::result::RunError;
use crate::experts::manifest::Scores;

#[derive(Deserialize)]
struct Response {
    model: Option<String>,
    results: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    /// `null` where the model has no score for a kind of input.
    category_scores: BTreeMap<String, Option<f64>>,
}

/// The body of a request. Several turns are one text, with their roles before them.
pub(super) fn request(model: &str, conversation: &Conversation) -> Vec<u8> {
    let turns = &conversation.turns[..=conversation.judged];
    let input = match turns {
        [turn] => turn.text.clone(),
        turns => {
            let turn = |turn: &crate::core::event::Turn| format!("{}: {}", turn.role.word(), turn.text);
            turns.iter().map(turn).collect::<Vec<_>>().join("\n\n")
        }
    };
    let mut body = serde_json::json!({ "input": input });
    if !model.is_empty() {
        body["model"] = model.into();
    }
    body.to_string().into_bytes()
}

/// Reads a response. A category without a score counts as 0, because models differ in their categories.
pub(super) fn read(model: &str, scores: &Scores, response: &[u8]) -> Result<Judgement, RunError> {
    let response: Response = parse(response)?;
    let [Scored { category_scores }] = response.results.as_slice() else {
        return Err(RunError::shape(format!("the response has {} results, not one", response.results.len())));
    };
    let of = |name: &String| category_scores.get(name).copied().flatten();
    if !scores.labels.iter().any(|label| of(&label.name).is_some()) {
        return Err(RunError::shape("the response scores none of the labels' categories".to_owned()));
    }
    // Like the output of a graph.
    #[expect(clippy::cast_possible_truncation)]
    let row: Vec<f32> = scores.labels.iter().map(|label| of(&label.name).unwrap_or(0.0) as f32).collect();
    let revision = response.model.filter(|named| named != model);
    Ok(Judgement { score: score(scores, &row)?, revision })
}
