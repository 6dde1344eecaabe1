//! The lists on the page are sufficient, and errors name missing entries.

use super::needed::nothing_can_be_missing;
use super::site::{Running, Secured, holds_no_secret, record_holds_no_secret, said, secured};
use crate::support::flow::{
    decisions, event, event_record, label, label_record, ledger, raw, read_all, read_until, send,
};
use crate::support::http::post;
use crate::support::site::poll;
use aegis::codec::decode_decision;
use aegis::config::Topics;
use aegis::core::label::Finding;
use serde_json::json;

#[test]
fn the_documented_lists_are_enough_and_whatever_is_missing_is_told() {
    let site = secured();
    let admin = site.kafka.connection();
    let events: Vec<_> = (0..20).map(|number| event(number, "kill the lights")).collect();
    let mut records: Vec<_> = events.iter().map(|event| event_record("moderation.events", event)).collect();
    records.push(raw("moderation.events", "poison", "{"));
    let (score, learn) = (site.run("score", "score"), site.run("learn", "learn"));
    send(&admin, &records);
    let made = read_until(&admin, "moderation.decisions", "every decision", |records| records.len() >= 20);
    assert_eq!(decisions(&made).len(), 20);
    read_until(&admin, "moderation.review", "every request", |records| records.len() >= 20);
    read_until(&admin, "moderation.dlq", "the poison", |records| !records.is_empty());
    let labels: Vec<_> = events
        .iter()
        .map(|event| {
            label_record("moderation.labels", &label(&format!("l-{}", event.id), &event.id, Finding::Unsafe))
        })
        .collect();
    send(&admin, &labels);
    read_until(&admin, "aegis.rounds", "the rounds", |records| ledger(records).len() >= 40);
    read_until(&admin, "aegis.weights", "a predictor", |records| !records.is_empty());
    let server = answer_a_request(site);
    for (name, running) in [("score", &score), ("learn", &learn), ("serve", &server)] {
        for page in ["/metrics", "/readyz?verbose", "/livez"] {
            holds_no_secret(name, &running.page(page));
        }
    }
    operate(site);
    // A subject is erased while the learner runs, and the learner applies it.
    site.well("eraser", &["erase", "--subject", "u1"]);
    // No event announces that the broker has compacted a topic. All other checks must succeed meanwhile.
    poll(|| {
        let output = site.aegis("eraser", &["erase", "--subject", "u1", "--verify"]);
        let said = said(&output);
        if said.contains("is that of a world without the subject") {
            return Ok(());
        }
        assert_eq!(output.status.code(), Some(65), "{said}");
        Err(said)
    });
    site.well("eraser", &["ledger", "quarantine", "nobody"]);
    assert!(site.well("replayer", &["dlq", "replay"]).contains(" 1 put back"));
    read_until(&admin, "moderation.dlq", "the poison again", |records| records.len() >= 2);
    site.well("operator", &["verify"]);
    holds_no_secret("score's log", &score.stop());
    holds_no_secret("learn's log", &learn.stop());
    holds_no_secret("serve's log", &server.stop());

    nothing_can_be_missing(site);
    let Topics { events, decisions, review, labels, dlq, rounds, weights, .. } = Topics::default();
    for topic in [events, decisions, review, labels, dlq, rounds, weights] {
        let records = read_all(&admin, &topic);
        assert!(!records.is_empty(), "{topic}");
        records.iter().for_each(record_holds_no_secret);
    }
}

/// Sends a request to a server, which writes its event; the scorer writes the decision that was answered.
fn answer_a_request(site: &Secured) -> Running {
    let (mut server, address) = site.serve();
    assert!(server.listens(&address), "{}", server.log());
    let answer = post(&address, "/v1/decisions", &json!({ "id": "asked", "text": "kill the lights" }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answered = decode_decision(answer.body.to_string().as_bytes()).unwrap();
    let admin = site.kafka.connection();
    let made = read_until(&admin, "moderation.decisions", "the request's decision", |records| {
        decisions(records).iter().any(|decision| decision.id == answered.id)
    });
    let made = decisions(&made).into_iter().find(|decision| decision.id == answered.id).unwrap();
    assert_eq!(made.latency_micros, answered.latency_micros, "it is the answer that was given");
    server
}

/// Runs the commands of an operator.
fn operate(site: &Secured) {
    let letters = site.well("operator", &["dlq", "list"]);
    let place = letters.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    for command in [
        &["topics"][..],
        &["verify"],
        &["dlq", "show", place],
        &["dlq", "replay", "--dry-run", "--reason", "None"],
        &["explain", "e00003", "--tenant", "t"],
        &["weights", "show"],
        &["weights", "history"],
        &["replay", "topic:aegis.rounds"],
    ] {
        site.well("operator", command);
    }
}
