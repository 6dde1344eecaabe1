//! `POST /v1/decisions`: an event as on the topic of events, answered with the whole decision.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::decide::mark;
use super::refusal::Refusal;
use super::server::{App, Body};
use crate::codec::{self, Defaults, Encoding};

/// Answers a request.
pub async fn decisions(State(app): State<Arc<App>>, Body { head, bytes }: Body) -> Result<Response, Refusal> {
    let mut body: Value = serde_json::from_slice(&bytes).map_err(|error| Refusal::shape(&error))?;
    let Some(fields) = body.as_object_mut() else {
        return Err(Refusal::invalid(
            "invalid_body",
            "the body is not an event: docs/records.md describes it",
        ));
    };
    // Over HTTP an event needs no id.
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".into(), head.event_id(0, 1).into());
    }
    let caller = head.caller();
    let defaults = &app.config.defaults;
    let (tenant, policy) = (caller.tenant(&defaults.tenant), caller.policy(&defaults.policy));
    let defaults = Defaults { tenant, policy, ..Defaults::default() };
    let invalid = |reason: String| Refusal::invalid("invalid_event", reason);
    let event = codec::decode_event(body.to_string().as_bytes(), &defaults)
        .map_err(|error| invalid(error.to_string()))?;
    // The decoded event is checked, so that no way of writing its fields passes the key.
    caller.check(&event.tenant, &event.policy)?;
    let decisions = app.decide_events(&head, vec![event]).await?;
    let encoded = decisions.first().map(|decision| codec::encode_decision(decision, Encoding::Json));
    let json = encoded.transpose().map_err(|error| invalid(error.to_string()))?.unwrap_or_default();
    let mut response = json.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(mark(&decisions, response))
}
