//! A small flow for tests: an expert that answers at once, events, labels, and their outcomes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aegis::codec::{self, Encoding};
use aegis::config::Topics;
use aegis::core::decision::Decision;
use aegis::core::event::Event;
use aegis::core::label::{Finding, Label};
use aegis::core::ledger::{Record, RoundId};
use aegis::core::review::ReviewRequest;
use aegis::kafka::{Connection, Consumed, Delivery, Followed, Follower, From as Start, Outbox, Produced};
use sha2::{Digest, Sha256};

use super::WAIT;

/// Writes two rule experts to `folder`. They need no model, and disagree on the word "kill".
pub fn experts(folder: &Path) {
    for (id, severity, word) in [("strict", 0.9, "kill"), ("lenient", 0.2, "kill")] {
        let rules = format!(
            "base = 0.1\n[[terms]]\ncategory = \"violence\"\nseverity = {severity}\nwords = [\"{word}\"]\n"
        );
        let hash: String = Sha256::digest(&rules).iter().map(|byte| format!("{byte:02x}")).collect();
        let manifest = format!(
            "id = \"{id}\"\nkind = \"rules\"\ndescription = \"test\"\nlicence = \"MIT\"\nsource = \"test\"\n\
             [rules]\nfile = \"rules.toml\"\nsha256 = \"{hash}\"\n"
        );
        let expert = folder.join(id);
        fs::create_dir_all(&expert).unwrap();
        fs::write(expert.join("rules.toml"), rules).unwrap();
        fs::write(expert.join("manifest.toml"), manifest).unwrap();
    }
}

/// Returns the event with this number.
pub fn event(number: usize, text: &str) -> Event {
    Event {
        conversation: format!("c{}", number % 50),
        subject: Some(format!("u{}", number % 7)),
        ..Event::example(&format!("e{number:05}"), text)
    }
}

/// Returns an event as a record.
pub fn event_record(topic: &str, event: &Event) -> Produced {
    let payload = codec::encode_event(event, Encoding::Avro).unwrap();
    raw(topic, &event.conversation, payload)
}

/// Returns a record with these bytes.
pub fn raw(topic: &str, key: &str, payload: impl Into<Vec<u8>>) -> Produced {
    Produced {
        topic: topic.into(),
        partition: None,
        key: Some(key.as_bytes().to_vec()),
        payload: Some(payload.into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Returns records of events that cannot be used, each with the reason of its dead letter.
pub fn poison(topic: &str) -> Vec<(&'static str, Produced)> {
    let long = "long ".repeat(220_000);
    vec![
        ("NotAvro", raw(topic, "a", "neither Avro nor JSON")),
        ("WrongSchema", raw(topic, "b", [0xC3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0])),
        ("UnknownPolicy", raw(topic, "c", r#"{"id":"x","policy":"absent","text":"hello"}"#)),
        ("TextTooLong", raw(topic, "d", format!(r#"{{"id":"x","text":"{long}"}}"#))),
        ("MissingField", raw(topic, "e", r#"{"text":"no id"}"#)),
        ("Empty", raw(topic, "f", "")),
    ]
}

/// Returns a reviewer's label.
pub fn label(id: &str, event: &str, finding: Finding) -> Label {
    let round = RoundId { tenant: "t".into(), policy: "default".into(), event: event.into() };
    Label { annotator: Some("r1".into()), time: 1, ..Label::new(&round, id, finding) }
}

/// Returns a label as a record.
pub fn label_record(topic: &str, label: &Label) -> Produced {
    raw(topic, &label.event, codec::encode_label(label, Encoding::Json).unwrap())
}

/// Sends records in their order.
pub fn send(connection: &Connection, records: &[Produced]) {
    Outbox::open(connection, Delivery::AtLeastOnce).unwrap().commit(records, None).unwrap();
}

/// Reads a topic from its beginning until `enough` returns `true`.
pub fn read_until(
    connection: &Connection,
    topic: &str,
    what: &str,
    mut enough: impl FnMut(&[Consumed]) -> bool,
) -> Vec<Consumed> {
    let mut follower = Follower::open(connection, topic, &Start::Beginning, WAIT).unwrap();
    let until = Instant::now() + 4 * WAIT;
    let mut records = Vec::new();
    // `enough` may decode every record. It is asked when no record is at hand, and once a second in a stream that never ends.
    let mut asked = Instant::now();
    loop {
        let read = follower.poll(Duration::from_millis(20)).unwrap();
        let more = matches!(read, Followed::Record(_));
        if let Followed::Record(record) = read {
            records.push(record);
        }
        if more && asked.elapsed() < Duration::from_secs(1) {
            continue;
        }
        if enough(&records) {
            return records;
        }
        assert!(Instant::now() < until, "{topic}: {what} did not come; {} records did", records.len());
        asked = Instant::now();
    }
}

/// Returns all records of a topic at this time.
pub fn read_all(connection: &Connection, topic: &str) -> Vec<Consumed> {
    let mut follower = Follower::open(connection, topic, &Start::Beginning, WAIT).unwrap();
    let until = Instant::now() + WAIT;
    let mut records = Vec::new();
    loop {
        assert!(Instant::now() < until, "{topic} has no end");
        match follower.poll(Duration::from_millis(100)).unwrap() {
            Followed::Record(record) => records.push(record),
            Followed::End => return records,
            _ => {}
        }
    }
}

/// Decodes records as decisions.
pub fn decisions(records: &[Consumed]) -> Vec<Decision> {
    records.iter().map(|record| codec::decode_decision(record.payload.as_deref().unwrap()).unwrap()).collect()
}

/// Decodes records as review requests.
pub fn reviews(records: &[Consumed]) -> Vec<ReviewRequest> {
    records.iter().map(|record| codec::decode_review(record.payload.as_deref().unwrap()).unwrap()).collect()
}

/// Decodes records as ledger records.
pub fn ledger(records: &[Consumed]) -> Vec<Record> {
    let values = records.iter().filter_map(|record| record.payload.as_deref());
    values.map(|payload| codec::decode_record(payload).unwrap()).collect()
}

/// Returns a header of a dead letter.
pub fn header(record: &Consumed, name: &str) -> String {
    let name = format!("__connect.errors.{name}");
    let (_, value) = record.headers.iter().find(|(key, _)| *key == name).unwrap();
    String::from_utf8(value.clone().unwrap()).unwrap()
}

/// Counts dead letters by their reason.
pub fn reasons(records: &[Consumed]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for record in records {
        *reasons.entry(header(record, "exception.class.name")).or_default() += 1;
    }
    reasons
}

/// Returns topic names with a prefix.
pub fn topics(prefix: &str) -> Topics {
    let name = |name: &str| format!("{prefix}.{name}");
    Topics {
        events: name("events"),
        decisions: name("decisions"),
        review: name("review"),
        labels: name("labels"),
        dlq: name("dlq"),
        rounds: name("rounds"),
        weights: name("weights"),
        election: name("election"),
    }
}
