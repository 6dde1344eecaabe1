//! Faults of learners on a real Apache Kafka: two learners, a learner that continues after it was replaced, a damaged
//! store, and labels in any order. The state is always that of an offline replay of the ledger topic.

use crate::support;

#[allow(dead_code, reason = "each test binary uses what it needs")]
use crate::disk;

mod foreign;
mod full_disk;
mod labels;
mod learners;
mod pins;
mod predictors;
mod retention;
mod store;
mod topics;
mod upgrade;

use std::collections::BTreeSet;

use aegis::core::decision::Decision;
use aegis::core::event::Event;
use aegis::core::label::{Finding, Label};
use aegis::core::ledger::{LabelStatus, Record};
use aegis::kafka::Consumed;
use support::flow::{decisions, event, event_record, label, label_record, ledger, read_all, send};
use support::site::{Process, Site, hex, wait};

/// Lets score decide about these events and stops it. Returns all decisions.
fn decide(site: &Site, events: &[Event]) -> Vec<(Consumed, Decision)> {
    let before = site.committed("score", "events");
    let score = site.start_with("score", &[], &[]);
    let records: Vec<_> = events.iter().map(|event| event_record(&site.topic("events"), event)).collect();
    send(&site.connection, &records);
    let count = i64::try_from(events.len()).unwrap();
    wait("events", || site.committed("score", "events") == before + count);
    score.stop();
    let records = read_all(&site.connection, &site.topic("decisions"));
    let made = decisions(&records);
    records.into_iter().zip(made).collect()
}

/// Returns `count` events.
fn events(count: usize) -> Vec<Event> {
    (0..count)
        .map(|number| event(number, if number.is_multiple_of(3) { "I will kill you" } else { "hello" }))
        .collect()
}

/// Returns a reviewer's label for the event with this number.
fn about(number: usize) -> Label {
    let finding = if number.is_multiple_of(4) { Finding::Unsafe } else { Finding::Safe };
    label(&format!("l{number}"), &format!("e{number:05}"), finding)
}

fn send_labels(site: &Site, labels: impl IntoIterator<Item = Label>) {
    let topic = site.topic("labels");
    let records: Vec<_> = labels.into_iter().map(|label| label_record(&topic, &label)).collect();
    send(&site.connection, &records);
}

/// Starts a learner with its own store.
fn learner(site: &Site, store: &str, variables: &[(&str, &str)]) -> Process {
    let store = format!("learn.store={}", site.folder.path().join(store).display());
    site.start_with("learn", &["--set", &store], variables)
}

/// Waits for a predictor of this number of rounds, and compares it with that of a replay.
fn learned(site: &Site, rounds: usize) {
    let published = site.published(rounds as u64, 0);
    assert_eq!(hex(&published.state_hash), site.replayed(), "{rounds} rounds");
}

/// Checks that no label was written to the ledger twice with the same status. A label that was read before the index
/// had reached its decision was written as waiting first.
fn written_once(site: &Site, labels: usize) {
    let mut counted = BTreeSet::new();
    let mut waited = BTreeSet::new();
    for record in ledger(&read_all(&site.connection, &site.topic("rounds"))) {
        let Record::Label(label) = record else { continue };
        let written = match label.status {
            LabelStatus::Accepted => &mut counted,
            LabelStatus::Waiting => &mut waited,
            other => panic!("{} is {other:?}", label.label.id),
        };
        assert!(written.insert(label.label.id.clone()), "{} again as {:?}", label.label.id, label.status);
    }
    assert_eq!(counted.len(), labels, "each label counts; {waited:?} waited");
}
