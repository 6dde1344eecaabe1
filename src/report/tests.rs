//! Reports about streams whose truth is known, about hostile input and about nothing.

mod labels;
mod output;
mod previews;

use std::collections::BTreeMap;

use super::*;
use crate::config::Policies;
use crate::core::decision::{Decision, DecisionInput, Origin, decide};
use crate::core::event::Event;
use crate::core::label::{Finding, Label};
use crate::core::language::Language;
use crate::core::ledger::RoundId;
use crate::core::policy::{Action, Policy};
use crate::core::predictor::{Combined, PredictorRef, Share};
use crate::core::vote::{Abstention, CategoryScore, Vote};

/// The default policy with audits at this rate, and without a margin.
pub(super) fn policy(audit: f64) -> Policy {
    let mut policy = Policies::default().policies.remove("default").unwrap();
    policy.audit_rates = crate::core::sampling::AuditRates::flat(audit);
    policy.review_margin = 0.0;
    policy.features = false;
    policy
}

pub(super) fn policies(policy: Policy) -> Policies {
    Policies { policies: BTreeMap::from([(policy.name.clone(), policy)]), ..Policies::default() }
}

/// Decides on the event with this number. The category `harm` has the score `harm`, and `skipped` experts were not needed.
pub(super) fn decided(policy: &Policy, number: u64, p: f64, harm: f64, skipped: bool) -> Decision {
    let event = Event {
        tenant: if number.is_multiple_of(4) { "small".into() } else { "large".into() },
        policy: policy.name.clone(),
        subject: Some(format!("user {}", number % 100)),
        ..Event::example(&format!("e{number}"), "hello")
    };
    let categories = vec![CategoryScore { category: "harm".into(), score: harm }];
    let second = if skipped {
        Vote::abstained("b", None, Abstention::NotNeeded)
    } else {
        Vote::scored("b", [2; 32], 1.0 - p, Vec::new())
    };
    let votes = vec![Vote::scored("a", [1; 32], p, categories), second];
    let input = DecisionInput {
        origin: Origin { topic: "events".into(), partition: 0, offset: i64::try_from(number).unwrap() },
        round_time: i64::try_from(number).unwrap() * 1_000,
        language: if number.is_multiple_of(3) { Language::German } else { Language::English },
        ..DecisionInput::example(event, votes)
    };
    let combined = Combined { probability: Some(p), shares: vec![Share::default(); 2] };
    decide(input, policy, PredictorRef::prior("hedge"), &combined, 1)
}

fn label(id: &RoundId, is_unsafe: bool) -> Label {
    Label::new(id, "l", if is_unsafe { Finding::Unsafe } else { Finding::Safe })
}

/// A stream of decisions with the truth about each event: unsafe with the probability p.
pub(super) fn stream(policy: &Policy, seed: u64, count: u64) -> Vec<(Decision, bool)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let event = |number| {
        let p = random.f64().powi(4);
        let is_unsafe = random.f64() < p;
        (decided(policy, number, p, random.f64(), false), is_unsafe)
    };
    (0..count).map(event).collect()
}

/// The report about a stream of which every request is answered if `answers` returns `true` for it.
fn reported(
    policy: &Policy,
    settings: Settings,
    stream: &[(Decision, bool)],
    answers: impl Fn(&Decision) -> bool,
) -> Report {
    let mut collector = Collector::new(policies(policy.clone()), settings);
    for (decision, is_unsafe) in stream {
        if !decision.reasons.is_empty() && answers(decision) {
            collector.add_label(label(&decision.id, *is_unsafe));
        }
    }
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    collector.finish()
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn truth(stream: &[(Decision, bool)]) -> (f64, f64, f64) {
    let count = |of: &dyn Fn(bool, bool) -> bool| {
        stream.iter().filter(|(decision, bad)| of(decision.action != Action::Allow, *bad)).count() as f64
    };
    let (bad, flagged, caught) = (count(&|_, bad| bad), count(&|flagged, _| flagged), count(&|f, b| f && b));
    (bad / stream.len() as f64, caught / flagged, caught / bad)
}

#[test]
fn with_every_event_labelled_the_report_is_the_truth() {
    let policy = policy(1.0);
    let stream = stream(&policy, 1, 2_000);
    let report = reported(&policy, Settings::default(), &stream, |_| true);
    let only = &report.policies[0];
    let (prevalence, precision, recall) = truth(&stream);
    for (figure, truth) in [
        (only.figures.prevalence, prevalence),
        (only.figures.precision, precision),
        (only.figures.recall, recall),
    ] {
        let figure = figure.unwrap();
        assert!((figure.value - truth).abs() < 1e-9, "{figure:?} is not {truth}");
        assert!(figure.low <= truth && truth <= figure.high, "{figure:?}");
        assert!(figure.labels > 0);
    }
    assert_eq!((only.counts.decisions, only.counts.answered), (2_000, 2_000));
    assert_eq!(only.response_rate, Some(1.0));
    assert!(only.known && report.skipped.is_empty());
    // The groups split the decisions, and each has enough labels.
    for by in [Dimension::Action, Dimension::Language, Dimension::Tenant] {
        let groups: Vec<_> = only.groups.iter().filter(|group| group.by == by).collect();
        assert_eq!(groups.iter().map(|group| group.counts.decisions).sum::<u64>(), 2_000, "{by:?}");
        assert!(groups.iter().all(|group| group.figures.is_some()), "{by:?}");
    }
    // The expert that votes p agrees with people as the ensemble does; its opposite errs where it is right.
    let [a, b] = &only.experts[..] else { panic!("{:?}", only.experts) };
    let errors = only.figures.error_rate.unwrap().value;
    assert!((a.period.agreement.unwrap().value - (1.0 - errors)).abs() < 1e-9);
    assert!((b.period.agreement.unwrap().value - errors).abs() < 0.01, "{b:?}");
}

#[test]
fn a_sample_estimates_the_truth_and_says_how_well() {
    let policy = policy(0.2);
    let stream = stream(&policy, 2, 20_000);
    let report = reported(&policy, Settings::default(), &stream, |_| true);
    let only = &report.policies[0];
    let (prevalence, precision, recall) = truth(&stream);
    for (figure, truth) in [
        (only.figures.prevalence, prevalence),
        (only.figures.precision, precision),
        (only.figures.recall, recall),
    ] {
        let figure = figure.unwrap();
        assert!(figure.low < truth && truth < figure.high, "{figure:?} does not cover {truth}");
        assert!(figure.high - figure.low < 0.1, "{figure:?}");
    }
}

#[test]
fn unanswered_requests_are_bounded_by_their_worst_answers() {
    let policy = policy(1.0);
    let stream = stream(&policy, 6, 3_000);
    // People answer only what is safe.
    let truth_of: BTreeMap<_, _> = stream.iter().map(|(decision, bad)| (decision.id.clone(), *bad)).collect();
    let report = reported(&policy, Settings::default(), &stream, |decision| {
        !truth_of[&decision.id] || decision.origin.offset % 2 == 0
    });
    let only = &report.policies[0];
    assert!(only.response_rate.unwrap() < 1.0);
    let (prevalence, _, recall) = truth(&stream);
    for (figure, truth) in [(only.figures.prevalence, prevalence), (only.figures.recall, recall)] {
        let figure = figure.unwrap();
        let (least, greatest) = figure.unanswered;
        assert!(least <= truth && truth <= greatest && least < greatest, "{figure:?} {truth}");
    }
}

#[test]
fn the_period_selects_by_round_time_and_experts_are_compared_with_the_one_before() {
    let policy = policy(0.3);
    let stream = stream(&policy, 7, 3_000);
    let settings = Settings { since: Some(1_000_000), until: Some(2_000_000), ..Settings::default() };
    assert_eq!(settings.before(), Some(0));
    let report = reported(&policy, settings, &stream, |_| true);
    let only = &report.policies[0];
    assert_eq!(only.counts.decisions, 1_000);
    for expert in &only.experts {
        let before = expert.before.as_ref().unwrap();
        assert_eq!((expert.period.votes, before.votes), (1_000, 1_000));
        let (now, then) = (expert.period.figures.error_rate.unwrap(), before.figures.error_rate.unwrap());
        let drift = expert.drift.unwrap();
        assert_eq!(drift.value, now.value - then.value);
        assert!(drift.low < 0.0 && 0.0 < drift.high, "nothing has changed: {drift:?}");
    }
    let settings = Settings { since: Some(5_000_000), ..Settings::default() };
    assert_eq!(reported(&policy, settings, &stream, |_| true).policies, []);
}

#[test]
fn votes_that_were_asked_because_they_were_decisive_do_not_count() {
    let policy = policy(1.0);
    let mut stream = stream(&policy, 8, 1_000);
    for (number, (decision, _)) in stream.iter_mut().enumerate() {
        decision.votes[1].vote.explored = number % 10 == 0;
        decision.votes[1].vote.decisive = number % 10 == 1;
    }
    let report = reported(&policy, Settings::default(), &stream, |_| true);
    let [a, b] = &report.policies[0].experts[..] else { panic!() };
    assert_eq!((a.period.votes, a.period.not_counted), (1_000, 0));
    assert_eq!((b.period.votes, b.period.not_counted, b.period.figures.labels), (100, 900, 100));
}
