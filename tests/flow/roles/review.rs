//! Review requests: each decision that asks for a review has one request that names it, and the label that answers it
//! finds the decision.

use std::collections::BTreeMap;

use aegis::core::decision::ReviewReason;
use aegis::core::label::{Finding, Label};
use aegis::core::ledger::Record;
use aegis::kafka::Produced;

use super::Site;
use crate::support::flow::{
    decisions, event, event_record, label, label_record, ledger, raw, read_all, read_until, reviews, send,
};

#[test]
fn a_request_names_its_decision_and_the_label_that_answers_is_joined_by_it() {
    let site = Site::new("road");
    let topics = &site.config.topics;
    // A text that no expert can read gets a review request. An empty text gets none.
    let text = |number: usize| ["\u{1f642}", "hello", " ", "hello"][number % 4];
    let sent = 40;
    let mut records: Vec<_> = (0..sent)
        .map(|number| {
            let mut record = event_record(&topics.events, &event(number, text(number)));
            record.headers = vec![("mine".into(), Some(number.to_string().into_bytes()))];
            Produced { partition: Some(i32::try_from(number % 3).unwrap()), ..record }
        })
        .collect();
    // These records are too large for a dead letter with its value. The transaction is aborted when half of its records
    // are sent, and they are sent again.
    for partition in 0..3 {
        let large = raw(&topics.events, "large", "x".repeat(300_000));
        records.insert(20, Produced { partition: Some(partition), ..large });
    }
    send(&site.connection, &records);
    let score = site.score(&[("message.max.bytes", "100000")]);
    read_until(&site.connection, &topics.dlq, "3 dead letters", |records| records.len() >= 3);
    read_until(&site.connection, &topics.decisions, "all decisions", |records| records.len() >= sent);
    read_until(&site.connection, &topics.review, "all requests", |records| records.len() >= sent / 4);
    score.stop();

    let decided = read_all(&site.connection, &topics.decisions);
    let made = decisions(&decided);
    let at: BTreeMap<_, _> = decided
        .iter()
        .zip(&made)
        .map(|(record, decision)| ((record.partition, record.offset), (record, decision)))
        .collect();
    let asked = read_all(&site.connection, &topics.review);
    let requests = reviews(&asked);
    let asking = made.iter().filter(|decision| decision.review().is_some()).count();
    assert_eq!((requests.len(), asking), (sent / 4, sent / 4));
    for (record, request) in asked.iter().zip(&requests) {
        let (decision_record, decision) = at[&(request.decision.partition, request.decision.offset)];
        assert_eq!((&request.id, &request.origin), (&decision.id, &decision.origin));
        assert_eq!(request.reasons, [ReviewReason::TooFewAwake]);
        assert_eq!(record.partition, decision_record.partition);
        assert_eq!((&record.key, &record.headers), (&decision_record.key, &decision_record.headers));
    }
    site.verify();

    // Only the content of the requests is needed to answer them.
    let labels: Vec<_> = requests
        .iter()
        .map(|request| Label {
            decision: Some(request.decision),
            inclusion_probability: Some(request.inclusion_probability),
            ..label("l", &request.id.event, Finding::Unsafe)
        })
        .map(|label| label_record(&topics.labels, &label))
        .collect();
    send(&site.connection, &labels);
    let learn = site.learn();
    let written = read_until(&site.connection, &topics.rounds, "the ledger", |records| {
        ledger(records).iter().filter(|record| matches!(record, Record::Round(_))).count() >= sent / 4
    });
    learn.stop();
    let judged: BTreeMap<_, _> = ledger(&written)
        .into_iter()
        .filter_map(|record| match record {
            Record::Round(judged) => Some((judged.id, judged.decision)),
            _ => None,
        })
        .collect();
    let expected: BTreeMap<_, _> =
        requests.iter().map(|request| (request.id.clone(), request.decision)).collect();
    assert_eq!(judged, expected);
    let mut filed = ledger(&read_all(&site.connection, &topics.rounds)).into_iter().filter_map(|record| {
        let Record::Label(filed) = record else { return None };
        Some((filed.status.counts(), filed.label.inclusion_probability))
    });
    assert!(filed.next_back() == Some((true, Some(1.0))));
    site.verify();
}
