//! The draws that send events to review, through score on the embedded broker: they are the same after a restart, audits come
//! at their rates, and a review budget thins what is near the threshold and nothing else.

use crate::{metrics_page, support};

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;

use aegis::codec;
use aegis::config::{Config, Policies, topic_specs};
use aegis::core::decision::{Decision, ReviewReason};
use aegis::core::event::Event;
use aegis::core::label::DecisionRef;
use aegis::core::policy::{Action, Policy};
use aegis::core::review::ReviewRequest;
use aegis::core::sampling::{AuditRates, ReviewDraws};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use support::flow::{event, event_record, experts, read_all, read_until, reviews, send};

/// The number of events of a run. Every second one is near the threshold.
const EVENTS: usize = 2_400;

/// A policy under which the texts with the word "kill" are on the slope or within the margin, and others are far from both.
fn policy(name: &str) -> Policy {
    let policy = Policies::default().get("default").unwrap().clone();
    let mut policy = Policy {
        name: name.into(),
        review_margin: 0.0,
        review_slope: 0.2,
        audit_rates: AuditRates { allow: 0.1, block: 0.3, review: 1.0 },
        ..policy
    };
    policy.learner.seed = Some(b"hunter2".to_vec());
    policy
}

fn events(policy: &str) -> Vec<Event> {
    let text = |number| if number % 2 == 0 { "kill" } else { "hello" };
    (0..EVENTS).map(|number| Event { policy: policy.into(), ..event(number, text(number)) }).collect()
}

/// Scores the events, with `restarts` of the role on the way. Returns the decisions by event, after it has checked that each
/// request equals its decision.
fn scored(policy: &Policy, restarts: usize) -> BTreeMap<String, Decision> {
    let folder = tempfile::tempdir().unwrap();
    experts(&folder.path().join("models"));
    let panel = Arc::new(Panel::open(PanelConfig::new(folder.path().join("models"))).unwrap());
    let config = Arc::new(Config::default());
    let specs = topic_specs(&config, 3);
    let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    let broker = Embedded::start(&names).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut policies = Policies::default();
    policies.policies.insert(policy.name.clone(), policy.clone());
    let policies = Arc::new(policies);
    let events = events(&policy.name);
    let mut sent = 0;
    for part in events.chunks(EVENTS / (restarts + 1)) {
        let records: Vec<_> = part.iter().map(|event| event_record(&config.topics.events, event)).collect();
        send(&connection, &records);
        sent += part.len();
        let shutdown = Shutdown::new();
        let score = Score {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            panel: PanelHandle::in_force(Arc::clone(&panel), &aegis::config::Experts::default()),
            connection: connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let score = thread::spawn(move || score.run().unwrap());
        read_until(&connection, &config.topics.decisions, "decisions", |records| records.len() >= sent);
        shutdown.request(StopReason::Program);
        score.join().unwrap();
    }
    let records = read_all(&connection, &config.topics.decisions);
    let placed: BTreeMap<_, _> = records
        .iter()
        .map(|record| {
            let decision = codec::decode_decision(record.payload.as_deref().unwrap()).unwrap();
            ((record.partition, record.offset), decision)
        })
        .collect();
    let requests = reviews(&read_all(&connection, &config.topics.review));
    let expected = placed.iter().filter_map(|((partition, offset), decision)| {
        ReviewRequest::of(decision, DecisionRef { partition: *partition, offset: *offset })
    });
    let by_place = |request: &ReviewRequest| (request.decision.partition, request.decision.offset);
    let requests: BTreeMap<_, _> =
        requests.into_iter().map(|request| (by_place(&request), request)).collect();
    assert_eq!(requests, expected.map(|request| (by_place(&request), request)).collect());
    assert_eq!(placed.len(), EVENTS, "no event is decided twice, so each has its first decision");
    placed.into_values().map(|decision| (decision.id.event.clone(), decision)).collect()
}

/// Returns the reasons of a decision, and the probabilities of its draws.
fn drawn(decision: &Decision) -> (Vec<ReviewReason>, [f64; 3]) {
    let sampling = decision.sampling;
    (decision.reasons.clone(), [sampling.audit, sampling.uncertainty, decision.review_probability])
}

#[test]
fn draws_are_the_same_after_a_restart_and_come_up_at_their_rates() {
    let policy = policy("drawn");
    let (once, restarted) = (scored(&policy, 0), scored(&policy, 3));
    let mut audits = BTreeMap::from([("allow", (0.0, 0.0)), ("block", (0.0, 0.0))]);
    let (mut near, mut expected_near) = (0.0, 0.0);
    for (id, decision) in &once {
        assert_eq!(drawn(decision), drawn(&restarted[id]), "{id}");
        let rate = policy.audit_rates.of(decision.action);
        assert_eq!((decision.sampling.audit, decision.sampling.thinned), (rate, false));
        let (count, expected) = audits.get_mut(decision.action.word()).unwrap();
        *count += f64::from(u8::from(decision.reasons.contains(&ReviewReason::Audit)));
        *expected += rate;
        near += f64::from(u8::from(decision.reasons.contains(&ReviewReason::NearThreshold)));
        expected_near += decision.sampling.uncertainty;
    }
    for (action, (count, expected)) in &audits {
        println!("{action}: {count} audits, {expected} expected");
        assert!(*expected > 100.0 && (count - expected).abs() < 4.0 * expected.sqrt(), "{action}: {count}");
    }
    println!("{near} near the threshold, {expected_near} expected");
    assert!(expected_near > 100.0 && (near - expected_near).abs() < 4.0 * expected_near.sqrt(), "{near}");
    let far = once.values().filter(|decision| decision.sampling.uncertainty == 0.0);
    assert!(far.clone().any(|decision| decision.reasons == [ReviewReason::Audit]), "a miss can be seen");
    assert!(far.clone().all(|decision| decision.action == Action::Allow));
}

#[test]
fn a_budget_thins_requests_near_the_threshold_and_never_an_audit() {
    let hourly = 60.0;
    let mut policy = policy("budgeted");
    // Its numbers are those of the same policy without a budget, because the key has the name and the secret.
    let free = scored(&policy, 0);
    let before = withheld_count();
    policy.review_budget = NonZeroU32::new(60);
    let thinned = scored(&policy, 0);
    let (mut requests, mut withheld) = (0.0, 0);
    for (id, decision) in &thinned {
        let (free, draws) = (&free[id], ReviewDraws::of(&policy, "t", id));
        let has = |decision: &Decision, reason| decision.reasons.contains(&reason);
        assert_eq!(has(decision, ReviewReason::Audit), has(free, ReviewReason::Audit), "{id}");
        assert_eq!(decision.sampling.audit, free.sampling.audit);
        assert!(decision.sampling.uncertainty <= free.sampling.uncertainty);
        assert_eq!(decision.sampling.thinned, decision.sampling.uncertainty < free.sampling.uncertainty);
        assert_eq!(
            has(decision, ReviewReason::NearThreshold),
            draws.uncertainty < decision.sampling.uncertainty,
            "the same number decides"
        );
        assert_eq!(decision.review_probability, decision.sampling.inclusion());
        requests += decision.sampling.uncertainty;
        withheld += u64::from(!free.reasons.is_empty() && decision.reasons.is_empty());
    }
    let free: f64 = free.values().map(|decision| decision.sampling.uncertainty).sum();
    // An allowance is a tenth of the budget. Time adds to it, but not an hour's worth.
    let bound = 0.1 * hourly * (1.0 + (EVENTS as f64 / 6.0).ln()) + hourly;
    println!(
        "{requests:.1} requests near the threshold are expected instead of {free:.1}; {withheld} withheld"
    );
    assert!(requests < bound && free > 2.0 * bound, "{requests} of {free}");
    assert!(withheld > 100);
    assert_eq!(withheld_count() - before, withheld);
}

/// Returns how many requests the budget has withheld by now, as the metrics say.
fn withheld_count() -> u64 {
    let page = metrics_page().render();
    let line =
        page.lines().find_map(|line| line.strip_prefix(r#"aegis_reviews_thinned_total{policy="budgeted"} "#));
    line.map_or(0, |count| count.parse().unwrap())
}
