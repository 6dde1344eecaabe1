//! The state is a function of the set of records: against a plain model, in any order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use aegis::core::book::{Book, BookError, Change};
use aegis::core::features::DIMENSIONS;
use aegis::core::fold::{Fold, Settings};
use aegis::core::hash::{Stated, hex, state_hash};
use aegis::core::label::{DecisionRef, Finding, Label, Mapping, Source, target};
use aegis::core::learners::Sight;
use aegis::core::ledger::{Edit, EditAction, Filed, Judged, Reading, Record, RoundId, RoundVote, Standing};
use aegis::core::predictor::{Predictor, StateHash};

/// SplitMix64: numbers for the tests' worlds.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

const POLICY: &str = "house";

fn id(event: usize) -> RoundId {
    let tenant = if event.is_multiple_of(5) { "acme" } else { "beta" };
    RoundId { tenant: tenant.to_owned(), policy: POLICY.to_owned(), event: format!("event-{event}") }
}

fn judged(dice: &mut Dice, event: usize, offset: i64) -> Judged {
    let mut votes: Vec<RoundVote> = ["guard", "rules", "toxicity"]
        .iter()
        .map(|expert| RoundVote {
            expert: (*expert).to_owned(),
            score: (!dice.chance(15)).then(|| dice.unit()),
            shadow: false,
        })
        .collect();
    if dice.chance(10) {
        let expert = "trial".to_owned();
        votes.push(RoundVote { expert, score: Some(dice.unit()), shadow: dice.chance(70) });
    }
    if dice.chance(2) {
        votes.iter_mut().for_each(|vote| vote.score = None);
    }
    let reading = dice.chance(60).then(|| {
        let mut features = Box::new([0i8; DIMENSIONS]);
        features.iter_mut().for_each(|byte| *byte = dice.next() as i8);
        Reading { encoder: [u8::from(dice.chance(30)); 32], features }
    });
    Judged {
        id: id(event),
        subject: dice.chance(60).then(|| format!("subject-{}", dice.below(6))),
        round_time: 1_000 + dice.below(50) as i64,
        decision: DecisionRef { partition: dice.below(3) as i32, offset },
        votes,
        reading,
    }
}

fn label(dice: &mut Dice, event: usize, number: usize) -> Label {
    let RoundId { tenant, policy, event } = id(event);
    let other = |dice: &mut Dice| format!("label-{}", dice.below(4));
    Label {
        id: format!("label-{number}"),
        tenant,
        policy,
        event,
        annotator: dice.chance(80).then(|| format!("annotator-{}", dice.below(5))),
        verdict: dice.chance(80).then(|| Finding::ALL[dice.below(3)]),
        severity: dice.chance(50).then(|| dice.unit()),
        categories: if dice.chance(20) { vec!["hate".to_owned(), "self-harm".to_owned()] } else { vec![] },
        time: dice.below(4) as i64,
        source: Source::ALL[[0, 0, 0, 1, 2, 3][dice.below(6)]],
        inclusion_probability: dice.chance(20).then_some(0.25),
        decision: dice.chance(20).then_some(DecisionRef { partition: 1, offset: 7 }),
        corrects: dice.chance(10).then(|| other(dice)),
        retracts: dice.chance(10).then(|| other(dice)),
    }
}

/// A ledger with everything in it: events decided twice, waiting and late labels, corrections,
/// retractions, edits, labels for events that never come.
fn world(seed: u64, events: usize) -> Vec<Record> {
    let mut dice = Dice(seed);
    let mut records = Vec::new();
    for event in 0..events {
        let decisions = if dice.chance(10) { 2 } else { usize::from(!dice.chance(5)) };
        for again in 0..decisions {
            records.push(Record::Judged(judged(&mut dice, event, (event * 2 + again) as i64)));
        }
        let labels = [0, 1, 1, 1, 1, 2, 4][dice.below(7)];
        for number in 0..labels {
            let label = label(&mut dice, event, number);
            let received = dice.below(100) as i64;
            let mut file =
                |standing| records.push(Record::Filed(Filed { label: label.clone(), received, standing }));
            match dice.below(10) {
                0 => {
                    file(Standing::Waiting);
                    file(Standing::ALL[1 + dice.below(2)]);
                }
                1 => file(Standing::Waiting),
                2 => file(Standing::Expired),
                _ => file(Standing::Accepted),
            }
            if dice.chance(5) {
                // The same id again, with other content, perhaps from someone else.
                let label = self::label(&mut dice, event, number);
                records.push(Record::Filed(Filed { label, received, standing: Standing::Accepted }));
            }
        }
    }
    for (number, action) in [
        EditAction::Quarantine { tenant: String::new(), annotator: "annotator-4".to_owned() },
        EditAction::Quarantine { tenant: "acme".to_owned(), annotator: "annotator-3".to_owned() },
        EditAction::Erase { tenant: "beta".to_owned(), subject: "subject-1".to_owned() },
    ]
    .into_iter()
    .enumerate()
    {
        records.push(Record::Edit(Edit { id: format!("edit-{number}"), action }));
    }
    records
}

/// A record in an order, for sets.
fn sort_key(judged: &Judged) -> impl Ord {
    let votes: Vec<_> =
        judged.votes.iter().map(|v| (v.expert.clone(), v.score.map(f64::to_bits), v.shadow)).collect();
    let reading = judged.reading.as_ref().map(|r| (r.encoder, r.features.clone()));
    (judged.key(), votes, reading, judged.subject.clone())
}

/// The state's hash by the meaning of the words, with neither book nor fold.
fn model(records: &[Record], settings: &Settings) -> StateHash {
    let mut erased = BTreeSet::new();
    let mut quarantined = BTreeSet::new();
    for record in records {
        match record {
            Record::Edit(Edit { action: EditAction::Erase { tenant, subject }, .. }) => {
                erased.insert((tenant.clone(), subject.clone()));
            }
            Record::Edit(Edit { action: EditAction::Quarantine { tenant, annotator }, .. }) => {
                quarantined.insert((tenant.clone(), annotator.clone()));
            }
            _ => {}
        }
    }
    let marked = |set: &BTreeSet<(String, String)>, tenant: &str, name: &str| {
        set.contains(&(String::new(), name.to_owned())) || set.contains(&(tenant.to_owned(), name.to_owned()))
    };
    let mut decisions: BTreeMap<RoundId, Judged> = BTreeMap::new();
    let mut labels: BTreeMap<RoundId, BTreeMap<(String, Option<String>), Filed>> = BTreeMap::new();
    for record in records {
        match record {
            Record::Judged(judged) => {
                let gone = judged.subject.as_ref().is_some_and(|s| marked(&erased, &judged.id.tenant, s));
                if gone {
                    continue;
                }
                let best = decisions.entry(judged.id.clone()).or_insert_with(|| judged.clone());
                if sort_key(judged) < sort_key(best) {
                    *best = judged.clone();
                }
            }
            Record::Filed(filed) => {
                let of_round = labels.entry(filed.label.round()).or_default();
                let key = (filed.label.id.clone(), filed.label.annotator.clone());
                let best = of_round.entry(key).or_insert_with(|| filed.clone());
                let order =
                    filed.label.newer(&best.label).then((filed.standing as u8).cmp(&(best.standing as u8)));
                if order.is_gt() {
                    *best = filed.clone();
                }
            }
            Record::Edit(_) => {}
        }
    }
    let mut rounds = Vec::new();
    for (id, judged) in &decisions {
        let of_round = labels.get(id).cloned().unwrap_or_default();
        let accepted: Vec<Label> =
            of_round.into_values().filter(|f| f.standing.counts()).map(|f| f.label).collect();
        let y = target(&accepted, &settings.mapping, |annotator| marked(&quarantined, &id.tenant, annotator));
        let awake = judged.votes.iter().any(|vote| vote.score.is_some() && !vote.shadow);
        if let Some(y) = y.filter(|_| awake) {
            rounds.push((judged, y));
        }
    }
    rounds.sort_by_key(|(judged, _)| (judged.round_time, &judged.id.tenant, &judged.id.event));
    let experts: BTreeSet<String> =
        rounds.iter().flat_map(|(judged, _)| judged.votes.iter().map(|vote| vote.expert.clone())).collect();
    let experts: Vec<String> = experts.into_iter().collect();
    let mut carried: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for reading in rounds.iter().filter_map(|(judged, _)| judged.reading.as_ref()) {
        *carried.entry(reading.encoder).or_default() += 1;
    }
    let most = carried.values().max().copied();
    let encoder = carried.into_iter().find(|(_, count)| Some(*count) == most).map(|(id, _)| id);
    let names: Vec<&str> = experts.iter().map(String::as_str).collect();
    let mut state = Vec::new();
    if !names.is_empty() {
        let mut learner = settings.learner.build(&names, &settings.policy).unwrap();
        for (judged, y) in &rounds {
            let vote = |expert: &String| {
                let vote = judged.votes.iter().find(|vote| vote.expert == *expert);
                vote.filter(|vote| !vote.shadow).and_then(|vote| vote.score).unwrap_or(f64::NAN)
            };
            let votes: Vec<f64> = experts.iter().map(vote).collect();
            let reading = judged.reading.as_ref().filter(|reading| Some(reading.encoder) == encoder);
            let features = reading.map(|reading| &*reading.features);
            learner.step(&Sight { votes: &votes, features, event: &judged.id.event }, *y);
        }
        learner.save(&mut state);
    }
    state_hash(&Stated {
        learner: &settings.learner.canonical(),
        experts: &experts,
        encoder: encoder.as_ref(),
        mapping: &settings.mapping.canonical(),
        rounds: rounds.len() as u64,
        last_key: rounds.last().map(|(j, _)| (j.round_time, j.id.tenant.as_str(), j.id.event.as_str())),
        state: &state,
    })
}

fn settings(learner: &str) -> Settings {
    Settings { memory: 40_000, ..Settings::new(POLICY, learner.parse().unwrap(), Mapping::default()) }
}

/// A book with its fold.
struct Desk {
    book: Book,
    fold: Fold,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        Self { book: Book::new(), fold: Fold::new(settings) }
    }

    fn take(&mut self, record: &Record) -> bool {
        let mut changes = Vec::new();
        let expected = self.book.would_change(record);
        let changed = self.book.apply(record, &mut changes).unwrap();
        assert_eq!(changed, expected, "{record:?}");
        changes.iter().for_each(|change: &Change| self.fold.changed(change));
        changed
    }

    /// Stops and starts again from what the book holds.
    fn restart(&mut self, dice: &mut Dice) {
        let mut records: Vec<_> = self.book.records().collect();
        dice.shuffle(&mut records);
        *self = Self::new(self.fold.settings().clone());
        records.iter().for_each(|record| {
            self.book.apply(record, &mut Vec::new()).unwrap();
        });
        self.fold.all(&self.book);
    }

    fn hash(&mut self) -> StateHash {
        self.fold.catch_up(&self.book).unwrap();
        assert!(self.fold.is_current());
        self.fold.state_hash(&self.book)
    }
}

/// Brings the records in a random order, a tenth of them twice, folding at random moments and
/// stopping now and then; the hash at the end.
fn arrive(records: &[Record], settings: &Settings, seed: u64, stops: usize) -> StateHash {
    let mut dice = Dice(seed);
    let mut order: Vec<&Record> = records.iter().collect();
    for _ in 0..records.len() / 10 {
        order.push(&records[dice.below(records.len())]);
    }
    dice.shuffle(&mut order);
    let mut desk = Desk::new(settings.clone());
    let stop_each = order.len().checked_div(stops).unwrap_or(usize::MAX);
    for (at, record) in order.into_iter().enumerate() {
        desk.take(record);
        match dice.below(60) {
            0 => desk.fold.catch_up(&desk.book).unwrap(),
            1 => drop(desk.fold.advance(&desk.book, dice.below(40)).unwrap()),
            _ => {}
        }
        if at % stop_each == stop_each - 1 {
            desk.restart(&mut dice);
        }
    }
    // The figures are those of a pass without a rewind.
    let hash = desk.hash();
    let mut fresh = Desk { book: desk.book, fold: Fold::new(settings.clone()) };
    fresh.fold.all(&fresh.book);
    assert_eq!(fresh.hash(), hash);
    assert_eq!(fresh.fold.tally(), desk.fold.tally());
    hash
}

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
    for (learner, expected) in [
        ("hedge eta=0.5", "448f2ce03b60930122395ffd9c9968b684baf643163069eed2ff124e135fc74f"),
        ("fixed-share-grid", "88f77f2170322cd8792066520608b61220683947c68e9bde73f305ac38686af4"),
        ("stacking gamma=0.998", "cb9f35fe0523c5ed8863cd51387dce414c3bb9623ec9349a63afd4900e96fddb"),
    ] {
        let mut desk = Desk::new(settings(learner));
        world(12, 300).iter().for_each(|record| {
            desk.take(record);
        });
        assert_eq!(hex(&desk.hash()), expected, "{learner}");
    }
}

#[test]
fn a_hundred_stops_one_hash() {
    let settings = settings("fixed-share-grid");
    let records = world(2, 400);
    assert_eq!(arrive(&records, &settings, 7, 100), model(&records, &settings));
}

#[test]
fn every_learner_folds_any_order_to_one_hash() {
    for name in aegis::core::learners::Name::ALL {
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
        let judged = Judged { subject: None, ..judged(&mut dice, event, 0) };
        let votes = judged
            .votes
            .iter()
            .zip(scores)
            .map(|(vote, score)| RoundVote { score: Some(score * 0.9), ..vote.clone() });
        records.push(Record::Judged(Judged { votes: votes.collect(), ..judged.clone() }));
        let label = Label {
            source: Source::Review,
            verdict: Some(Finding::ALL[dice.below(2)]),
            corrects: None,
            retracts: None,
            ..label(&mut dice, event, 0)
        };
        records.push(Record::Filed(Filed { label, received: 0, standing: Standing::Accepted }));
    }
    for learner in ["hedge eta=0.5", "default"] {
        let settings = settings(learner);
        let before = arrive(&records, &settings, 1, 0);
        for at in (0..records.len()).step_by(2) {
            for vote in 0..2 {
                let mut changed = records.clone();
                let Record::Judged(judged) = &mut changed[at] else { unreachable!() };
                let score = judged.votes[vote].score.as_mut().unwrap();
                *score += 1e-9;
                assert_ne!(arrive(&changed, &settings, 2, 0), before, "{learner}, {at}, {vote}");
            }
        }
    }
}

#[test]
fn edits_leave_a_world_where_it_never_was() {
    let settings = settings("hedge eta=0.5");
    let all = world(5, 200);
    let (edits, plain): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| matches!(record, Record::Edit(_)));
    let never: Vec<Record> = plain
        .iter()
        .filter(|record| match record {
            Record::Judged(judged) => {
                judged.subject.as_deref() != Some("subject-1") || judged.id.tenant != "beta"
            }
            Record::Filed(filed) => match filed.label.annotator.as_deref() {
                Some("annotator-4") => false,
                Some("annotator-3") => filed.label.tenant != "acme",
                _ => true,
            },
            Record::Edit(_) => true,
        })
        .cloned()
        .collect();
    let expected = arrive(&never, &settings, 1, 0);
    assert_eq!(arrive(&[edits.clone(), plain.clone()].concat(), &settings, 2, 0), expected);
    assert_ne!(arrive(&plain, &settings, 3, 0), expected);
    // Whether they come first, last or in between.
    for order in [[edits.clone(), plain.clone()].concat(), [plain, edits].concat()] {
        let mut desk = Desk::new(settings.clone());
        for record in &order {
            desk.take(record);
            desk.fold.advance(&desk.book, 3).unwrap();
        }
        assert_eq!(desk.hash(), expected);
    }
}

#[test]
fn what_is_not_finite_stays_outside() {
    let mut desk = Desk::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let good = judged(&mut dice, 1, 0);
    desk.take(&Record::Judged(good.clone()));
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1.5] {
        let mut bad = good.clone();
        bad.round_time -= 1;
        bad.votes[0].score = Some(score);
        let refused = desk.book.apply(&Record::Judged(bad), &mut Vec::new());
        assert_eq!(refused, Err(BookError::Score));
        let mut label = label(&mut dice, 1, 0);
        label.severity = Some(score);
        let filed = Filed { label, received: 0, standing: Standing::Accepted };
        let refused = desk.book.apply(&Record::Filed(filed), &mut Vec::new());
        assert_eq!(refused, Err(BookError::Severity));
    }
    let (rounds, row) = desk.book.row(&good.id).unwrap();
    assert_eq!(rounds.judged(row), Some(good));
    assert!(rounds.labels(row).is_empty());
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
        .filter(|key| !matches!(key, aegis::core::ledger::Key::Edit(_)))
        .collect();
    let kept: BTreeSet<_> = held.iter().map(Record::key).collect();
    assert_eq!(kept, keys);
}

#[test]
fn a_published_state_predicts_what_the_fold_predicts() {
    let settings = settings("default");
    let mut desk = Desk::new(settings);
    world(8, 120).iter().for_each(|record| {
        desk.take(record);
    });
    let hash = desk.hash();
    let published = desk.fold.published(&desk.book, 17).unwrap();
    assert_eq!(published.state_hash, hash);
    assert_eq!(published.experts, desk.fold.experts());
    assert!((published.masses.iter().map(|mass| mass.mass).sum::<f64>() - 1.0).abs() < 1e-9);
    Predictor::published(&published).unwrap();
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
        votes.push(Record::Judged(judged));
        labels.push(Record::Filed(Filed { label, received: 0, standing: Standing::Accepted }));
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

#[test]
fn reliability_is_agreement() {
    let mut desk = Desk::new(settings("hedge eta=1"));
    let mut dice = Dice(1);
    let says = |event: usize, annotator: &str, verdict, source| {
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
        Record::Filed(Filed { label, received: 0, standing: Standing::Accepted })
    };
    for event in 0..10 {
        desk.take(&Record::Judged(judged(&mut dice, event, 0)));
        desk.take(&says(event, "ann", Finding::Unsafe, Source::Review));
        desk.take(&says(
            event,
            "bob",
            if event < 5 { Finding::Safe } else { Finding::Unsafe },
            Source::Review,
        ));
        desk.take(&says(event, "gold", Finding::Unsafe, Source::Gold));
    }
    let rounds = desk.book.rounds(desk.book.find(POLICY).unwrap()).unwrap();
    let found = rounds.reliability(&Mapping::default(), desk.book.edits());
    assert_eq!((found["ann"].labels, found["ann"].compared, found["ann"].agreed), (10, 20, 15));
    assert_eq!((found["bob"].gold, found["bob"].gold_agreed), (10, 5));
    assert_eq!((found["gold"].gold, found["gold"].compared), (0, 20));
}
