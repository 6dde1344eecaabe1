//! A skipped expert has not changed the action, the reasons or the probability of a review, or category rules, whatever it
//! would have answered.

use std::collections::{BTreeMap, BTreeSet};

use aegis_core::decision::{Decision, DecisionInput, Origin, ReviewReason, decide};
use aegis_core::decisive::{Decisive, MAX_TOGETHER, Unasked, decisive};
use aegis_core::event::{Event, Role, Turn};
use aegis_core::features::{DIMENSIONS, Features};
use aegis_core::label::{Mapping, Source};
use aegis_core::learners::{LearnerSpec, RoundInput};
use aegis_core::ledger::TextFeatures;
use aegis_core::policy::{Action, CategoryRule, Policy};
use aegis_core::predictor::{FORMAT, Predictor, Published};
use aegis_core::sampling::{AuditRates, Sampling};
use aegis_core::vote::{Abstention, CategoryScore, Vote};
use fastrand::Rng;
use proptest::prelude::*;

const EXPERTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// An expert that the predictor does not have.
const NEW: &str = "g";
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
        name: "p".into(),
        version: "1".into(),
        cost_false_negative: 0.5 + rng.f64(),
        cost_false_positive: 0.5 + rng.f64(),
        flagged: action(rng),
        min_awake: rng.usize(1..5),
        review_margin: if rng.bool() { 0.0 } else { 0.1 * rng.f64() },
        review_slope: if rng.bool() { 0.0 } else { 0.2 * rng.f64() },
        audit_rates: AuditRates { allow: rng.f64(), block: rng.f64(), review: rng.f64() },
        review_budget: None,
        nothing_to_judge: Action::Allow,
        categories: categories.into_iter().map(|slug| (slug, rule(rng))).collect::<BTreeMap<_, _>>(),
        features: true,
        sheds: true,
        cheap: Vec::new(),
        mapping: Mapping { needs_caution: 1.0, teaches: BTreeSet::from([Source::Review]) },
        learner: LEARNERS[rng.usize(..LEARNERS.len())].parse().unwrap(),
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
        policy: "p".into(),
        format: FORMAT,
        learner: spec.clone(),
        mapping: String::new(),
        experts: EXPERTS.map(str::to_owned).to_vec(),
        encoder: Some(ENCODER),
        rounds: rounds as u64,
        last_key: None,
        ledger_offset: 1,
        state_hash: [0; 32],
        state,
        masses: Vec::new(),
    })
    .unwrap()
}

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

fn decided(
    event: &str,
    predictor: &mut Predictor,
    policy: &Policy,
    votes: Vec<Vote>,
    features: Option<&TextFeatures>,
    thinning: f64,
) -> Decision {
    let event = Event {
        tenant: "t".into(),
        policy: "p".into(),
        id: event.into(),
        conversation: "c".into(),
        subject: None,
        time: None,
        turns: vec![Turn { role: Role::User, text: "text".into() }],
        judged: 0,
        metadata: BTreeMap::new(),
    };
    let combined = predictor.combine(&event.id, &votes, features);
    let origin = Origin { topic: "events".into(), partition: 0, offset: 0 };
    let features = features.cloned();
    let input = DecisionInput { event, origin, round_time: 1, votes, features, trace: None, thinning };
    decide(input, policy, predictor.reference().clone(), &combined, 1)
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

/// The sums over events of the draws that came up, each weighted by the inverse of its probability, minus 1.
#[derive(Debug, Default)]
struct Weighted {
    events: f64,
    excess: f64,
    variance: f64,
}

impl Weighted {
    fn add(&mut self, came_up: bool, probability: f64) {
        // The weighting is for events that can be in the sample.
        if probability > 0.0 {
            self.events += 1.0;
            self.excess += f64::from(u8::from(came_up)) / probability - 1.0;
            self.variance += 1.0 / probability - 1.0;
        }
    }

    /// The distance of the mean weight from 1, in standard errors.
    fn errors(&self) -> f64 {
        self.excess / self.variance.sqrt()
    }
}

/// A predictor in which the last expert has two fifths of the weight.
fn heavy_last() -> Predictor {
    let experts = EXPERTS.map(str::to_owned);
    let weight = |id: &String| if *id == experts[5] { 0.4 } else { 0.12 };
    let prior = experts.iter().map(|id| (id.clone(), weight(id))).collect();
    let hedge = "hedge".parse().unwrap();
    let learner = LearnerSpec { prior: Some(prior), eta: Some(0.5), ..LearnerSpec::new(hedge) };
    Predictor::prior(&learner, "p", &experts).unwrap()
}

/// The rule by which an expert is asked.
#[derive(Clone, Copy)]
enum Rule {
    /// If it may change the ruling.
    Decisive,
    /// Wrong: if a review would be requested without it.
    Drawn,
}

/// Decides events of which an expert is asked by `rule`. Returns the weights of the two draws and of all requests, those of the
/// requests of skipped events, and the number of these events.
fn simulated(rule: Rule) -> ([Weighted; 4], usize) {
    let mut rng = Rng::with_seed(5);
    let mut all: [Weighted; 4] = Default::default();
    let mut skipped = 0;
    for block in 0..6 {
        let policy = Policy {
            review_margin: 0.03,
            review_slope: 0.25,
            audit_rates: AuditRates { allow: 0.05, block: 0.2, review: 1.0 },
            learner: LEARNERS[block % LEARNERS.len()].parse().unwrap(),
            ..plain()
        };
        let mut predictor =
            if block % 3 == 0 { heavy_last() } else { predictor(&mut rng, &policy.learner, 60) };
        for number in 0..1_500 {
            let event = format!("{block}-{number}");
            let target = f64::from(u8::from(rng.bool()));
            let last = EXPERTS.len() - 1;
            // The last expert contradicts the others, so that its vote moves p towards the threshold.
            let score =
                |rng: &mut Rng, at| 0.5 * if at == last { 1.0 - target } else { target } + 0.5 * rng.f64();
            let answered: Vec<Vote> = EXPERTS
                .iter()
                .enumerate()
                .map(|(at, id)| Vote::scored(id, [1; 32], score(&mut rng, at), Vec::new()))
                .collect();
            let mut votes = answered.clone();
            votes[last] = Vote::abstained(EXPERTS[last], None, Abstention::NotNeeded);
            let open = Unasked { expert: EXPERTS[last], categories: &[], shadow: false, cost: 1.0 };
            let is_asked = match rule {
                Rule::Decisive => {
                    decisive(&mut predictor, &policy, &event, &votes, None, &[open]) != Decisive::No
                }
                Rule::Drawn => {
                    let made = decided(&event, &mut predictor, &policy, votes.clone(), None, 0.6);
                    !made.reasons.is_empty()
                }
            };
            let made =
                decided(&event, &mut predictor, &policy, if is_asked { answered } else { votes }, None, 0.6);
            let came_up = |reason| made.reasons.contains(&reason);
            all[0].add(came_up(ReviewReason::Audit), made.sampling.audit);
            all[1].add(came_up(ReviewReason::NearThreshold), made.sampling.uncertainty);
            all[2].add(!made.reasons.is_empty(), made.review_probability);
            if !is_asked {
                skipped += 1;
                all[3].add(!made.reasons.is_empty(), made.review_probability);
            }
        }
    }
    (all, skipped)
}

/// The mean of inclusion / probability is 1, with and without the skipped expert. A rule that depends on what is drawn shows
/// that the simulation finds a bias.
#[test]
fn weights_by_inverse_probability_are_unbiased_although_experts_are_skipped() {
    let (all, skipped) = simulated(Rule::Decisive);
    println!("{skipped} of 9000 events skipped: {:?}", all.iter().map(Weighted::errors).collect::<Vec<_>>());
    assert!((900..8_100).contains(&skipped), "{skipped}");
    for weighted in &all {
        assert!(weighted.errors().abs() < 3.0, "{weighted:?}");
    }
    let (biased, _) = simulated(Rule::Drawn);
    println!("asked if a review is drawn: {:?}", biased.iter().map(Weighted::errors).collect::<Vec<_>>());
    assert!(biased[2].errors() < -6.0, "{biased:?}");
}

/// A slope is no boundary that a vote crosses: every p on it has another probability.
#[test]
fn an_expert_is_needed_wherever_p_may_lie_on_the_slope() {
    let sloped = |slope| Policy { review_slope: slope, ..plain() };
    // With the fourth vote p is 0 or 1/4 (or 3/4 or 1); without it, 0 (or 1).
    for votes in [[0.0; 3], [1.0; 3]] {
        assert_eq!(majority(&votes, &sloped(0.2), &[]), Decisive::No);
        assert_eq!(majority(&votes, &sloped(0.3), &[]), Decisive::Yes(0));
    }
    let beyond = Policy { review_margin: 0.2, ..sloped(0.1) };
    assert_eq!(majority(&[0.0; 3], &beyond, &[]), Decisive::Yes(0));
    // The rate of audits by action needs no further votes: it follows from the action.
    let audited = Policy { audit_rates: AuditRates { allow: 0.0, block: 1.0, review: 0.5 }, ..plain() };
    assert_eq!(majority(&[0.0; 3], &audited, &[]), Decisive::No);
}

/// The plain majority of experts, where every answer is known by hand.
fn majority(votes: &[f64], policy: &Policy, categories: &[String]) -> Decisive {
    let experts: Vec<String> = EXPERTS[..votes.len() + 1].iter().map(|id| (*id).to_owned()).collect();
    let mut predictor = Predictor::prior(&policy.learner, "p", &experts).unwrap();
    let known = votes.iter().zip(EXPERTS).map(|(score, id)| Vote::scored(id, [0; 32], *score, Vec::new()));
    let votes: Vec<Vote> =
        known.chain([Vote::abstained(&experts[votes.len()], None, Abstention::NotNeeded)]).collect();
    let open = Unasked { expert: &experts[votes.len() - 1], categories, shadow: false, cost: 1.0 };
    decisive(&mut predictor, policy, "e", &votes, None, &[open])
}

fn plain() -> Policy {
    let policy = policy(&mut Rng::with_seed(1));
    Policy {
        cost_false_negative: 1.0,
        cost_false_positive: 1.0,
        flagged: Action::Block,
        min_awake: 1,
        review_margin: 0.0,
        review_slope: 0.0,
        audit_rates: AuditRates::NONE,
        categories: BTreeMap::new(),
        learner: "majority".parse().unwrap(),
        ..policy
    }
}

#[test]
fn a_vote_that_cannot_turn_the_majority_is_not_needed() {
    assert_eq!(majority(&[1.0, 1.0, 0.0], &plain(), &[]), Decisive::Yes(0));
    assert_eq!(majority(&[1.0, 1.0, 1.0], &plain(), &[]), Decisive::No);
    assert_eq!(majority(&[0.0, 0.0, 0.0], &plain(), &[]), Decisive::No);
    assert_eq!(majority(&[0.0, 1.0, 0.0], &plain(), &[]), Decisive::Yes(0));
}

#[test]
fn a_margin_counts_on_both_sides() {
    let near = Policy { review_margin: 0.3, ..plain() };
    // With the fourth vote p is 0, or 1/4, which is within .3 of the threshold; or 1, or 3/4.
    assert_eq!(majority(&[0.0, 0.0, 0.0], &near, &[]), Decisive::Yes(0));
    assert_eq!(majority(&[1.0, 1.0, 1.0], &near, &[]), Decisive::Yes(0));
    assert_eq!(majority(&[0.0; 5], &near, &[]), Decisive::No);
}

#[test]
fn an_expert_without_which_too_few_are_awake_is_needed() {
    let three = Policy { min_awake: 3, ..plain() };
    assert_eq!(majority(&[0.0, 0.0], &three, &[]), Decisive::Yes(0));
    assert_eq!(majority(&[0.0, 0.0, 0.0], &three, &[]), Decisive::No);
    // Too few are awake with it, too.
    assert_eq!(majority(&[0.0], &three, &[]), Decisive::No);
}

#[test]
fn an_expert_that_may_report_a_category_with_a_rule_is_needed_unless_the_action_is_strict_already() {
    let slug = ["self-harm".to_owned()];
    let rule = |action| BTreeMap::from([(slug[0].clone(), CategoryRule { threshold: 0.8, action })]);
    let of = |action| Policy { categories: rule(action), ..plain() };
    assert_eq!(majority(&[0.0; 3], &of(Action::Review), &[]), Decisive::No);
    assert_eq!(majority(&[0.0; 3], &of(Action::Review), &slug), Decisive::Yes(0));
    assert_eq!(majority(&[0.0; 3], &of(Action::Allow), &slug), Decisive::No);
    assert_eq!(majority(&[1.0; 3], &of(Action::Review), &slug), Decisive::No);
    assert_eq!(majority(&[1.0; 3], &of(Action::Block), &slug), Decisive::No);
}

/// The majority of `known` experts that say 0, with `unasked` others.
fn with_unasked(known: usize, unasked: usize) -> Decisive {
    let experts: Vec<String> = (0..known + unasked).map(|at| format!("e{at:02}")).collect();
    let policy = plain();
    let mut predictor = Predictor::prior(&policy.learner, "p", &experts).unwrap();
    let vote = |(at, id): (usize, &String)| match at < known {
        true => Vote::scored(id, [0; 32], 0.0, Vec::new()),
        false => Vote::abstained(id, None, Abstention::NotNeeded),
    };
    let votes: Vec<Vote> = experts.iter().enumerate().map(vote).collect();
    let open = |id| Unasked { expert: id, categories: &[], shadow: false, cost: 1.0 };
    let open: Vec<Unasked<'_>> = experts[known..].iter().map(|id| open(id)).collect();
    decisive(&mut predictor, &policy, "e", &votes, None, &open)
}

/// Three heads and two guards of one panel are examined together, and a sixth with them.
#[test]
fn up_to_six_experts_that_together_change_nothing_are_not_asked() {
    for unasked in 1..=6 {
        assert_eq!(with_unasked(12, unasked), Decisive::No, "{unasked}");
        assert_ne!(with_unasked(unasked, unasked), Decisive::No, "{unasked} may turn as many");
    }
    assert_ne!(with_unasked(40, MAX_TOGETHER + 1), Decisive::No, "one is asked first");
}

/// Of two experts that are both needed, the one that moves p more per unit of cost is asked first.
#[test]
fn the_first_is_the_one_that_settles_most_per_cost() {
    let experts = ["a", "b", "c"].map(str::to_owned).to_vec();
    let prior = vec![("a".to_owned(), 0.5), ("b".to_owned(), 0.2), ("c".to_owned(), 0.3)];
    let learner =
        LearnerSpec { prior: Some(prior), eta: Some(0.5), ..LearnerSpec::new("hedge".parse().unwrap()) };
    let mut predictor = Predictor::prior(&learner, "p", &experts).unwrap();
    let votes = vec![
        Vote::scored("a", [0; 32], 0.5, Vec::new()),
        Vote::abstained("b", None, Abstention::NotNeeded),
        Vote::abstained("c", None, Abstention::NotNeeded),
    ];
    let mut first = |costs: [f64; 2]| {
        let unasked = |expert, cost| Unasked { expert, categories: &[], shadow: false, cost };
        let open = [unasked("b", costs[0]), unasked("c", costs[1])];
        decisive(&mut predictor, &plain(), "e", &votes, None, &open)
    };
    assert_eq!(first([1.0, 1.0]), Decisive::Yes(1));
    assert_eq!(first([1.0, 2.0]), Decisive::Yes(0));
}
