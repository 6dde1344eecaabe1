//! Rows of labelling tools: Label Studio's exports JSON and JSON_MIN, and Argilla's records.
//!
//! Every annotation is a label of its own, and one that cannot be used does not refuse the others. Annotations that their
//! authors cancelled, skipped, discarded or have not submitted are left out. `docs/labels.md` shows the shapes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Refusal;
use super::own::{Draft, Reading, verdict};
use crate::core::label::{Label, Source};

/// The outcome of a row, or of one annotation of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A label.
    Label(Box<Label>),
    /// Nothing: its author cancelled, skipped, discarded or has not submitted it.
    LeftOut,
    /// It cannot be used. The number of the annotation counts from 1; `None` is the whole row.
    Refused(Option<usize>, Refusal),
}

impl Found {
    fn of(annotation: usize, read: Result<Option<Label>, Refusal>) -> Self {
        match read {
            Ok(Some(label)) => Self::Label(Box::new(label)),
            Ok(None) => Self::LeftOut,
            Err(refusal) => Self::Refused(Some(annotation), refusal),
        }
    }
}

fn is_true(fields: &Map<String, Value>, names: &[&str]) -> bool {
    let is = |value: &Value| {
        value == &Value::Bool(true) || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    names.iter().any(|name| fields.get(*name).is_some_and(is))
}

fn no_verdict(what: &str, name: &str) -> Refusal {
    Refusal::new(
        "NoVerdict",
        format!("the annotation has no {what} named {name}: name yours with --verdict-field"),
    )
}

/// Returns the fields of an object, or an empty object for any other value.
fn object(found: Option<&Value>) -> Map<String, Value> {
    found.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Returns the labels of a task of Label Studio's JSON export.
pub(super) fn task(row: &Map<String, Value>, reading: &Reading) -> Vec<Found> {
    let data = object(row.get("data"));
    let round = if data.contains_key("event_id") { data } else { object(row.get("meta")) };
    let draft = Draft::of_round(&round);
    let Some(annotations) = row.get("annotations").and_then(Value::as_array) else {
        let refusal =
            Refusal::new("MissingField", "the task has no list of annotations: export JSON with annotations");
        return vec![Found::Refused(None, refusal)];
    };
    let each = annotations.iter().zip(1..);
    each.map(|(annotation, number)| Found::of(number, annotated(annotation, draft.clone(), reading)))
        .collect()
}

fn annotated(annotation: &Value, mut draft: Draft, reading: &Reading) -> Result<Option<Label>, Refusal> {
    let Some(fields) = annotation.as_object() else {
        return Err(Refusal::new("BadValue", "the annotation is not an object"));
    };
    let results = fields.get("result").and_then(Value::as_array);
    let Some(results) = results.filter(|results| !results.is_empty()) else { return Ok(None) };
    if is_true(fields, &["was_cancelled", "skipped"]) {
        return Ok(None);
    }
    let named = |name: &str| -> Vec<&Value> {
        let of =
            results.iter().filter(|result| result.get("from_name").and_then(Value::as_str) == Some(name));
        of.filter_map(|result| result.get("value")).collect()
    };
    let chosen: Vec<_> = named(&reading.names.verdict).into_iter().cloned().collect();
    let found = verdict(&chosen.into(), reading)?;
    draft.set_verdict(found.ok_or_else(|| no_verdict("result", &reading.names.verdict))?);
    let categories: Vec<_> = named(&reading.names.categories).into_iter().cloned().collect();
    draft.set_categories(Some(&categories.into()));
    set_author(&mut draft, fields, "id", "completed_by");
    draft.set_time(fields.get("updated_at").or_else(|| fields.get("created_at")), reading);
    if is_true(fields, &["ground_truth"]) {
        draft.set("source", Some(&Source::Gold.word().into()));
    }
    draft.label(reading).map(Some)
}

/// Sets the label's id to that of the annotation, and the annotator: a number, a text, or an object with an email or an id.
fn set_author(draft: &mut Draft, fields: &Map<String, Value>, id: &str, by: &str) {
    if let Some(id) =
        fields.get(id).filter(|id| id.is_number() || id.as_str().is_some_and(|id| !id.is_empty()))
    {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        draft.set("id", Some(&format!("label-studio/{id}").into()));
    }
    let author = fields.get(by);
    let inner = |name: &str| author.and_then(|author| author.get(name)).filter(|found| !found.is_null());
    draft.set("annotator", inner("email").or_else(|| inner("id")).or(author));
}

/// Returns the label of a row of Label Studio's JSON_MIN export, or of its CSV export, which has the same fields.
pub(super) fn task_min(row: &Map<String, Value>, reading: &Reading) -> Vec<Found> {
    let read = || {
        if is_true(row, &["was_cancelled", "skipped"]) {
            return Ok(None);
        }
        let chosen =
            row.get(&reading.names.verdict).map(|found| verdict(found, reading)).transpose()?.flatten();
        let Some(chosen) = chosen else { return Ok(None) };
        let mut draft = Draft::of_round(row);
        draft.set_verdict(chosen);
        draft.set_categories(row.get(&reading.names.categories));
        set_author(&mut draft, row, "annotation_id", "annotator");
        draft.set_time(row.get("updated_at").or_else(|| row.get("created_at")), reading);
        if is_true(row, &["ground_truth"]) {
            draft.set("source", Some(&Source::Gold.word().into()));
        }
        draft.label(reading).map(Some)
    };
    vec![Found::of(1, read())]
}

/// One person's answers in a record of Argilla.
#[derive(Debug, Default)]
struct Response {
    user: Option<Value>,
    status: Option<String>,
    time: Option<Value>,
    answers: BTreeMap<String, Value>,
}

/// Returns the labels of a record of Argilla: of its API, of `to_dict` of its SDK, or of its flattened export.
pub(super) fn argilla(row: &Map<String, Value>, reading: &Reading) -> Vec<Found> {
    let mut round = object(row.get("metadata"));
    // A flattened export has the metadata beside the fields.
    for name in
        ["event_id", "tenant", "policy", "decision_partition", "decision_offset", "inclusion_probability"]
    {
        if let (false, Some(value)) = (round.contains_key(name), row.get(name)) {
            round.insert(name.to_owned(), value.clone());
        }
    }
    let id = row.get("external_id").filter(|id| !id.is_null()).or_else(|| row.get("id"));
    if let (None, Some(id)) = (round.get("event_id"), id) {
        round.insert("event_id".to_owned(), id.clone());
    }
    let draft = Draft::of_round(&round);
    let responses = match row.get("responses") {
        Some(Value::Array(list)) => list.iter().map(listed).collect(),
        Some(Value::Object(questions)) => by_question(questions),
        _ => flattened(row, reading),
    };
    let each = responses.into_iter().zip(1..);
    each.map(|(response, number)| Found::of(number, answered(response, draft.clone(), reading))).collect()
}

fn answered(response: Response, mut draft: Draft, reading: &Reading) -> Result<Option<Label>, Refusal> {
    if response.status.is_some_and(|status| status != "submitted") {
        return Ok(None);
    }
    let answer = |name: &String| response.answers.get(name);
    let chosen = answer(&reading.names.verdict).map(|found| verdict(found, reading)).transpose()?.flatten();
    match chosen {
        Some(chosen) => draft.set_verdict(chosen),
        None if response.answers.values().all(Value::is_null) => return Ok(None),
        None => return Err(no_verdict("answer to a question", &reading.names.verdict)),
    }
    draft.set_categories(answer(&reading.names.categories));
    draft.set("annotator", response.user.as_ref());
    draft.set_time(response.time.as_ref(), reading);
    draft.label(reading).map(Some)
}

/// Reads a response of the API.
fn listed(found: &Value) -> Response {
    let field = |name: &str| found.get(name).filter(|field| !field.is_null()).cloned();
    let user = field("user").and_then(|user| user.get("username").cloned()).or_else(|| field("user_id"));
    let values = object(found.get("values")).into_iter();
    Response {
        user,
        status: field("status").and_then(|status| status.as_str().map(str::to_owned)),
        time: field("updated_at").or_else(|| field("inserted_at")),
        answers: values.map(|(question, answer)| (question, value_of(answer))).collect(),
    }
}

fn value_of(answer: Value) -> Value {
    match answer {
        Value::Object(mut fields) => fields.remove("value").unwrap_or_default(),
        plain => plain,
    }
}

/// Joins the answers to each question by their users.
fn by_question(questions: &Map<String, Value>) -> Vec<Response> {
    let mut responses: Vec<Response> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (question, answers) in questions {
        for answer in answers.as_array().into_iter().flatten() {
            let user = answer.get("user_id").cloned();
            let key = user.as_ref().map(Value::to_string).unwrap_or_default();
            let place = *places.entry(key).or_insert_with(|| {
                responses.push(Response { user, ..Response::default() });
                responses.len() - 1
            });
            let Some(response) = responses.get_mut(place) else { continue };
            if let Some(status) = answer.get("status").and_then(Value::as_str) {
                response.status = Some(status.to_owned());
            }
            response.answers.insert(question.clone(), value_of(answer.clone()));
        }
    }
    responses
}

/// Reads the lists `QUESTION.responses`, `.responses.users` and `.responses.status`, which have one item for each person.
fn flattened(row: &Map<String, Value>, reading: &Reading) -> Vec<Response> {
    let mut questions = Map::new();
    for question in [&reading.names.verdict, &reading.names.categories] {
        let list = |ending: &str| match row.get(&format!("{question}.responses{ending}")) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let (users, statuses) = (list(".users"), list(".status"));
        let items = list("").into_iter().enumerate().map(|(place, value)| {
            // Without users, people are told apart by their places.
            let user = users.get(place).cloned().unwrap_or_else(|| place.into());
            json!({"value": value, "user_id": user, "status": statuses.get(place)})
        });
        questions.insert(question.clone(), items.collect());
    }
    by_question(&questions)
}
