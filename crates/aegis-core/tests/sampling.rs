//! The draws that sample events for review: their probabilities are those that decisions state, and their results follow from
//! the event alone.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use aegis_core::decision::{Decision, DecisionInput, ReviewReason, decide};
use aegis_core::event::Event;
use aegis_core::learners::{LearnerSpec, Name};
use aegis_core::policy::{Action, CategoryRule, Policy};
use aegis_core::predictor::{Combined, PredictorRef, Share};
use aegis_core::sampling::{AuditRates, ReviewDraws};
use aegis_core::vote::{CategoryScore, Vote};
use proptest::prelude::*;

fn plain() -> Policy {
    Policy {
        review_margin: 0.1,
        review_slope: 0.2,
        audit_rates: AuditRates { allow: 0.05, block: 0.2, review: 1.0 },
        review_budget: NonZeroU32::new(60),
        features: false,
        learner: LearnerSpec { seed: Some(b"secret".to_vec()), ..LearnerSpec::new(Name::Hedge) },
        ..Policy::example("p")
    }
}

fn event(tenant: &str, id: &str, text: &str) -> Event {
    Event { tenant: tenant.into(), policy: "p".into(), ..Event::example(id, text) }
}

/// The decision of p, with one expert awake that gives the category `harm` this score.
fn decided(policy: &Policy, event: Event, p: f64, score: f64, thinning: f64) -> Decision {
    let harm = vec![CategoryScore { category: "harm".into(), score }];
    let votes = vec![Vote::scored("a", [1; 32], p, harm)];
    let input = DecisionInput { thinning, ..DecisionInput::example(event, votes) };
    let combined = Combined { probability: Some(p), shares: vec![Share::default()] };
    decide(input, policy, PredictorRef::prior("hedge"), &combined, 1)
}

#[test]
fn the_probability_is_one_within_the_margin_and_falls_linearly_beyond_it() {
    let policy = plain();
    for (p, expected) in [
        (0.5, 1.0),
        (0.401, 1.0),
        (0.599, 1.0),
        (0.35, 0.75),
        (0.7, 0.5),
        (0.25, 0.25),
        (0.2, 0.0),
        (0.81, 0.0),
        (0.0, 0.0),
        (1.0, 0.0),
    ] {
        let found = policy.uncertainty(p);
        assert!((found - expected).abs() < 1e-12, "{p}: {found}");
    }
    // Without a slope, the margin alone decides, and its end does not belong to it.
    let steep = Policy { review_margin: 0.25, review_slope: 0.0, ..plain() };
    for (p, expected) in [(0.5, 1.0), (0.26, 1.0), (0.25, 0.0), (0.75, 0.0)] {
        assert_eq!(steep.uncertainty(p), expected, "{p}");
    }
    let none = Policy { review_margin: 0.0, review_slope: 0.0, ..plain() };
    assert_eq!(none.uncertainty(0.5), 0.0);
    // A slope without a margin begins at the threshold itself.
    let pointed = Policy { review_margin: 0.0, review_slope: 0.5, ..plain() };
    for (p, expected) in [(0.5, 1.0), (0.25, 0.5), (1.0, 0.0)] {
        assert_eq!(pointed.uncertainty(p), expected, "{p}");
    }
}

#[test]
fn the_numbers_follow_from_secret_policy_tenant_event_and_purpose() {
    let policy = plain();
    let of = |policy: &Policy, tenant: &str, event: &str| {
        let ReviewDraws { audit, uncertainty } = ReviewDraws::of(policy, tenant, event);
        [audit.to_bits(), uncertainty.to_bits()]
    };
    let mut other = policy.clone();
    other.name = "q".into();
    let mut keyed = policy.clone();
    keyed.learner.seed = Some(b"another".to_vec());
    let mut unkeyed = policy.clone();
    unkeyed.learner.seed = None;
    let all = [
        of(&policy, "t", "e"),
        of(&policy, "u", "e"),
        of(&policy, "t", "f"),
        of(&other, "t", "e"),
        of(&keyed, "t", "e"),
        of(&unkeyed, "t", "e"),
        of(&policy, "", "te"),
        of(&policy, "te", ""),
    ];
    let distinct: BTreeSet<u64> = all.iter().flatten().copied().collect();
    assert_eq!(distinct.len(), 2 * all.len());
    // A replay under other thresholds draws the same.
    let changed =
        Policy { version: "2".into(), review_margin: 0.4, flagged: Action::Review, ..policy.clone() };
    assert_eq!(of(&changed, "t", "e"), all[0]);
    // The numbers of an earlier version of this program, on which audits in progress depend.
    let draws = ReviewDraws::of(&policy, "t", "e");
    assert_eq!([draws.audit, draws.uncertainty], [PINNED_AUDIT, PINNED_UNCERTAINTY]);
}

const PINNED_AUDIT: f64 = 0.16761236949240976;
const PINNED_UNCERTAINTY: f64 = 0.09165847167527363;

#[test]
fn an_event_with_nothing_to_judge_is_audited_only_if_it_is_reviewed_in_any_case() {
    let rates = AuditRates::flat(1.0);
    for action in Action::ALL {
        let policy = Policy { nothing_to_judge: action, audit_rates: rates, ..plain() };
        let decision = decided(&policy, event("t", "e", " "), 0.5, 0.0, 1.0);
        if action == Action::Review {
            assert_eq!(decision.reasons, [ReviewReason::NothingToJudge, ReviewReason::Audit]);
            assert_eq!((decision.review_probability, decision.sampling.audit), (1.0, 1.0));
        } else {
            assert_eq!((decision.reasons.len(), decision.review_probability), (0, 0.0), "{action:?}");
            assert_eq!((decision.sampling.audit, decision.sampling.uncertainty), (0.0, 0.0));
        }
    }
}

#[test]
fn each_action_has_its_rate_of_audits_and_they_are_of_that_share() {
    let policy = Policy { review_margin: 0.0, review_slope: 0.0, ..plain() };
    for (p, rate) in [(0.1, 0.05), (0.9, 0.2)] {
        let decisions = (0..20_000).map(|id| decided(&policy, event("t", &id.to_string(), "x"), p, 0.0, 1.0));
        let mut audited = 0.0;
        for decision in decisions {
            assert_eq!((decision.sampling.audit, decision.review_probability), (rate, rate));
            audited += f64::from(u8::from(decision.reasons == [ReviewReason::Audit]));
        }
        let share: f64 = audited / 20_000.0;
        let error = (rate * (1.0 - rate) / 20_000.0_f64).sqrt();
        assert!((share - rate).abs() < 4.0 * error, "{share} instead of {rate}");
    }
}

/// An event that is in the sample in any case costs no further request, so the budget does not lower anything for it.
#[test]
fn the_budget_thins_neither_audits_nor_what_is_reviewed_for_certain() {
    let rule = CategoryRule { threshold: 0.5, action: Action::Review };
    let policy = Policy { categories: [("harm".to_owned(), rule)].into(), ..plain() };
    let of = |score, thinning| decided(&policy, event("t", "e", "x"), 0.45, score, thinning);
    let certain = of(0.9, 0.0);
    assert_eq!(
        certain.reasons,
        [ReviewReason::Category, ReviewReason::NearThreshold, ReviewReason::Audit],
        "the draw comes up as without a budget"
    );
    assert!(!certain.sampling.thinned && certain.review_probability == 1.0);
    let thinned = of(0.0, 0.0);
    assert!(thinned.sampling.thinned);
    assert_eq!((thinned.sampling.audit, thinned.sampling.uncertainty), (0.05, 0.0));
    assert!((thinned.review_probability - 0.05).abs() < 1e-12);
    let far = decided(&policy, event("t", "e", "x"), 0.05, 0.0, 0.0);
    assert!(!far.sampling.thinned, "there is nothing to thin");
}

#[test]
#[should_panic(expected = "is not a factor from 0 to 1")]
fn a_thinning_above_one_is_refused() {
    let _ = decided(&plain(), event("t", "e", "x"), 0.5, 0.0, 1.5);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A decision states the probabilities with which its reasons came up, and the numbers decide which did.
    #[test]
    fn reasons_and_probabilities_agree_with_the_numbers(
        id in "[a-z]{1,8}", tenant in "[a-z]{0,3}",
        p in 0.0..=1.0_f64, score in 0.0..=1.0_f64, thinning in 0.0..=1.0_f64,
        (margin, slope) in (0.0..0.3_f64, 0.0..0.5_f64),
        (allow, block, review) in (0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64),
        flagged in prop::sample::select(&Action::ALL[..]),
        rule in prop::option::of((0.0..=1.0_f64, prop::sample::select(&Action::ALL[..]))),
    ) {
        let named = |(threshold, action)| ("harm".to_owned(), CategoryRule { threshold, action });
        let policy = Policy {
            flagged,
            review_margin: margin,
            review_slope: slope,
            audit_rates: AuditRates { allow, block, review },
            categories: rule.into_iter().map(named).collect(),
            ..plain()
        };
        let decision = decided(&policy, event(&tenant, &id, "x"), p, score, thinning);
        let draws = ReviewDraws::of(&policy, &tenant, &id);
        let certain = decision.reasons.iter().take_while(|reason| reason.is_certain()).count();
        let drawn: Vec<_> = decision.reasons[certain..].to_vec();
        let sampling = decision.sampling;
        let near = (draws.uncertainty < sampling.uncertainty).then_some(ReviewReason::NearThreshold);
        let audit = (draws.audit < sampling.audit).then_some(ReviewReason::Audit);
        prop_assert_eq!(drawn, near.into_iter().chain(audit).collect::<Vec<_>>());
        prop_assert_eq!(sampling.audit, policy.audit_rates.of(decision.action));
        prop_assert_eq!(decision.action == Action::Review, certain > 0);
        let full = policy.uncertainty(p);
        if certain > 0 {
            prop_assert_eq!((sampling.uncertainty, sampling.thinned), (full, false));
            prop_assert_eq!(decision.review_probability, 1.0);
        } else {
            prop_assert_eq!(sampling.uncertainty, full * thinning);
            prop_assert_eq!(sampling.thinned, full > 0.0 && thinning < 1.0);
            prop_assert_eq!(decision.review_probability, sampling.inclusion());
        }
        // A draw comes up only if its event can be reviewed.
        prop_assert!(decision.reasons.is_empty() || decision.review_probability > 0.0);
        // Thinning removes requests for uncertainty, and nothing else.
        let whole = decided(&policy, event(&tenant, &id, "x"), p, score, 1.0);
        let without: Vec<_> = whole.reasons.into_iter()
            .filter(|reason| *reason != ReviewReason::NearThreshold || near.is_some()).collect();
        prop_assert_eq!(decision.reasons, without);
    }

    /// Between two boundaries the probability is constant, or differs between any two p.
    #[test]
    fn between_boundaries_the_uncertainty_is_constant_or_differs(
        margin in 0.0..0.5_f64, slope in prop_oneof![Just(0.0), 0.001..0.6_f64], cost in 0.1..10.0_f64,
        at in 0_usize..6, (left, right) in (0.01..0.49_f64, 0.51..0.99_f64),
    ) {
        let policy = Policy { review_margin: margin, review_slope: slope, cost_false_negative: cost, ..plain() };
        let mut ends = policy.boundaries();
        prop_assert!(ends.is_sorted() && ends.len() % 2 == 1);
        ends.insert(0, ends[0] - 1.0);
        ends.push(ends.last().unwrap() + 1.0);
        let at = at.min(ends.len() - 2);
        let (low, high) = (ends[at], ends[at + 1]);
        prop_assume!(high - low > 1e-6);
        let p = [left, right].map(|share| low + share * (high - low));
        let [first, second] = p.map(|p| policy.uncertainty(p));
        prop_assert!(first == second && (first == 0.0 || first == 1.0) || first != second, "{p:?}: {first} {second}");
        prop_assert_eq!(p[0] >= policy.threshold(), p[1] >= policy.threshold());
    }
}
