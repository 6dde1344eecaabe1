//! A review request: it asks for a human review of an event, and refers to its decision.

use super::decision::{Decision, Origin, ReviewReason, Sampling};
use super::event::Millis;
use super::label::DecisionRef;
use super::ledger::RoundId;
use super::policy::Action;
use super::vote::CategoryScore;

/// A review request as written. It does not contain the text, which is at the position of the event.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewRequest {
    /// The id of the round: tenant, policy, event id.
    pub id: RoundId,
    /// The id of the conversation.
    pub conversation: String,
    /// The key of the user, for erasure.
    pub subject: Option<String>,
    /// The position of the event.
    pub origin: Origin,
    /// The position of the decision. A label that answers the request contains it.
    pub decision: DecisionRef,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The version of the policy.
    pub policy_version: String,
    /// The action until the review.
    pub action: Action,
    /// P(unsafe) of the ensemble; `None` if all experts are asleep.
    pub probability: Option<f64>,
    /// The threshold that p was compared with.
    pub threshold: f64,
    /// The reasons for the review, the most important first: at least one, each once.
    pub reasons: Vec<ReviewReason>,
    /// The probability with which an event like this is sent to review, in (0,1\]. It is the inclusion
    /// probability of a label that answers the request.
    pub inclusion_probability: f64,
    /// The probabilities of the draws.
    pub sampling: Sampling,
    /// The greatest score of each category over all experts that are not in shadow, by slug.
    pub categories: Vec<CategoryScore>,
    /// The trace of the event (`traceparent`), if it has one.
    pub trace: Option<String>,
}

impl ReviewRequest {
    /// The request of a decision that is at the position `at`. `None` if the decision
    /// asks for no review.
    #[must_use]
    pub fn of(decision: &Decision, at: DecisionRef) -> Option<Self> {
        decision.review()?;
        Some(Self {
            id: decision.id.clone(),
            conversation: decision.conversation.clone(),
            subject: decision.subject.clone(),
            origin: decision.origin.clone(),
            decision: at,
            round_time: decision.round_time,
            policy_version: decision.policy_version.clone(),
            action: decision.action,
            probability: decision.probability,
            threshold: decision.threshold,
            reasons: decision.reasons.clone(),
            inclusion_probability: decision.review_probability,
            sampling: decision.sampling,
            categories: decision.categories.clone(),
            trace: decision.trace.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::decision::{DecisionInput, decide};
    use crate::event::Event;
    use crate::policy::{CategoryRule, Policy};
    use crate::predictor::{Combined, PredictorRef, Share};
    use crate::text::HiddenText;
    use crate::vote::{Abstention, Vote};

    const AT: DecisionRef = DecisionRef { partition: 3, offset: 77 };

    fn policy(flagged: Action, min_awake: usize, margin: f64, category: Option<(f64, Action)>) -> Policy {
        let rule = |(threshold, action)| ("harm".to_owned(), CategoryRule { threshold, action });
        Policy {
            version: "7".into(),
            flagged,
            min_awake,
            review_margin: margin,
            categories: category.into_iter().map(rule).collect(),
            ..Policy::example("p")
        }
    }

    /// A decision of p over two experts, of which `awake` are awake and give the category this score.
    fn decided(policy: &Policy, p: Option<f64>, awake: usize, score: f64) -> Decision {
        decided_on("hello", policy, p, awake, score)
    }

    fn decided_on(text: &str, policy: &Policy, p: Option<f64>, awake: usize, score: f64) -> Decision {
        decided_with(text, policy, p, (awake, Abstention::Failed), score)
    }

    /// The experts that are not awake abstain with this reason.
    fn decided_with(
        text: &str,
        policy: &Policy,
        p: Option<f64>,
        (awake, reason): (usize, Abstention),
        score: f64,
    ) -> Decision {
        let event = Event { policy: "p".into(), subject: Some("u".into()), ..Event::example("e", text) };
        let harm = || vec![CategoryScore { category: "harm".into(), score }];
        let vote = |(place, id): (usize, &str)| {
            if place < awake {
                Vote::scored(id, [1; 32], 0.5, harm())
            } else {
                Vote::abstained(id, None, reason)
            }
        };
        let votes = ["a", "b"].into_iter().enumerate().map(vote).collect();
        let input = DecisionInput {
            origin: Origin { topic: "events".into(), partition: 3, offset: 5 },
            round_time: 9,
            trace: Some("00-1-2-01".into()),
            ..DecisionInput::example(event, votes)
        };
        let combined = Combined { probability: p, shares: vec![Share::default(); 2] };
        decide(input, policy, PredictorRef::prior("hedge"), &combined, 1)
    }

    #[test]
    fn an_abstention_by_design_does_not_degrade_and_counts_as_asleep() {
        let policy = policy(Action::Block, 2, 0.0, None);
        for reason in Abstention::ALL {
            let decision = decided_with("hello", &policy, Some(0.1), (1, reason), 0.0);
            let by_design =
                matches!(reason, Abstention::WrongRole | Abstention::Language | Abstention::NotNeeded);
            assert_eq!(decision.degraded, !by_design, "{reason:?}");
            assert_eq!(decision.review(), Some(ReviewReason::TooFewAwake), "{reason:?}");
        }
    }

    fn reasons(policy: &Policy, p: f64, score: f64) -> Vec<ReviewReason> {
        let decision = decided(policy, Some(p), 2, score);
        ReviewRequest::of(&decision, AT).map_or_else(Vec::new, |request| request.reasons)
    }

    #[test]
    fn each_reason_requests_a_review_and_all_that_apply_are_listed() {
        use ReviewReason::{Category, Flagged, NearThreshold, TooFewAwake};
        let plain = policy(Action::Block, 1, 0.0, None);
        assert_eq!(reasons(&plain, 0.5, 0.0), []);
        let near = policy(Action::Block, 1, 0.1, None);
        assert_eq!(reasons(&near, 0.401, 0.0), [NearThreshold]);
        assert_eq!(reasons(&near, 0.599, 0.0), [NearThreshold]);
        assert_eq!(reasons(&near, 0.39, 0.0), []);
        assert_eq!(reasons(&near, 0.61, 0.0), []);
        let all = policy(Action::Review, 1, 0.1, Some((0.8, Action::Review)));
        assert_eq!(reasons(&all, 0.55, 0.9), [Flagged, Category, NearThreshold]);
        assert_eq!(reasons(&all, 0.9, 0.1), [Flagged]);
        assert_eq!(reasons(&all, 0.1, 0.9), [Category]);
        // A blocked event needs no review, whatever other reason there is.
        let blocks = policy(Action::Review, 1, 0.0, Some((0.8, Action::Block)));
        assert_eq!(reasons(&blocks, 0.9, 0.9), []);
        for (p, awake, least) in [(None, 0, 0), (Some(0.1), 1, 2), (Some(0.9), 0, 1)] {
            let policy = policy(Action::Block, least, 0.1, None);
            let request = ReviewRequest::of(&decided(&policy, p, awake, 0.0), AT).unwrap();
            assert_eq!((request.action, request.reasons), (Action::Review, vec![TooFewAwake]));
        }
    }

    #[test]
    fn nothing_to_judge_is_decided_by_the_policy_and_reviewed_only_if_it_says_so() {
        use ReviewReason::NothingToJudge;
        for text in ["", " \t\n", "\u{200b}\u{feff}", "\0"] {
            for (action, reasons) in
                [(Action::Allow, vec![]), (Action::Block, vec![]), (Action::Review, vec![NothingToJudge])]
            {
                // All other reasons would apply too.
                let strict = policy(Action::Review, 2, 1.0, Some((0.0, Action::Review)));
                let policy = Policy { nothing_to_judge: action, ..strict };
                let decision = decided_on(text, &policy, None, 0, 0.0);
                assert!(decision.nothing_to_judge && !decision.degraded && decision.hidden_text.is_empty());
                assert_eq!((decision.action, decision.probability), (action, None));
                assert_eq!(decision.review(), reasons.first().copied());
                assert_eq!(decision.review_probability > 0.0, !reasons.is_empty());
                let request = ReviewRequest::of(&decision, AT);
                assert_eq!(request.map_or_else(Vec::new, |request| request.reasons), reasons);
            }
        }
    }

    #[test]
    fn an_unread_text_goes_to_review_and_is_not_nothing_to_judge() {
        let policy = policy(Action::Block, 0, 0.0, None);
        let decision = decided_on("\u{1f642}", &policy, None, 0, 0.0);
        assert_eq!((decision.action, decision.review()), (Action::Review, Some(ReviewReason::TooFewAwake)));
        assert!(!decision.nothing_to_judge && decision.degraded);
    }

    #[test]
    fn hidden_text_is_reported_and_judged() {
        let policy = policy(Action::Block, 1, 0.0, None);
        let tags = "\u{e006b}\u{e0069}\u{e006c}\u{e006c}";
        for text in [tags.to_owned(), format!("hello{tags}")] {
            let decision = decided_on(&text, &policy, Some(0.9), 2, 0.0);
            assert_eq!(decision.hidden_text, [HiddenText::TagCharacters]);
            assert_eq!((decision.action, decision.nothing_to_judge), (Action::Block, false));
        }
        assert!(decided(&policy, Some(0.9), 2, 0.0).hidden_text.is_empty());
    }

    proptest! {
        #[test]
        fn there_is_a_request_if_and_only_if_the_decision_has_a_reason_and_both_agree(
            flagged in prop::sample::select(&Action::ALL[..]),
            min_awake in 0_usize..4,
            margin in 0.0..=1.0_f64,
            category in prop::option::of((0.0..=1.0_f64, prop::sample::select(&Action::ALL[..]))),
            (p, awake) in prop_oneof![
                Just((None, 0)),
                (0.0..=1.0_f64, 1_usize..3).prop_map(|(p, awake)| (Some(p), awake)),
            ],
            score in 0.0..=1.0_f64,
        ) {
            let policy = policy(flagged, min_awake, margin, category);
            let decision = decided(&policy, p, awake, score);
            let request = ReviewRequest::of(&decision, AT);
            prop_assert_eq!(request.is_some(), decision.review().is_some());
            prop_assert_eq!(request.is_some(), decision.review_probability > 0.0);
            // The action review and too few awake experts always request one.
            prop_assert!(decision.action != Action::Review || request.is_some());
            let too_few = p.is_none() || awake < min_awake;
            prop_assert_eq!(decision.review() == Some(ReviewReason::TooFewAwake), too_few);
            let near = !too_few && p.is_some_and(|p| (p - policy.threshold()).abs() < margin);
            let Some(request) = request else {
                prop_assert!(!near);
                return Ok(());
            };
            prop_assert_eq!(request.reasons.first().copied(), decision.review());
            prop_assert_eq!(request.reasons.contains(&ReviewReason::NearThreshold), near);
            let distinct: BTreeSet<_> = request.reasons.iter().map(|reason| reason.word()).collect();
            prop_assert_eq!(distinct.len(), request.reasons.len());
            prop_assert_eq!(request.decision, AT);
            prop_assert_eq!(request.inclusion_probability, decision.review_probability);
            prop_assert_eq!((request.probability, request.action), (decision.probability, decision.action));
            prop_assert_eq!((request.id, request.origin), (decision.id, decision.origin));
            prop_assert_eq!((request.categories, request.trace), (decision.categories, decision.trace));
        }
    }
}
