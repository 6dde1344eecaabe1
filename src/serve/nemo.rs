//! `POST /v1/checks` and its older path `/v1/guardrail/checks`: the checks of NeMo Guardrails.
//!
//! The shape is that of the page "Running Checks with Guardrails" of NeMo's documentation
//! (docs.nvidia.com/nemo, guardrails, core concepts). Each message is judged with those before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::{Message, turns};
use super::decide::answer;
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::core::event::Role;

/// The rail of messages to a model.
const INPUT: &str = "aegis check input";
/// The rail of messages of a model.
const OUTPUT: &str = "aegis check output";

/// A request.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NemoRequest")]
pub struct Request {
    /// Not used.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it, and the document describes it")]
    model: Option<String>,
    /// The messages. Instructions of role `system` are the product's own, and are history only.
    messages: Vec<Message>,
}

/// An answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NemoResponse")]
pub struct Checked {
    /// `success`, or `blocked` if a message is.
    status: String,
    /// By rail, `success` or `blocked`.
    rails_status: BTreeMap<String, Status>,
    /// The messages that were judged.
    messages: Vec<CheckedMessage>,
    /// The rails that blocked, as NeMo logs them.
    guardrails_data: Data,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NemoStatus")]
struct Status {
    /// `success` or `blocked`.
    status: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NemoMessage")]
struct CheckedMessage {
    /// The index of the message in the request.
    index: usize,
    /// The role.
    role: String,
    /// By rail, `success` or `blocked`.
    rails: BTreeMap<String, Status>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NemoData")]
struct Data {
    log: Log,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NemoLog")]
struct Log {
    /// The rails that blocked a message.
    activated_rails: Vec<String>,
}

fn status(blocked: bool) -> Status {
    Status { status: if blocked { "blocked" } else { "success" }.to_owned() }
}

/// Answers a request.
pub async fn checks(State(app): State<Arc<App>>, Body { head, bytes }: Body) -> Result<Response, Refusal> {
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    let turns = turns(request.messages)?;
    let judged: Vec<(usize, Role)> = turns
        .iter()
        .enumerate()
        .filter(|(_, turn)| turn.role != Role::System)
        .map(|(index, turn)| (index, turn.role))
        .collect();
    let indices: Vec<usize> = judged.iter().map(|(index, _)| *index).collect();
    let decisions = app.decide(&head, app.drafts(&turns, &indices)?).await?;
    let mut rails = BTreeMap::<&str, bool>::new();
    let mut messages = Vec::new();
    for ((index, role), decision) in judged.iter().zip(&decisions) {
        let rail = if *role == Role::Assistant { OUTPUT } else { INPUT };
        let blocked = app.blocks(decision);
        *rails.entry(rail).or_default() |= blocked;
        let own = BTreeMap::from([(rail.to_owned(), status(blocked))]);
        messages.push(CheckedMessage { index: *index, role: role.word().to_owned(), rails: own });
    }
    let activated_rails = rails.iter().filter(|(_, blocked)| **blocked).map(|(rail, _)| (*rail).to_owned());
    let checked = Checked {
        status: status(rails.values().any(|blocked| *blocked)).status,
        guardrails_data: Data { log: Log { activated_rails: activated_rails.collect() } },
        rails_status: rails.into_iter().map(|(rail, blocked)| (rail.to_owned(), status(blocked))).collect(),
        messages,
    };
    Ok(answer(&decisions, checked))
}
