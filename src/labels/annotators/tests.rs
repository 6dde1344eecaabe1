//! The figures on ledgers whose figures are known.

use super::*;
use crate::core::label::Finding;
use crate::core::ledger::{Edit, EditAction, LabelStatus, Record, RoundId};

fn round(event: &str) -> RoundId {
    RoundId { tenant: "t".into(), policy: "p".into(), event: event.into() }
}

fn label(event: &str, annotator: &str, finding: Finding) -> Label {
    Label {
        annotator: Some(annotator.into()),
        ..Label::new(&round(event), format!("{event}/{annotator}"), finding)
    }
}

fn gold(event: &str, finding: Finding) -> Label {
    Label { source: Source::Gold, ..label(event, "lead", finding) }
}

fn ledger(labels: impl IntoIterator<Item = Label>) -> LedgerState {
    let mut ledger = LedgerState::new();
    for label in labels {
        let record = LabelRecord { received: label.time, label, status: LabelStatus::Accepted };
        ledger.apply(&Record::Label(record), &mut Vec::new()).unwrap();
    }
    ledger
}

fn measured(ledger: &LedgerState) -> Report {
    let mapping = |_: &str| Mapping::default();
    measure(
        ledger,
        &Settings { policy: None, tenant: None, longest_gap: 60_000, floor: 0.8, mapping: &mapping },
    )
}

fn of<'a>(group: &'a Group, name: &str) -> &'a Annotator {
    group.annotators.iter().find(|one| one.annotator.as_deref() == Some(name)).unwrap()
}

#[test]
fn agreement_is_counted_on_shared_events() {
    use Finding::{NeedsCaution, Safe, Unsafe};
    let report = measured(&ledger([
        label("e1", "ann", Unsafe),
        label("e1", "bob", NeedsCaution),
        label("e2", "ann", Safe),
        label("e2", "bob", Unsafe),
        label("e3", "ann", Safe),
        label("e3", "bob", Safe),
        label("e3", "cy", Unsafe),
        label("e4", "cy", Unsafe),
    ]));
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|name| of(&report.all, name));
    assert_eq!((ann.labels, ann.answers, ann.shared), (3, 3, 3));
    // Of four answers of others about the three events, two are like hers.
    assert_eq!((ann.agreement, bob.agreement), (Some(0.5), Some(0.5)));
    assert_eq!((cy.answers, cy.shared, cy.agreement), (2, 1, Some(0.0)));
    assert_eq!(report.all.shared_events, 3);
    let pair = &report.all.pairs[0];
    assert_eq!((&pair.annotators, pair.events), (&["ann".to_owned(), "bob".to_owned()], 3));
    assert!((pair.kappa.unwrap() - 0.4).abs() < 1e-12, "{pair:?}");
    assert_eq!(report.groups.len(), 1);
    assert_eq!(report.groups[0].policy.as_deref(), Some("p"));
}

#[test]
fn gold_labels_that_agree_on_a_value_in_the_middle_are_a_known_answer() {
    let by = |annotator: &str, finding| Label {
        source: Source::Gold,
        ..Label { annotator: Some(annotator.into()), ..label("e1", annotator, finding) }
    };
    let answered = |finding: [Finding; 2]| {
        let labels = [by("lead", finding[0]), by("chief", finding[1]), label("e1", "ann", Finding::Unsafe)];
        let mapping = |_: &str| Mapping { needs_caution: 0.5, ..Mapping::default() };
        let settings =
            Settings { policy: None, tenant: None, longest_gap: 60_000, floor: 0.8, mapping: &mapping };
        let report = measure(&ledger(labels), &settings);
        of(&report.groups[0], "ann").gold.answers
    };
    assert_eq!(answered([Finding::NeedsCaution, Finding::NeedsCaution]), 1);
    assert_eq!(answered([Finding::Unsafe, Finding::Safe]), 0, "they are divided");
}

#[test]
fn reviewers_are_measured_on_gold_and_gold_is_not_measured_on_itself() {
    use Finding::{Safe, Unsafe};
    let calibration = |event: &str, annotator: &str, finding| Label {
        source: Source::Calibration,
        ..label(event, annotator, finding)
    };
    let report = measured(&ledger([
        gold("e1", Unsafe),
        gold("e2", Safe),
        calibration("e1", "ann", Unsafe),
        label("e2", "ann", Unsafe),
        Label { id: "second look".into(), ..label("e2", "lead", Unsafe) },
        // A report of a user is no answer.
        Label { source: Source::Report, ..label("e1", "user", Safe) },
    ]));
    let ann = of(&report.all, "ann");
    assert_eq!((ann.gold.answers, ann.gold.right, ann.gold_accuracy), (2, 1, Some(0.5)));
    let lead = of(&report.all, "lead");
    assert_eq!((lead.gold.answers, lead.labels), (0, 3));
    let user = of(&report.all, "user");
    assert_eq!((user.labels, user.answers, user.gold.answers), (1, 0, 0));
}

/// One wrong answer, or three, are not enough: the interval decides.
#[test]
fn few_answers_condemn_nobody() {
    let answers = |right: usize, wrong: usize| {
        let labels = (0..right + wrong).flat_map(|number| {
            let event = format!("e{number}");
            let finding = if number < right { Finding::Unsafe } else { Finding::Safe };
            [gold(&event, Finding::Unsafe), label(&event, "ann", finding)]
        });
        of(&measured(&ledger(labels)).all, "ann").below_floor
    };
    assert!(!answers(0, 1) && !answers(0, 2) && !answers(3, 3));
    assert!(answers(0, 3) && answers(30, 30));
    assert!(!answers(60, 0) && !answers(75, 25));
}

#[test]
fn corrections_are_counted_for_the_author_of_the_label() {
    let ledger = ledger([
        label("e1", "ann", Finding::Unsafe),
        Label {
            corrects: Some("e1/ann".into()),
            id: "fix".into(),
            time: 5,
            ..label("e1", "lead", Finding::Safe)
        },
        label("e2", "ann", Finding::Unsafe),
        Label { retracts: Some("e2/ann".into()), id: "undo".into(), ..label("e2", "ann", Finding::Safe) },
    ]);
    let report = measured(&ledger);
    let ann = of(&report.all, "ann");
    // The corrected label is what was answered; the one that was taken back is not.
    assert_eq!((ann.corrected, ann.changed, ann.answers, ann.agreement), (1, 1, 1, Some(0.0)));
    assert_eq!(of(&report.all, "lead").corrected, 0);
}

#[test]
fn pace_leaves_breaks_out() {
    let times = [1_000, 6_000, 6_000, 16_000, 9_000_000, 9_005_000];
    let labels = times
        .iter()
        .enumerate()
        .map(|(number, time)| Label { time: *time, ..label(&format!("e{number}"), "ann", Finding::Safe) });
    let pace = of(&measured(&ledger(labels)).all, "ann").pace.unwrap();
    assert_eq!((pace.intervals, pace.median_ms, pace.nine_in_ten_ms), (3, 5_000, 5_000));
    assert_eq!(of(&measured(&ledger([label("e", "ann", Finding::Safe)])).all, "ann").pace, None);
}

#[test]
fn an_annotator_in_quarantine_is_shown_and_is_no_gold() {
    let mut ledger = ledger([gold("e1", Finding::Unsafe), label("e1", "ann", Finding::Safe)]);
    let action = EditAction::Quarantine { tenant: String::new(), annotator: "lead".into() };
    ledger.apply(&Record::Edit(Edit { id: "q".into(), action }), &mut Vec::new()).unwrap();
    let report = measured(&ledger);
    assert!(of(&report.all, "lead").quarantined && !of(&report.all, "ann").quarantined);
    assert_eq!(of(&report.all, "ann").gold.answers, 0);
}

#[test]
fn a_policy_or_a_tenant_is_measured_alone() {
    let other = Label { tenant: "u".into(), ..label("e1", "ann", Finding::Safe) };
    let ledger = ledger([label("e1", "ann", Finding::Safe), other]);
    let mapping = |_: &str| Mapping::default();
    let mut settings =
        Settings { policy: None, tenant: Some("u"), longest_gap: 1, floor: 0.8, mapping: &mapping };
    assert_eq!(of(&measure(&ledger, &settings).all, "ann").labels, 1);
    settings.tenant = None;
    let report = measure(&ledger, &settings);
    assert_eq!((of(&report.all, "ann").labels, report.groups.len()), (2, 2));
    settings.policy = Some("absent");
    assert!(measure(&ledger, &settings).all.annotators.is_empty());
}
