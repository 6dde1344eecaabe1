//! Events and labels in the layouts of other products, through both processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aegis::codec::default_event_id;
use aegis::core::label::Finding;
use aegis::core::ledger::Record;
use aegis::kafka::Consumed;

use crate::support::flow::{
    decisions, header, label, label_record, ledger, raw, read_all, read_until, reasons, send,
};
use crate::support::site::{Site, hex, wait};

/// Returns a chat in the layout of another product, with a second turn of this author.
fn chat(number: usize, author: &str, text: &str) -> String {
    let user = format!("u{}", number % 4);
    let messages = serde_json::json!([
        {"author": "human", "content": "hello"},
        {"author": author, "content": [{"type": "text", "text": text}, {"type": "image_url"}]},
    ]);
    serde_json::json!({"meta": {"org": "t", "user": user}, "messages": messages}).to_string()
}

/// Returns a task in the layout of Label Studio, with annotations of (annotator, cancelled, choice).
fn task(event: &str, annotations: &[(u32, bool, &str)]) -> String {
    let annotation = |(by, cancelled, choice): &(u32, bool, &str)| {
        serde_json::json!({"completed_by": by, "was_cancelled": cancelled,
            "result": [{"from_name": "verdict", "value": {"choices": [choice]}}]})
    };
    let annotations: Vec<_> = annotations.iter().map(annotation).collect();
    serde_json::json!({"data": {"event_id": event}, "annotations": annotations}).to_string()
}

/// A record with annotations of several people gives a label for each. A record without annotations is no dead letter.
/// A record that cannot be read completely is one dead letter.
#[test]
fn every_annotation_of_a_record_is_a_label() {
    let site = Site::new("annotations");
    let connection = &site.connection;
    let config = fs::read_to_string(site.config()).unwrap();
    let fields = "[label_fields]\nevent_id = \"/data/event_id\"\nannotations = \"/annotations\"\n\
                  annotator = \"/annotations/*/completed_by\"\n\
                  verdict = \"/annotations/*/result/from_name=verdict/value/choices\"\n\
                  skip_if = { \"/annotations/*/was_cancelled\" = true }\n";
    fs::write(site.config(), config + fields).unwrap();
    let told = &["--set", "log.level=info"];
    let mut score = site.start_with("score", told, &[]);
    let mut learn = site.start_with("learn", told, &[]);
    score.says("health and metrics");
    learn.says("health and metrics");
    let texts: Vec<_> = (0..4)
        .map(|number| {
            let json = format!(r#"{{"id":{number},"text":"hello \ud83d"}}"#);
            raw(&site.topic("events"), &format!("k{number}"), json)
        })
        .collect();
    send(connection, &texts);
    read_until(connection, &site.topic("decisions"), "4 decisions", |records| records.len() >= 4);
    let labels: Vec<_> = [
        task("0", &[(7, true, "unsafe"), (8, false, "safe"), (9, false, "unsafe")]),
        task("1", &[(7, true, "unsafe")]),
        task("2", &[(7, false, "unsafe"), (7, false, "safe")]),
        task("3", &[(7, false, "unsafe")]),
    ]
    .into_iter()
    .map(|json| raw(&site.topic("labels"), "k", json))
    .collect();
    send(connection, &labels);
    wait("every label", || site.committed("learn", "labels") == 4);
    let published = site.published(2, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());
    let records = ledger(&read_all(connection, &site.topic("rounds")));
    let filed: BTreeSet<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Label(filed) => {
                Some((filed.label.event.as_str(), filed.label.annotator.as_deref()?, filed.label.verdict?))
            }
            _ => None,
        })
        .collect();
    let expected = [("0", "8", Finding::Safe), ("0", "9", Finding::Unsafe), ("3", "7", Finding::Unsafe)];
    assert_eq!(filed, BTreeSet::from(expected));
    let letters = read_all(connection, &site.topic("dlq"));
    assert_eq!(reasons(&letters), BTreeMap::from([("SameLabel".into(), 1)]));
    let (_, told) = learn.get("/metrics");
    assert!(told.contains("aegis_labels_total{outcome=\"left_out\"} 1"), "{told}");
    let (_, told) = score.get("/metrics");
    assert!(told.contains("aegis_escapes_replaced_total 4"), "{told}");
    score.stop();
    learn.stop();
    site.verified();
}

#[test]
fn json_of_another_shape_is_decided_labelled_and_mended() {
    let site = Site::new("shape");
    let connection = &site.connection;
    let configure = |more: &str| {
        let text = fs::read_to_string(site.config()).unwrap();
        fs::write(site.config(), text + more).unwrap();
    };
    let says = |arguments: &[&str]| {
        let output = site.aegis(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    configure(
        "[event_fields]\nturns = \"/messages\"\nturn_role = \"/author\"\ntenant = \"/meta/org\"\n\
         subject = \"/meta/user\"\n[event_fields.roles]\nhuman = \"user\"\nbot = \"assistant\"\n",
    );
    let sample = site.folder.path().join("sample.json");
    fs::write(&sample, chat(1, "bot", "hi") + "\n").unwrap();
    let told = says(&["check", "--event", sample.to_str().unwrap()]);
    assert!(told.contains("events in JSON: turns at /messages, tenant at /meta/org"), "{told}");
    assert!(told.contains("id shape.events-0-0, ") && told.contains("tenant t, policy default"), "{told}");
    assert!(told.contains("  turn 1: assistant, 2 bytes of text, judged"), "{told}");

    let score = site.start("score");
    let learn = site.start("learn");
    let text = |number: usize| if number.is_multiple_of(3) { "I will kill you" } else { "hi" };
    let record = |number: usize, json: String| raw(&site.topic("events"), &format!("k{number}"), json);
    let mut records: Vec<_> =
        (0..30).map(|number| record(number, chat(number, "bot", text(number)))).collect();
    // Two bad records: one has a role that the configuration does not have, the other lacks a text.
    records.insert(10, record(90, chat(90, "robot", "I will kill you")));
    let missing = chat(91, "bot", "kill").replacen("\"content\":\"hello\"", "\"contents\":\"kill\"", 1);
    records.insert(20, record(91, missing));
    send(connection, &records);
    let letters = read_until(connection, &site.topic("dlq"), "2 dead letters", |records| records.len() >= 2);
    let reasons: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| (header(letter, "exception.class.name"), header(letter, "exception.message")))
        .collect();
    for (reason, place, setting) in [
        ("BadValue", "/messages/1/author", "event_fields.turn_role"),
        ("MissingField", "/messages/0/content", "event_fields.turn_text"),
    ] {
        let said = &reasons[reason];
        assert!(said.contains(place) && said.contains(setting) && !said.contains("kill"), "{said}");
    }

    // The id of each event is made of its position, and labels refer to that id.
    let decided = |count: usize| {
        let enough = |records: &[Consumed]| records.len() >= count;
        decisions(&read_until(connection, &site.topic("decisions"), "decisions", enough))
    };
    for decision in decided(30) {
        let origin = &decision.origin;
        assert_eq!(decision.id.event, default_event_id(&origin.topic, origin.partition, origin.offset));
        assert_eq!((&*decision.id.tenant, decision.votes.len()), ("t", 2));
        send(
            connection,
            &[label_record(&site.topic("labels"), &label("l", &decision.id.event, Finding::Unsafe))],
        );
    }
    let published = site.published(30, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());

    // The configuration gets the role. The record with that role is put back and decided.
    score.stop();
    configure("robot = \"assistant\"\n");
    let score = site.start("score");
    assert!(says(&["dlq", "replay", "--reason", "BadValue"]).contains("BadValue: 1 put back"));
    let last = decided(31).into_iter().max_by_key(|decision| decision.round_time).unwrap();
    assert_eq!(last.subject.as_deref(), Some("u2"));
    site.verified();

    // `aegis erase` finds the texts of a subject by the same pointers.
    let erased: serde_json::Value =
        serde_json::from_str(&says(&["erase", "--subject", "u2", "--tenant", "t", "--output", "json"]))
            .unwrap();
    let stays = erased["stays"].as_array().unwrap();
    let events = stays.iter().find(|stays| stays["topic"] == site.topic("events")).unwrap();
    // Seven of the thirty, and two copies of the record with the unknown role: the original, and the one that was put
    // back.
    assert_eq!(events["records"], 9, "{erased}");
    score.stop();
    learn.stop();
}
