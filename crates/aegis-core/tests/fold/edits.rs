//! Edits, refused records, published states, and the agreement of annotators.

use aegis_core::fold::FoldStep;
use aegis_core::label::{Finding, Label, Mapping, Source};
use aegis_core::learners::{Learner, RoundInput};
use aegis_core::ledger::{Edit, EditAction, LabelRecord, LabelStatus, Record, RoundRecord, RoundVote};
use aegis_core::ledger_state::LedgerError;
use aegis_core::predictor::Predictor;

use crate::world::{Dice, POLICY, label, round_record, world};
use crate::{Fixture, arrive, settings};

#[test]
fn after_an_edit_the_state_is_as_if_its_records_had_never_existed() {
    let settings = settings("hedge eta=0.5");
    let all = world(5, 200);
    let (edits, plain): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| matches!(record, Record::Edit(_)));
    let never: Vec<Record> = plain
        .iter()
        .filter(|record| match record {
            Record::Round(round) => {
                round.subject.as_deref() != Some("subject-1") || round.id.tenant != "beta"
            }
            Record::Label(label_record) => match label_record.label.annotator.as_deref() {
                Some("annotator-4") => false,
                Some("annotator-3") => label_record.label.tenant != "acme",
                _ => true,
            },
            Record::Edit(_) => true,
        })
        .cloned()
        .collect();
    let expected = arrive(&never, &settings, 1, 0);
    assert_eq!(arrive(&[edits.clone(), plain.clone()].concat(), &settings, 2, 0), expected);
    assert_ne!(arrive(&plain, &settings, 3, 0), expected);
    // The edits may come first, last or in between.
    for order in [[edits.clone(), plain.clone()].concat(), [plain, edits].concat()] {
        let mut fixture = Fixture::new(settings.clone());
        for record in &order {
            fixture.apply(record);
            fixture.fold.advance(&fixture.ledger, 3).unwrap();
        }
        assert_eq!(fixture.hash(), expected);
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let mut fixture = Fixture::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let good = round_record(&mut dice, 1, 0);
    fixture.apply(&Record::Round(good.clone()));
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1.5] {
        let mut bad = good.clone();
        bad.round_time -= 1;
        bad.votes[0].score = Some(score);
        let refused = fixture.ledger.apply(&Record::Round(bad), &mut Vec::new());
        assert_eq!(refused, Err(LedgerError::Score));
        let mut label = label(&mut dice, 1, 0);
        label.severity = Some(score);
        let label_record = LabelRecord { label, received: 0, status: LabelStatus::Accepted };
        let refused = fixture.ledger.apply(&Record::Label(label_record), &mut Vec::new());
        assert_eq!(refused, Err(LedgerError::Severity));
    }
    let (rounds, row) = fixture.ledger.row(&good.id).unwrap();
    assert_eq!(rounds.round_record(row), Some(good));
    assert!(rounds.labels(row).is_empty());
}

#[test]
fn a_published_state_predicts_what_the_fold_predicts() {
    let settings = settings("default");
    let mut fixture = Fixture::new(settings);
    world(8, 120).iter().for_each(|record| {
        fixture.apply(record);
    });
    let hash = fixture.hash();
    let published = fixture.fold.published(&fixture.ledger, 17).unwrap();
    assert_eq!(published.state_hash, hash);
    assert_eq!(published.experts, fixture.fold.experts());
    assert!((published.masses.iter().map(|mass| mass.mass).sum::<f64>() - 1.0).abs() < 1e-9);
    Predictor::published(&published).unwrap();
}

/// A decision about an event with votes of these experts, all of one subject, and a label of it.
fn labelled(event: usize, offset: i64, experts: &[&str]) -> [Record; 2] {
    let vote = |expert: &&str| RoundVote {
        expert: (*expert).to_owned(),
        score: Some(0.5),
        shadow: false,
        decisive: false,
    };
    let round = RoundRecord {
        subject: Some("someone".to_owned()),
        votes: experts.iter().map(vote).collect(),
        ..round_record(&mut Dice(1), event, offset)
    };
    let label = Label {
        annotator: None,
        verdict: Some(Finding::Unsafe),
        source: Source::Review,
        corrects: None,
        retracts: None,
        decision: None,
        ..label(&mut Dice(1), event, 0)
    };
    [Record::Round(round), Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted })]
}

/// An erasure of everything that [`labelled`] returns.
fn erasure() -> Record {
    let action = EditAction::Erase { tenant: String::new(), subject: "someone".to_owned() };
    Record::Edit(Edit { id: "erasure".to_owned(), action })
}

#[test]
fn a_fold_whose_rounds_were_removed_has_no_last_round_until_it_advances() {
    let mut fixture = Fixture::new(settings("hedge eta=0.5"));
    for event in 0..3 {
        labelled(event, 0, &["guard", "rules"]).iter().for_each(|record| {
            fixture.apply(record);
        });
    }
    let full = fixture.hash();
    assert!(fixture.fold.published(&fixture.ledger, 0).is_some());
    fixture.apply(&erasure());
    assert_eq!(fixture.fold.reorder(&fixture.ledger), Ok(0));
    assert_eq!(fixture.fold.progress().folded, 3);
    assert!(fixture.fold.published(&fixture.ledger, 0).is_none());
    let stated = fixture.fold.hashed_state(&fixture.ledger);
    assert_eq!((stated.rounds, stated.last_key), (3, None));
    assert_ne!(fixture.fold.state_hash(&fixture.ledger), full);
    assert_eq!(fixture.hash(), Fixture::new(settings("hedge eta=0.5")).hash());
}

#[test]
fn a_walk_before_the_fold_takes_a_change_skips_what_is_gone() {
    let mut fixture = Fixture::new(settings("hedge eta=0.5"));
    for event in 0..3 {
        labelled(event, 4, &["guard", "rules"]).iter().for_each(|record| {
            fixture.apply(record);
        });
    }
    fixture.hash();
    let walk = |fixture: &Fixture| {
        let mut awake = Vec::new();
        let mut visit = |round: &FoldStep<'_>, _: &dyn Learner| {
            awake.push(round.input.votes.iter().filter(|vote| !vote.is_nan()).count());
        };
        let spec = &fixture.fold.settings().learner;
        fixture.fold.walk(&fixture.ledger, spec, &mut visit).unwrap();
        awake
    };
    assert_eq!(walk(&fixture), [2, 2, 2]);
    // An earlier decision of another panel becomes the round's.
    fixture.apply(&labelled(1, 3, &["stranger"])[0]);
    assert_eq!(walk(&fixture), [2, 2]);
    fixture.apply(&erasure());
    assert_eq!(walk(&fixture), []);
}

/// The gain of features in the figures is the difference to a copy of the learner that predicts each round without
/// features. It is zero for a learner that does not read them.
#[test]
fn the_gain_of_features_is_the_loss_of_a_copy_without_them() {
    for (learner, reads) in [("default", true), ("hedge eta=0.5", false)] {
        let mut fixture = Fixture::new(settings(learner));
        world(19, 600).iter().for_each(|record| {
            fixture.apply(record);
        });
        fixture.hash();
        let names: Vec<&str> = fixture.fold.experts().iter().map(String::as_str).collect();
        let spec = &fixture.fold.settings().learner;
        let mut copy = spec.build(&names, POLICY).unwrap();
        let (mut rounds, mut lost) = (0_u64, 0.0);
        let mut compare = |round: &FoldStep<'_>, _: &dyn Learner| {
            if round.input.features.is_some() {
                let ablated = copy.predict(&RoundInput { features: None, ..round.input });
                rounds += 1;
                lost += (ablated - round.target).powi(2) - (round.p - round.target).powi(2);
            }
            copy.step(&round.input, round.target);
        };
        fixture.fold.walk(&fixture.ledger, spec, &mut compare).unwrap();
        let ablation = fixture.fold.tally().unwrap().ablation;
        assert!(rounds > 40, "{rounds}");
        if reads {
            assert_eq!(ablation.rounds, rounds);
            assert!(
                lost != 0.0 && (ablation.gain() - lost / rounds as f64).abs() < 1e-12,
                "{ablation:?}, {lost}"
            );
        } else {
            assert_eq!((ablation.rounds, ablation.gain(), lost), (0, 0.0, 0.0));
        }
    }
}

#[test]
fn reliability_is_agreement() {
    let mut fixture = Fixture::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let label_by = |event: usize, annotator: &str, verdict, source| {
        let base = label(&mut Dice(0), event, 0);
        let label = Label {
            id: format!("by-{annotator}"),
            annotator: Some(annotator.to_owned()),
            verdict: Some(verdict),
            source,
            corrects: None,
            retracts: None,
            ..base
        };
        Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted })
    };
    for event in 0..10 {
        fixture.apply(&Record::Round(round_record(&mut dice, event, 0)));
        fixture.apply(&label_by(event, "ann", Finding::Unsafe, Source::Review));
        fixture.apply(&label_by(
            event,
            "bob",
            if event < 5 { Finding::Safe } else { Finding::Unsafe },
            Source::Review,
        ));
        fixture.apply(&label_by(event, "gold", Finding::Unsafe, Source::Gold));
    }
    let rounds = fixture.ledger.rounds(fixture.ledger.find(POLICY).unwrap()).unwrap();
    let found = rounds.reliability(&Mapping::default(), fixture.ledger.edits());
    assert_eq!((found["ann"].labels, found["ann"].compared, found["ann"].agreed), (10, 20, 15));
    assert_eq!((found["bob"].gold, found["bob"].gold_agreed), (10, 5));
    assert_eq!((found["gold"].gold, found["gold"].compared), (0, 20));
}
