//! Review requests as tasks of labelling tools, with the position of the decision and the inclusion probability, which the
//! label that comes back carries to the learner.

use serde_json::{Map, Value, json};

use crate::codec::time::format_millis;
use crate::codec::{EncodeError, Encoding, encode_review};
use crate::core::event::Event;
use crate::core::label::Finding;
use crate::core::review::ReviewRequest;

/// The names of the controls of Label Studio and of the questions of Argilla.
const VERDICT: &str = "verdict";
const CATEGORIES: &str = "categories";
/// The object of Label Studio and the field of Argilla with the judged text.
const TEXT: &str = "text";
/// The score from which on a category is among the predicted ones.
const FOUND: f64 = 0.5;

/// The form of exported tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Tasks of Label Studio, as one JSON array.
    LabelStudio,
    /// Records of Argilla as its SDK reads them, in JSON lines.
    Argilla,
    /// Review requests as records of their topic, in JSON lines.
    Lines,
}

/// Returns the task of a request. `event` is the event with its text, if it is to be in the task. With `predictions`, the
/// task says what the ensemble thinks.
///
/// # Errors
/// Returns an [`EncodeError`] if the request cannot be written.
pub fn task(
    form: Form,
    request: &ReviewRequest,
    event: Option<&Event>,
    predictions: bool,
) -> Result<Value, EncodeError> {
    Ok(match form {
        Form::LabelStudio => label_studio(request, event, predictions),
        Form::Argilla => argilla(request, event, predictions),
        Form::Lines => {
            let json = encode_review(request, Encoding::Json)?;
            let mut fields: Map<String, Value> = serde_json::from_slice(&json).unwrap_or_default();
            if !predictions {
                fields.remove("probability");
                fields.remove(CATEGORIES);
            }
            insert_text(&mut fields, event);
            Value::Object(fields)
        }
    })
}

/// The fields of the round and of its sampling, and the reasons of the request.
fn facts(request: &ReviewRequest) -> Map<String, Value> {
    let reasons: Vec<_> = request.reasons.iter().map(|reason| reason.word()).collect();
    let facts = json!({
        "event_id": request.id.event,
        "tenant": request.id.tenant,
        "policy": request.id.policy,
        "policy_version": request.policy_version,
        "conversation_id": request.conversation,
        "inclusion_probability": request.inclusion_probability,
        "action": request.action.word(),
        "reasons": reasons,
        "round_time": format_millis(request.round_time),
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn insert_text(fields: &mut Map<String, Value>, event: Option<&Event>) {
    let Some(event) = event else { return };
    let judged = event.turns.get(event.judged).map(|turn| turn.text.as_str()).unwrap_or_default();
    let turns: Vec<_> =
        event.turns.iter().map(|turn| json!({"author": turn.role.word(), "text": turn.text})).collect();
    fields.insert(TEXT.to_owned(), judged.into());
    fields.insert("turns".to_owned(), turns.into());
    fields.insert("judged".to_owned(), event.judged.into());
}

/// The verdict that the ensemble predicts, with p; `None` if no expert was awake.
fn predicted(request: &ReviewRequest) -> Option<(Finding, f64)> {
    let p = request.probability?;
    Some((if p >= request.threshold { Finding::Unsafe } else { Finding::Safe }, p))
}

fn found_categories(request: &ReviewRequest) -> Vec<&str> {
    let found = request.categories.iter().filter(|category| category.score >= FOUND);
    found.map(|category| category.category.as_str()).collect()
}

fn label_studio(request: &ReviewRequest, event: Option<&Event>, predictions: bool) -> Value {
    let mut data = facts(request);
    let at = request.decision;
    data.insert("decision".to_owned(), json!({"partition": at.partition, "offset": at.offset}));
    insert_text(&mut data, event);
    let mut task = json!({"data": data});
    if let (true, Some((verdict, p)), Value::Object(fields)) = (predictions, predicted(request), &mut task) {
        let choice = |name: &str, choices: Value| json!({"from_name": name, "to_name": TEXT, "type": "choices", "value": {"choices": choices}});
        let mut result = vec![choice(VERDICT, json!([verdict.word()]))];
        let categories = found_categories(request);
        if !categories.is_empty() {
            result.push(choice(CATEGORIES, json!(categories)));
        }
        let version = format!("aegis {} {}", request.id.policy, request.policy_version);
        fields.insert(
            "predictions".to_owned(),
            json!([{"model_version": version, "score": p, "result": result}]),
        );
    }
    task
}

fn argilla(request: &ReviewRequest, event: Option<&Event>, predictions: bool) -> Value {
    let judged = event.and_then(|event| event.turns.get(event.judged)).map(|turn| turn.text.as_str());
    let mut metadata = facts(request);
    // Its metadata are texts and numbers, not objects.
    metadata.insert("decision_partition".to_owned(), request.decision.partition.into());
    metadata.insert("decision_offset".to_owned(), request.decision.offset.into());
    let mut suggestions = Map::new();
    if let (true, Some((verdict, p))) = (predictions, predicted(request)) {
        suggestions
            .insert(VERDICT.to_owned(), json!({"value": verdict.word(), "score": p, "agent": "aegis"}));
        let categories = found_categories(request);
        if !categories.is_empty() {
            suggestions.insert(CATEGORIES.to_owned(), json!({"value": categories, "agent": "aegis"}));
        }
    }
    json!({
        "id": request.id.event,
        "fields": {TEXT: judged.unwrap_or(request.id.event.as_str())},
        "metadata": metadata,
        "suggestions": suggestions,
        "responses": {},
    })
}
