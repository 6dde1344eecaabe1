//! A skipped expert has not changed the action, the reasons or the probability of a review, or category rules, whatever it
//! would have answered.

mod answers;
mod by_hand;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use aegis_core::decision::{Decision, DecisionInput, decide};
use aegis_core::event::Event;
use aegis_core::features::{DIMENSIONS, Features};
use aegis_core::label::{Mapping, Source};
use aegis_core::learners::{LearnerSpec, RoundInput};
use aegis_core::ledger::TextFeatures;
use aegis_core::policy::{Action, CategoryRule, Policy};
use aegis_core::predictor::{Predictor, Published};
use aegis_core::sampling::AuditRates;
use aegis_core::vote::Vote;
use fastrand::Rng;

const EXPERTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ENCODER: [u8; 32] = [7; 32];
const LEARNERS: [&str; 9] = [
    "default",
    "default",
    "hedge",
    "fpl",
    "weighted-majority",
    "stacking",
    "reading",
    "fixed-share-grid",
    "majority",
];

fn policy(rng: &mut Rng) -> Policy {
    let action = |rng: &mut Rng| Action::ALL[rng.usize(..3)];
    let rule = |rng: &mut Rng| CategoryRule { threshold: rng.f64(), action: action(rng) };
    let named = ["hate", "self-harm", "weapons"];
    let categories = named.iter().filter(|_| rng.f64() < 0.25).map(|slug| (*slug).to_owned());
    let categories: Vec<String> = categories.collect();
    Policy {
        cost_false_negative: 0.5 + rng.f64(),
        cost_false_positive: 0.5 + rng.f64(),
        flagged: action(rng),
        min_awake: rng.usize(1..5),
        review_margin: if rng.bool() { 0.0 } else { 0.1 * rng.f64() },
        review_slope: if rng.bool() { 0.0 } else { 0.2 * rng.f64() },
        audit_rates: AuditRates { allow: rng.f64(), block: rng.f64(), review: rng.f64() },
        categories: categories.into_iter().map(|slug| (slug, rule(rng))).collect::<BTreeMap<_, _>>(),
        mapping: Mapping {
            needs_caution: 1.0,
            teaches: BTreeSet::from([Source::Review]),
            ..Mapping::default()
        },
        learner: LEARNERS[rng.usize(..LEARNERS.len())].parse().unwrap(),
        ..Policy::example("p")
    }
}

fn features(rng: &mut Rng) -> Box<Features> {
    Box::new(std::array::from_fn::<i8, DIMENSIONS, _>(|_| rng.i8(-120..120)))
}

/// A predictor that has learned votes of different quality.
fn predictor(rng: &mut Rng, spec: &LearnerSpec, rounds: usize) -> Predictor {
    let mut learner = spec.build(&EXPERTS, "p").unwrap();
    let quality: Vec<f64> = EXPERTS.iter().map(|_| rng.f64()).collect();
    for at in 0..rounds {
        let target = f64::from(u8::from(rng.bool()));
        let vote = |rng: &mut Rng, quality: &f64| {
            let side = if rng.f64() < *quality { target } else { 1.0 - target };
            if rng.f64() < 0.15 { f64::NAN } else { 0.6 * side + 0.4 * rng.f64() }
        };
        let mut votes: Vec<f64> = quality.iter().map(|quality| vote(rng, quality)).collect();
        votes[rng.usize(..6)] = rng.f64();
        let features = rng.bool().then(|| features(rng));
        let event = at.to_string();
        learner.step(&RoundInput { votes: &votes, features: features.as_deref(), event: &event }, target);
    }
    let mut state = Vec::new();
    learner.save(&mut state);
    Predictor::published(&Published {
        learner: spec.clone(),
        experts: EXPERTS.map(str::to_owned).to_vec(),
        encoder: Some(ENCODER),
        rounds: rounds as u64,
        state,
        ..Published::example("p")
    })
    .unwrap()
}

/// A policy of which every rule but the threshold is off.
fn plain() -> Policy {
    Policy { learner: "majority".parse().unwrap(), ..Policy::example("p") }
}

fn decided(
    event: &str,
    predictor: &mut Predictor,
    policy: &Policy,
    votes: Vec<Vote>,
    features: Option<&TextFeatures>,
    thinning: f64,
) -> Decision {
    let event = Event { policy: "p".into(), ..Event::example(event, "text") };
    let combined = predictor.combine(&event.id, &votes, features);
    let features = features.cloned();
    let input = DecisionInput { features, thinning, ..DecisionInput::example(event, votes) };
    decide(input, policy, predictor.reference().clone(), &combined, 1)
}
