//! Strategies for all values that core allows, of a size that keeps the tests fast.

use std::collections::{BTreeMap, BTreeSet};

use aegis::codec::time::{EARLIEST, LATEST};
use aegis::core::decision::{Decision, Origin, ReviewReason, Sampling, WeighedVote};
use aegis::core::event::{Event, Role, Turn};
use aegis::core::features::DIMENSIONS;
use aegis::core::label::{DecisionRef, Finding, Label, Source};
use aegis::core::language::Language;
use aegis::core::learners::{LearnerSpec, Mass, Name, Noise};
use aegis::core::ledger::{
    Edit, EditAction, Key, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};
use aegis::core::policy::Action;
use aegis::core::predictor::{MAX_PIN_REASON, Pin, PredictorRef, Published};
use aegis::core::review::ReviewRequest;
use aegis::core::text::HiddenText;
use aegis::core::vote::{Abstention, CategoryScore, Outcome, Vote};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Generates texts of any characters, including NUL and those outside of the basic plane.
pub fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect())
}

pub fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{1,20}", vec(any::<char>(), 1..=64).prop_map(|chars| chars.into_iter().collect())]
}

/// Generates numbers from 0 to 1, by their bits.
pub fn share() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0_f64, (0..=1.0_f64.to_bits()).prop_map(f64::from_bits)]
}

pub fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |value| value.is_finite())
}

pub fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(EARLIEST), Just(LATEST), EARLIEST..=LATEST]
}

pub fn hash() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

prop_compose! {
    pub fn event()(
        id in id(), conversation in id(), tenant in id(), policy in id(), subject in option::of(id()),
        time in option::of(time()), turns in vec((select(&Role::ALL[..]), text()), 1..6), at in any::<usize>(),
        metadata in btree_map(text(), text(), 0..4),
    ) -> Event {
        let judged = at % turns.len();
        let turns = turns.into_iter().map(|(role, text)| Turn { role, text }).collect();
        Event { id, conversation, tenant, policy, subject, time, turns, judged, metadata }
    }
}

fn reference() -> impl Strategy<Value = DecisionRef> {
    (0..=i32::MAX, 0..=i64::MAX).prop_map(|(partition, offset)| DecisionRef { partition, offset })
}

prop_compose! {
    pub fn label()(
        names in (id(), id(), id(), id(), option::of(id())),
        verdict in option::of(select(&Finding::ALL[..])), severity in option::of(share()),
        categories in vec(id(), 0..4), time in time(), source in select(&Source::ALL[..]),
        inclusion_probability in option::of(share().prop_filter("above 0", |chance| *chance > 0.0)),
        decision in option::of(reference()), corrects in option::of(id()), retracts in option::of(id()),
    ) -> Label {
        let (id, tenant, policy, event, annotator) = names;
        let silent = severity.is_none() && retracts.is_none();
        let verdict = if silent { verdict.or(Some(Finding::Safe)) } else { verdict };
        Label {
            id, tenant, policy, event, annotator, verdict, severity, categories, time, source,
            inclusion_probability, decision, corrects, retracts,
        }
    }
}

fn round_id() -> impl Strategy<Value = RoundId> {
    (id(), id(), id()).prop_map(|(tenant, policy, event)| RoundId { tenant, policy, event })
}

fn reading() -> impl Strategy<Value = TextFeatures> {
    (hash(), vec(any::<i8>(), DIMENSIONS)).prop_map(|(encoder, values)| {
        let mut features = Box::new([0; DIMENSIONS]);
        features.copy_from_slice(&values);
        TextFeatures { encoder, features }
    })
}

fn scores() -> impl Strategy<Value = Vec<CategoryScore>> {
    vec((text(), share()).prop_map(|(category, score)| CategoryScore { category, score }), 0..3)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (share(), scores()).prop_map(|(score, categories)| Outcome::Voted { score, categories }),
        select(&Abstention::ALL[..]).prop_map(Outcome::Abstained),
    ]
}

/// Generates a value for each of a set of experts, in their order.
fn per_expert<T: std::fmt::Debug>(each: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(String, T)>> {
    btree_map(id(), each, 0..5).prop_map(|experts: BTreeMap<_, _>| experts.into_iter().collect())
}

fn votes() -> impl Strategy<Value = Vec<WeighedVote>> {
    let marks = (any::<bool>(), any::<bool>(), any::<bool>(), 0..=i32::MAX as usize);
    let asked = (any::<bool>(), any::<bool>(), option::of(text()));
    let each = (option::of(hash()), outcome(), marks, asked, share(), finite());
    per_expert(each).prop_map(|votes| {
        let weighed =
            |(expert, (model, outcome, marks, (explored, decisive, revision), weight, contribution))| {
                let (shadow, truncated, cached, windows) = marks;
                let vote = Vote {
                    expert,
                    model,
                    outcome,
                    shadow,
                    truncated,
                    cached,
                    windows,
                    explored,
                    decisive,
                    revision,
                };
                WeighedVote { vote, weight, contribution }
            };
        votes.into_iter().map(weighed).collect()
    })
}

fn predictor() -> impl Strategy<Value = PredictorRef> {
    (text(), hash(), 0..=i64::MAX as u64, -1..=i64::MAX, any::<bool>()).prop_map(
        |(learner, state_hash, rounds, ledger_offset, pinned)| PredictorRef {
            learner,
            state_hash,
            rounds,
            ledger_offset,
            pinned,
        },
    )
}

fn reasons(least: usize) -> impl Strategy<Value = Vec<ReviewReason>> {
    proptest::sample::subsequence(&ReviewReason::ALL[..], least..=ReviewReason::ALL.len()).prop_shuffle()
}

fn sampling() -> impl Strategy<Value = Sampling> {
    (share(), share(), any::<bool>()).prop_map(|(audit, uncertainty, thinned)| Sampling {
        audit,
        uncertainty,
        thinned,
    })
}

prop_compose! {
    pub fn decision()(
        id in round_id(), names in (text(), text(), option::of(id()), option::of(text())),
        origin in (text(), any::<i32>(), any::<i64>()), round_time in time(),
        action in select(&Action::ALL[..]), numbers in (option::of(share()), share(), share(), any::<i64>()),
        categories in scores(), votes in votes(), reading in option::of(reading()), predictor in predictor(),
        degraded in any::<bool>(), reasons in reasons(0), sampling in sampling(),
        nothing_to_judge in any::<bool>(),
        hidden_text in proptest::sample::subsequence(&HiddenText::ALL[..], 0..=6),
        language in option::of(select(Language::KNOWN)),
    ) -> Decision {
        let (conversation, policy_version, subject, trace) = names;
        let (topic, partition, offset) = origin;
        let (probability, threshold, review_probability, latency_micros) = numbers;
        Decision {
            id, conversation, subject, origin: Origin { topic, partition, offset }, round_time, policy_version,
            action, probability, threshold, categories, votes, features: reading, predictor, degraded,
            nothing_to_judge, hidden_text, reasons, review_probability, sampling, latency_micros, trace,
            language: language.unwrap_or_default(),
        }
    }
}

prop_compose! {
    pub fn review()(
        made in decision(), decision in reference(), inclusion_probability in 0.001..=1.0_f64,
        reasons in reasons(1),
    ) -> ReviewRequest {
        ReviewRequest {
            id: made.id, conversation: made.conversation, subject: made.subject, origin: made.origin, decision,
            round_time: made.round_time, policy_version: made.policy_version, action: made.action,
            probability: made.probability, threshold: made.threshold, reasons, inclusion_probability,
            sampling: made.sampling, categories: made.categories, trace: made.trace,
        }
    }
}

fn judged() -> impl Strategy<Value = RoundRecord> {
    let votes = per_expert((option::of(share()), any::<bool>(), any::<bool>())).prop_map(|votes| {
        let vote = |(expert, (score, shadow, decisive))| RoundVote { expert, score, shadow, decisive };
        votes.into_iter().map(vote).collect()
    });
    (round_id(), option::of(id()), time(), reference(), votes, option::of(reading())).prop_map(
        |(id, subject, round_time, decision, votes, reading)| RoundRecord {
            id,
            subject,
            round_time,
            decision,
            votes,
            features: reading,
        },
    )
}

fn edit() -> impl Strategy<Value = Edit> {
    let tenant = prop_oneof![Just(String::new()), id()];
    (id(), any::<bool>(), tenant, id()).prop_map(|(id, quarantine, tenant, named)| {
        let action = if quarantine {
            EditAction::Quarantine { tenant, annotator: named }
        } else {
            EditAction::Erase { tenant, subject: named }
        };
        Edit { id, action }
    })
}

pub fn record() -> impl Strategy<Value = Record> {
    let filed = (label(), time(), select(&LabelStatus::ALL[..]))
        .prop_map(|(label, received, standing)| LabelRecord { label, received, status: standing });
    prop_oneof![
        judged().prop_map(Record::Round),
        filed.prop_map(Record::Label),
        edit().prop_map(Record::Edit)
    ]
}

pub fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        round_id().prop_map(Key::Round),
        (round_id(), id(), option::of(id()))
            .prop_map(|(round, id, annotator)| Key::Label(round, id, annotator)),
        id().prop_map(Key::Edit),
    ]
}

fn learner() -> impl Strategy<Value = LearnerSpec> {
    let spec = |name, change: fn(&mut LearnerSpec, f64)| {
        (0.001..0.999_f64).prop_map(move |value| {
            let mut spec = LearnerSpec::new(name);
            change(&mut spec, value);
            spec
        })
    };
    prop_oneof![
        select(&Name::ALL[..]).prop_map(LearnerSpec::new),
        spec(Name::Hedge, |spec, value| spec.eta = Some(value)),
        spec(Name::WeightedMajority, |spec, value| spec.beta = Some(value)),
        spec(Name::FixedShare, |spec, value| spec.alpha = Some(value)),
        spec(Name::Stacking, |spec, value| spec.gamma = Some(0.9 + value / 10.0)),
        spec(Name::Reading, |spec, value| spec.variance = Some(value)),
        spec(Name::Fpl, |spec, _| spec.noise = Some(Noise::Exponential)),
        spec(Name::Brier, |spec, value| {
            spec.prior = Some(vec![("a".to_owned(), value), ("b".to_owned(), 1.0 - value)]);
        }),
    ]
}

prop_compose! {
    pub fn published()(
        policy in id(), format in any::<u32>(), learner in learner(), mapping in text(),
        experts in btree_set(id(), 0..5), encoder in option::of(hash()), rounds in 0..=i64::MAX as u64,
        last_key in option::of((time(), text(), text())), ledger_offset in -1..=i64::MAX, state_hash in hash(),
        state in vec(finite(), 0..40), masses in vec((text(), finite()), 0..4),
    ) -> Published {
        let experts: BTreeSet<String> = experts;
        Published {
            policy, format, learner, mapping, experts: experts.into_iter().collect(), encoder, rounds, last_key,
            ledger_offset, state_hash, state,
            masses: masses.into_iter().map(|(member, mass)| Mass { member, mass }).collect(),
        }
    }
}

prop_compose! {
    pub fn pin()(
        policy in id(), predictor in vec(any::<u8>(), 0..80), offset in 0..=i64::MAX,
        published in option::of(time()), by in id(), reason in text(), time in time(),
    ) -> Pin {
        let fits = !reason.is_empty() && reason.len() <= MAX_PIN_REASON;
        let reason = if fits { reason } else { "a reason".to_owned() };
        Pin { policy, predictor, offset, published, by, reason, time }
    }
}
