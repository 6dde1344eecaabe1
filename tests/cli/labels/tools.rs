//! Review requests go out to labelling tools, and their answers come back as labels.

use std::fs;

use aegis::core::label::Source;
use serde_json::{Value, json};

use super::{Desk, labels, text};
use crate::support::flow::{read_all, reviews};

/// The fields that Label Studio adds: annotations of two people, one of whom changed her mind, and a cancelled one of a third.
fn annotated(tasks: &[Value]) -> String {
    let annotation = |id: usize, by: &str, cancelled: bool, choice: &str| {
        json!({"id": id, "completed_by": {"id": id, "email": by}, "was_cancelled": cancelled, "ground_truth": false,
            "updated_at": "2026-03-01T09:30:00.000000Z", "lead_time": 4.2, "result": [{"id": "r", "from_name": "verdict",
            "to_name": "text", "type": "choices", "value": {"choices": [choice]}}]})
    };
    let tasks = tasks.iter().enumerate().map(|(place, task)| {
        let mut task = task.clone();
        let id = 10 * (place + 1);
        task["id"] = id.into();
        task["annotations"] = json!([
            annotation(id, "ann@x.org", false, "unsafe"),
            annotation(id + 1, "bob@x.org", false, if place == 0 { "safe" } else { "unsafe" }),
            annotation(id + 2, "cy@x.org", true, "safe"),
        ]);
        task
    });
    Value::Array(tasks.collect()).to_string()
}

#[test]
fn tasks_come_back_from_label_studio_as_labels_with_their_decisions() {
    let desk = Desk::open();
    desk.events(0..4);
    let requests = reviews(&read_all(&desk.connection, "moderation.review"));
    let out = desk.path("tasks.json").to_str().unwrap().to_owned();
    let said = desk.says(0, &["review", "export", "--with-text", "--out", &out]);
    assert!(said.contains("4 open review requests written, 0 answered already"), "{said}");
    let tasks: Vec<Value> = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(tasks.len(), 4);
    for task in &tasks {
        let data = &task["data"];
        let request = requests.iter().find(|request| data["event_id"] == request.id.event.as_str()).unwrap();
        let number: usize = request.id.event.trim_start_matches('e').parse().unwrap();
        assert_eq!((&data["text"], &data["judged"]), (&json!(text(number)), &json!(0)));
        assert_eq!(data["turns"], json!([{"author": "user", "text": text(number)}]));
        let at = request.decision;
        assert_eq!(data["decision"], json!({"partition": at.partition, "offset": at.offset}));
        let prediction = &task["predictions"][0];
        assert_eq!(prediction["score"].as_f64(), request.probability);
        assert_eq!(prediction["result"][0]["value"]["choices"], json!(["unsafe"]));
    }
    let export = desk.file("annotated.json", &annotated(&tasks));
    let dry = desk.json(0, &["labels", "import", &export, "--dry-run"]);
    assert_eq!((&dry["labels"], &dry["left_out"], &dry["sent"]), (&json!(8), &json!(4), &json!(0)));
    assert_eq!(dry["verdicts"], json!({"safe": 1, "unsafe": 7}));
    assert_eq!(dry["annotators"], json!({"ann@x.org": 4, "bob@x.org": 4}));
    assert_eq!(dry["files"][0]["layout"], "label-studio");
    assert!(read_all(&desk.connection, "moderation.labels").is_empty());
    let text = desk.says(0, &["labels", "import", &export]);
    assert!(text.contains("8 labels to moderation.labels, all acknowledged"), "{text}");
    let first = labels(&desk.marker("first"));
    assert_eq!(first.len(), 8);
    for label in &first {
        let request = requests.iter().find(|request| request.id == label.round()).unwrap();
        assert_eq!(label.decision, Some(request.decision));
        assert_eq!(label.inclusion_probability, Some(request.inclusion_probability));
        assert_eq!((label.source, label.time), (Source::Review, 1_772_357_400_000));
    }
    // The same file again changes nothing in the ledger.
    desk.json(0, &["labels", "import", &export]);
    assert_eq!(labels(&desk.marker("second")), first);
    let said = desk.says(0, &["review", "export", "--format", "jsonl"]);
    assert!(said.contains("0 open review requests written, 4 answered already"), "{said}");
    let stats = desk.json(0, &["labels", "stats"]);
    let ann = &stats["all"]["annotators"][1];
    assert_eq!(
        (&ann["annotator"], &ann["shared"], &ann["agreement"]),
        (&json!("ann@x.org"), &json!(4), &json!(0.75))
    );
}

#[test]
fn exports_are_chosen_and_hold_no_text_unless_it_is_asked_for() {
    let desk = Desk::open();
    desk.events(0..3);
    for format in ["label-studio", "argilla", "jsonl"] {
        let output =
            desk.run(0, &["review", "export", "--format", format, "--without-predictions", "--limit", "2"]);
        let written = String::from_utf8(output.stdout).unwrap();
        assert!(!written.contains("kill") && !written.contains("0.55"), "{written}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("2 open review requests written") && said.contains("1 more are open"),
            "{said}"
        );
        let count = match format {
            "label-studio" => serde_json::from_str::<Vec<Value>>(&written).unwrap().len(),
            _ => written
                .lines()
                .filter(|line| serde_json::from_str::<Value>(line).unwrap().is_object())
                .count(),
        };
        assert_eq!(count, 2, "{written}");
    }
    let said = desk.says(0, &["review", "export", "--since", "2100-01-01T00:00:00Z"]);
    assert!(said.starts_with("[]\n0 open"), "{said}");
    let said = desk.says(0, &["review", "export", "--policy", "other"]);
    assert!(said.starts_with("[]\n0 open"), "{said}");
    // Argilla's records come back, too.
    let records = desk.run(0, &["review", "export", "--format", "argilla"]).stdout;
    let answered: String = String::from_utf8(records)
        .unwrap()
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            record["responses"] = json!([
                {"user_id": "u1", "status": "submitted", "values": {"verdict": {"value": "safe"}}},
                {"user_id": "u2", "status": "discarded", "values": {"verdict": {"value": "unsafe"}}}]);
            format!("{record}\n")
        })
        .collect();
    let file = desk.file("answered.jsonl", &answered);
    let told = desk.json(0, &["labels", "import", &file]);
    assert_eq!(
        (&told["sent"], &told["left_out"], &told["files"][0]["layout"]),
        (&json!(3), &json!(3), &json!("argilla"))
    );
    let ids = ["e00000/u1", "e00001/u1", "e00002/u1"];
    let known = labels(&desk.await_labels(&ids));
    assert!(
        known.iter().all(|label| label.decision.is_some() && label.inclusion_probability == Some(1.0)),
        "{known:?}"
    );
}
