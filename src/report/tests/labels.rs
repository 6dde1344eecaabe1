//! The labels that count as answers: those of reviewers, on requested events, without quarantined annotators.

use super::*;
use crate::core::label::Source;
use crate::core::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record};

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
fn a_gold_label_answers_the_request_that_it_has_closed_and_nothing_else() {
    let policy = policy(0.1);
    let stream = stream(&policy, 4, 5_000);
    let honest = reported(&policy, Settings::default(), &stream, |_| true);
    // Reference answers are given to all requests about unsafe events, and claimed for all events that were not requested.
    let with_gold = |retracted: bool| {
        let mut collector = Collector::new(policies(policy.clone()), Settings::default());
        for (decision, is_unsafe) in &stream {
            let gold = |is_unsafe| Label { source: Source::Gold, ..label(&decision.id, is_unsafe) };
            let requested = !decision.reasons.is_empty();
            let is_gold = *is_unsafe || !requested;
            collector.add_label(if is_gold { gold(true) } else { label(&decision.id, false) });
            if retracted && requested && *is_unsafe {
                let retraction = Label { id: "r".into(), retracts: Some("l".into()), ..gold(true) };
                collector.add_label(Label { verdict: None, ..retraction });
            }
        }
        stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
        collector.finish().policies.remove(0)
    };
    let counted = with_gold(false);
    assert_eq!((counted.figures, counted.response_rate), (honest.policies[0].figures, Some(1.0)));
    let retracted = with_gold(true);
    assert!(retracted.response_rate.unwrap() < 1.0, "a gold label that is taken back answers nothing");
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
