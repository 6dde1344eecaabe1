//! Human labels in JSON of another layout, read by the pointers of `[label_fields]`.

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
fn half_of_a_section_is_refused() {
    let check = |lines: &str| toml::from_str::<LabelFields>(lines).unwrap().check();
    assert_eq!(check(""), Ok(()));
    assert!(check("verdict = \"/v\"").unwrap_err().contains("label_fields.event_id"));
    assert!(check("event_id = \"/e\"").unwrap_err().contains("label_fields.verdict"));
    assert_eq!(check("event_id = \"/e\"\nseverity = \"/s\""), Ok(()));
}

/// Returns the verdict that a section gives.
fn verdict(lines: &str, value: &str) -> Result<Option<Finding>, String> {
    let defaults = fields(&format!("event_id = \"/e\"\nverdict = \"/v\"\n{lines}"));
    let read = read(&format!(r#"{{"e":"e1","v":{value}}}"#), &defaults);
    read.map(|label| label.verdict).map_err(|error| error.to_string())
}

#[test]
fn the_table_of_verdicts_holds_for_booleans_and_numbers_as_for_texts() {
    let is_safe = r#"verdicts = { true = "safe", false = "unsafe" }"#;
    for (value, expected) in [
        ("true", Finding::Safe),
        ("false", Finding::Unsafe),
        (r#""true""#, Finding::Safe),
        (r#""false""#, Finding::Unsafe),
        ("[true]", Finding::Safe),
        (r#""unsafe""#, Finding::Unsafe),
    ] {
        assert_eq!(verdict(is_safe, value), Ok(Some(expected)), "{value}");
    }
    // Python's spelling.
    assert_eq!(verdict(r#"verdicts = { True = "safe", False = "unsafe" }"#, "true"), Ok(Some(Finding::Safe)));
    // Values that are not in the table have their default meaning.
    assert_eq!(verdict(r#"verdicts = { no = "safe" }"#, "true"), Ok(Some(Finding::Unsafe)));
    let numbers = r#"verdicts = { 0 = "safe", 1 = "unsafe", "2.5" = "needs_caution" }"#;
    for (value, expected) in [
        ("0", Finding::Safe),
        ("1", Finding::Unsafe),
        ("1.0", Finding::Unsafe),
        ("1e0", Finding::Unsafe),
        (r#""1""#, Finding::Unsafe),
        ("2.50", Finding::NeedsCaution),
    ] {
        assert_eq!(verdict(numbers, value), Ok(Some(expected)), "{value}");
    }
    for other in ["2", "-1", "NaN", r#""1.0""#] {
        assert!(verdict(numbers, other).unwrap_err().contains("label_fields.verdicts"), "{other}");
    }
    let gold = fields(
        "event_id = \"/e\"\nverdict = \"/v\"\nsource = \"/g\"\nsources = { true = \"gold\", false = \"review\" }",
    );
    assert_eq!(read(r#"{"e":1,"v":"safe","g":true}"#, &gold).unwrap().source, Source::Gold);
}

#[test]
fn settings_without_effect_are_refused() {
    let check =
        |lines: &str| toml::from_str::<LabelFields>(&format!("event_id = \"/e\"\n{lines}")).unwrap().check();
    for (lines, named) in [
        ("severity = \"/s\"\nverdicts = { bad = \"unsafe\" }", "label_fields.verdicts has no effect"),
        ("verdict = \"/v\"\nsources = { bad = \"report\" }", "label_fields.sources has no effect"),
        ("verdict = \"/v\"\ntime_zone = \"UTC\"", "label_fields.time_zone has no effect"),
        (
            "verdict = \"/v\"\nverdicts = { 1 = \"safe\", \"1.0\" = \"unsafe\" }",
            "label_fields.verdicts has the number",
        ),
        ("verdict = \"/v\"\nverdicts = { true = \"safe\" }", "both mean the same: add false"),
        ("verdict = \"/v\"\nverdicts = { False = \"unsafe\" }", "both mean the same: add true"),
        ("verdict = \"/v\"\nskip_if = { \"\" = 1 }", "label_fields.skip_if has an empty pointer"),
        ("verdict = \"/v\"\nskip_if = { \"/a\" = [] }", "label_fields.skip_if.\"/a\" has no values"),
        ("verdict = \"/a/*/v\"", "label_fields.annotations is not set"),
        ("annotations = \"/a\"\nverdict = \"/v\"", "neither verdict nor severity leads into it"),
        ("annotations = \"/a\"\nverdict = \"/a/*/v\"", "could not be told apart"),
        ("verdict = \"/v\"\nskip_if = { \"/a/*/cut\" = true }", "skip_if has * in \"/a/*/cut\""),
        ("verdict = \"/v\"\nskip_if = { \"/a/*\" = true }", "skip_if has * in \"/a/*\""),
        ("verdict = \"/v/*\"", "label_fields.verdict has * in \"/v/*\""),
        ("annotations = \"/a/*\"\nverdict = \"/v\"", "label_fields.annotations has *"),
        (
            "annotations = \"/as\"\nverdict = \"/as/*/v\"\nid = \"/as/*/id\"\nskip_if = { \"/a/*/cut\" = true }",
            "write * only in \"/as/*/\"",
        ),
        ("annotations = \"/a\"\nverdict = \"/a/*/v/*\"\nid = \"/a/*/id\"", "write * only in \"/a/*/\""),
        (
            "annotations = \"/a\"\nverdict = \"/a/*/v\"\nannotator = \"/a/*/by\"\nid = \"/id\"",
            "label_fields.id does not lead into",
        ),
        (
            "annotations = \"/a\"\nverdict = \"/a/*/v\"\nannotator = \"/a/*/by\"\ntenant = \"/a/*/org\"",
            "label_fields.tenant leads into",
        ),
    ] {
        let refused = check(lines).unwrap_err();
        assert!(refused.contains(named), "{refused}");
    }
    assert_eq!(toml::from_str::<LabelFields>("time_unit = \"milliseconds\"").unwrap().check(), Ok(()));
}

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
