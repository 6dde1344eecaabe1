//! Whatever the order of arrival, the stops and the learner: one hash.

use super::*;

#[test]
fn a_hundred_orders_of_arrival_one_hash() {
    let settings = settings("hedge eta=0.5");
    let records = world(1, 400);
    let expected = model(&records, &settings);
    for seed in 0..100 {
        assert_eq!(arrive(&records, &settings, seed, 0), expected, "order {seed}");
    }
}

/// The same in debug and release builds, on every machine. A learner that is changed on purpose changes
/// its line here.
#[test]
fn hashes_are_pinned() {
    let pinned = [
        ("hedge eta=0.5", "4902b148d6d8ae07b0903525e770cd2095c8647ee45a735baaa428f31088206a"),
        ("fixed-share-grid", "6e3c24d586b2abaab69c0fdf289b9c804f2c1b2201dee0e739f7b9cbb63d60ff"),
        ("stacking gamma=0.998", "f9860a7e28e9dad939eaf30a33c9decf3b8fe8ca2a685a8d4b0de4550fb554f3"),
    ];
    let found = pinned.map(|(learner, _)| {
        let mut desk = Desk::new(settings(learner));
        world(12, 300).iter().for_each(|record| {
            desk.take(record);
        });
        (learner, hex(&desk.hash()))
    });
    assert_eq!(found, pinned.map(|(learner, hash)| (learner, hash.to_owned())));
}

#[test]
fn a_hundred_stops_one_hash() {
    let settings = settings("fixed-share-grid");
    let records = world(2, 400);
    assert_eq!(arrive(&records, &settings, 7, 100), model(&records, &settings));
}

#[test]
fn every_learner_folds_any_order_to_one_hash() {
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
fn many_small_worlds() {
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
fn one_changed_vote_is_another_hash() {
    let mut dice = Dice(4);
    let mut records = Vec::new();
    for event in 0..20 {
        let scores = [dice.unit(), dice.unit()];
        let judged = RoundRecord { subject: None, ..judged(&mut dice, event, 0) };
        let votes = judged
            .votes
            .iter()
            .zip(scores)
            .map(|(vote, score)| RoundVote { score: Some(score * 0.9), ..vote.clone() });
        records.push(Record::Round(RoundRecord { votes: votes.collect(), ..judged.clone() }));
        let label = Label {
            source: Source::Review,
            verdict: Some(Finding::ALL[dice.below(2)]),
            corrects: None,
            retracts: None,
            ..label(&mut dice, event, 0)
        };
        records.push(Record::Label(LabelRecord { label, received: 0, standing: LabelStatus::Accepted }));
    }
    for learner in ["hedge eta=0.5", "default"] {
        let settings = settings(learner);
        let before = arrive(&records, &settings, 1, 0);
        for at in (0..records.len()).step_by(2) {
            for vote in 0..2 {
                let mut changed = records.clone();
                let Record::Round(judged) = &mut changed[at] else { unreachable!() };
                let score = judged.votes[vote].score.as_mut().unwrap();
                *score += 1e-9;
                assert_ne!(arrive(&changed, &settings, 2, 0), before, "{learner}, {at}, {vote}");
            }
        }
    }
}

#[test]
fn records_come_back_as_they_went_in() {
    let records = world(6, 100);
    let mut desk = Desk::new(settings("hedge eta=1"));
    records.iter().filter(|record| !matches!(record, Record::Edit(_))).for_each(|record| {
        desk.take(record);
    });
    let held: Vec<Record> = desk.book.records().collect();
    assert!(held.iter().all(|record| records.contains(record)));
    let keys: BTreeSet<_> = records
        .iter()
        .map(Record::key)
        .filter(|key| !matches!(key, aegis_core::ledger::Key::Edit(_)))
        .collect();
    let kept: BTreeSet<_> = held.iter().map(Record::key).collect();
    assert_eq!(kept, keys);
}

#[test]
fn a_late_label_rewinds_and_a_duplicate_does_nothing() {
    let mut desk = Desk::new(Settings { memory: 1 << 20, ..settings("hedge eta=0.1") });
    let mut dice = Dice(11);
    let mut votes = Vec::new();
    let mut labels = Vec::new();
    for event in 0..4_000 {
        let mut judged = judged(&mut dice, event, 0);
        judged.round_time = event as i64;
        judged.subject = None;
        let mut label = label(&mut dice, event, 0);
        (label.verdict, label.source) = (Some(Finding::ALL[dice.below(2)]), Source::Review);
        (label.corrects, label.retracts) = (None, None);
        votes.push(Record::Round(judged));
        labels.push(Record::Label(LabelRecord { label, received: 0, standing: LabelStatus::Accepted }));
    }
    for (event, (vote, label)) in votes.iter().zip(&labels).enumerate() {
        desk.take(vote);
        if event != 1_000 {
            desk.take(label);
        }
        desk.fold.catch_up(&desk.book).unwrap();
    }
    let before = desk.hash();
    assert!(!desk.take(&labels[7]));
    assert_eq!(desk.fold.settle(&desk.book).unwrap(), 0);
    assert!(desk.take(&labels[1_000]));
    let steps = desk.fold.settle(&desk.book).unwrap();
    assert!((3_000 - 100..=3_000 + 200).contains(&steps), "{steps} steps for a label 3,000 rounds late");
    assert_ne!(desk.hash(), before);
}
