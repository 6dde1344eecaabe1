//! A review request: asks a person to look at an event, and says where its decision lies.

use super::decision::{Decision, Origin, ReviewReason};
use super::event::Millis;
use super::label::DecisionRef;
use super::ledger::RoundId;
use super::policy::{Action, Policy};
use super::vote::CategoryScore;

/// A review request as written. It holds no text: that lies where the event was consumed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewRequest {
    /// The round's name: tenant, policy, event id.
    pub id: RoundId,
    /// The conversation.
    pub conversation: String,
    /// The user's key, for erasure.
    pub subject: Option<String>,
    /// Where the event was consumed.
    pub origin: Origin,
    /// Where the event's decision lies; a label that answers carries it.
    pub decision: DecisionRef,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// Version of the policy.
    pub policy_version: String,
    /// What is done meanwhile.
    pub action: Action,
    /// What the ensemble believes: P(unsafe); `None` with all experts asleep.
    pub probability: Option<f64>,
    /// What p was compared with.
    pub threshold: f64,
    /// Why a person should look, the weightiest first: at least one, none twice.
    pub reasons: Vec<ReviewReason>,
    /// The probability with which an event like this is sent to review, in (0,1\]; a label that answers
    /// carries it as its inclusion probability.
    pub inclusion_probability: f64,
    /// The greatest score per category over all awake experts, by slug.
    pub categories: Vec<CategoryScore>,
    /// The trace that the event belongs to (`traceparent`), if any.
    pub trace: Option<String>,
}

impl ReviewRequest {
    /// The request of the decision that lies at `at` and was made under `policy`; none where it asks for no
    /// review.
    #[must_use]
    pub fn of(decision: &Decision, policy: &Policy, at: DecisionRef) -> Option<Self> {
        decision.review?;
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
            reasons: decision.reasons(policy),
            inclusion_probability: decision.review_probability,
            categories: decision.categories.clone(),
            trace: decision.trace.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::decision::{DecisionInput, decide};
    use crate::event::{Event, Role, Turn};
    use crate::label::Mapping;
    use crate::learners::{LearnerSpec, Name};
    use crate::policy::CategoryRule;
    use crate::predictor::{Combined, PredictorRef, Share};
    use crate::text::HiddenText;
    use crate::vote::{Abstention, Vote};

    const AT: DecisionRef = DecisionRef { partition: 3, offset: 77 };

    fn policy(flagged: Action, min_awake: usize, margin: f64, category: Option<(f64, Action)>) -> Policy {
        let rule = |(threshold, action)| ("harm".to_owned(), CategoryRule { threshold, action });
        Policy {
            name: "p".into(),
            version: "7".into(),
            cost_false_negative: 1.0,
            cost_false_positive: 1.0,
            flagged,
            min_awake,
            review_margin: margin,
            nothing_to_judge: Action::Allow,
            categories: category.into_iter().map(rule).collect(),
            features: true,
            sheds: true,
            cheap: Vec::new(),
            mapping: Mapping::default(),
            learner: LearnerSpec::new(Name::Hedge),
        }
    }

    /// A decision of p over two experts, of whom so many are awake and give the category this score.
    fn decided(policy: &Policy, p: Option<f64>, awake: usize, score: f64) -> Decision {
        decided_on("hello", policy, p, awake, score)
    }

    fn decided_on(text: &str, policy: &Policy, p: Option<f64>, awake: usize, score: f64) -> Decision {
        let event = Event {
            id: "e".into(),
            conversation: "c".into(),
            tenant: "t".into(),
            policy: "p".into(),
            subject: Some("u".into()),
            time: None,
            turns: vec![Turn { role: Role::User, text: text.into() }],
            judged: 0,
            metadata: BTreeMap::new(),
        };
        let harm = || vec![CategoryScore { category: "harm".into(), score }];
        let vote = |(place, id): (usize, &str)| {
            if place < awake {
                Vote::scored(id, [1; 32], 0.5, harm())
            } else {
                Vote::abstained(id, None, Abstention::Failed)
            }
        };
        let asked = DecisionInput {
            event,
            origin: Origin { topic: "events".into(), partition: 3, offset: 5 },
            round_time: 9,
            votes: ["a", "b"].into_iter().enumerate().map(vote).collect(),
            features: None,
            trace: Some("00-1-2-01".into()),
        };
        let predictor =
            PredictorRef { learner: "hedge".into(), state_hash: [0; 32], rounds: 0, ledger_offset: -1 };
        let combined = Combined { probability: p, shares: vec![Share::default(); 2] };
        decide(asked, policy, predictor, &combined, 1)
    }

    fn reasons(policy: &Policy, p: f64, score: f64) -> Vec<ReviewReason> {
        let decision = decided(policy, Some(p), 2, score);
        ReviewRequest::of(&decision, policy, AT).map_or_else(Vec::new, |request| request.reasons)
    }

    #[test]
    fn each_reason_asks_and_all_that_hold_are_named() {
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
        // What is blocked needs nobody, whatever else would have asked.
        let blocks = policy(Action::Review, 1, 0.0, Some((0.8, Action::Block)));
        assert_eq!(reasons(&blocks, 0.9, 0.9), []);
        for (p, awake, least) in [(None, 0, 0), (Some(0.1), 1, 2), (Some(0.9), 0, 1)] {
            let policy = policy(Action::Block, least, 0.1, None);
            let request = ReviewRequest::of(&decided(&policy, p, awake, 0.0), &policy, AT).unwrap();
            assert_eq!((request.action, request.reasons), (Action::Review, vec![TooFewAwake]));
        }
    }

    #[test]
    fn nothing_to_judge_is_decided_by_the_policy_and_asks_only_where_it_says_review() {
        use ReviewReason::NothingToJudge;
        for text in ["", " \t\n", "\u{200b}\u{feff}", "\0"] {
            for (action, reasons) in
                [(Action::Allow, vec![]), (Action::Block, vec![]), (Action::Review, vec![NothingToJudge])]
            {
                // Whatever else would ask.
                let strict = policy(Action::Review, 2, 1.0, Some((0.0, Action::Review)));
                let policy = Policy { nothing_to_judge: action, ..strict };
                let decision = decided_on(text, &policy, None, 0, 0.0);
                assert!(decision.nothing_to_judge && !decision.degraded && decision.hidden_text.is_empty());
                assert_eq!((decision.action, decision.probability), (action, None));
                assert_eq!(decision.review, reasons.first().copied());
                assert_eq!(decision.review_probability > 0.0, !reasons.is_empty());
                let request = ReviewRequest::of(&decision, &policy, AT);
                assert_eq!(request.map_or_else(Vec::new, |request| request.reasons), reasons);
            }
        }
    }

    #[test]
    fn what_nobody_read_goes_to_review_and_is_not_nothing_to_judge() {
        let policy = policy(Action::Block, 0, 0.0, None);
        let decision = decided_on("\u{1f642}", &policy, None, 0, 0.0);
        assert_eq!((decision.action, decision.review), (Action::Review, Some(ReviewReason::TooFewAwake)));
        assert!(!decision.nothing_to_judge && decision.degraded);
    }

    #[test]
    fn hidden_text_is_named_and_is_something_to_judge() {
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
        fn a_request_is_there_exactly_where_the_decision_asks_and_says_what_it_says(
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
            let request = ReviewRequest::of(&decision, &policy, AT);
            prop_assert_eq!(request.is_some(), decision.review.is_some());
            prop_assert_eq!(request.is_some(), decision.review_probability > 0.0);
            // An action that is review always asks; too few awake always do.
            prop_assert!(decision.action != Action::Review || request.is_some());
            let too_few = p.is_none() || awake < min_awake;
            prop_assert_eq!(decision.review == Some(ReviewReason::TooFewAwake), too_few);
            let near = !too_few && p.is_some_and(|p| (p - policy.threshold()).abs() < margin);
            let Some(request) = request else {
                prop_assert!(!near);
                return Ok(());
            };
            prop_assert_eq!(request.reasons.first().copied(), decision.review);
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
