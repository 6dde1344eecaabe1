//! The records of requests: each is an event and a decision on the topics, and the decision is the answer that was given.

use std::collections::BTreeMap;

use aegis::codec;
use aegis::config::Secret;
use aegis::core::decision::Decision;
use aegis::kafka::Consumed;
use serde_json::json;

use crate::support::flow::{decisions, event, event_record, read_all, read_until};
use crate::world::{Answer, World};

/// The header with the decision that was answered.
const ATTACHED: &str = "aegis-decision";

/// Returns the decisions on their topic once there are `count`.
fn decided(world: &World, count: usize) -> (Vec<Consumed>, Vec<Decision>) {
    let topic = &world.config.topics.decisions;
    let records = read_until(&world.connection, topic, "all decisions", |records| records.len() >= count);
    let found = decisions(&records);
    (records, found)
}

fn answered(answer: &Answer) -> Decision {
    codec::decode_decision(answer.body.to_string().as_bytes()).unwrap()
}

#[test]
fn the_decision_on_the_topic_is_the_answer_that_was_given() {
    let world = World::start();
    // Events of the stream are between those of requests.
    let stream: Vec<_> = (0..50).map(|number| event(number, "hello")).collect();
    let records: Vec<_> =
        stream.iter().map(|event| event_record(&world.config.topics.events, event)).collect();
    crate::support::flow::send(&world.connection, &records);
    let mut answers = BTreeMap::new();
    for number in 0..20 {
        let text = if number % 3 == 0 { "I will kill you" } else { "hello" };
        let id = format!("h{number}");
        let answer = world.post("/v1/decisions", &json!({ "id": id, "conversation": "c", "text": text }));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answers.insert(id, answered(&answer));
    }
    let (records, found) = decided(&world, 70);
    assert_eq!(found.len(), 70, "one decision for each event");
    let mut of_requests = 0;
    for (record, decision) in records.iter().zip(&found) {
        assert!(record.headers.iter().all(|(name, _)| !name.starts_with("aegis-")), "nothing is left of it");
        let Some(answer) = answers.get(&decision.id.event) else { continue };
        of_requests += 1;
        assert!(decision.origin.offset >= 0 && decision.origin.topic == world.config.topics.events);
        // The place of the event is all that was not known when the request was answered.
        let expected = Decision { origin: decision.origin.clone(), ..answer.clone() };
        assert_eq!(*decision, expected);
    }
    assert_eq!(of_requests, 20);
    // The events themselves are read like any other, by erasure, reports and replay.
    let events = read_all(&world.connection, &world.config.topics.events);
    let texts = events.iter().filter(|record| record.headers.iter().any(|(name, _)| name == ATTACHED));
    assert_eq!(texts.count(), 20);
}

#[test]
fn a_scorer_without_the_secret_decides_again_and_keeps_the_answer_beside_it() {
    // The server signs with one secret, and the scorer of this world has another one.
    let world = World::start();
    let other = World::with(|config| {
        config.http.moderation.record_key = Secret::new("another secret of at least 32 bytes");
    });
    let answer = answered(&world.post("/v1/decisions", &json!({ "id": "h1", "text": "I will kill you" })));
    let topic = &world.config.topics.events;
    let record = read_until(&world.connection, topic, "the event", |records| !records.is_empty()).remove(0);
    let copied = aegis::kafka::Produced {
        topic: other.config.topics.events.as_str().into(),
        partition: None,
        key: record.key,
        payload: record.payload,
        headers: record.headers,
        timestamp: None,
    };
    crate::support::flow::send(&other.connection, &[copied]);
    let (records, found) = decided(&other, 1);
    assert_eq!(found[0].id, answer.id);
    assert_ne!(found[0].latency_micros, answer.latency_micros, "it is decided again");
    let (_, attached) = records[0].headers.iter().find(|(name, _)| name == ATTACHED).unwrap();
    assert_eq!(codec::decode_decision(attached.as_deref().unwrap()).unwrap(), answer);
}

#[test]
fn without_records_nothing_is_written() {
    let world = World::with(|config| config.http.moderation.record = false);
    assert_eq!(world.post("/v1/decisions", &json!({ "text": "hello" })).status, 200);
    // A record that is written anyway would come before this one.
    let last = event_record(&world.config.topics.events, &event(1, "hello"));
    crate::support::flow::send(&world.connection, &[last]);
    assert_eq!(decided(&world, 1).1[0].id.event, "e00001");
    assert_eq!(read_all(&world.connection, &world.config.topics.events).len(), 1);
}

#[test]
fn a_request_that_is_refused_leaves_no_record() {
    let world = World::start();
    assert_eq!(
        world.post("/v1/decisions", &json!({ "id": "x", "policy": "absent", "text": "x" })).status,
        400
    );
    assert_eq!(world.post("/v1/moderations", &json!({ "input": [] })).status, 400);
    assert_eq!(world.post("/v1/decisions", &json!({ "id": "h1", "text": "hello" })).status, 200);
    assert_eq!(decided(&world, 1).1[0].id.event, "h1");
    assert_eq!(read_all(&world.connection, &world.config.topics.events).len(), 1);
}
