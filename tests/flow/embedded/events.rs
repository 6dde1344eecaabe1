//! Events: bad records, texts that no expert can read, review requests, and the age of what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::ledger::Record;
use aegis::core::policy::Action;
use aegis::core::review::ReviewRequest;
use aegis::core::text::HiddenText;
use aegis::core::vote::Outcome;
use aegis::kafka::Consumed;

use super::{Running, folded};
use crate::support::WAIT;
use crate::support::flow::{
    decisions, event, event_record, header, label, poison, raw, read_until, reasons, reviews, send,
};

#[test]
fn every_bad_record_has_its_one_outcome_and_the_stream_goes_on() {
    let flow = Running::start(|_| {});
    let events = flow.topics.events.as_str();
    let good = |number: usize, text: &str| event_record(events, &event(number, text));
    let mut future = event(7, "dated in 2090");
    future.time = Some(3_786_912_000_000);
    let mut records = vec![good(0, "hello")];
    records.extend(poison(events).into_iter().map(|(_, record)| record));
    records.extend([
        good(1, ""),
        good(2, " \n\t "),
        good(3, "a NUL \0 in the middle"),
        good(4, "🙂 👩‍👩‍👧‍👦"),
        good(5, "\u{202e}שלום"),
        good(6, "I will kill the process"),
        event_record(events, &future),
    ]);
    let (sent, bad) = (records.len(), poison(events).len());
    send(&flow.connection, &records);
    let decided =
        read_until(&flow.connection, &flow.topics.decisions, "a decision for each good event", |records| {
            records.len() >= sent - bad
        });
    let letters =
        read_until(&flow.connection, &flow.topics.dlq, "a dead letter for each bad event", |letters| {
            letters.len() >= bad
        });
    let decided = decisions(&decided);
    assert_eq!(decided.len(), sent - bad);
    let by_id: BTreeMap<_, _> =
        decided.iter().map(|decision| (decision.id.event.as_str(), decision)).collect();
    assert_eq!(by_id.len(), sent - bad);
    for (id, action, p) in [
        // There is nothing to judge.
        ("e00001", Action::Allow, false),
        ("e00002", Action::Allow, false),
        ("e00003", Action::Allow, true),
        // No expert can read this text.
        ("e00004", Action::Review, false),
        ("e00005", Action::Review, false),
    ] {
        let decision = by_id[id];
        assert_eq!((decision.action, decision.probability.is_some()), (action, p), "{id}");
        assert_eq!(decision.degraded, action == Action::Review, "{id}");
        assert_eq!(decision.nothing_to_judge, action == Action::Allow && !p, "{id}");
        let hidden: &[_] = if id == "e00005" { &[HiddenText::BidiControls] } else { &[] };
        assert_eq!(decision.hidden_text, hidden, "{id}");
    }
    let now = by_id["e00007"].round_time;
    assert!(now < 3_000_000_000_000, "no event has a time in the future: {now}");

    let expected: BTreeMap<_, _> =
        poison(events).into_iter().map(|(reason, _)| (reason.to_owned(), 1)).collect();
    assert_eq!(reasons(&letters), expected);
    let not_avro = letters.iter().find(|letter| header(letter, "exception.class.name") == "NotAvro").unwrap();
    assert_eq!(not_avro.payload.as_deref(), Some(b"neither Avro nor JSON".as_slice()));
    assert_eq!((header(not_avro, "topic").as_str(), header(not_avro, "stage").as_str()), (events, "score"));
    for letter in &letters {
        assert!(!header(letter, "exception.message").contains("hello"), "no message text in headers");
    }
    flow.stop();
}

/// Returns the reason why an expert abstained.
fn abstention(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Voted { .. } => None,
        Outcome::Abstained(reason) => Some(reason.word()),
    }
}

#[test]
fn a_request_names_its_decision_and_the_label_that_answers_finds_it() {
    let flow = Running::start(|_| {});
    let events: Vec<_> = (0..12)
        .map(|number: usize| event(number, ["\u{1f642}", "hello", " \u{200b}"][number % 3]))
        .map(|event| event_record(&flow.topics.events, &event))
        .collect();
    send(&flow.connection, &events);
    let decided =
        read_until(&flow.connection, &flow.topics.decisions, "12 decisions", |records| records.len() >= 12);
    let asked = read_until(&flow.connection, &flow.topics.review, "4 requests", |records| records.len() >= 4);
    let made = decisions(&decided);
    let requests = reviews(&asked);
    assert_eq!((made.len(), requests.len()), (12, 4));
    // A text that no expert can read gets a review request; an empty text gets none.
    let (mut unread, mut nothing) = (0, 0);
    for decision in &made {
        let reasons: BTreeSet<_> =
            decision.votes.iter().map(|weighed| &weighed.vote.outcome).map(abstention).collect();
        if decision.nothing_to_judge {
            nothing += 1;
            assert_eq!((decision.action, decision.review(), decision.degraded), (Action::Allow, None, false));
            assert_eq!(reasons, [Some("empty_text")].into());
        } else if decision.review().is_some() {
            unread += 1;
            assert_eq!((decision.action, decision.degraded), (Action::Review, true));
            assert_eq!(reasons, [Some("nothing_read")].into());
        }
    }
    assert_eq!((unread, nothing), (4, 4));
    for request in &requests {
        let lies = |record: &Consumed| (record.partition, record.offset);
        let at = (request.decision.partition, request.decision.offset);
        let index = decided.iter().position(|record| lies(record) == at).unwrap();
        assert_eq!((&made[index].id, made[index].review()), (&request.id, request.reasons.first().copied()));
    }
    let answer = |request: &ReviewRequest| Label {
        decision: Some(request.decision),
        inclusion_probability: Some(request.inclusion_probability),
        ..label("answer", &request.id.event, Finding::Unsafe)
    };
    // An event with nothing to judge gets a label all the same.
    let (record, nothing) =
        decided.iter().zip(&made).find(|(_, decision)| decision.nothing_to_judge).unwrap();
    let mut labels: Vec<_> = requests.iter().map(answer).collect();
    labels.push(label("unasked", &nothing.id.event, Finding::Unsafe));
    let mut answered: BTreeMap<_, _> =
        requests.into_iter().map(|request| (request.id, request.decision)).collect();
    answered.insert(nothing.id.clone(), DecisionRef { partition: record.partition, offset: record.offset });
    flow.send_labels(&labels);
    flow.await_labels(5);
    let (records, last, policies) = flow.stop();
    // No expert voted on any of them, so the labels are in the ledger, and the learner has learned nothing.
    let (fold, _) = folded(&records, &policies);
    assert_eq!(fold.progress().rounds, 0);
    assert!(last.is_none_or(|published| published.rounds == 0));
    let judged: BTreeMap<_, _> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Round(judged) => Some((judged.id, judged.decision)),
            _ => None,
        })
        .collect();
    assert_eq!(judged, answered);
}

#[test]
fn the_age_of_what_waits_is_told() {
    let page = crate::metrics_page();
    let flow = Running::start(|_| {});
    let until = Instant::now() + 4 * WAIT;
    let told = |page: &str| {
        let ages = page.lines().filter_map(|line| line.strip_prefix("kafka_consumergroup_lag_seconds{"));
        ages.filter(|line| line.contains("aegis-score")).any(|line| !line.ends_with(" 0"))
    };
    for number in 0.. {
        // They are sent one after the other, so that one is always in flight.
        send(&flow.connection, &[event_record(&flow.topics.events, &event(number, "hello"))]);
        let page = page.render();
        if told(&page) {
            break;
        }
        assert!(Instant::now() < until, "{page}");
    }
    flow.stop();
}

#[test]
fn a_dead_letter_too_large_for_its_topic_goes_without_its_value() {
    let flow = Running::limited("100000", |_| {});
    let events = flow.topics.events.as_str();
    let large = raw(events, "k", "x".repeat(300_000));
    send(&flow.connection, &[large, event_record(events, &event(0, "hello"))]);
    let letters =
        read_until(&flow.connection, &flow.topics.dlq, "a dead letter", |letters| !letters.is_empty());
    read_until(&flow.connection, &flow.topics.decisions, "the stream to go on", |records| {
        !records.is_empty()
    });
    assert_eq!((letters[0].payload.as_ref(), header(&letters[0], "offset").as_str()), (None, "0"));
    assert!(header(&letters[0], "value.left.out.bytes").parse::<usize>().unwrap() >= 300_000);
    flow.stop();
}
