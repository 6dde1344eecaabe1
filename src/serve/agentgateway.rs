//! `POST /request` and `POST /response`: the guardrail webhook of agentgateway.
//!
//! The shape is that of the pages "Guardrail webhook guide" and "Webhook API reference" of agentgateway's documentation
//! (agentgateway.dev/docs, LLM consumption, prompt guards, webhooks): the action of an answer is told by its fields. One
//! with a `status_code` and a `body` rejects, one with a reason alone passes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::{Message, turns};
use super::decide::{Draft, answer, reason};
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::core::decision::Decision;

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
    /// The messages. The last one is judged, the others are its history.
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
    let draft = Draft { turns: turns(request.body.messages)?, ..Draft::default() };
    let decisions = app.decide(&head, vec![draft]).await?;
    Ok(app.action(&decisions, "this request was refused by a moderation policy"))
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
        let action = match (blocked, decisions.first()) {
            (Some(blocked), _) => {
                Action::Reject { body: body.to_owned(), status_code: REJECTED, reason: reason(blocked) }
            }
            (None, first) => Action::Pass { reason: first.map(reason).unwrap_or_default() },
        };
        answer(decisions, Answer { action })
    }
}
