//! An upheld appeal moves the target, a rejected one leaves it, in any order of arrival and however often it is decided.

use std::collections::BTreeSet;

use super::*;
use crate::core::ledger::{LabelStatus, Record};
use crate::core::ledger_state::LedgerState;

fn round() -> RoundId {
    RoundId { tenant: "t".into(), policy: "p".into(), event: "e".into() }
}

fn review(annotator: &str, time: Millis, verdict: Finding) -> Label {
    Label {
        annotator: Some(annotator.into()),
        time,
        ..Label::new(&round(), format!("e/{annotator}"), verdict)
    }
}

fn claim() -> Label {
    Label { source: Source::Appeal, ..review("author", 20, Finding::Safe) }
}

fn record(label: Label) -> LabelRecord {
    LabelRecord { received: label.time, label, status: LabelStatus::Accepted }
}

fn appeal(outcome: Outcome, time: Millis) -> Appeal {
    Appeal { round: round(), id: claim().id, annotator: "judge".into(), outcome, time }
}

/// Returns the target of a ledger that received these labels in this order.
fn target_of(labels: &[Label], mapping: &Mapping) -> Option<f64> {
    let mut ledger = LedgerState::new();
    for label in labels {
        ledger.apply(&Record::Label(record(label.clone())), &mut Vec::new()).unwrap();
    }
    let (rounds, row) = ledger.row(&round())?;
    rounds.target(row, mapping, ledger.edits())
}

fn decided(known: &[Label], appeal: &Appeal, mapping: &Mapping) -> Vec<Label> {
    let known: Vec<_> = known.iter().cloned().map(record).collect();
    appeal.labels(&known, None, mapping, |_| false).unwrap()
}

fn permutations(labels: &[Label]) -> Vec<Vec<Label>> {
    if labels.len() <= 1 {
        return vec![labels.to_vec()];
    }
    (0..labels.len())
        .flat_map(|place| {
            let mut rest = labels.to_vec();
            let first = rest.remove(place);
            permutations(&rest).into_iter().map(move |mut rest| {
                rest.insert(0, first.clone());
                rest
            })
        })
        .collect()
}

#[test]
fn an_upheld_appeal_moves_the_target_in_any_order() {
    let mapping = Mapping::default();
    let before = [
        review("ann", 10, Finding::Unsafe),
        review("bob", 11, Finding::Unsafe),
        review("cy", 12, Finding::Safe),
    ];
    assert_eq!(target_of(&before, &mapping), Some(2.0 / 3.0));
    let decision = decided(&before, &appeal(Outcome::Upheld(Finding::Safe), 30), &mapping);
    assert_eq!(decision.len(), 2, "{decision:?}");
    assert_eq!((decision[0].source, decision[0].corrects.as_deref()), (Source::Review, Some("e/bob")));
    assert_eq!(decision[1].retracts.as_deref(), Some("e/ann"));
    assert!(decision[0].decides_appeal() && !before.iter().any(Label::decides_appeal));
    assert!(!review("decision", 10, Finding::Safe).decides_appeal(), "an annotator may have that name");
    let all = [&before[..], &decision].concat();
    for order in permutations(&all) {
        assert_eq!(target_of(&order, &mapping), Some(0.0));
    }
}

#[test]
fn an_upheld_appeal_without_a_label_is_a_review() {
    let mapping = Mapping::default();
    let decision = decided(&[claim()], &appeal(Outcome::Upheld(Finding::Safe), 30), &mapping);
    assert_eq!(decision.len(), 1);
    assert_eq!((decision[0].source, &decision[0].corrects), (Source::Review, &None));
    assert_eq!(target_of(&[claim()], &mapping), None);
    for order in permutations(&[claim(), decision[0].clone()]) {
        assert_eq!(target_of(&order, &mapping), Some(0.0));
    }
}

/// Under any policy, also one that learns from appeals.
#[test]
fn a_rejected_appeal_leaves_the_target_in_any_order() {
    let of_appeals =
        Mapping { teaches: BTreeSet::from([Source::Review, Source::Appeal]), ..Mapping::default() };
    let before = [review("ann", 10, Finding::Unsafe), review("cy", 12, Finding::Safe)];
    for mapping in [Mapping::default(), of_appeals] {
        let decision = decided(&[&before[..], &[claim()]].concat(), &appeal(Outcome::Rejected, 30), &mapping);
        assert_eq!(decision.len(), 1, "{decision:?}");
        for order in permutations(&[&before[..], &[claim()], &decision].concat()) {
            assert_eq!(target_of(&order, &mapping), Some(0.5));
        }
    }
}

#[test]
fn an_appeal_is_decided_once() {
    let mapping = Mapping::default();
    let mut all = vec![review("ann", 10, Finding::Unsafe), review("bob", 11, Finding::Unsafe)];
    let upheld = |time| appeal(Outcome::Upheld(Finding::Safe), time);
    let first = decided(&all, &upheld(30), &mapping);
    all.extend(first.clone());
    assert_eq!(decided(&all, &upheld(40), &mapping), []);
    // The same labels sent twice, as by two people at once, have the same effect.
    all.extend(first);
    assert_eq!(target_of(&all, &mapping), Some(0.0));
}

#[test]
fn a_later_decision_replaces_the_earlier_one() {
    let mapping = Mapping::default();
    let mut all = vec![review("ann", 10, Finding::Unsafe), review("bob", 11, Finding::Unsafe)];
    all.extend(decided(&all, &appeal(Outcome::Upheld(Finding::Safe), 30), &mapping));
    assert_eq!(target_of(&all, &mapping), Some(0.0));
    // The clock of the second machine is behind.
    let rejected = decided(&all, &appeal(Outcome::Rejected, 5), &mapping);
    assert!(rejected.iter().all(|label| label.time > 30), "{rejected:?}");
    all.extend(rejected);
    assert_eq!(target_of(&all, &mapping), Some(1.0));
    assert_eq!(decided(&all, &appeal(Outcome::Rejected, 50), &mapping), []);
    all.extend(decided(&all, &appeal(Outcome::Upheld(Finding::Safe), 60), &mapping));
    for order in permutations(&all[..6]) {
        let order = [&order[..], &all[6..]].concat();
        assert_eq!(target_of(&order, &mapping), Some(0.0));
    }
}

/// Two people decide one appeal, one after the other: both labels stay in the ledger, and the newer counts.
#[test]
fn a_second_person_can_decide_otherwise() {
    let mapping = Mapping::default();
    let mut all = vec![review("ann", 10, Finding::Unsafe), review("bob", 11, Finding::Unsafe)];
    all.extend(decided(&all, &appeal(Outcome::Upheld(Finding::Safe), 30), &mapping));
    let by_other = |outcome| Appeal { annotator: "chief".into(), ..appeal(outcome, 40) };
    all.extend(decided(&all, &by_other(Outcome::Rejected), &mapping));
    assert_eq!(target_of(&all, &mapping), Some(1.0));
    all.extend(decided(&all, &by_other(Outcome::Upheld(Finding::Safe)), &mapping));
    assert_eq!(target_of(&all, &mapping), Some(0.0));
}

#[test]
fn what_is_known_about_the_overturned_label_is_kept() {
    let at = DecisionRef { partition: 3, offset: 7 };
    let sampled =
        Label { decision: Some(at), inclusion_probability: Some(0.25), ..review("ann", 10, Finding::Unsafe) };
    let decision = decided(&[sampled], &appeal(Outcome::Upheld(Finding::Safe), 30), &Mapping::default());
    assert_eq!((decision[0].decision, decision[0].inclusion_probability), (Some(at), Some(0.25)));
}

#[test]
fn a_policy_that_would_learn_nothing_refuses() {
    let gold = Mapping { teaches: BTreeSet::from([Source::Gold]), ..Mapping::default() };
    let refused = appeal(Outcome::Upheld(Finding::Safe), 1).labels(&[], None, &gold, |_| false).unwrap_err();
    assert_eq!(refused.name, "NotTaught");
}
