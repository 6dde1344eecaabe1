//! `POST /beta/litellm_basic_guardrail_api`: the generic guardrail API of LiteLLM.
//!
//! The shape is that of the page "Generic Guardrail API" of LiteLLM's documentation
//! (docs.litellm.ai/docs/adding_provider/generic_guardrail_api).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::{Draft, answer};
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::core::event::{Role, Turn, check_id};

/// A request.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "LiteLlmRequest")]
pub struct Request {
    /// The texts of the call. Each is judged for itself. Tools and the arguments of tool calls are not read.
    #[serde(default)]
    texts: Option<Vec<String>>,
    /// Images, which are refused.
    #[serde(default)]
    images: Option<Vec<String>>,
    /// `request` if the texts are those of the call, `response` if they are those of the model.
    input_type: String,
    /// The caller.
    #[serde(default)]
    request_data: Option<RequestData>,
    /// The id of the call.
    #[serde(default)]
    litellm_call_id: Option<String>,
    /// The id of the conversation.
    #[serde(default)]
    litellm_trace_id: Option<String>,
}

/// The caller, as far as it is used.
#[derive(Deserialize, JsonSchema, Default)]
#[schemars(rename = "LiteLlmRequestData")]
struct RequestData {
    /// The user who wrote the texts, by whom they can be erased later.
    #[serde(default)]
    user_api_key_end_user_id: Option<String>,
}

/// An answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiteLlmResponse")]
pub struct Answer {
    /// `NONE`: the call proceeds. `BLOCKED`: it is refused.
    action: String,
    /// The reason for a block, which does not quote the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_reason: Option<String>,
}

/// Answers a request.
pub async fn guardrail(State(app): State<Arc<App>>, Body { head, bytes }: Body) -> Result<Response, Refusal> {
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    if request.images.is_some_and(|images| !images.is_empty()) {
        return Err(Refusal::image().of("images"));
    }
    let role = match request.input_type.as_str() {
        "request" => Role::User,
        "response" => Role::Assistant,
        _ => return Err(Refusal::invalid("invalid_body", "write request or response").of("input_type")),
    };
    // The ids are the gateway's: one that cannot be an id of Aegis is not used.
    let id = |id: Option<String>| id.filter(|id| check_id("id", id).is_ok());
    let conversation = id(request.litellm_trace_id).or_else(|| id(request.litellm_call_id));
    let subject = id(request.request_data.and_then(|data| data.user_api_key_end_user_id));
    let draft = |text| Draft {
        turns: vec![Turn { role, text }],
        conversation: conversation.clone(),
        subject: subject.clone().filter(|_| role == Role::User),
    };
    let drafts: Vec<_> = request.texts.unwrap_or_default().into_iter().map(draft).collect();
    if drafts.is_empty() {
        // A call without a text, such as one of a tool.
        return Ok(answer(&[], Answer { action: "NONE".into(), blocked_reason: None }));
    }
    let decisions = app.decide(&head, drafts).await?;
    let blocked = decisions.iter().find(|decision| app.blocks(decision));
    let action = if blocked.is_some() { "BLOCKED" } else { "NONE" };
    Ok(answer(
        &decisions,
        Answer { action: action.into(), blocked_reason: blocked.map(|blocked| app.reason(blocked)) },
    ))
}
