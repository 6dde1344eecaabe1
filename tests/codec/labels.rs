//! Human labels as people and tools send them.

use aegis::codec::{Encoding, MAX_LABEL, decode_label, default_label_id, encode_label};
use aegis::core::event::MAX_ID;
use aegis::core::label::{DecisionRef, Finding, Source};
use serde_json::json;

use crate::{defaults, examples, label, refused};

#[test]
fn the_least_labels() {
    let found = label(r#"{"event_id":"e","unsafe":true}"#).unwrap();
    assert_eq!((found.id.as_str(), found.verdict, found.severity), ("e/", Some(Finding::Unsafe), None));
    assert_eq!((found.tenant.as_str(), found.policy.as_str()), ("home", "plain"));
    assert_eq!((found.time, found.source), (0, Source::Review));
    let found =
        label(r#"{"event_id":"e","annotator":"ann","unsafe":0.25,"decision":{"partition":1,"offset":2}}"#);
    let found = found.unwrap();
    assert_eq!((found.id.as_str(), found.verdict, found.severity), ("e/ann", None, Some(0.25)));
    assert_eq!(found.decision, Some(DecisionRef { partition: 1, offset: 2 }));
    let found = label(r#"{"event_id":"e","id":"l","retracts":"k","time":"1970-01-01T00:00:01Z"}"#).unwrap();
    assert_eq!((found.retracts.as_deref(), found.time), (Some("k"), 1_000));
    let found =
        label(r#"{"event_id":"e","verdict":"safe","unsafe":true,"severity":1,"source":"gold"}"#).unwrap();
    assert_eq!((found.verdict, found.severity), (Some(Finding::Safe), Some(1.0)));
}

#[test]
fn a_negative_zero_is_not_the_greatest_severity() {
    let found = label(r#"{"event_id":"e","severity":-0.0}"#).unwrap();
    assert_eq!(found.severity.map(f64::to_bits), Some(0));
}

#[test]
fn categories_are_a_list_or_a_text_with_commas() {
    let found = |value: &str| {
        let label =
            label(format!(r#"{{"event_id":"e1","annotator":"ann","verdict":"safe","categories":{value}}}"#));
        label.unwrap().categories
    };
    for none in [r#""""#, r#""  ""#, r#"",""#, "null", "[]", r#"[""]"#] {
        assert!(found(none).is_empty(), "{none}");
    }
    assert_eq!(found(r#""hate""#), ["hate"]);
    assert_eq!(found(r#""hate, threat,""#), ["hate", "threat"]);
    assert_eq!(found(r#"["hate","","threat"]"#), ["hate", "threat"]);
    assert_eq!(found(&format!("\"{}\"", "c,".repeat(64))).len(), 64);
}

#[test]
fn ids_of_labels_may_be_numbers() {
    let found = label(
        r#"{"event_id":17,"id":18446744073709551616,"tenant":1,"policy":2,"annotator":7,"unsafe":true,"corrects":3}"#,
    )
    .unwrap();
    assert_eq!((found.event.as_str(), found.id.as_str()), ("17", "18446744073709551616"));
    assert_eq!((found.tenant.as_str(), found.policy.as_str()), ("1", "2"));
    assert_eq!((found.annotator.as_deref(), found.corrects.as_deref()), (Some("7"), Some("3")));
    let found = label(r#"{"event_id":"e","annotator":7,"retracts":5,"x":NaN,"x":"\ud83d"}"#).unwrap();
    assert_eq!((found.id.as_str(), found.retracts.as_deref()), ("e/7", Some("5")));
}

#[test]
fn ids_made_for_labels_fit() {
    assert_eq!(default_label_id("e", None), "e/");
    let long = default_label_id(&"e".repeat(MAX_ID), Some("ann"));
    assert_eq!(long.len(), 64);
    assert_ne!(long, default_label_id(&"e".repeat(MAX_ID), Some("bob")));
    let text = json!({"event_id": "e".repeat(MAX_ID), "annotator": "a".repeat(MAX_ID), "unsafe": false});
    assert!(label(text.to_string()).is_ok());
}

/// A person who reviews an event and gives its reference answer gives two labels, and neither replaces the other.
#[test]
fn ids_made_for_reference_answers_differ_from_those_of_reviews() {
    let id = |source: &str| {
        let text = json!({"event_id": "e", "annotator": "ann", "unsafe": true, "source": source});
        label(text.to_string()).unwrap().id
    };
    assert_eq!(["review", "report", "appeal"].map(id), ["e/ann", "e/ann", "e/ann"]);
    assert_eq!(["gold", "calibration"].map(id), ["e/ann/gold", "e/ann/calibration"]);
}

#[test]
fn labels_that_are_refused() {
    let given =
        |field: &str, value: &str| label(format!(r#"{{"event_id":"e","unsafe":true,"{field}":{value}}}"#));
    let many = format!("[{}]", vec![r#""c""#; 65].join(","));
    for (result, expected) in [
        (label(r#"{"unsafe":true}"#), "MissingField event_id"),
        (label(r#"{"event_id":"e"}"#), "NoVerdict"),
        (label(r#"{"event_id":"e","corrects":"l"}"#), "NoVerdict"),
        (label(r#"{"event_id":"","unsafe":true}"#), "EmptyId"),
        (label(r#"{"event_id":"e","unsafe":"yes"}"#), "BadValue unsafe"),
        (label(r#"{"event_id":"e","unsafe":2}"#), "BadSeverity"),
        (given("annotator", r#""""#), "EmptyId"),
        (given("verdict", r#""bad""#), "BadValue verdict"),
        (given("severity", "1.01"), "BadSeverity"),
        (given("severity", "-0.1"), "BadSeverity"),
        (given("severity", r#""high""#), "BadSeverity"),
        (given("inclusion_probability", "0"), "BadInclusionProbability"),
        (given("inclusion_probability", "1.5"), "BadInclusionProbability"),
        (given("inclusion_probability", "[]"), "BadInclusionProbability"),
        (given("source", r#""rumour""#), "BadValue source"),
        (given("categories", "1"), "BadValue categories"),
        (given("categories", "{}"), "BadValue categories"),
        (given("categories", "NaN"), "BadValue categories"),
        (given("categories", "[1]"), "BadValue categories"),
        (given("categories", "[null]"), "BadValue categories"),
        (given("categories", &format!("\"{}\"", "c,".repeat(65))), "BadValue categories"),
        (given("categories", &many), "BadValue categories"),
        (given("decision", r#"{"partition":0}"#), "BadValue decision"),
        (given("decision", r#"{"partition":-1,"offset":0}"#), "BadValue decision"),
        (given("decision", r#"{"partition":4294967296,"offset":0}"#), "BadValue decision"),
        (given("decision", "7"), "BadValue decision"),
        (given("time", r#""now""#), "BadValue time"),
        (label(" ".repeat(MAX_LABEL + 1)), "TooLarge"),
    ] {
        assert_eq!(refused(result), expected);
    }
    let mut odd = encode_label(&examples::label(), Encoding::Avro).unwrap();
    let severity = odd.windows(8).position(|bytes| bytes == 0.625_f64.to_le_bytes()).unwrap();
    odd[severity..severity + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    assert_eq!(refused(decode_label(&odd, &defaults())), "BadSeverity");
}
