//! `POST /request` and `POST /response`: the guardrail webhook of agentgateway.
//!
//! The shape is that of the pages "Guardrail webhook guide" and "Webhook API reference" of agentgateway's documentation
//! (agentgateway.dev/docs, LLM consumption, prompt guards, webhooks): the action of an answer is told by its fields. One
//! with a `status_code` and a `body` rejects, one with a reason alone passes.
//!
//! A prompt is the whole conversation, as its client writes it: the client can add messages of any role after a harmful one.
//! So each message is judged, with those before it as its history, and not the last one alone.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::{Message, turns};
use super::decide::{Draft, answer};
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::core::decision::Decision;
use crate::core::event::{Role, Turn};
use crate::core::text::is_blank;

/// A prompt to check.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentgatewayPrompt")]
pub struct PromptRequest {
    /// The messages of the prompt.
    body: PromptMessages,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentgatewayMessages")]
struct PromptMessages {
    /// The messages. Each is judged with those before it. Instructions of role `system` are the product's own, and are history
    /// only if another message has a text.
    messages: Vec<Message>,
}

/// An answer of a model to check.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentgatewayResponse")]
pub struct ResponseRequest {
    /// The choices of the answer.
    body: ResponseChoices,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentgatewayChoices")]
struct ResponseChoices {
    /// The choices. Each is judged for itself.
    choices: Vec<Choice>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentgatewayChoice")]
struct Choice {
    /// The message of the model.
    message: Message,
}

/// An answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentgatewayAnswer")]
pub struct Answer {
    /// The action of the gateway.
    action: Action,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AgentgatewayAction")]
enum Action {
    /// The request or response is rejected.
    Reject {
        /// The body of the response that the gateway's client gets.
        body: String,
        /// Its status.
        status_code: u16,
        /// The reason, which does not quote the text.
        reason: String,
    },
    /// It passes.
    Pass {
        /// The decision.
        reason: String,
    },
}

/// The status with which the gateway refuses.
const REJECTED: u16 = 403;

/// Checks a prompt.
pub async fn request(State(app): State<Arc<App>>, Body { head, bytes }: Body) -> Result<Response, Refusal> {
    let request: PromptRequest = serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    let turns = turns(request.body.messages)?;
    let decisions = app.decide(&head, app.drafts(&turns, &judged(&turns))?).await?;
    Ok(app.action(&decisions, "this request was refused by a moderation policy"))
}

/// Returns the indices of the turns of a prompt that are judged: all that have a text, except instructions. If that leaves
/// none, the instructions are judged, and a prompt without any text is judged by its last turn.
fn judged(turns: &[Turn]) -> Vec<usize> {
    let (instructions, others): (Vec<usize>, Vec<usize>) = (0..turns.len())
        .filter(|index| !is_blank(&turns[*index].text))
        .partition(|index| turns[*index].role == Role::System);
    let last = turns.len().checked_sub(1);
    [others, instructions]
        .into_iter()
        .find(|found| !found.is_empty())
        .unwrap_or_else(|| last.into_iter().collect())
}

/// Checks the answer of a model.
pub async fn response(State(app): State<Arc<App>>, Body { head, bytes }: Body) -> Result<Response, Refusal> {
    let request: ResponseRequest = serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    let messages = request.body.choices.into_iter().map(|choice| choice.message).collect();
    let draft = |turn| Draft { turns: vec![turn], ..Draft::default() };
    let drafts = turns(messages)?.into_iter().map(draft).collect();
    let decisions = app.decide(&head, drafts).await?;
    Ok(app.action(&decisions, "this answer was withheld by a moderation policy"))
}

impl App {
    fn action(&self, decisions: &[Decision], body: &str) -> Response {
        let blocked = decisions.iter().find(|decision| self.blocks(decision));
        let action = match (blocked, decisions.last()) {
            (Some(blocked), _) => {
                Action::Reject { body: body.to_owned(), status_code: REJECTED, reason: self.reason(blocked) }
            }
            (None, last) => Action::Pass { reason: last.map(|last| self.reason(last)).unwrap_or_default() },
        };
        answer(decisions, Answer { action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_with_a_text_is_judged_and_instructions_only_alone() {
        use Role::{Assistant, System, Tool, User};
        let of = |turns: &[(Role, &str)]| {
            let turn = |(role, text): &(Role, &str)| Turn { role: *role, text: (*text).to_owned() };
            judged(&turns.iter().map(turn).collect::<Vec<_>>())
        };
        // The turns of a prompt, and the places of those that are judged.
        type Case<'a> = (&'a [(Role, &'a str)], &'a [usize]);
        let cases: [Case<'_>; 7] = [
            (&[(System, "s"), (User, "u")], &[1]),
            (&[(User, "u"), (Assistant, "")], &[0]),
            (&[(User, "u"), (Assistant, "a"), (User, "v"), (Tool, "t")], &[0, 1, 2, 3]),
            (&[(User, "u"), (System, "s")], &[0]),
            (&[(System, "s"), (User, " \u{200b}")], &[0]),
            (&[(System, "s"), (System, "t")], &[0, 1]),
            (&[(User, ""), (Assistant, " ")], &[1]),
        ];
        for (turns, expected) in cases {
            assert_eq!(of(turns), expected, "{turns:?}");
        }
    }
}
