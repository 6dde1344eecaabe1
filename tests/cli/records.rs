//! `aegis check --event` and `--label`: the report about a record, for the layouts that common tools write.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::flow::experts;

/// Runs `aegis check` on a record with these lines of configuration. Returns the exit code, the text, and the JSON.
fn check(option: &str, lines: &str, record: &str) -> (Option<i32>, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    experts(&folder.path().join("models"));
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let config = put("aegis.toml", &format!("[experts]\nfolder = \"models\"\n{lines}"));
    let record = put("record.json", record);
    let run = |output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(["check", option]).arg(&record).arg("--config").arg(&config).args(["--output", output]);
        command.env_remove("AEGIS_CONFIG").env_remove("AEGIS_MODELS").output().unwrap()
    };
    let (people, machines) = (run("text"), run("json"));
    let said = String::from_utf8([people.stdout, people.stderr].concat()).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let said = said.replace(&shown(&record), "RECORD").replace(&shown(&config), "CONFIG");
    (people.status.code(), said, serde_json::from_slice(&machines.stdout).unwrap_or_default())
}

#[test]
fn half_of_an_emoji_is_told() {
    let record = r#"{"id":7,"text":"I know where you live \ud83d","score":NaN}"#;
    let (code, said, shown) = check("--event", "", record);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("event RECORD: id 7, ") && said.contains("turn 0: user, 25 bytes of text, judged"),
        "{said}"
    );
    assert!(said.contains("escapes that stand for no character: 1, each read as U+FFFD"), "{said}");
    assert!(!said.contains("where you live"), "{said}");
    assert_eq!(shown["event"]["escapes_replaced"], json!(1));
    let (_, said, shown) = check("--event", "", r#"{"id":7,"text":"whole \ud83d\ude00"}"#);
    assert!(!said.contains("escapes") && shown["event"]["escapes_replaced"] == json!(0), "{said}");
}

#[test]
fn a_time_without_a_zone_names_the_setting() {
    let record = r#"{"said":"hello","at":"2026-03-01 12:00:00"}"#;
    let fields = "[event_fields]\ntext = \"/said\"\ntime = \"/at\"\n";
    let (code, said, _) = check("--event", fields, record);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("at /at, where event_fields.time points, is not a time with a zone"), "{said}");
    assert!(said.contains("time_zone in the same section"), "{said}");
    let (code, said, shown) = check("--event", &format!("{fields}time_zone = \"Europe/Berlin\"\n"), record);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(shown["event"]["time"], json!("2026-03-01T11:00:00.000Z"), "{said}");
}

#[test]
fn each_label_of_a_record_is_told_and_none_where_it_is_left_out() {
    let fields = "[label_fields]\nevent_id = \"/id\"\nannotations = \"/annotations\"\nverdict = \"/annotations/*/is\"\n\
                  annotator = \"/annotations/*/by\"\nskip_if = { \"/annotations/*/cancelled\" = true }\n";
    let annotation = |by: u32, cancelled: bool| json!({"by": by, "cancelled": cancelled, "is": "safe"});
    let task = |annotations: &[Value]| json!({"id": "e1", "annotations": annotations}).to_string();
    let two = task(&[annotation(7, false), annotation(8, true), annotation(9, false)]);
    let (code, said, shown) = check("--label", fields, &two);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("annotations at /annotations") && said.contains("annotator at /annotations/*/by"),
        "{said}"
    );
    assert_eq!(said.matches("label RECORD: about event e1").count(), 2, "{said}");
    let by: Vec<_> =
        shown["label"].as_array().unwrap().iter().map(|label| label["annotator"].clone()).collect();
    assert_eq!(by, [json!("7"), json!("9")]);
    let (_, _, shown) = check("--label", fields, &task(&[annotation(7, false)]));
    assert_eq!(shown["label"]["annotator"], json!("7"));
    let (code, said, shown) = check("--label", fields, &task(&[annotation(8, true)]));
    assert_eq!((code, &shown["label"]), (Some(0), &json!([])), "{said}");
    assert!(said.contains("label RECORD: none: left out, by label_fields.skip_if"), "{said}");
}
