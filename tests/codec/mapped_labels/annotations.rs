//! Records of labelling tools with annotations of several people, and records or annotations that are left out.

use aegis::codec::{DecodeError, Defaults, Received};
use aegis::core::label::Finding;
use serde_json::json;

use super::{fields, read, refused};

/// Returns the annotator and the verdict.
type Said = (Option<String>, Option<Finding>);

fn all(json: &str, defaults: &Defaults) -> Result<Vec<Said>, DecodeError> {
    let labels = Received::plain(json.as_bytes()).labels(defaults)?;
    Ok(labels.into_iter().map(|label| (label.annotator, label.verdict)).collect())
}

fn by(annotator: &str, verdict: Finding) -> Said {
    (Some(annotator.to_owned()), Some(verdict))
}

/// A task as Label Studio exports it: several people's annotations in one record, and cancelled ones with the earlier
/// choice.
const LABEL_STUDIO: &str = r#"
    event_id = "/data/event_id"
    annotations = "/annotations"
    skip_if = { "/annotations/*/was_cancelled" = true, "/annotations/*/result" = "" }
    id = "/annotations/*/id"
    annotator = "/annotations/*/completed_by"
    verdict = "/annotations/*/result/from_name=verdict/value/choices"
    categories = "/annotations/*/result/from_name=categories/value/choices"
    time = "/annotations/*/updated_at"
    source = "/annotations/*/ground_truth"
    sources = { true = "gold", false = "review" }
"#;

#[test]
fn label_studio_gives_each_annotators_label() {
    let defaults = fields(LABEL_STUDIO);
    let choice = |name: &str, choices: &[&str]| json!({"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": choices}});
    let annotation = |id: u32, by: u32, cancelled: bool, result: serde_json::Value| {
        json!({"id": id, "completed_by": by, "was_cancelled": cancelled, "ground_truth": false,
               "updated_at": "2026-03-01T12:00:00.123456Z", "result": result})
    };
    let task = |annotations: serde_json::Value| {
        json!({"id": 5, "data": {"event_id": "e1"}, "annotations": annotations}).to_string()
    };
    let unsafe_ = || json!([choice("categories", &["hate", "threat"]), choice("verdict", &["unsafe"])]);
    let several = task(json!([
        annotation(11, 7, true, json!([choice("verdict", &["unsafe"])])),
        annotation(12, 8, false, json!([choice("verdict", &["safe"])])),
        annotation(13, 9, false, unsafe_()),
        annotation(14, 10, false, json!([])),
    ]));
    assert_eq!(all(&several, &defaults), Ok(vec![by("8", Finding::Safe), by("9", Finding::Unsafe)]));
    let labels = Received::plain(several.as_bytes()).labels(&defaults).unwrap();
    assert_eq!(
        (labels[1].id.as_str(), labels[1].event.as_str(), labels[1].time),
        ("13", "e1", 1_772_366_400_123)
    );
    assert_eq!(labels[1].categories, ["hate", "threat"]);
    assert_eq!(read(&several, &defaults), Err(DecodeError::NotOneLabel { labels: 2 }));
    // There are no annotations, or all are cancelled.
    assert_eq!(all(&task(json!([])), &defaults), Ok(Vec::new()));
    assert_eq!(all(&task(json!([annotation(11, 7, true, unsafe_())])), &defaults), Ok(Vec::new()));
    // If one label is wrong, the whole record is refused with the pointer to that label.
    for (annotations, expected) in [
        (json!([annotation(1, 7, false, unsafe_()), annotation(1, 8, false, unsafe_())]), "SameLabel"),
        (
            json!([
                annotation(1, 7, false, unsafe_()),
                annotation(2, 8, false, json!([choice("verdict", &["safe", "unsafe"])]))
            ]),
            "BadValue verdict /annotations/1/result/from_name=verdict/value/choices",
        ),
        (
            json!([annotation(
                1,
                7,
                false,
                json!([choice("verdict", &["safe"]), choice("verdict", &["unsafe"])])
            )]),
            "BadValue verdict /annotations/0/result/from_name=verdict/value/choices",
        ),
        (json!([annotation(1, 7, false, json!([choice("categories", &["hate"])]))]), "NoVerdict"),
        (json!({"0": 1}), "BadValue annotations /annotations"),
        (json!(null), "MissingField annotations /annotations"),
        (json!(vec![json!({"was_cancelled": true}); 65]), "BadValue annotations /annotations"),
    ] {
        assert_eq!(refused(&task(annotations), &defaults), expected);
    }
}

#[test]
fn the_second_annotator_is_not_lost_silently() {
    let first = fields(
        "event_id = \"/data/event_id\"\nannotator = \"/annotations/0/completed_by\"\nverdict = \"/annotations/0/result/0/value/choices/0\"",
    );
    let annotation =
        |by: u32, choice: &str| json!({"completed_by": by, "result": [{"value": {"choices": [choice]}}]});
    let task = |annotations: serde_json::Value| {
        json!({"data": {"event_id": "e1"}, "annotations": annotations}).to_string()
    };
    assert_eq!(all(&task(json!([annotation(7, "safe")])), &first), Ok(vec![by("7", Finding::Safe)]));
    let two = task(json!([annotation(7, "safe"), annotation(8, "unsafe")]));
    assert_eq!(refused(&two, &first), "BadValue verdict /annotations");
    // The same without a pointer to the annotator.
    let nameless =
        fields("event_id = \"/data/event_id\"\nverdict = \"/annotations/0/result/0/value/choices/0\"");
    assert_eq!(refused(&two, &nameless), "BadValue verdict /annotations");
    assert_eq!(all(&task(json!([annotation(7, "safe")])), &nameless), Ok(vec![(None, Some(Finding::Safe))]));
    // An item of another list is not an annotation.
    let other = fields("event_id = \"/e\"\nverdict = \"/votes/0/is\"");
    let votes = r#"{"e":1,"votes":[{"is":"safe"},{"is":"unsafe"}]}"#;
    assert_eq!(all(votes, &other), Ok(vec![(None, Some(Finding::Safe))]));
    let said = read(&two, &first).unwrap_err().to_string();
    assert!(said.contains("would be lost") && said.contains("Set annotations"), "{said}");
}

#[test]
fn what_leaves_out_one_numbered_annotation_says_nothing_of_the_others() {
    let first = fields(
        r#"
        event_id = "/data/event_id"
        annotator = "/annotations/0/completed_by"
        verdict = "/annotations/0/result/0/value/choices"
        skip_if = { "/annotations/0/was_cancelled" = true, "/meta/draft" = true }
    "#,
    );
    let annotation = |by: u32, cancelled: bool| json!({"completed_by": by, "was_cancelled": cancelled, "result": [{"value": {"choices": ["unsafe"]}}]});
    let task = |annotations: serde_json::Value, draft: bool| {
        json!({"data": {"event_id": "e1"}, "annotations": annotations, "meta": {"draft": draft}}).to_string()
    };
    let both = json!([annotation(7, true), annotation(8, false)]);
    assert_eq!(refused(&task(both.clone(), false), &first), "BadValue verdict /annotations");
    assert_eq!(all(&task(both, true), &first), Ok(Vec::new()));
    assert_eq!(all(&task(json!([annotation(7, true)]), false), &first), Ok(Vec::new()));
    let kept = task(json!([annotation(7, false)]), false);
    assert_eq!(all(&kept, &first), Ok(vec![by("7", Finding::Unsafe)]));
}

#[test]
fn a_record_that_is_left_out_as_a_whole_needs_no_list() {
    let defaults = fields(
        r#"
        event_id = "/e"
        annotations = "/as"
        annotator = "/as/*/by"
        verdict = "/as/*/v"
        skip_if = { "/state" = "open", "/as/*/v" = "unclear" }
    "#,
    );
    assert_eq!(all(r#"{"state":"open"}"#, &defaults), Ok(Vec::new()));
    assert_eq!(refused(r#"{"state":"done"}"#, &defaults), "MissingField annotations /as");
    let json = r#"{"e":1,"as":[{"by":"a","v":["unclear"]},{"by":"b","v":["safe"]}]}"#;
    assert_eq!(all(json, &defaults), Ok(vec![by("b", Finding::Safe)]));
}

#[test]
fn prodigy_and_argilla_leave_out_what_was_not_answered() {
    let prodigy = fields(
        r#"
        event_id = "/meta/event_id"
        annotator = "/_annotator_id"
        verdict = "/accept"
        skip_if = { "/answer" = ["ignore", "reject"] }
        time = "/_timestamp"
    "#,
    );
    let answered = |answer: &str| {
        let json = json!({"text": "t", "meta": {"event_id": "e1"}, "accept": ["unsafe"], "answer": answer,
                          "_annotator_id": "ds-ann", "_timestamp": 1_772_366_400});
        Received::plain(json.to_string().as_bytes()).labels(&prodigy).unwrap()
    };
    assert_eq!(answered("accept")[0].time, 1_772_366_400_000);
    assert!(answered("ignore").is_empty() && answered("reject").is_empty());
    let binary = fields(
        r#"
        event_id = "/meta/event_id"
        verdict = "/answer"
        verdicts = { accept = "unsafe", reject = "safe" }
        skip_if = { "/answer" = "ignore" }
    "#,
    );
    let one = |answer: &str| all(&json!({"meta": {"event_id": 5}, "answer": answer}).to_string(), &binary);
    assert_eq!(one("reject"), Ok(vec![(None, Some(Finding::Safe))]));
    assert_eq!(one("ignore"), Ok(Vec::new()));
    let argilla = fields(
        r#"
        event_id = "/metadata/event_id"
        annotations = "/responses"
        annotator = "/responses/*/user_id"
        verdict = "/responses/*/values/verdict/value"
        skip_if = { "/responses/*/status" = ["discarded", "draft"] }
    "#,
    );
    let response = |user: &str, status: &str, value: &str| json!({"user_id": user, "status": status, "values": {"verdict": {"value": value}}});
    let record = json!({"metadata": {"event_id": "e1"}, "responses": [
        response("ann", "submitted", "safe"), response("bob", "discarded", "unsafe"),
        {"user_id": "cat", "status": "discarded", "values": null}, response("dan", "submitted", "unsafe")]});
    assert_eq!(
        all(&record.to_string(), &argilla),
        Ok(vec![by("ann", Finding::Safe), by("dan", Finding::Unsafe)])
    );
}
