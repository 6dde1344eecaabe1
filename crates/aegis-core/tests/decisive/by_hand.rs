//! Cases whose answers are known by hand.

use std::collections::BTreeMap;

use aegis_core::decisive::{Decisive, MAX_TOGETHER, Unasked, decisive};
use aegis_core::learners::LearnerSpec;
use aegis_core::policy::{Action, CategoryRule, Policy};
use aegis_core::predictor::Predictor;
use aegis_core::sampling::AuditRates;
use aegis_core::vote::{Abstention, Vote};

use crate::{EXPERTS, plain};

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
