//! The hash of the state by its definition.

use std::collections::{BTreeMap, BTreeSet};

use aegis_core::fold::{FREE_LABELS, Settings};
use aegis_core::hash::{HashedState, state_hash};
use aegis_core::label::{Label, Mapping, Source, live};
use aegis_core::learners::RoundInput;
use aegis_core::ledger::{Edit, EditAction, LabelRecord, Record, RoundId, RoundRecord};
use aegis_core::predictor::StateHash;

/// The order of the decisions about one event.
fn sort_key(round: &RoundRecord) -> impl Ord {
    let votes: Vec<_> =
        round.votes.iter().map(|v| (v.expert.clone(), v.score.map(f64::to_bits), v.shadow)).collect();
    let features = round.features.as_ref().map(|f| (f.encoder, f.features.clone()));
    (round.key(), votes, features, round.subject.clone())
}

/// The edits of a set of records: the erased subjects and the quarantined annotators, each with the tenant; an empty tenant is
/// all tenants.
#[derive(Default)]
struct Edits {
    erased: BTreeSet<(String, String)>,
    quarantined: BTreeSet<(String, String)>,
}

impl Edits {
    fn of(records: &[Record]) -> Self {
        let mut edits = Self::default();
        for record in records {
            match record {
                Record::Edit(Edit { action: EditAction::Erase { tenant, subject }, .. }) => {
                    edits.erased.insert((tenant.clone(), subject.clone()));
                }
                Record::Edit(Edit { action: EditAction::Quarantine { tenant, annotator }, .. }) => {
                    edits.quarantined.insert((tenant.clone(), annotator.clone()));
                }
                _ => {}
            }
        }
        edits
    }

    fn erases(&self, round: &RoundRecord) -> bool {
        round.subject.as_ref().is_some_and(|subject| marks(&self.erased, &round.id.tenant, subject))
    }
}

fn marks(set: &BTreeSet<(String, String)>, tenant: &str, name: &str) -> bool {
    set.contains(&(String::new(), name.to_owned())) || set.contains(&(tenant.to_owned(), name.to_owned()))
}

type Decisions = BTreeMap<RoundId, RoundRecord>;
type Labels = BTreeMap<RoundId, BTreeMap<(String, Option<String>), LabelRecord>>;

/// The decision of each event that is not erased, and the newest record of each label.
fn newest(records: &[Record], edits: &Edits) -> (Decisions, Labels) {
    let (mut decisions, mut labels) = (Decisions::new(), Labels::new());
    for record in records {
        match record {
            Record::Round(round) => {
                if edits.erases(round) {
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
    (decisions, labels)
}

/// The rounds that count, in their order, with their live labels.
fn counted<'a>(
    decisions: &'a Decisions,
    labels: &Labels,
    edits: &Edits,
    mapping: &Mapping,
) -> Vec<(&'a RoundRecord, Vec<Live>)> {
    let mut rounds = Vec::new();
    for (id, round) in decisions {
        let of_round = labels.get(id).cloned().unwrap_or_default();
        let accepted: Vec<Label> =
            of_round.into_values().filter(|f| f.status.counts()).map(|f| f.label).collect();
        let quarantined = |annotator: &str| marks(&edits.quarantined, &id.tenant, annotator);
        let live = live(&accepted, mapping, quarantined);
        let live: Vec<_> =
            live.iter().map(|(label, y)| (label.annotator.clone(), label.source, *y)).collect();
        let awake = round.votes.iter().any(|vote| vote.score.is_some() && !vote.shadow);
        if awake && !live.is_empty() {
            rounds.push((round, live));
        }
    }
    rounds.sort_by_key(|(round, _)| (round.round_time, &round.id.tenant, &round.id.event));
    rounds
}

/// The encoder of most rounds; of equally many, the least.
fn encoder<'a>(rounds: impl Iterator<Item = &'a RoundRecord>) -> Option<[u8; 32]> {
    let mut carried: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for features in rounds.filter_map(|round| round.features.as_ref()) {
        *carried.entry(features.encoder).or_default() += 1;
    }
    let most = carried.values().max().copied();
    carried.into_iter().find(|(_, count)| Some(*count) == most).map(|(id, _)| id)
}

/// The state of the learner after these rounds with their targets.
fn learned(
    rounds: &[(&RoundRecord, Option<f64>)],
    experts: &[String],
    encoder: Option<[u8; 32]>,
    settings: &Settings,
) -> Vec<f64> {
    let names: Vec<&str> = experts.iter().map(String::as_str).collect();
    let mut state = Vec::new();
    if names.is_empty() {
        return state;
    }
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
    state
}

/// The hash of the state by its definition, without `LedgerState` and `Fold`.
pub fn model(records: &[Record], settings: &Settings) -> StateHash {
    let edits = Edits::of(records);
    let (decisions, labels) = newest(records, &edits);
    let rounds = counted(&decisions, &labels, &edits, &settings.mapping);
    let rounds: Vec<_> =
        rounds.iter().zip(targets(&rounds, &settings.mapping)).map(|((r, _), y)| (*r, y)).collect();
    let experts: BTreeSet<String> =
        rounds.iter().flat_map(|(round, _)| round.votes.iter().map(|vote| vote.expert.clone())).collect();
    let experts: Vec<String> = experts.into_iter().collect();
    let encoder = encoder(rounds.iter().map(|(round, _)| *round));
    state_hash(&HashedState {
        learner: &settings.learner.canonical(),
        experts: &experts,
        encoder: encoder.as_ref(),
        mapping: &settings.mapping.canonical(),
        rounds: rounds.len() as u64,
        last_key: rounds.last().map(|(j, _)| (j.round_time, j.id.tenant.as_str(), j.id.event.as_str())),
        state: &learned(&rounds, &experts, encoder, settings),
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
