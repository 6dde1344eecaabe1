//! Topics that grow while both roles run: every event gets its decision, and labels find it.

use std::collections::BTreeSet;

use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::ledger::Record;
use aegis::kafka::topics::{Finding as Found, TopicSpec, ensure};
use aegis::kafka::{Delivery, Outbox, Produced};
use aegis::learn::LearnError;
use aegis::score::ScoreError;

use super::Site;
use crate::support::flow::{
    decisions, event, event_record, label, label_record, ledger, read_all, read_until, send,
};
use crate::support::{WAIT, kafka, make, record};

impl Site {
    /// Adds partitions to topics, as an operator does.
    fn grow(&self, topics: &[&String], partitions: i32) {
        for topic in topics {
            let spec = TopicSpec { exactly: true, ..TopicSpec::new(*topic, partitions) };
            let found = ensure(&self.connection, &[spec], WAIT).unwrap();
            assert!(matches!(found[..], [Found::Grown(_)]), "{found:?}");
        }
    }

    fn send_events(&self, numbers: std::ops::Range<usize>, partition: i32) {
        let topic = &self.config.topics.events;
        let record = |number| {
            let record = event_record(topic, &event(number, "I will kill you"));
            Produced { partition: Some(partition), ..record }
        };
        send(&self.connection, &numbers.map(record).collect::<Vec<_>>());
    }

    fn await_decisions(&self, count: usize) {
        let topic = &self.config.topics.decisions;
        read_until(&self.connection, topic, "decisions", |records| records.len() >= count);
    }

    fn await_rounds(&self, events: &[&str]) {
        let topic = &self.config.topics.rounds;
        read_until(&self.connection, topic, "the votes of labelled events", |records| {
            let judged: BTreeSet<_> = ledger(records)
                .into_iter()
                .filter_map(|record| match record {
                    Record::Round(judged) => Some(judged.id.event),
                    _ => None,
                })
                .collect();
            events.iter().all(|event| judged.contains(*event))
        });
    }

    fn say(&self, labels: &[Label]) {
        let records: Vec<_> =
            labels.iter().map(|label| label_record(&self.config.topics.labels, label)).collect();
        send(&self.connection, &records);
    }
}

#[test]
fn topics_grow_while_both_roles_run() {
    let site = Site::new("grow");
    let topics = &site.config.topics;
    let (score, learn) = (site.score(&[]), site.learn());
    site.send_events(0..3, 0);
    site.await_decisions(3);
    site.say(&[label("l0", "e00000", Finding::Unsafe)]);
    site.await_rounds(&["e00000"]);

    // The outputs grow first, then the events: no role stops, and the producer requests the partitions when it needs
    // them.
    site.grow(&[&topics.decisions, &topics.review, &topics.events, &topics.labels], 4);
    site.send_events(3..6, 3);
    site.await_decisions(6);
    // The decision is found by the reference of the request, by the index, and by a label that waits for it.
    let decided = read_all(&site.connection, &topics.decisions);
    let place = decided.iter().zip(decisions(&decided)).find(|(_, decision)| decision.id.event == "e00003");
    let (record, _) = place.unwrap();
    let at = DecisionRef { partition: record.partition, offset: record.offset };
    assert_eq!(at.partition, 3);
    let referring = Label { decision: Some(at), ..label("l3", "e00003", Finding::Unsafe) };
    site.say(&[referring, label("l4", "e00004", Finding::Safe)]);
    site.await_rounds(&["e00003", "e00004"]);

    // Only the events grow: score stops before it loses a record, and names the remedy.
    site.grow(&[&topics.events], 6);
    let error = score.failed();
    let ScoreError::Partitions { partition, count, .. } = &error else { panic!("{error}") };
    assert!(*partition >= 4 && *count == 4, "{error}");
    assert!(error.to_string().contains("`aegis topics --create`"), "{error}");
    site.send_events(6..9, 5);
    let (well, text) = site.topics();
    assert!(well && text.matches("grown from 4 to 6 partitions").count() == 2, "{text}");
    let score = site.score(&[]);
    site.await_decisions(9);
    site.say(&[label("l8", "e00008", Finding::Unsafe)]);
    site.await_rounds(&["e00008"]);
    score.stop();
    learn.stop();
    assert!(read_all(&site.connection, &topics.dlq).is_empty(), "no label's decision has vanished");
    site.verify();
}

#[test]
fn a_producer_that_does_not_know_a_new_partition_yet_does_its_unit_again() {
    let connection = kafka().connection();
    make(&connection, &[("stale", 1, &[])]);
    let transactional_id = "stale".to_owned();
    let delivery = Delivery::ExactlyOnce { transactional_id, timeout: WAIT / 10 };
    let mut outbox = Outbox::open(&connection, delivery).unwrap();
    outbox.commit(&[record("stale", 0, "known")], None).unwrap();
    let spec = TopicSpec { exactly: true, ..TopicSpec::new("stale", 2) };
    assert_eq!(ensure(&connection, &[spec], WAIT).unwrap(), [Found::Grown(1)]);
    let new = [record("stale", 1, "new")];
    let error = outbox.commit(&new, None).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(outbox.commit(&new, None).unwrap().len(), 1);
    // The outbox does not wait for a missing topic.
    let error = outbox.commit(&[record("stale", 2, "absent")], None).unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("aegis topics --create"), "{error}");
}

/// Two partitions of the election would allow two active learners, and the ledger would have no order.
#[test]
fn a_learner_refuses_topics_that_must_have_one_partition() {
    let site = Site::new("single");
    let topics = &site.config.topics;
    let refused = |topic: &String| match site.learn().failed() {
        error @ LearnError::Partitions { .. } => {
            let said = error.to_string();
            assert!(said.contains(&format!("{topic} has 2 partitions and must have 1")), "{said}");
            assert!(said.contains("aegis topics --create"), "{said}");
        }
        other => panic!("{topic}: {other:?}"),
    };
    for topic in [&topics.weights, &topics.rounds, &topics.election] {
        site.grow(&[topic], 2);
        refused(topic);
    }
}
