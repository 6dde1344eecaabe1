//! The window in memory, and the watch on an embedded broker.

use std::time::{Duration, Instant};

use super::alarms::Watched;
use super::*;
use crate::codec::{Encoding, encode_decision, encode_record};
use crate::core::decision::Decision;
use crate::core::label::{Finding, Label};
use crate::core::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record};
use crate::core::policy::Policy;
use crate::kafka::embedded::Embedded;
use crate::kafka::{Delivery, Outbox, Produced};
use crate::ops::StopReason;
use crate::report::tests::{decided, policies, policy};

/// A time at the start of a day.
const NOW: Millis = 20_000 * DAY;

fn decision(policy: &Policy, number: u64, p: f64, time: Millis) -> Decision {
    Decision { round_time: time, ..decided(policy, number, p, 0.0, false) }
}

fn answer(decision: &Decision, is_unsafe: bool, received: Millis) -> Record {
    let finding = if is_unsafe { Finding::Unsafe } else { Finding::Safe };
    let label = Label::new(&decision.id, "l", finding);
    Record::Label(LabelRecord { label, received, status: LabelStatus::Accepted })
}

#[test]
fn a_label_counts_whether_it_comes_before_or_after_its_decision_and_days_leave_the_window() {
    let policy = policy(1.0);
    let all = policies(policy.clone());
    let mut window = Window::new(7, NOW);
    let decisions: Vec<_> = (0..100)
        .map(|number| decision(&policy, number, 0.9, NOW - i64::try_from(number % 10).unwrap() * DAY))
        .collect();
    decisions[..50].iter().for_each(|decision| window.add_record(&answer(decision, true, NOW)));
    decisions.iter().for_each(|decision| drop(window.add_decision(decision)));
    decisions[50..].iter().for_each(|decision| window.add_record(&answer(decision, false, NOW)));
    assert_eq!(window.advance(NOW), Vec::<String>::new());
    let (headlines, _) = window.headlines(&all, NOW);
    // Seven of the ten days.
    let counts = headlines[0].counts;
    assert_eq!((counts.decisions, counts.requests, counts.answered), (70, 70, 70));
    assert_eq!(headlines[0].figures.prevalence.unwrap().value, 0.5);
    window.advance(NOW + 6 * DAY);
    assert_eq!(window.headlines(&all, NOW + 6 * DAY).0[0].counts.decisions, 10);
    window.advance(NOW + 7 * DAY);
    assert_eq!(window.headlines(&all, NOW + 7 * DAY).0[0].counts.decisions, 0);
    // A policy that the file no longer has is forgotten.
    let other = policies(Policy { name: "other".into(), ..policy });
    assert_eq!(window.headlines(&other, NOW).0, []);
}

#[test]
fn an_erased_request_stays_a_decision_without_an_answer_and_far_days_are_ignored() {
    let policy = policy(1.0);
    let all = policies(policy.clone());
    let mut window = Window::new(7, NOW);
    for number in 0..10 {
        let decision = decision(&policy, number, 0.9, NOW);
        drop(window.add_decision(&decision));
        window.add_record(&answer(&decision, true, NOW));
    }
    let action = EditAction::Erase { tenant: String::new(), subject: "user 3".into() };
    window.add_record(&Record::Edit(Edit { id: "e".into(), action }));
    drop(window.add_decision(&decision(&policy, 11, 0.9, NOW + 2 * DAY)));
    let counts = window.headlines(&all, NOW).0[0].counts;
    assert_eq!((counts.decisions, counts.requests, counts.answered), (10, 10, 9));
    assert_eq!(window.remove_policies(&all), Vec::<String>::new());
    let other = policies(Policy { name: "other".into(), ..policy.clone() });
    assert_eq!(window.remove_policies(&other), [policy.name]);
}

#[test]
fn a_changed_block_rate_and_an_expert_that_fails_raise_alarms() {
    let policy = policy(1.0);
    let all = policies(policy.clone());
    let mut window = Window::new(30, NOW);
    let mut random = fastrand::Rng::with_seed(1);
    let mut raised = Vec::new();
    let mut add = |window: &mut Window, number: u64, blocked: f64, right: bool| {
        let is_unsafe = random.f64() < blocked;
        // The expert `a` votes p, and `b` votes 1 - p.
        let p = if is_unsafe == right { 0.9 } else { 0.1 };
        let decision = decision(&policy, number, p, NOW);
        raised.extend(window.add_decision(&decision).into_iter().map(|alarm| alarm.raised.watched));
        window.add_record(&answer(&decision, is_unsafe, NOW));
    };
    (0..5_000).for_each(|number| add(&mut window, number, 0.05, true));
    let quiet = window.headlines(&all, NOW);
    assert_eq!((quiet.0[0].alarms.len(), quiet.1.len()), (0, 0), "{:?}", quiet.1);
    (5_000..10_000).for_each(|number| add(&mut window, number, 0.3, true));
    assert!(raised.contains(&Watched::BlockRate) && raised.contains(&Watched::MeanP), "{raised:?}");
    assert!(!raised.contains(&Watched::Disagreement), "the experts disagree always: {raised:?}");
    let (headlines, alarms) = window.headlines(&all, NOW);
    assert!(headlines[0].alarms.contains(&"block_rate".to_owned()));
    assert_eq!(alarms, [], "no expert is worse than before");
    assert_eq!(
        window.headlines(&all, NOW + DAY).0[0].alarms,
        Vec::<String>::new(),
        "an alarm is shown for a day"
    );
}

#[test]
fn an_expert_whose_errors_grow_raises_an_alarm() {
    let policy = policy(1.0);
    let all = policies(policy.clone());
    let mut window = Window::new(30, NOW);
    for number in 0..3_000 {
        // The expert `a` is right until the middle, and then wrong.
        let decision = decision(&policy, number, 0.9, NOW);
        drop(window.add_decision(&decision));
        window.add_record(&answer(&decision, number < 1_500, NOW));
    }
    let (headlines, alarms) = window.headlines(&all, NOW + DAY / 2);
    assert!(alarms.iter().all(|alarm| alarm.time == NOW), "an alarm has the time of its label: {alarms:?}");
    let watched: Vec<_> = alarms.iter().map(|alarm| alarm.raised.watched.clone()).collect();
    assert!(watched.contains(&Watched::ExpertError("a".into())), "{watched:?}");
    assert!(headlines[0].alarms.contains(&"expert_error a".to_owned()));
    assert_eq!(window.headlines(&all, NOW).1, [], "each label counts once");
}

#[test]
fn an_error_and_a_panic_are_named_and_end_nothing() {
    assert_eq!(isolated(|| Ok(())), Ok(()));
    let panic: Box<dyn FnOnce() -> Result<(), WatchError> + Send> = Box::new(|| panic!("a fault"));
    assert_eq!(isolated(panic), Err("Panic"));
    let broker = Embedded::start(&[]).unwrap();
    let watch = watch(&broker, Shutdown::new());
    assert_eq!(watch.attempt(), Err("MissingTopic"));
}

fn watch(broker: &Embedded, shutdown: Shutdown) -> Arc<Watch> {
    let mut config = Config::default();
    config.report.interval_ms = 10;
    Arc::new(Watch {
        config: Arc::new(config),
        policies: Live::from(Arc::new(policies(policy(1.0)))),
        connection: Connection::new(broker.bootstrap()),
        shutdown,
    })
}

fn produced(topic: &str, payload: Vec<u8>) -> Produced {
    Produced {
        topic: topic.into(),
        partition: Some(0),
        key: Some(b"k".to_vec()),
        payload: Some(payload),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Reads the topics until the headline of the only policy has this number of answers.
fn read_until(watch: &Watch, following: &mut Following<'_>, answered: u64) -> Headline {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        following.read(watch).unwrap();
        let mut headlines = watch.update(&mut following.window);
        if headlines.first().is_some_and(|headline| headline.counts.answered == answered) {
            return headlines.remove(0);
        }
        assert!(Instant::now() < until, "{headlines:?}");
    }
}

#[test]
fn the_watch_follows_the_topics() {
    let topics = Config::default().topics;
    let (decisions, rounds) = (topics.decisions.to_string(), topics.rounds.to_string());
    let broker = Embedded::start(&[(&decisions, 1), (&rounds, 1)]).unwrap();
    let shutdown = Shutdown::new();
    let watch = watch(&broker, shutdown.clone());
    let mut outbox = Outbox::open(&watch.connection, Delivery::AtLeastOnce).unwrap();
    // The embedded broker finds no record by its time: the decisions come after the start.
    let mut following = watch.open(None).unwrap();
    let policy = policy(1.0);
    let made: Vec<_> = (0..20).map(|number| decision(&policy, number, 0.9, now())).collect();
    let mut records = vec![produced(&decisions, b"no decision".to_vec())];
    records.extend(
        made.iter().map(|decision| produced(&decisions, encode_decision(decision, Encoding::Avro).unwrap())),
    );
    let label = |decision: &Decision| {
        produced(&rounds, encode_record(&answer(decision, true, now()), Encoding::Avro).unwrap())
    };
    records.extend(made[..5].iter().map(label));
    outbox.commit(&records, None).unwrap();
    let headline = read_until(&watch, &mut following, 5);
    assert_eq!((headline.counts.decisions, headline.counts.requests), (20, 20));
    assert_eq!(headline.figures.recall.unwrap().value, 1.0);
    // Later labels are found without reading anything again.
    outbox.commit(&made[5..].iter().map(label).collect::<Vec<_>>(), None).unwrap();
    read_until(&watch, &mut following, 20);
    shutdown.request(StopReason::Program);
    assert_eq!(watch.attempt(), Ok(()));
}
