//! The whole flow on the embedded broker, in process: bad input and every kind of label, each with its one outcome.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use aegis::codec;
use aegis::config::topic_specs;
use aegis::config::{Config, Policies, Topics};
use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::ledger::Record;
use aegis::core::ledger_state::LedgerState;
use aegis::core::policy::Action;
use aegis::core::predictor::Published;
use aegis::core::review::ReviewRequest;
use aegis::core::text::HiddenText;
use aegis::core::vote::Outcome;
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Consumed, Delivery};
use aegis::learn::{Learn, Progress};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use support::WAIT;
use support::flow::{
    decisions, event, event_record, experts, header, label, label_record, ledger, poison, raw, read_all,
    read_until, reasons, reviews, send,
};
use support::site::poll;

/// score and learn on threads, on an embedded broker.
struct Running {
    connection: Connection,
    topics: Topics,
    policies: Arc<Policies>,
    shutdown: Shutdown,
    progress: Arc<Progress>,
    score: JoinHandle<()>,
    learn: JoinHandle<()>,
    _folder: tempfile::TempDir,
    _broker: Embedded,
}

impl Running {
    fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::limited("4000000", adjust)
    }

    /// Starts both roles with a limit on the size of the records that score can write, in bytes.
    fn limited(limit: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let mut config = Config::default();
        config.learn.store = folder.path().join("store");
        config.learn.publish_interval_ms = 50;
        adjust(&mut config);
        let specs = topic_specs(&config, 3);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "4000000".into());
        let panel = Arc::new(Panel::open(PanelConfig::new(folder.path().join("models"))).unwrap());
        let (config, policies) = (Arc::new(config), Arc::new(Policies::default()));
        let (shutdown, progress) = (Shutdown::new(), Arc::<Progress>::default());
        let score = Score {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            panel: PanelHandle::in_force(panel, &[]),
            connection: Connection {
                settings: [("message.max.bytes".to_owned(), limit.to_owned())].into(),
                ..connection.clone()
            },
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let learn = Learn {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            connection: connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::clone(&progress),
        };
        Self {
            connection,
            topics: config.topics.clone(),
            policies,
            shutdown,
            progress,
            score: thread::spawn(move || score.run().unwrap()),
            learn: thread::spawn(move || learn.run().unwrap()),
            _folder: folder,
            _broker: broker,
        }
    }

    fn send_labels(&self, labels: &[Label]) {
        let records: Vec<_> = labels.iter().map(|label| label_record(&self.topics.labels, label)).collect();
        // They are sent one at a time, because the partitions of the embedded broker are then read in this order.
        for record in records {
            send(&self.connection, &[record]);
        }
    }

    fn await_labels(&self, taken: i64) {
        poll(|| {
            assert!(!self.learn.is_finished(), "learn has stopped");
            let labels = self.progress.labels();
            if labels >= taken { Ok(()) } else { Err(format!("{labels} of {taken} labels are taken")) }
        });
    }

    /// Stops both roles. Returns the ledger, the last predictor, and the policies.
    fn stop(self) -> (Vec<Record>, Option<Published>, Arc<Policies>) {
        self.shutdown.request(StopReason::Program);
        self.score.join().unwrap();
        self.learn.join().unwrap();
        let records = ledger(&read_all(&self.connection, &self.topics.rounds));
        let weights = read_all(&self.connection, &self.topics.weights);
        let last = weights
            .last()
            .and_then(|record| Some(codec::decode_published(record.payload.as_deref()?).unwrap()));
        (records, last, self.policies)
    }
}

/// Folds these records, in an order that differs from theirs.
fn folded(records: &[Record], policies: &Policies) -> (Fold, LedgerState) {
    let policy = policies.get("default").unwrap();
    let mut book = LedgerState::new();
    for record in records.iter().rev() {
        book.apply(record, &mut Vec::new()).unwrap();
    }
    let mut fold = Fold::new(Settings::new("default", policy.learner.clone(), policy.mapping.clone()));
    fold.mark_all_changed(&book);
    fold.catch_up(&book).unwrap();
    (fold, book)
}

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
