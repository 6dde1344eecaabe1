//! The OpenAPI document, made of the types that the endpoints read and write.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::refusal;

/// The statuses of refusals, with their meaning.
const REFUSALS: [(&str, &str); 11] = [
    ("400", "The request cannot be judged: it is not valid, or has images."),
    ("401", "The API key is missing or not valid."),
    ("403", "The key is for another tenant or policy."),
    ("404", "There is no such endpoint."),
    ("405", "The endpoint takes another method."),
    ("413", "The body is too large, or more than may wait for the brokers."),
    ("415", "The body is not JSON."),
    ("429", "The key has sent too many requests. `Retry-After` says when the next is answered."),
    ("500", "The server failed."),
    ("503", "Too many texts wait. `Retry-After` says when to try again."),
    ("504", "There was no decision in time, or no confirmation of its record."),
];
/// The statuses of refusals that say when to try again.
const WITH_RETRY_AFTER: [&str; 2] = ["429", "503"];

/// The description of an endpoint.
pub struct Operation {
    /// The endpoint's purpose, in a sentence.
    pub summary: &'static str,
    /// Returns the schema of a request.
    pub request: fn(&mut SchemaGenerator) -> Value,
    /// Returns the schema of an answer.
    pub answer: fn(&mut SchemaGenerator) -> Value,
}

/// Returns the OpenAPI document (3.1) of the endpoints with these paths.
pub fn document<'a>(endpoints: impl Iterator<Item = (&'static str, &'a Operation)>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut schemas = settings.into_generator();
    let error = reference::<refusal::Body>(&mut schemas);
    let paths: serde_json::Map<String, Value> = endpoints
        .map(|(path, Operation { summary, request, answer })| {
            let (request, answer) = (request(&mut schemas), answer(&mut schemas));
            (path.to_owned(), operation(path, summary, request, answer, &error))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Aegis: moderation over HTTP",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "security": [{ "bearer": [] }, { "header": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "header": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
            "schemas": schemas.take_definitions(true),
        },
    })
}

/// Returns a reference to the schema of a type.
pub fn reference<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn operation(path: &str, summary: &str, request: Value, answer: Value, error: &Value) -> Value {
    let degraded = json!({
        "description": "`true` if an expert that should have voted did not.",
        "schema": { "type": "string", "const": "true" },
    });
    let mut responses = serde_json::Map::new();
    responses.insert(
        "200".into(),
        json!({
            "description": "The texts are decided.",
            "headers": { "aegis-degraded": degraded },
            "content": { "application/json": { "schema": answer } },
        }),
    );
    for (status, description) in REFUSALS {
        let content = json!({ "application/json": { "schema": error } });
        let mut response = json!({ "description": description, "content": content });
        if WITH_RETRY_AFTER.contains(&status) {
            response["headers"] = json!({ "Retry-After": {
                "description": "The seconds after which the request can be repeated.",
                "required": true,
                "schema": { "type": "integer", "minimum": 1 },
            } });
        }
        responses.insert(status.into(), response);
    }
    let name: String =
        path.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect();
    let key = json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "The id of the event, or the beginning of the ids of several. A repeated request keeps it.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 240 },
    });
    json!({ "post": {
        "operationId": name.trim_matches('_'),
        "summary": summary,
        "parameters": [key],
        "requestBody": { "required": true, "content": { "application/json": { "schema": request } } },
        "responses": responses,
    } })
}

/// The schema of an event. docs/records.md describes all fields.
pub fn event(_: &mut SchemaGenerator) -> Value {
    let id = || json!({ "type": ["string", "null"], "maxLength": 256 });
    json!({
        "type": "object",
        "description": "An event as on the topic of events. Without an id it gets one. It has either turns or a text.",
        "properties": {
            "id": id(), "conversation": id(), "tenant": id(), "policy": id(), "subject": id(),
            "time": { "description": "Milliseconds since the Unix epoch, or an ISO 8601 time." },
            "text": { "type": "string" },
            "turns": { "type": "array", "items": {
                "type": "object",
                "properties": { "role": { "type": "string" }, "text": { "type": ["string", "null"] } },
                "required": ["text"],
            } },
            "judged": { "type": ["integer", "null"], "minimum": 0 },
            "metadata": { "type": "object" },
        },
    })
}

/// The schema of a decision, as far as clients of this API rely on it. docs/records.md describes all fields.
pub fn decision(_: &mut SchemaGenerator) -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "number", "minimum": 0, "maximum": 1 });
    json!({
        "type": "object",
        "description": "A decision as on the topic of decisions. The place of its event is not known yet: partition and offset are -1.",
        "properties": {
            "event_id": text(), "tenant": text(), "policy": text(), "policy_version": text(),
            "conversation": text(),
            "action": { "enum": ["allow", "block", "review"] },
            "probability": { "type": ["number", "null"], "minimum": 0, "maximum": 1 },
            "threshold": number(),
            "degraded": { "type": "boolean" },
            "categories": { "type": "array", "items": {
                "type": "object",
                "properties": { "category": text(), "score": number() },
                "required": ["category", "score"],
            } },
            "votes": { "type": "array", "items": {
                "type": "object",
                "properties": { "expert": text(), "score": { "type": ["number", "null"] }, "weight": number() },
                "required": ["expert"],
            } },
        },
        "required": [
            "event_id", "tenant", "policy", "policy_version", "action", "probability", "threshold", "degraded",
            "categories", "votes",
        ],
    })
}
