//! The cap on the share of one annotator.

use aegis_core::fold::{FREE_LABELS, Settings};
use aegis_core::label::{DecisionRef, Finding, Label, Mapping};
use aegis_core::ledger::{LabelRecord, LabelStatus, Record, RoundRecord, RoundVote};

use crate::model::model;
use crate::world::{Dice, id, world};
use crate::{Fixture, arrive, settings};

fn capped(learner: &str, share: f64) -> Settings {
    let mapping = Mapping { max_annotator_share: share, ..Mapping::default() };
    Settings { mapping, ..settings(learner) }
}

#[test]
fn with_a_cap_the_order_of_arrival_has_no_effect() {
    for (seed, share) in [(21, 0.1), (22, 0.3), (23, 0.6)] {
        let records = world(seed, 400);
        let settings = capped("hedge eta=0.5", share);
        let expected = model(&records, &settings);
        assert_ne!(expected, model(&records, &self::settings("hedge eta=0.5")), "the cap has an effect");
        for order in 0..20 {
            assert_eq!(arrive(&records, &settings, order, 3), expected, "cap {share}, order {order}");
        }
    }
}

#[test]
fn with_a_cap_every_learner_gives_one_hash_for_any_order() {
    for name in aegis_core::learners::Name::ALL {
        let records = world(24, 150);
        let settings = capped(name.as_str(), 0.05);
        let expected = model(&records, &settings);
        for order in 0..2 {
            assert_eq!(arrive(&records, &settings, order, 2), expected, "{name}, order {order}");
        }
    }
}

#[test]
fn only_a_cap_changes_the_line_of_a_mapping() {
    let line = |share| Mapping { max_annotator_share: share, ..Mapping::default() }.canonical();
    assert_eq!(line(1.0), "needs_caution=1;teaches=review,gold");
    assert_eq!(line(0.25), "needs_caution=1;teaches=review,gold;max_annotator_share=0.25");
}

/// Rounds in which three experts are mostly right, each labelled by one annotator. `of` returns the annotator of a
/// round and `true` if the label is wrong.
fn labelled(rounds: usize, of: impl Fn(&mut Dice, usize) -> Option<(String, bool)>) -> Vec<Record> {
    let mut dice = Dice(31);
    let mut records = Vec::new();
    for event in 0..rounds {
        let truth = dice.chance(40);
        let vote = |(name, right): (&str, usize), dice: &mut Dice| RoundVote {
            expert: name.to_owned(),
            score: Some(if dice.chance(right) == truth {
                0.6 + 0.4 * dice.unit()
            } else {
                0.5 * dice.unit()
            }),
            shadow: false,
            decisive: false,
        };
        let votes = [("a", 60), ("b", 75), ("c", 92)].map(|expert| vote(expert, &mut dice)).to_vec();
        records.push(Record::Round(RoundRecord {
            id: id(event),
            subject: None,
            round_time: event as i64,
            decision: DecisionRef { partition: 0, offset: event as i64 },
            votes,
            features: None,
        }));
        // The annotator is drawn apart from the votes, so that all worlds have the same rounds.
        let Some((annotator, wrong)) = of(&mut Dice(event as u64), event) else { continue };
        let finding = if truth != wrong { Finding::Unsafe } else { Finding::Safe };
        let label = Label { annotator: Some(annotator), ..Label::new(&id(event), "l", finding) };
        records.push(Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted }));
    }
    records
}

/// Folds records and returns the rounds that taught.
fn taught(records: &[Record], settings: Settings) -> u64 {
    let mut fixture = Fixture::new(settings);
    records.iter().for_each(|record| {
        fixture.apply(record);
    });
    fixture.hash();
    fixture.fold.tally().map_or(0, |tally| tally.rounds)
}

#[test]
fn an_annotator_alone_teaches_the_free_labels_and_equals_teach_alike() {
    let alone = labelled(200, |_, _| Some(("one".to_owned(), false)));
    assert_eq!(taught(&alone, capped("brier", 0.2)), u64::from(FREE_LABELS));
    assert_eq!(taught(&alone, capped("brier", 1.0)), 200);
    // Of five equal annotators none holds more than a fifth.
    let team = labelled(2_000, |_, event| Some((format!("annotator-{}", event % 5), false)));
    assert_eq!(taught(&team, capped("brier", 0.2)), 2_000);
    // With two, each is held at a quarter of the labels of the other, and the free ones.
    let pair = labelled(2_000, |_, event| Some((format!("annotator-{}", event % 2), false)));
    let expected = 2 * (u64::from(FREE_LABELS) + 1_000 / 4);
    assert!(taught(&pair, capped("brier", 0.2)).abs_diff(expected) <= 4);
}

#[test]
fn two_names_that_label_much_lift_each_others_limit() {
    // Of 1,200 labels two names of one person give 1,000, and a third annotator 200.
    let records = labelled(1_200, |_, event| {
        let name = match event % 12 {
            0 | 6 => "honest",
            number if number % 2 == 1 => "foe-1",
            _ => "foe-2",
        };
        Some((name.to_owned(), false))
    });
    // foe-1 labels 600 and foe-2 400: each is held at the share of what all others label, taught or not.
    let limit = |others: u64| u64::from(FREE_LABELS) + others / 4;
    let expected = 200 + limit(600) + limit(800);
    let found = taught(&records, capped("brier", 0.2));
    assert!(found.abs_diff(expected) <= 6, "{found} rounds taught instead of {expected}");
    // Together they hold more than two shares of what teaches.
    assert!((found - 200) * 10 > found * 6);
}

/// The mistakes against the truth of the predictor that was learned from these records.
fn mistakes(records: &[Record], settings: Settings) -> u64 {
    let mut fixture = Fixture::new(settings);
    records.iter().for_each(|record| {
        fixture.apply(record);
    });
    fixture.fold.catch_up(&fixture.ledger).unwrap();
    let truth = labelled(ROUNDS, |_, _| Some(("truth".to_owned(), false)));
    let mut exam = Fixture::new(self::settings("majority"));
    truth.iter().for_each(|record| {
        exam.apply(record);
    });
    exam.hash();
    let rounds = exam.ledger.rounds(0).unwrap();
    let mut targets = exam.fold.targets(&exam.ledger);
    let wrong = exam.fold.rows().filter(|row| {
        let round = fixture.ledger.rounds(0).unwrap();
        let row_here = round.find(rounds.tenant(*row), rounds.event(*row)).unwrap();
        let p = fixture.fold.predict(&fixture.ledger, row_here).unwrap().unwrap();
        (p >= 0.5) != (targets.next(rounds, *row).unwrap() >= 0.5)
    });
    wrong.count() as u64
}

const ROUNDS: usize = 3_000;

#[test]
fn with_a_cap_an_annotator_who_is_always_wrong_does_little_harm() {
    // Six of ten labels are those of one annotator, and wrong.
    let world = |with: bool| {
        labelled(ROUNDS, move |dice, _| match dice.below(10) {
            0..6 => with.then(|| ("foe".to_owned(), true)),
            number => Some((format!("annotator-{number}"), false)),
        })
    };
    let without = mistakes(&world(false), capped("default", 1.0));
    let uncapped = mistakes(&world(true), capped("default", 1.0));
    let held = mistakes(&world(true), capped("default", 0.15));
    assert!(uncapped > 5 * without, "{uncapped} mistakes without a cap, {without} without the annotator");
    assert!(held * 10 <= without * 11, "{held} mistakes with a cap, {without} without the annotator");
}

#[test]
fn a_second_label_that_agrees_counts_although_the_target_stays() {
    let settings = capped("brier", 0.3);
    let records = labelled(60, |_, _| Some(("one".to_owned(), false)));
    let mut fixture = Fixture::new(settings.clone());
    records.iter().for_each(|record| {
        fixture.apply(record);
    });
    let before = fixture.hash();
    let labels = records.iter().filter_map(|record| match record {
        Record::Label(record) => Some(record.clone()),
        _ => None,
    });
    let agreed = labels.take(30).map(|mut record| {
        (record.label.id, record.label.annotator) = ("second".to_owned(), Some("other".to_owned()));
        Record::Label(record)
    });
    let agreed: Vec<Record> = agreed.collect();
    agreed.iter().for_each(|record| {
        fixture.apply(record);
    });
    assert_ne!(fixture.hash(), before, "more labels of one annotator teach beside those of another");
    assert_eq!(fixture.hash(), model(&[records, agreed].concat(), &settings));
}
