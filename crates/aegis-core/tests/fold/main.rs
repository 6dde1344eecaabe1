//! The state is a function of the set of records: against a plain model, in any order of arrival.

mod edits;
mod influence;
mod orders;

use std::collections::{BTreeMap, BTreeSet};

use aegis_core::features::DIMENSIONS;
use aegis_core::fold::{FREE_LABELS, Fold, FoldStep, Settings};
use aegis_core::hash::{HashedState, hex, state_hash};
use aegis_core::label::{DecisionRef, Finding, Label, Mapping, Source, live};
use aegis_core::learners::{Learner, RoundInput};
use aegis_core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};
use aegis_core::ledger_state::{Change, LedgerError, LedgerState};
use aegis_core::predictor::{Predictor, StateHash};

/// The random number generator SplitMix64.
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

fn round_record(dice: &mut Dice, event: usize, offset: i64) -> RoundRecord {
    let mut votes: Vec<RoundVote> = ["guard", "rules", "toxicity"]
        .iter()
        .map(|expert| RoundVote {
            expert: (*expert).to_owned(),
            score: (!dice.chance(15)).then(|| dice.unit()),
            shadow: false,
            decisive: false,
        })
        .collect();
    if dice.chance(10) {
        let expert = "trial".to_owned();
        votes.push(RoundVote { expert, score: Some(dice.unit()), shadow: dice.chance(70), decisive: false });
    }
    if dice.chance(2) {
        votes.iter_mut().for_each(|vote| vote.score = None);
    }
    let features = dice.chance(60).then(|| {
        let mut features = Box::new([0i8; DIMENSIONS]);
        features.iter_mut().for_each(|byte| *byte = dice.next() as i8);
        TextFeatures { encoder: [u8::from(dice.chance(30)); 32], features }
    });
    RoundRecord {
        id: id(event),
        subject: dice.chance(60).then(|| format!("subject-{}", dice.below(6))),
        round_time: 1_000 + dice.below(50) as i64,
        decision: DecisionRef { partition: dice.below(3) as i32, offset },
        votes,
        features,
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

/// Records of all kinds: events decided twice, waiting and late labels, corrections, retractions, edits, and labels
/// for events without a decision.
fn world(seed: u64, events: usize) -> Vec<Record> {
    let mut dice = Dice(seed);
    let mut records = Vec::new();
    for event in 0..events {
        let decisions = if dice.chance(10) { 2 } else { usize::from(!dice.chance(5)) };
        for again in 0..decisions {
            records.push(Record::Round(round_record(&mut dice, event, (event * 2 + again) as i64)));
        }
        let labels = [0, 1, 1, 1, 1, 2, 4][dice.below(7)];
        for number in 0..labels {
            let label = label(&mut dice, event, number);
            let received = dice.below(100) as i64;
            let mut push =
                |status| records.push(Record::Label(LabelRecord { label: label.clone(), received, status }));
            match dice.below(10) {
                0 => {
                    push(LabelStatus::Waiting);
                    push(LabelStatus::ALL[1 + dice.below(2)]);
                }
                1 => push(LabelStatus::Waiting),
                2 => push(LabelStatus::Expired),
                _ => push(LabelStatus::Accepted),
            }
            if dice.chance(5) {
                // The same id again, with other content, and possibly of another annotator.
                let label = self::label(&mut dice, event, number);
                records.push(Record::Label(LabelRecord { label, received, status: LabelStatus::Accepted }));
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

/// The order of the decisions about one event.
fn sort_key(round: &RoundRecord) -> impl Ord {
    let votes: Vec<_> =
        round.votes.iter().map(|v| (v.expert.clone(), v.score.map(f64::to_bits), v.shadow)).collect();
    let features = round.features.as_ref().map(|f| (f.encoder, f.features.clone()));
    (round.key(), votes, features, round.subject.clone())
}

/// The hash of the state by its definition, without `LedgerState` and `Fold`.
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
    let mut decisions: BTreeMap<RoundId, RoundRecord> = BTreeMap::new();
    let mut labels: BTreeMap<RoundId, BTreeMap<(String, Option<String>), LabelRecord>> = BTreeMap::new();
    for record in records {
        match record {
            Record::Round(round) => {
                let gone = round.subject.as_ref().is_some_and(|s| marked(&erased, &round.id.tenant, s));
                if gone {
                    continue;
                }
                let best = decisions.entry(round.id.clone()).or_insert_with(|| round.clone());
                if sort_key(round) < sort_key(best) {
                    *best = round.clone();
                }
            }
            Record::Label(label_record) => {
                let of_round = labels.entry(label_record.label.round()).or_default();
                let key = (label_record.label.id.clone(), label_record.label.annotator.clone());
                let best = of_round.entry(key).or_insert_with(|| label_record.clone());
                let order = label_record
                    .label
                    .newer(&best.label)
                    .then((label_record.status as u8).cmp(&(best.status as u8)));
                if order.is_gt() {
                    *best = label_record.clone();
                }
            }
            Record::Edit(_) => {}
        }
    }
    let mut rounds = Vec::new();
    for (id, round) in &decisions {
        let of_round = labels.get(id).cloned().unwrap_or_default();
        let accepted: Vec<Label> =
            of_round.into_values().filter(|f| f.status.counts()).map(|f| f.label).collect();
        let quarantined = |annotator: &str| marked(&quarantined, &id.tenant, annotator);
        let live = live(&accepted, &settings.mapping, quarantined);
        let live: Vec<_> =
            live.iter().map(|(label, y)| (label.annotator.clone(), label.source, *y)).collect();
        let awake = round.votes.iter().any(|vote| vote.score.is_some() && !vote.shadow);
        if awake && !live.is_empty() {
            rounds.push((round, live));
        }
    }
    rounds.sort_by_key(|(round, _)| (round.round_time, &round.id.tenant, &round.id.event));
    let rounds: Vec<_> =
        rounds.iter().zip(targets(&rounds, &settings.mapping)).map(|((r, _), y)| (*r, y)).collect();
    let experts: BTreeSet<String> =
        rounds.iter().flat_map(|(round, _)| round.votes.iter().map(|vote| vote.expert.clone())).collect();
    let experts: Vec<String> = experts.into_iter().collect();
    let mut carried: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for features in rounds.iter().filter_map(|(round, _)| round.features.as_ref()) {
        *carried.entry(features.encoder).or_default() += 1;
    }
    let most = carried.values().max().copied();
    let encoder = carried.into_iter().find(|(_, count)| Some(*count) == most).map(|(id, _)| id);
    let names: Vec<&str> = experts.iter().map(String::as_str).collect();
    let mut state = Vec::new();
    if !names.is_empty() {
        let mut learner = settings.learner.build(&names, &settings.policy).unwrap();
        for (round, y) in rounds.iter().filter_map(|(round, y)| Some((round, (*y)?))) {
            let vote = |expert: &String| {
                let vote = round.votes.iter().find(|vote| vote.expert == *expert);
                vote.filter(|vote| !vote.shadow).and_then(|vote| vote.score).unwrap_or(f64::NAN)
            };
            let votes: Vec<f64> = experts.iter().map(vote).collect();
            let readable = round.features.as_ref().filter(|known| Some(known.encoder) == encoder);
            let features = readable.map(|known| &*known.features);
            learner.step(&RoundInput { votes: &votes, features, event: &round.id.event }, y);
        }
        learner.save(&mut state);
    }
    state_hash(&HashedState {
        learner: &settings.learner.canonical(),
        experts: &experts,
        encoder: encoder.as_ref(),
        mapping: &settings.mapping.canonical(),
        rounds: rounds.len() as u64,
        last_key: rounds.last().map(|(j, _)| (j.round_time, j.id.tenant.as_str(), j.id.event.as_str())),
        state: &state,
    })
}

/// A live label: annotator, source and value.
type Live = (Option<String>, Source, f64);

/// The target of each round by the definition of the cap: an annotator's label counts if fewer than
/// `FREE_LABELS` + s/(1-s) times the labels of all others so far counted before.
fn targets(rounds: &[(&RoundRecord, Vec<Live>)], mapping: &Mapping) -> Vec<Option<f64>> {
    let share = mapping.max_annotator_share;
    let (mut given, mut counted): (Vec<Option<Option<String>>>, Vec<Option<String>>) = Default::default();
    let mean = |live: &Vec<Live>| {
        let counts = |(annotator, source, _): &&Live| {
            let own = counted.iter().filter(|other| *other == annotator).count();
            let others = given.iter().filter(|other| other.as_ref() != Some(annotator)).count();
            let limit = f64::from(FREE_LABELS) + share / (1.0 - share) * others as f64;
            share == 1.0 || *source == Source::Gold || (own as f64) < limit
        };
        let teaching: Vec<&Live> = live.iter().filter(counts).collect();
        given.extend(live.iter().map(|(name, source, _)| (*source != Source::Gold).then(|| name.clone())));
        let named = teaching.iter().filter(|(_, source, _)| *source != Source::Gold);
        counted.extend(named.map(|(name, ..)| name.clone()));
        let sum: f64 = teaching.iter().map(|(_, _, y)| y).sum();
        (!teaching.is_empty()).then(|| sum / teaching.len() as f64)
    };
    rounds.iter().map(|(_, live)| live).map(mean).collect()
}

fn settings(learner: &str) -> Settings {
    Settings { memory: 40_000, ..Settings::new(POLICY, learner.parse().unwrap(), Mapping::default()) }
}

/// A ledger with a fold of it.
struct Fixture {
    ledger: LedgerState,
    fold: Fold,
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        Self { ledger: LedgerState::new(), fold: Fold::new(settings) }
    }

    fn apply(&mut self, record: &Record) -> bool {
        let mut changes = Vec::new();
        let expected = self.ledger.would_change(record);
        let changed = self.ledger.apply(record, &mut changes).unwrap();
        assert_eq!(changed, expected, "{record:?}");
        changes.iter().for_each(|change: &Change| self.fold.mark_changed(change));
        changed
    }

    /// Replaces the ledger and the fold by new ones from the ledger's records.
    fn restart(&mut self, dice: &mut Dice) {
        let mut records: Vec<_> = self.ledger.records().collect();
        dice.shuffle(&mut records);
        *self = Self::new(self.fold.settings().clone());
        records.iter().for_each(|record| {
            self.ledger.apply(record, &mut Vec::new()).unwrap();
        });
        self.fold.mark_all_changed(&self.ledger);
    }

    fn hash(&mut self) -> StateHash {
        self.fold.catch_up(&self.ledger).unwrap();
        assert!(self.fold.is_current());
        self.fold.state_hash(&self.ledger)
    }
}

/// Applies the records in a random order, a tenth of them twice, with folds at random times and `stops` restarts.
/// Returns the hash at the end.
fn arrive(records: &[Record], settings: &Settings, seed: u64, stops: usize) -> StateHash {
    let mut dice = Dice(seed);
    let mut order: Vec<&Record> = records.iter().collect();
    for _ in 0..records.len() / 10 {
        order.push(&records[dice.below(records.len())]);
    }
    dice.shuffle(&mut order);
    let mut fixture = Fixture::new(settings.clone());
    let stop_each = order.len().checked_div(stops).unwrap_or(usize::MAX);
    for (at, record) in order.into_iter().enumerate() {
        fixture.apply(record);
        match dice.below(60) {
            0 => fixture.fold.catch_up(&fixture.ledger).unwrap(),
            1 => drop(fixture.fold.advance(&fixture.ledger, dice.below(40)).unwrap()),
            _ => {}
        }
        if at % stop_each == stop_each - 1 {
            fixture.restart(&mut dice);
        }
    }
    // The figures equal those of a pass without rewinds.
    let hash = fixture.hash();
    let mut fresh = Fixture { ledger: fixture.ledger, fold: Fold::new(settings.clone()) };
    fresh.fold.mark_all_changed(&fresh.ledger);
    assert_eq!(fresh.hash(), hash);
    assert_eq!(fresh.fold.tally(), fixture.fold.tally());
    hash
}
