//! The exports of labelling tools, and any other layout by the configured pointers.

use super::*;
use crate::codec::LabelFields;

#[test]
fn label_studio_gives_every_annotator_and_no_cancelled_annotation() {
    let (kept, tally) = import(TASKS);
    assert_eq!(
        told(&kept),
        [("e1", "8", "safe", "label-studio/12"), ("e1", "cy@x.org", "unsafe", "label-studio/13")]
    );
    assert_eq!((tally.rows, tally.left_out, tally.refused), (3, 2, 3));
    assert_eq!(
        reasons(&kept),
        [(1, Some(5), "NoVerdict"), (1, Some(6), "BadValue"), (13, Some(1), "MissingField")]
    );
    let first = &kept.labels[0];
    assert_eq!(
        (first.tenant.as_str(), first.inclusion_probability, first.time),
        ("t2", Some(0.1), 1_772_357_400_500)
    );
    assert_eq!(
        (first.decision, first.categories.join("+")),
        (Some(DecisionRef { partition: 0, offset: 5 }), "a+b".into())
    );
    assert_eq!(kept.labels[1].source, Source::Gold);
    let words = Reading { verdicts: [("bad".to_owned(), Finding::Unsafe)].into(), ..reading() };
    let (kept, ..) = import_as(&words, "x.json", TASKS.as_bytes(), None);
    assert_eq!(told(&kept).last(), Some(&("e1", "12", "unsafe", "label-studio/16")));
    assert!(
        kept.refused.iter().flat_map(|row| &row.refused).all(|reason| !reason.message.contains("secret"))
    );
}

#[test]
fn the_flat_exports_of_label_studio_give_the_same_labels_as_the_full_one() {
    let full = import(TASKS).0.labels.remove(0);
    let min = r#"[{"event_id":"e1","tenant":"t2","text":"secret","inclusion_probability":0.1,"decision":{"partition":0,"offset":5},
        "id":1,"verdict":"safe","categories":{"choices":["a","b"]},"annotator":8,"annotation_id":12,
        "created_at":"2026-03-01T09:00:00Z","updated_at":"2026-03-01T09:30:00.5Z","lead_time":3.1},
       {"event_id":"e2","id":2,"annotator":8,"annotation_id":13},
       {"event_id":"e3","id":3,"verdict":"safe","skipped":true,"annotator":8,"annotation_id":14},
       {"event_id":"e4","id":4,"verdict":"not a verdict","was_cancelled":true,"annotator":8,"annotation_id":15}]"#;
    let (kept, tally) = import(min);
    assert_eq!((kept.labels.as_slice(), tally.left_out, tally.refused), (&[full.clone()][..], 3, 0));
    let csv = "annotation_id,annotator,event_id,tenant,inclusion_probability,decision,verdict,categories,updated_at\n\
        12,8,e1,t2,0.1,\"{\"\"partition\"\": 0, \"\"offset\"\": 5}\",safe,\"{\"\"choices\"\":[\"\"a\"\",\"\"b\"\"]}\",2026-03-01T09:30:00.5Z\n";
    assert_eq!(import(csv).0.labels, [full]);
}

#[test]
fn argilla_gives_submitted_responses_in_each_of_its_shapes() {
    let api = r#"{"id":"uuid","external_id":"e1","fields":{"text":"x"},"metadata":{"decision_partition":1,"decision_offset":2,"inclusion_probability":0.5},
        "responses":[{"user_id":"u1","status":"submitted","updated_at":"2026-03-01T09:30:00.123456","values":{"verdict":{"value":"unsafe"},"categories":{"value":["a"]}}},
        {"user_id":"u2","status":"discarded","values":{"verdict":{"value":"safe"}}},
        {"user_id":"u3","status":"draft","values":{"verdict":{"value":"safe"}}},
        {"user_id":"u4","status":"submitted","values":{"other":{"value":"safe"}}},
        {"user_id":"u5","status":"discarded","values":null}]}"#;
    let (kept, tally) = import(&api.replace('\n', " "));
    assert_eq!(told(&kept), [("e1", "u1", "unsafe", "e1/u1")]);
    assert_eq!((tally.left_out, reasons(&kept)), (3, vec![(1, Some(4), "NoVerdict")]));
    let label = &kept.labels[0];
    assert_eq!(
        (label.time, label.decision),
        (1_772_357_400_123, Some(DecisionRef { partition: 1, offset: 2 }))
    );
    assert_eq!((label.inclusion_probability, label.categories.join("+")), (Some(0.5), "a".into()));
    let sdk = r#"{"id":"e1","fields":{"text":"x"},"metadata":{},"responses":{"verdict":[{"value":"unsafe","user_id":"u1"},{"value":"safe","user_id":"u2"}],"categories":[{"value":["a"],"user_id":"u1"}]}}"#;
    let (kept, _) = import(sdk);
    assert_eq!(told(&kept), [("e1", "u1", "unsafe", "e1/u1"), ("e1", "u2", "safe", "e1/u2")]);
    let flat = r#"{"id":"e1","text":"x","verdict.responses":["unsafe","safe"],"verdict.responses.users":["u1","u2"],"verdict.responses.status":["submitted","discarded"]}"#;
    let (kept, tally) = import(flat);
    assert_eq!((told(&kept), tally.left_out), (vec![("e1", "u1", "unsafe", "e1/u1")], 1));
}

#[test]
fn the_configured_pointers_read_any_other_shape() {
    let fields: LabelFields = toml::from_str(
        "event_id = \"/task/id\"\nverdict = \"/is\"\nverdicts = { good = \"safe\" }\nskip_if = { \"/answer\" = \"ignore\" }",
    )
    .unwrap();
    let mut reading = reading();
    reading.defaults.label_fields = Some(fields);
    let rows = "{\"task\":{\"id\":7},\"is\":\"good\"}\n{\"task\":{\"id\":8},\"answer\":\"ignore\"}\n{\"task\":{\"id\":9},\"is\":\"odd\"}\n";
    let (kept, tally, _) = import_as(&reading, "file", rows.as_bytes(), None);
    assert_eq!((told(&kept), tally.left_out), (vec![("7", "-", "safe", "7/")], 1));
    assert_eq!(reasons(&kept), [(3, None, "BadValue")]);
    // The exports of known tools need no pointers.
    assert_eq!(import_as(&reading, "file", TASKS.as_bytes(), None).0.labels.len(), 2);
}
