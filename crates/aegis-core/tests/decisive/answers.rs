//! Random policies, predictors and votes: no answer of an expert that is not needed changes anything.

use aegis_core::decision::ReviewReason;
use aegis_core::decisive::{Decisive, Unasked, decisive};
use aegis_core::ledger::TextFeatures;
use aegis_core::policy::{Action, Policy};
use aegis_core::predictor::Predictor;
use aegis_core::sampling::Sampling;
use aegis_core::vote::{Abstention, CategoryScore, Vote};
use fastrand::Rng;
use proptest::prelude::*;

use crate::{ENCODER, EXPERTS, decided, features, policy, predictor};

/// An expert that the predictor does not have.
const NEW: &str = "g";

fn score(rng: &mut Rng) -> f64 {
    match rng.u8(..6) {
        0 => 0.0,
        1 => 1.0,
        _ => rng.f64(),
    }
}

/// An answer of an expert that reports these categories: a vote, or a failure.
fn answer(rng: &mut Rng, expert: &str, categories: &[String]) -> Vote {
    if rng.f64() < 0.15 {
        return Vote::abstained(expert, None, Abstention::Failed);
    }
    let scores = categories.iter().map(|slug| CategoryScore { category: slug.clone(), score: score(rng) });
    let scores: Vec<CategoryScore> = scores.collect();
    Vote::scored(expert, [1; 32], score(rng), scores)
}

fn ruling(
    predictor: &mut Predictor,
    policy: &Policy,
    votes: Vec<Vote>,
    features: Option<&TextFeatures>,
) -> (Action, Vec<ReviewReason>, f64, Sampling) {
    let decision = decided("e", predictor, policy, votes, features, 0.75);
    (decision.action, decision.reasons, decision.review_probability, decision.sampling)
}

/// The unasked experts of a case, with their categories.
struct Case {
    votes: Vec<Vote>,
    unasked: Vec<(usize, Vec<String>, bool)>,
}

fn case(rng: &mut Rng) -> Case {
    let slugs = ["hate", "self-harm", "weapons", "other"].map(str::to_owned);
    let mut names = EXPERTS.to_vec();
    names.push(NEW);
    let shown =
        |rng: &mut Rng| if rng.f64() < 0.7 { Vec::new() } else { vec![slugs[rng.usize(..4)].clone()] };
    let mut votes: Vec<Vote> = names
        .iter()
        .map(|expert| {
            let categories = shown(rng);
            answer(rng, expert, &categories)
        })
        .collect();
    let mut unasked: Vec<(usize, Vec<String>, bool)> = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..votes.len());
        if unasked.iter().all(|(known, ..)| *known != at) {
            votes[at] = Vote::abstained(names[at], None, Abstention::NotNeeded);
            unasked.push((at, shown(rng), rng.f64() < 0.1));
        }
    }
    for (at, _, shadow) in &unasked {
        votes[*at].shadow = *shadow;
    }
    Case { votes, unasked }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    /// The expert that is named is one of the unasked, not in shadow; and without one, no answer changes anything.
    #[test]
    fn what_is_not_needed_changes_nothing(seed in any::<u64>()) {
        let mut rng = Rng::with_seed(seed);
        let mut policy = policy(&mut rng);
        if rng.bool() {
            policy.min_awake = 1;
        }
        let rounds = rng.usize(..120);
        let mut predictor = predictor(&mut rng, &policy.learner, rounds);
        for _ in 0..6 {
            let Case { votes, unasked } = case(&mut rng);
            let read = rng.bool().then(|| TextFeatures { encoder: ENCODER, features: features(&mut rng) });
            let open: Vec<Unasked<'_>> = unasked
                .iter()
                .map(|(at, categories, shadow)| Unasked {
                    expert: votes[*at].expert.as_str(), categories, shadow: *shadow, cost: 1.0,
                })
                .collect();
            match decisive(&mut predictor, &policy, "e", &votes, read.as_ref(), &open) {
                Decisive::Yes(first) => prop_assert!(!open[first].shadow),
                Decisive::No => {
                    let without = ruling(&mut predictor, &policy, votes.clone(), read.as_ref());
                    for _ in 0..40 {
                        let mut answered = votes.clone();
                        for (at, categories, shadow) in &unasked {
                            let vote = answer(&mut rng, &votes[*at].expert, categories);
                            answered[*at] = Vote { shadow: *shadow, ..vote };
                        }
                        let with = ruling(&mut predictor, &policy, answered, read.as_ref());
                        prop_assert_eq!(&without, &with, "{}", &policy.learner);
                    }
                }
            }
        }
    }
}
