//! Reports about streams whose truth is known, about hostile input and about nothing.

use std::collections::BTreeMap;

use super::*;
use crate::config::Policies;
use crate::core::decision::{Decision, DecisionInput, Origin, decide};
use crate::core::event::{Event, Role, Turn};
use crate::core::label::{Finding, Label, Source};
use crate::core::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId};
use crate::core::policy::{Action, CategoryRule, Policy};
use crate::core::predictor::{Combined, PredictorRef, Share};
use crate::core::preview::preview;
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
        id: format!("e{number}"),
        conversation: "c".into(),
        tenant: if number.is_multiple_of(4) { "small".into() } else { "large".into() },
        policy: policy.name.clone(),
        subject: Some(format!("user {}", number % 100)),
        time: None,
        turns: vec![Turn { role: Role::User, text: "hello".into() }],
        judged: 0,
        metadata: BTreeMap::new(),
    };
    let categories = vec![CategoryScore { category: "harm".into(), score: harm }];
    let second = if skipped {
        Vote::abstained("b", None, Abstention::NotNeeded)
    } else {
        Vote::scored("b", [2; 32], 1.0 - p, Vec::new())
    };
    let input = DecisionInput {
        event,
        origin: Origin { topic: "events".into(), partition: 0, offset: i64::try_from(number).unwrap() },
        round_time: i64::try_from(number).unwrap() * 1_000,
        votes: vec![Vote::scored("a", [1; 32], p, categories), second],
        features: None,
        trace: None,
        thinning: 1.0,
    };
    let predictor = PredictorRef {
        learner: "hedge".into(),
        state_hash: [0; 32],
        rounds: 0,
        ledger_offset: -1,
        pinned: false,
    };
    let combined = Combined { probability: Some(p), shares: vec![Share::default(); 2] };
    decide(input, policy, predictor, &combined, 1)
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
    for by in [Dimension::Action, Dimension::Tenant] {
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
fn labels_that_nobody_requested_and_calibrations_are_not_used() {
    let policy = policy(0.1);
    let stream = stream(&policy, 3, 5_000);
    let honest = reported(&policy, Settings::default(), &stream, |_| true);
    let mut collector = Collector::new(policies(policy), Settings::default());
    for (decision, is_unsafe) in &stream {
        if decision.reasons.is_empty() {
            // All of them claim to be unsafe, and that they were requested.
            let claimed = Label { inclusion_probability: Some(0.1), ..label(&decision.id, true) };
            collector.add_label(claimed);
        } else {
            collector.add_label(label(&decision.id, *is_unsafe));
            let source = Source::Calibration;
            collector.add_label(Label { source, id: "c".into(), ..label(&decision.id, !is_unsafe) });
        }
    }
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    let report = collector.finish();
    assert_eq!(report.policies[0].figures, honest.policies[0].figures);
    let asked = stream.iter().filter(|(decision, _)| !decision.reasons.is_empty()).count();
    assert_eq!(report.policies[0].unrequested_labels as usize, stream.len() - asked);
    assert_eq!(honest.policies[0].unrequested_labels, 0);
}

#[test]
fn a_request_answered_only_by_a_gold_label_is_unanswered() {
    let policy = policy(1.0);
    let stream = stream(&policy, 4, 100);
    let mut collector = Collector::new(policies(policy), Settings::default());
    let gold = Label { source: Source::Gold, ..label(&stream[0].0.id, true) };
    collector.add_label(gold);
    collector.add_label(label(&stream[1].0.id, true));
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    assert_eq!(collector.finish().policies[0].counts.answered, 1);
}

#[test]
fn answers_are_those_of_reviewers_whatever_the_policy_learns_from() {
    let mut policy = policy(1.0);
    policy.mapping.teaches = std::collections::BTreeSet::from([Source::Gold, Source::Report]);
    let stream = stream(&policy, 13, 3);
    let [first, second, third] = &stream[..] else { panic!() };
    let id = |number: usize| &stream[number].0.id;
    let mut collector = Collector::new(policies(policy), Settings::default());
    // The first and the second event are unsafe by their reviews, and safe by labels that no request had asked for.
    collector.add_label(label(id(0), true));
    let person = |name: &str| Some(name.to_owned());
    for source in [Source::Gold, Source::Report] {
        let (id_, annotator) = (source.word().to_owned(), person("user"));
        collector.add_label(Label { source, id: id_, annotator, ..label(id(0), false) });
    }
    collector.add_label(label(id(1), true));
    let upheld = |round| Label { id: "appeal/decision".into(), ..label(round, false) };
    collector.add_label(Label { corrects: Some("l".into()), annotator: person("judge"), ..upheld(id(1)) });
    // The third has only an appeal that was upheld.
    collector.add_label(Label { annotator: person("judge"), ..upheld(id(2)) });
    [first, second, third].into_iter().for_each(|(decision, _)| collector.add_decision(decision));
    let only = collector.finish().policies.remove(0);
    assert_eq!((only.counts.requests, only.counts.answered), (3, 2));
    let prevalence = only.figures.prevalence.unwrap();
    assert!(prevalence.unanswered.0 > 0.66 && prevalence.unanswered.1 > 0.99, "{prevalence:?}");
}

#[test]
fn a_request_with_a_negligible_probability_counts_as_one_that_could_not_be_made() {
    let policy = policy(1.0);
    let mut decision = decided(&policy, 1, 0.3, 0.0, false);
    decision.review_probability = 1e-200;
    decision.sampling.audit = 1e-200;
    let mut collector = Collector::new(policies(policy), Settings::default());
    collector.add_label(label(&decision.id, true));
    collector.add_decision(&decision);
    let counts = collector.finish().policies[0].counts;
    assert_eq!((counts.decisions, counts.requests, counts.uncovered), (1, 0, 1));
}

#[test]
fn quarantines_and_erasures_of_the_ledger_apply() {
    let policy = policy(1.0);
    let stream = stream(&policy, 5, 1_000);
    let mut collector = Collector::new(policies(policy.clone()), Settings::default());
    for (decision, is_unsafe) in &stream {
        let annotator = |name: &str, is_unsafe| Label {
            annotator: Some(name.into()),
            id: name.into(),
            ..label(&decision.id, is_unsafe)
        };
        for label in [annotator("ann", *is_unsafe), annotator("liar", !is_unsafe)] {
            let record = LabelRecord { label, received: 1, status: LabelStatus::Accepted };
            collector.add_record(&Record::Label(record));
        }
    }
    let edit = |id: &str, action| Record::Edit(Edit { id: id.into(), action });
    collector
        .add_record(&edit("q", EditAction::Quarantine { tenant: String::new(), annotator: "liar".into() }));
    collector.add_record(&edit("e", EditAction::Erase { tenant: "small".into(), subject: "user 8".into() }));
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    let report = collector.finish();
    let kept: Vec<_> = stream
        .iter()
        .filter(|(decision, _)| decision.subject.as_deref() != Some("user 8"))
        .cloned()
        .collect();
    assert_eq!(report.skipped["decisions of erased subjects"], 10);
    let (prevalence, _, recall) = truth(&kept);
    let figures = report.policies[0].figures;
    assert!((figures.prevalence.unwrap().value - prevalence).abs() < 1e-9, "{figures:?}");
    assert!((figures.recall.unwrap().value - recall).abs() < 1e-9, "{figures:?}");
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

/// The changes by both actions, from deciding again.
fn brute_force(
    stream: &[(Decision, bool)],
    again: impl Fn(&Decision) -> Decision,
) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut changed = BTreeMap::new();
    for (decision, _) in stream {
        let after = again(decision).action;
        if after != decision.action {
            *changed.entry((decision.action.word(), after.word())).or_default() += 1;
        }
    }
    changed
}

#[test]
fn a_preview_counts_what_deciding_again_gives() {
    let mut before = policy(0.1);
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    before.categories = BTreeMap::from([rule(0.9, Action::Review)]);
    let stream = stream(&before, 9, 3_000);
    for changes in [
        Changes { threshold: Some(0.3), ..Changes::default() },
        Changes { threshold: Some(0.8), ..Changes::default() },
        Changes { cost_false_negative: Some(9.0), ..Changes::default() },
        Changes { cost_false_positive: Some(3.0), ..Changes::default() },
        Changes { categories: BTreeMap::from([rule(0.5, Action::Block)]), ..Changes::default() },
    ] {
        let after = changes.apply(&before);
        let again = |decision: &Decision| {
            let number = u64::try_from(decision.origin.offset).unwrap();
            let harm = decision.categories[0].score;
            decided(&after, number, decision.probability.unwrap(), harm, false)
        };
        let expected = brute_force(&stream, again);
        let settings = Settings { changes: changes.clone(), ..Settings::default() };
        let report = reported(&before, settings, &stream, |_| true);
        let preview = report.policies[0].preview.as_ref().unwrap();
        let found: BTreeMap<_, _> =
            preview.changed.iter().map(|changed| ((changed.from, changed.to), changed.decisions)).collect();
        assert!(!expected.is_empty() && found == expected, "{changes:?}: {found:?} is not {expected:?}");
        assert_eq!(preview.unchanged + expected.values().sum::<u64>(), 3_000);
        assert_eq!((preview.uncertain, preview.other_versions), (0, 0));
        assert_eq!(preview.threshold, after.threshold());
        assert!(preview.figures.recall.is_some());
    }
    assert_eq!(Changes { threshold: Some(0.3), ..Changes::default() }.apply(&before).threshold(), 0.3);
}

#[test]
fn the_curve_at_a_threshold_is_the_preview_of_it() {
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    let with_rule =
        |threshold, action| Policy { categories: BTreeMap::from([rule(threshold, action)]), ..policy(1.0) };
    let too_few = Policy { min_awake: 3, ..policy(1.0) };
    for before in [with_rule(0.6, Action::Block), with_rule(0.7, Action::Review), too_few] {
        let stream = stream(&before, 14, 2_000);
        for threshold in [0.2, 0.8] {
            let changes = Changes { threshold: Some(threshold), ..Changes::default() };
            let report = reported(&before, Settings { changes, ..Settings::default() }, &stream, |_| true);
            let only = &report.policies[0];
            assert!(only.curve.len() >= 200, "{}", only.curve.len());
            let point = only.curve.iter().find(|point| point.threshold == threshold).unwrap();
            let preview = only.preview.as_ref().unwrap();
            for (point, preview) in point.figures.named().into_iter().zip(preview.figures.named()) {
                let difference = point.1.zip(preview.1).map(|(point, preview)| point.value - preview.value);
                assert_eq!(point.1.is_some(), preview.1.is_some(), "{point:?} {preview:?}");
                assert!(difference.is_none_or(|number| number.abs() < 1e-9), "{point:?} is not {preview:?}");
            }
        }
    }
}

#[test]
fn a_preview_is_certain_only_if_no_answer_of_a_skipped_expert_changes_it() {
    let mut random = fastrand::Rng::with_seed(10);
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    let (mut certain, mut uncertain) = (0, 0);
    for number in 0..2_000 {
        let mut before = policy(0.0);
        if random.bool() {
            before.categories = BTreeMap::from([rule(random.f64(), random.choice(Action::ALL).unwrap())]);
        }
        let changes = Changes { threshold: Some(0.05 + 0.9 * random.f64()), ..Changes::default() };
        let after = changes.apply(&before);
        let (p, harm) = (random.f64(), random.f64());
        let decision = decided(&before, number, p, harm, true);
        let found = preview(&decision, &after, &before);
        if !found.certain {
            uncertain += 1;
            continue;
        }
        certain += 1;
        // A category that blocks decides whatever p is. Otherwise the skipped expert leaves p on its side.
        let blocks = |rule: &CategoryRule| harm >= rule.threshold && rule.action == Action::Block;
        let any_p = before.categories.get("harm").is_some_and(blocks);
        let side = |p: f64| p >= before.threshold();
        for other in (0..20).map(|_| random.f64()).filter(|other| any_p || side(*other) == side(p)) {
            let answered = decided(&before, number, other, harm, false);
            assert_eq!(answered.action, decision.action, "the skipped expert was not needed");
            assert_eq!(
                decided(&after, number, other, harm, false).action,
                found.action,
                "{decision:?} {after:?}"
            );
        }
    }
    assert!(certain > 300 && uncertain > 300, "{certain} certain, {uncertain} uncertain");
}

#[test]
fn nothing_one_label_and_an_unknown_policy_are_reported_as_such() {
    let empty = Collector::new(Policies::default(), Settings::default()).finish();
    assert_eq!((empty.policies.len(), empty.skipped.len()), (0, 0));
    assert!(page(&empty).contains("The period has no decision"));

    let other = Policy { name: "other <b>".into(), ..policy(0.5) };
    let stream = stream(&other, 11, 50);
    let mut collector = Collector::new(Policies::default(), Settings::default());
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    let report = collector.finish();
    let only = &report.policies[0];
    assert!(!only.known && only.policy == "other <b>");
    assert_eq!((only.figures.labels, only.figures.recall), (0, None));
    assert!(page(&report).contains("other &lt;b&gt;") && !page(&report).contains("other <b>"));

    let first = stream.iter().position(|(decision, _)| !decision.reasons.is_empty()).unwrap();
    let asked = stream[first].0.id.clone();
    let one = reported(&other, Settings::default(), &stream, |decision| decision.id == asked);
    assert_eq!(one.policies[0].figures.labels, 1);
    let prevalence = one.policies[0].figures.prevalence.unwrap();
    assert!(prevalence.low <= prevalence.value && prevalence.value <= prevalence.high, "{prevalence:?}");
    assert!(prevalence.high - prevalence.low > 0.5, "one label says little: {prevalence:?}");
}

#[test]
fn requests_take_memory_and_other_decisions_do_not() {
    let policy = policy(0.001);
    let mut collector = Collector::new(policies(policy.clone()), Settings::default());
    let mut decision = decided(&policy, 0, 0.3, 0.0, false);
    decision.reasons.clear();
    // A million decisions, of which none is kept.
    for number in 0..1_000_000 {
        decision.id.event.clear();
        std::fmt::Write::write_fmt(&mut decision.id.event, format_args!("{number}")).unwrap();
        collector.add_decision(&decision);
    }
    assert_eq!(collector.kept(), 0);
    assert_eq!(collector.finish().policies[0].counts.decisions, 1_000_000);
}

#[test]
fn the_json_form_is_stable() {
    let policy = policy(1.0);
    let stream = stream(&policy, 12, 200);
    let settings = Settings {
        since: Some(100_000),
        until: Some(200_000),
        changes: Changes { threshold: Some(0.4), ..Changes::default() },
        ..Settings::default()
    };
    let report = serde_json::to_value(reported(&policy, settings, &stream, |_| true)).unwrap();
    let keys = |pointer: &str| -> String {
        let object = report.pointer(pointer).and_then(serde_json::Value::as_object);
        let mut keys: Vec<_> = object.unwrap_or_else(|| panic!("{pointer}")).keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(report["format"], FORMAT);
    assert_eq!(keys(""), "before format min_labels policies since skipped until");
    let only = "/policies/0";
    assert_eq!(
        keys(only),
        "actions answered curve decisions experts figures flagged groups known nothing_to_judge policy preview \
         recall_target requests response_rate threshold uncovered unrequested_labels"
    );
    let figures = "error_rate false_positive_rate labels precision prevalence recall";
    assert_eq!(keys(&format!("{only}/figures")), figures);
    assert_eq!(keys(&format!("{only}/figures/recall")), "effective high labels low unanswered value");
    assert_eq!(
        keys(&format!("{only}/groups/0")),
        "answered by decisions figures flagged name requests uncovered"
    );
    assert_eq!(keys(&format!("{only}/curve/0")), "figures flagged threshold");
    assert_eq!(
        keys(&format!("{only}/preview")),
        "changed changes figures other_versions threshold uncertain unchanged"
    );
    assert_eq!(
        keys(&format!("{only}/experts/0")),
        "agreement before drift expert figures mean_score not_counted votes"
    );
}
