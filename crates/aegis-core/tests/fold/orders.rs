//! The hash does not depend on the order of arrival or on restarts, for any learner.

use std::collections::{BTreeMap, BTreeSet};

use aegis_core::fold::Settings;
use aegis_core::hash::hex;
use aegis_core::label::{Finding, Label, Source};
use aegis_core::ledger::{LabelRecord, LabelStatus, Record, RoundRecord, RoundVote};

use crate::model::model;
use crate::world::{Dice, label, round_record, world};
use crate::{Fixture, arrive, settings};

#[test]
fn a_hundred_orders_of_arrival_give_one_hash() {
    let settings = settings("hedge eta=0.5");
    let records = world(1, 400);
    let expected = model(&records, &settings);
    for seed in 0..100 {
        assert_eq!(arrive(&records, &settings, seed, 0), expected, "order {seed}");
    }
}

/// The hashes are the same in debug and release builds and on every machine. If a learner is changed on purpose, its
/// line here changes too.
#[test]
fn hashes_are_pinned() {
    let pinned = [
        ("hedge eta=0.5", "4902b148d6d8ae07b0903525e770cd2095c8647ee45a735baaa428f31088206a"),
        ("fixed-share-grid", "6e3c24d586b2abaab69c0fdf289b9c804f2c1b2201dee0e739f7b9cbb63d60ff"),
        ("stacking gamma=0.998", "f9860a7e28e9dad939eaf30a33c9decf3b8fe8ca2a685a8d4b0de4550fb554f3"),
    ];
    let found = pinned.map(|(learner, _)| {
        let mut fixture = Fixture::new(settings(learner));
        world(12, 300).iter().for_each(|record| {
            fixture.apply(record);
        });
        (learner, hex(&fixture.hash()))
    });
    assert_eq!(found, pinned.map(|(learner, hash)| (learner, hash.to_owned())));
}

#[test]
fn a_hundred_restarts_give_one_hash() {
    let settings = settings("fixed-share-grid");
    let records = world(2, 400);
    assert_eq!(arrive(&records, &settings, 7, 100), model(&records, &settings));
}

#[test]
fn every_learner_gives_one_hash_for_any_order() {
    for name in aegis_core::learners::Name::ALL {
        let settings = settings(name.as_str());
        let records = world(3, 150);
        let expected = model(&records, &settings);
        for seed in 0..4 {
            assert_eq!(arrive(&records, &settings, seed, 2), expected, "{name}, order {seed}");
        }
    }
}

#[test]
fn small_ledgers_give_one_hash_for_any_order() {
    for seed in 100..400 {
        let settings = settings("hedge eta=1");
        let records = world(seed, 1 + seed as usize % 9);
        let expected = model(&records, &settings);
        for order in 0..3 {
            assert_eq!(arrive(&records, &settings, order, 0), expected, "world {seed}, order {order}");
        }
    }
}

#[test]
fn one_changed_vote_changes_the_hash() {
    let mut dice = Dice(4);
    let mut records = Vec::new();
    for event in 0..20 {
        let scores = [dice.unit(), dice.unit()];
        let round = RoundRecord { subject: None, ..round_record(&mut dice, event, 0) };
        let votes = round
            .votes
            .iter()
            .zip(scores)
            .map(|(vote, score)| RoundVote { score: Some(score * 0.9), ..vote.clone() });
        records.push(Record::Round(RoundRecord { votes: votes.collect(), ..round.clone() }));
        let label = Label {
            source: Source::Review,
            verdict: Some(Finding::ALL[dice.below(2)]),
            corrects: None,
            retracts: None,
            ..label(&mut dice, event, 0)
        };
        records.push(Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted }));
    }
    for learner in ["hedge eta=0.5", "default"] {
        let settings = settings(learner);
        let before = arrive(&records, &settings, 1, 0);
        for at in (0..records.len()).step_by(2) {
            for vote in 0..2 {
                let mut changed = records.clone();
                let Record::Round(round) = &mut changed[at] else { unreachable!() };
                let score = round.votes[vote].score.as_mut().unwrap();
                *score += 1e-9;
                assert_ne!(arrive(&changed, &settings, 2, 0), before, "{learner}, {at}, {vote}");
            }
        }
    }
}

#[test]
fn the_records_of_a_ledger_are_those_applied() {
    let records = world(6, 100);
    let mut fixture = Fixture::new(settings("hedge eta=1"));
    records.iter().filter(|record| !matches!(record, Record::Edit(_))).for_each(|record| {
        fixture.apply(record);
    });
    let held: Vec<Record> = fixture.ledger.records().collect();
    assert!(held.iter().all(|record| records.contains(record)));
    let keys: BTreeSet<_> = records
        .iter()
        .map(Record::key)
        .filter(|key| !matches!(key, aegis_core::ledger::Key::Edit(_)))
        .collect();
    let kept: BTreeSet<_> = held.iter().map(Record::key).collect();
    assert_eq!(kept, keys);
}

/// A topic that is compacted keeps the last record of each key. Decisions of several subjects are left out: of them the topic
/// keeps one.
#[test]
fn compaction_changes_no_hash() {
    for seed in 0..40 {
        let settings = settings("hedge eta=1");
        let mut fixture = Fixture::new(settings.clone());
        let mut kept = BTreeMap::new();
        let (mut records, mut dice) = (world(seed, 60), Dice(seed));
        dice.shuffle(&mut records);
        for mut record in records {
            if let Record::Round(round) = &mut record {
                round.subject = None;
            }
            // The learner writes no other records.
            if fixture.apply(&record) {
                kept.insert(record.key(), record);
            }
        }
        let mut compacted = Fixture::new(settings);
        kept.values().for_each(|record| {
            compacted.apply(record);
        });
        assert_eq!(compacted.hash(), fixture.hash(), "world {seed}");
    }
}

/// The learner has rounds of three experts. The votes of other experts count for nothing, and neither do those of the round
/// before.
#[test]
fn a_round_of_experts_that_are_not_known_has_no_prediction() {
    let mut fixture = Fixture::new(settings("hedge eta=1"));
    let records = |event: usize, experts: [&str; 3]| {
        let vote = |expert: &str| RoundVote {
            expert: expert.to_owned(),
            score: Some(0.9),
            shadow: false,
            decisive: false,
        };
        let round = RoundRecord {
            subject: None,
            votes: experts.map(vote).to_vec(),
            ..round_record(&mut Dice(event as u64), event, 0)
        };
        let label = Label {
            source: Source::Review,
            verdict: Some(Finding::Unsafe),
            corrects: None,
            retracts: None,
            ..label(&mut Dice(1), event, 0)
        };
        let label = LabelRecord { label, received: 0, status: LabelStatus::Accepted };
        (round.id.clone(), Record::Round(round), Record::Label(label))
    };
    let (strange, round, _) = records(0, ["x", "y", "z"]);
    fixture.apply(&round);
    let (known, round, label) = records(1, ["a", "b", "c"]);
    fixture.apply(&round);
    fixture.apply(&label);
    fixture.fold.catch_up(&fixture.ledger).unwrap();
    let mut predict = |id| {
        let (_, row) = fixture.ledger.row(id).unwrap();
        fixture.fold.predict(&fixture.ledger, row).unwrap()
    };
    assert!(predict(&known).is_some());
    assert_eq!(predict(&strange), None);
}

#[test]
fn a_late_label_rewinds_and_a_duplicate_does_nothing() {
    let mut fixture = Fixture::new(Settings { memory: 1 << 20, ..settings("hedge eta=0.1") });
    let mut dice = Dice(11);
    let mut votes = Vec::new();
    let mut labels = Vec::new();
    for event in 0..4_000 {
        let mut round = round_record(&mut dice, event, 0);
        round.round_time = event as i64;
        round.subject = None;
        let mut label = label(&mut dice, event, 0);
        (label.verdict, label.source) = (Some(Finding::ALL[dice.below(2)]), Source::Review);
        (label.corrects, label.retracts) = (None, None);
        votes.push(Record::Round(round));
        labels.push(Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted }));
    }
    for (event, (vote, label)) in votes.iter().zip(&labels).enumerate() {
        fixture.apply(vote);
        if event != 1_000 {
            fixture.apply(label);
        }
        fixture.fold.catch_up(&fixture.ledger).unwrap();
    }
    let before = fixture.hash();
    assert!(!fixture.apply(&labels[7]));
    assert_eq!(fixture.fold.reorder(&fixture.ledger).unwrap(), 0);
    assert!(fixture.apply(&labels[1_000]));
    let steps = fixture.fold.reorder(&fixture.ledger).unwrap();
    assert!((3_000 - 100..=3_000 + 200).contains(&steps), "{steps} steps for a label 3,000 rounds late");
    assert_ne!(fixture.hash(), before);
}
