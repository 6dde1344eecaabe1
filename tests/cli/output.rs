//! `--output json` of commands that use a broker: the same content as the text output, and never the text of a message.

use aegis::dead_letter::{Reason, dead_letter};
use aegis::kafka::Consumed;
use serde_json::json;

use crate::site::Site;
use crate::support::flow::send;

#[test]
fn machines_read_what_people_read() {
    let site = Site::new("shown", "");
    // The broker deletes records that are older than their retention half a minute after its start.
    let written = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let written = i64::try_from(written).unwrap();
    let original = Consumed {
        topic: site.topic("events").into(),
        partition: 1,
        offset: 7,
        key: Some(b"c1".to_vec()),
        payload: Some(b"{\"SECRET\"".to_vec()),
        headers: vec![("mine".into(), Some(vec![0xff]))],
        timestamp: Some(written),
    };
    let reason = Reason { name: "NotJson", message: "no JSON".into() };
    let letter = dead_letter(&site.topic("dlq").into(), "score", original, &reason);
    send(&site.connection, &[aegis::kafka::Produced { partition: Some(1), ..letter }]);

    let shown = site.json(&["dlq", "show", "1:0"]);
    assert!(!shown.to_string().contains("SECRET"), "{shown}");
    for (name, value) in [
        ("partition", json!(1)),
        ("offset", json!(0)),
        ("reason", json!("NotJson")),
        ("stage", json!("score")),
        ("message", json!("no JSON")),
        ("origin_topic", json!(site.topic("events"))),
        ("origin_partition", json!(1)),
        ("origin_offset", json!(7)),
        ("time", json!(written)),
        ("key_bytes", json!(2)),
        ("value_bytes", json!(9)),
        ("replays", json!(0)),
    ] {
        assert_eq!(shown[name], value, "{name} of {shown}");
    }
    let headers = shown["headers"].as_array().unwrap();
    assert_eq!(headers[0], json!({"name": "mine", "value": null, "bytes": 1}));
    assert!(headers.iter().any(|one| one["name"] == "__connect.errors.topic"));
    // The list has the same fields.
    let listed = &site.json(&["dlq", "list"])[0];
    for (name, value) in listed.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }

    let topics = site.json(&["topics"]);
    let states: Vec<_> =
        topics.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["in_order"; 8]);
    let missing = format!("topics.dlq={}", site.topic("nowhere"));
    let output = site.aegis(&["topics", "--output", "json", "--set", &missing]);
    assert_eq!(output.status.code(), Some(69));
    let topics: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&topics[4]["topic"], &topics[4]["state"]), (&json!("shown.nowhere"), &json!("missing")));

    // The dead letter has no event: the event that it names was never sent, and verify reports that in both formats.
    let file = site.path("report.json");
    let output = site.aegis(&["verify", "--output", "json", "--json", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((&report, &report["holds"]), (&kept, &json!(false)));
}
