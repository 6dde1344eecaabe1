//! Human labels in JSON of another layout, read by the pointers of `[label_fields]`.

mod annotations;
mod settings;

use aegis::codec::{DecodeError, Defaults, Encoding, Received, default_label_id, encode_label};
use aegis::config::{Config, LabelFields};
use aegis::core::label::{DecisionRef, Finding, Label, Source};
use proptest::prelude::*;
use serde_json::json;

use crate::{label, strategies};

/// Returns the defaults with these lines of `[label_fields]`.
fn fields(lines: &str) -> Defaults {
    let label_fields: LabelFields = toml::from_str(lines).unwrap();
    label_fields.check().unwrap();
    let mut config = Config { label_fields, ..Config::default() };
    config.defaults.tenant = "home".into();
    config.defaults.policy = "plain".into();
    config.record_defaults()
}

/// The record of a labelling tool in the documentation's example.
const TASK: &str = r#"
    event_id = "/task/event"
    id = "/annotation/id"
    tenant = "/task/org"
    policy = "/task/policy"
    annotator = "/annotation/by"
    verdict = "/annotation/result"
    verdicts = { toxic = "unsafe", fine = "safe", unsure = "needs_caution" }
    severity = "/annotation/grade"
    categories = "/annotation/tags"
    time = "/annotation/at"
    time_unit = "seconds"
    source = "/task/queue"
    sources = { complaints = "report" }
    inclusion_probability = "/task/share"
    decision = "/task/decision"
    corrects = "/annotation/instead_of"
    retracts = "/annotation/takes_back"
"#;

fn read(json: &str, defaults: &Defaults) -> Result<Label, DecodeError> {
    Received::plain(json.as_bytes()).label(defaults)
}

/// Returns the error's name, with the field and the pointer that it is about.
fn refused(json: &str, defaults: &Defaults) -> String {
    let error = read(json, defaults).unwrap_err();
    match &error {
        DecodeError::MissingAt { field, pointer, .. } | DecodeError::InvalidAt { field, pointer, .. } => {
            let said = error.to_string();
            assert!(said.contains(pointer) && said.contains(&format!("label_fields.{field}")), "{said}");
            format!("{} {field} {pointer}", error.name())
        }
        _ => error.name().to_owned(),
    }
}

#[test]
fn a_label_of_another_shape_is_the_label_in_our_own() {
    let theirs = r#"{
        "task": {"event": "e-1", "org": 7, "queue": "complaints", "share": 0.25, "step": [1],
                 "decision": {"partition": 2, "offset": 41, "topic": "moderation.decisions"}},
        "annotation": {"id": 900, "by": "ann", "result": "toxic", "grade": 1, "tags": ["hate", "threat"],
                       "at": 1772353800.25, "instead_of": 899}}"#;
    let ours = r#"{"event_id":"e-1","tenant":"7","id":"900","annotator":"ann","verdict":"unsafe","severity":1,
        "categories":["hate","threat"],"time":1772353800250,"source":"report","inclusion_probability":0.25,
        "decision":{"partition":2,"offset":41},"corrects":"899"}"#;
    let found = read(theirs, &fields(TASK)).unwrap();
    assert_eq!(found, label(ours).unwrap());
    assert_eq!(
        (found.policy.as_str(), found.decision),
        ("plain", Some(DecisionRef { partition: 2, offset: 41 }))
    );
}

#[test]
fn little_is_needed_and_the_rest_is_as_in_our_own() {
    let defaults = fields("event_id = \"/ref\"\nverdict = \"/bad\"\ncategories = \"/why\"");
    let found = read(r#"{"ref": 12, "bad": true, "why": "spam", "annotator": "unread"}"#, &defaults).unwrap();
    assert_eq!((found.event.as_str(), found.id), ("12", default_label_id("12", None)));
    assert_eq!((found.tenant.as_str(), found.annotator, found.source), ("home", None, Source::Review));
    assert_eq!(
        (found.verdict, found.categories, found.time),
        (Some(Finding::Unsafe), vec!["spam".into()], 0)
    );
    let safe = read(r#"{"ref": "e", "bad": false, "why": null}"#, &defaults).unwrap();
    assert_eq!((safe.verdict, safe.categories.len()), (Some(Finding::Safe), 0));
    // The pointers do not apply to Avro.
    let avro = encode_label(&safe, Encoding::Avro).unwrap();
    assert_eq!(Received::plain(&avro).label(&defaults), Ok(safe));
    // Our own field names are not read then.
    assert_eq!(refused(r#"{"event_id":"e","verdict":"safe"}"#, &defaults), "MissingField event_id /ref");
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_pointer() {
    let defaults = fields(TASK);
    let with = |place: &str, value: &str| {
        let mut record = json!({"task": {"event": "e"}, "annotation": {"result": "fine"}});
        let (part, name) = place.trim_start_matches('/').split_once('/').unwrap();
        record[part][name] = serde_json::from_str(value).unwrap();
        refused(&record.to_string(), &defaults)
    };
    for (field, place, values) in [
        ("event_id", "/task/event", &["[]", "1.5", "true"][..]),
        ("tenant", "/task/org", &["{}", "false"]),
        ("annotator", "/annotation/by", &["[\"ann\"]"]),
        (
            "verdict",
            "/annotation/result",
            &["\"bad\"", "1", "\"Toxic\"", "[\"fine\",\"toxic\"]", "{}", "[[]]"],
        ),
        ("severity", "/annotation/grade", &["\"1\"", "1.5", "-0.1", "true"]),
        ("categories", "/annotation/tags", &["[1]", "7", "{}", "[null]"]),
        ("time", "/annotation/at", &["\"yesterday\"", "true", "1e300"]),
        ("source", "/task/queue", &["\"other\"", "1", "true"]),
        ("inclusion_probability", "/task/share", &["0", "1.1", "\"half\""]),
        ("decision", "/task/decision", &["7", "[]", "{\"partition\":1}", "{\"partition\":-1,\"offset\":1}"]),
        ("corrects", "/annotation/instead_of", &["[]"]),
    ] {
        for value in values {
            assert_eq!(with(place, value), format!("BadValue {field} {place}"), "{value}");
        }
    }
    assert_eq!(refused(r#"{"task":{}}"#, &defaults), "MissingField event_id /task/event");
    assert_eq!(refused(r#"{"task":{"event":"e"}}"#, &defaults), "NoVerdict");
    assert_eq!(with("/task/event", "\"\""), "EmptyId");
    assert_eq!(with("/annotation/result", "[]"), "NoVerdict");
    let silent = read(r#"{"task":{"event":"e"}}"#, &defaults).unwrap_err().to_string();
    assert!(silent.contains("/annotation/result, where label_fields.verdict points"), "{silent}");
    let many = json!(vec!["x"; 65]).to_string();
    assert_eq!(with("/annotation/tags", &many), "BadValue categories /annotation/tags");
}

#[test]
fn what_no_pointer_meets_does_not_matter() {
    let defaults = fields("event_id = \"/e\"\nverdict = \"/v\"\ncategories = \"/c\"");
    let found = read(
        "\u{feff}{\"e\":12345678901234567890123,\"v\":\"safe\",\"c\":\"\",\"x\":NaN,\"x\":\"\\ud83d\"}",
        &defaults,
    )
    .unwrap();
    assert_eq!((found.event.as_str(), found.categories.len()), ("12345678901234567890123", 0));
    assert_eq!(
        read(r#"{"e":1,"v":"safe","c":"hate, threat"}"#, &defaults).unwrap().categories,
        ["hate", "threat"]
    );
    assert_eq!(refused(r#"{"e":1,"v":"safe","v":"unsafe"}"#, &defaults), "BadValue verdict /v");
    assert_eq!(refused(r#"{"e":1,"v":"safe","c":NaN}"#, &defaults), "BadValue categories /c");
}

proptest! {
    #[test]
    fn any_label_reads_the_same_from_another_shape(value in strategies::label()) {
        let decision = value.decision.map(|at| json!({"partition": at.partition, "offset": at.offset}));
        let record = json!({
            "task": {"event": value.event, "org": value.tenant, "policy": value.policy, "queue": value.source.word(),
                     "share": value.inclusion_probability, "decision": decision},
            "annotation": {"id": value.id, "by": value.annotator, "result": value.verdict.map(|found| found.word()),
                           "grade": value.severity, "tags": value.categories, "at": value.time,
                           "instead_of": value.corrects, "takes_back": value.retracts},
        });
        let millis = TASK.replace("\"seconds\"", "\"milliseconds\"");
        let ours = encode_label(&value, Encoding::Json).unwrap();
        prop_assert_eq!(read(&record.to_string(), &fields(&millis)), label(ours));
    }
}
