//! Labels: the algebra of the ledger, the hash of the learned state, and labels that come too late.

use std::collections::{BTreeMap, BTreeSet};

use aegis::core::label::{Finding, Label};
use aegis::core::ledger::Record;

use super::{Running, folded};
use crate::support::flow::{event, event_record, label, ledger, raw, read_all, read_until, reasons, send};

#[test]
fn labels_follow_the_algebra_and_each_has_its_one_outcome() {
    let flow = Running::start(|_| {});
    let records: Vec<_> = (0..20)
        .map(|number| event_record(&flow.topics.events, &event(number, "a kill -9 of the process")))
        .collect();
    send(&flow.connection, &records);
    read_until(&flow.connection, &flow.topics.decisions, "20 decisions", |records| records.len() >= 20);
    let safe = |id: &str, event: &str| label(id, event, Finding::Safe);
    let corrected = Label { corrects: Some("l2".into()), time: 2, ..label("l2c", "e00002", Finding::Safe) };
    let correction =
        Label { corrects: Some("l3".into()), time: 2, ..label("l3c", "e00003", Finding::Unsafe) };
    let retraction = Label {
        retracts: Some("l3c".into()),
        verdict: None,
        time: 3,
        ..label("l3r", "e00003", Finding::Safe)
    };
    let labels = vec![
        safe("l0", "e00000"),
        safe("l0", "e00000"),
        label("l1", "e00001", Finding::Unsafe),
        // The same id with other content: the newer label is kept in any order.
        Label { time: 5, ..safe("l1", "e00001") },
        Label { time: 4, ..label("l1", "e00001", Finding::Unsafe) },
        // The correction precedes the label that it corrects.
        corrected,
        label("l2", "e00002", Finding::Unsafe),
        safe("l3", "e00003"),
        correction,
        retraction,
        Label { annotator: Some("r2".into()), ..label("l4b", "e00004", Finding::Unsafe) },
        safe("l4", "e00004"),
        safe("early", "e00020"),
        Label { tenant: "other".into(), ..safe("foreign", "e00005") },
    ];
    flow.send_labels(&labels);
    send(&flow.connection, &[raw(&flow.topics.labels, "x", r#"{"event_id":"e00006","tenant":"t"}"#)]);
    let sent = i64::try_from(labels.len()).unwrap() + 1;
    flow.await_labels(sent);
    // Finally the event is sent for which a label waits.
    send(&flow.connection, &[event_record(&flow.topics.events, &event(20, "late"))]);
    read_until(
        &flow.connection,
        &flow.topics.rounds,
        "the votes of the event that a label waited for",
        |records| {
            ledger(records)
                .iter()
                .any(|record| matches!(record, Record::Round(judged) if judged.id.event == "e00020"))
        },
    );
    let letters = read_all(&flow.connection, &flow.topics.dlq);
    assert_eq!(reasons(&letters), BTreeMap::from([("NoVerdict".to_owned(), 1)]));
    let (records, published, policies) = flow.stop();
    let published = published.unwrap();
    let (fold, book) = folded(&records, &policies);
    assert_eq!(published.state_hash, fold.state_hash(&book), "the live state is the fold of the ledger");
    // e00003 has no live label: its correction is retracted, and the corrected label stays invalid.
    assert_eq!(published.rounds, 5);
    let judged: BTreeSet<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Round(judged) => Some((judged.id.tenant.as_str(), judged.id.event.as_str())),
            _ => None,
        })
        .collect();
    assert!(!judged.iter().any(|(tenant, _)| *tenant == "other"), "another tenant's label finds nothing");
    assert!(judged.contains(&("t", "e00020")), "a label that waited has joined");
}

#[test]
fn one_changed_vote_changes_the_hash() {
    let flow = Running::start(|_| {});
    let records: Vec<_> =
        (0..4).map(|number| event_record(&flow.topics.events, &event(number, "kill"))).collect();
    send(&flow.connection, &records);
    read_until(&flow.connection, &flow.topics.decisions, "4 decisions", |records| records.len() >= 4);
    flow.send_labels(&[label("a", "e00000", Finding::Unsafe), label("b", "e00001", Finding::Safe)]);
    flow.await_labels(2);
    let (mut records, published, policies) = flow.stop();
    let hash = published.unwrap().state_hash;
    let (fold, book) = folded(&records, &policies);
    assert_eq!(fold.state_hash(&book), hash);
    let changed = records.iter_mut().find_map(|record| match record {
        Record::Round(judged) => judged.votes.first_mut(),
        _ => None,
    });
    changed.unwrap().score = Some(0.200_000_001);
    let (fold, book) = folded(&records, &policies);
    assert_ne!(fold.state_hash(&book), hash);
}

#[test]
fn a_label_past_the_horizon_is_a_dead_letter() {
    let flow = Running::start(|config| config.learn.horizon_days = 1);
    let mut old = event(0, "old");
    old.time = Some(1_600_000_000_000);
    send(&flow.connection, &[event_record(&flow.topics.events, &old)]);
    read_until(&flow.connection, &flow.topics.decisions, "a decision", |records| !records.is_empty());
    flow.send_labels(&[label("late", "e00000", Finding::Safe)]);
    flow.await_labels(1);
    let outcome = reasons(&read_all(&flow.connection, &flow.topics.dlq));
    let (records, published, _) = flow.stop();
    // The label was read before its decision was indexed, so it waited and was refused in the ledger.
    let refused =
        records.iter().any(|record| matches!(record, Record::Label(filed) if !filed.status.counts()));
    assert!(outcome == BTreeMap::from([("TooLate".to_owned(), 1)]) || refused, "{outcome:?} {records:?}");
    assert!(published.is_none(), "nothing was learned");
}
