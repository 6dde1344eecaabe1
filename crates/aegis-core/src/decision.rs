//! A decision: the outcome of a valid event, with all inputs that led to it.

use super::event::{Event, Millis};
use super::features::EncoderId;
use super::label::DecisionRef;
use super::language::Language;
use super::ledger::{RoundId, RoundRecord, RoundVote, TextFeatures};
use super::policy::{Action, Policy};
use super::predictor::{Combined, PredictorRef};
use super::ruling::{Ruling, greatest, rule, rule_categories};
pub use super::sampling::Sampling;
use super::sampling::{ReviewDraws, Sampled};
use super::text::{self, HiddenText};
use super::vote::{Abstention, CategoryScore, Vote};

/// The position of a consumed record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A vote with its effect on the decision.
#[derive(Debug, Clone, PartialEq)]
pub struct WeighedVote {
    /// The vote.
    pub vote: Vote,
    /// The expert's share of the aggregation, in \[0,1\].
    pub weight: f64,
    /// The change of p by this expert: p minus the p with it asleep.
    pub contribution: f64,
}

/// The reason for a human review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReviewReason {
    /// Fewer experts are awake than the policy requires.
    TooFewAwake,
    /// p is near the threshold, and the uncertainty draw came up.
    NearThreshold,
    /// The rule of a category requests it.
    Category,
    /// The event is flagged, and the policy sends flagged events to review.
    Flagged,
    /// There is nothing to judge, and the policy sends such events to review.
    NothingToJudge,
    /// The audit draw came up.
    Audit,
}

impl ReviewReason {
    /// Returns `true` if the reason holds for every event like this, and not by a draw.
    #[must_use]
    pub fn is_certain(self) -> bool {
        !matches!(self, Self::NearThreshold | Self::Audit)
    }

    /// All reasons, in the schema's order.
    pub const ALL: [Self; 6] = [
        Self::TooFewAwake,
        Self::NearThreshold,
        Self::Category,
        Self::Flagged,
        Self::NothingToJudge,
        Self::Audit,
    ];

    /// The name of the reason in records and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TooFewAwake => "too_few_awake",
            Self::NearThreshold => "near_threshold",
            Self::Category => "category",
            Self::Flagged => "flagged",
            Self::NothingToJudge => "nothing_to_judge",
            Self::Audit => "audit",
        }
    }
}

/// A decision as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The id of the round: tenant, policy, event id.
    pub id: RoundId,
    /// The id of the conversation.
    pub conversation: String,
    /// The key of the user, for erasure.
    pub subject: Option<String>,
    /// The position of the event.
    pub origin: Origin,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The version of the policy.
    pub policy_version: String,
    /// The action.
    pub action: Action,
    /// P(unsafe) of the ensemble; `None` if all experts are asleep.
    pub probability: Option<f64>,
    /// The threshold that p was compared with.
    pub threshold: f64,
    /// The greatest score of each category over all experts that are not in shadow, by slug.
    pub categories: Vec<CategoryScore>,
    /// The vote of each expert, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<WeighedVote>,
    /// The features of the judged text, unless the policy turns them off.
    pub features: Option<TextFeatures>,
    /// The predictor that combined the votes.
    pub predictor: PredictorRef,
    /// `true` if an expert that is not in shadow abstained although there was something to judge, and not by design: an
    /// expert that does not vote on turns of this role or in this language, or whose vote cannot matter, does not make a
    /// decision degraded.
    pub degraded: bool,
    /// `true` if the judged text is empty, or only white space and invisible characters. No expert ran then.
    pub nothing_to_judge: bool,
    /// The ways in which a part of the judged text was hidden, in the order of [`HiddenText::ALL`].
    pub hidden_text: Vec<HiddenText>,
    /// The language of the judged text, with what was hidden in it.
    pub language: Language,
    /// The reasons for a human review, the most important first, each once: those that are certain, then those of the
    /// draws that came up. A review request is written if and only if there is one.
    pub reasons: Vec<ReviewReason>,
    /// The probability with which an event like this is sent to review: 1 if a reason is certain, else
    /// [`Sampling::inclusion`].
    pub review_probability: f64,
    /// The probabilities of the draws.
    pub sampling: Sampling,
    /// The time from reading the event to this decision, in microseconds.
    pub latency_micros: i64,
    /// The trace of the event (`traceparent`), if it has one.
    pub trace: Option<String>,
}

#[cfg(any(test, feature = "examples"))]
impl Decision {
    /// A decision without votes, for tests.
    #[must_use]
    pub fn example(id: RoundId, offset: i64) -> Self {
        Self {
            id,
            conversation: "c".into(),
            subject: None,
            origin: Origin { topic: "events".into(), partition: 0, offset },
            round_time: 1,
            policy_version: "1".into(),
            action: Action::Allow,
            probability: None,
            threshold: 0.5,
            categories: Vec::new(),
            votes: Vec::new(),
            features: None,
            predictor: PredictorRef::prior("hedge"),
            degraded: false,
            nothing_to_judge: false,
            hidden_text: Vec::new(),
            language: Language::Unknown,
            reasons: Vec::new(),
            review_probability: 0.0,
            sampling: Sampling::default(),
            latency_micros: 1,
            trace: None,
        }
    }
}

/// The inputs of [`decide`], which are known once the experts have answered.
#[derive(Debug)]
pub struct DecisionInput {
    /// The event, which passes [`Event::check`].
    pub event: Event,
    /// The position of the event.
    pub origin: Origin,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The vote of each expert, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<Vote>,
    /// The features of the judged text.
    pub features: Option<TextFeatures>,
    /// The language of the judged text, with what was hidden in it.
    pub language: Language,
    /// The event's `traceparent`, if it has one.
    pub trace: Option<String>,
    /// The factor by which the review budget lowers the probability of the uncertainty draw, in \[0,1\]; 1 if it does not.
    pub thinning: f64,
}

#[cfg(any(test, feature = "examples"))]
impl DecisionInput {
    /// The input for an event at the first position of its topic, without features, for tests.
    #[must_use]
    pub fn example(event: Event, votes: Vec<Vote>) -> Self {
        Self {
            event,
            origin: Origin { topic: "events".into(), partition: 0, offset: 0 },
            round_time: 1,
            votes,
            features: None,
            language: Language::Unknown,
            trace: None,
            thinning: 1.0,
        }
    }
}

/// Decides on an event. Equal inputs give equal decisions.
///
/// # Panics
/// Panics if the event does not pass [`Event::check`], or if `thinning` does not lie in \[0,1\].
#[must_use]
pub fn decide(
    input: DecisionInput,
    policy: &Policy,
    predictor: PredictorRef,
    combined: &Combined,
    latency_micros: i64,
) -> Decision {
    let DecisionInput { event, origin, round_time, votes, features, language, trace, thinning } = input;
    let categories = greatest(&votes);
    let awake = votes.iter().filter(|vote| vote.awake().is_some()).count();
    let nothing_to_judge = text::is_blank(event.judged_text());
    let hidden_text = text::reveal(event.judged_text()).hidden;
    let ruling = if nothing_to_judge {
        Ruling::nothing_to_judge(policy)
    } else {
        rule(policy, combined.probability, awake, rule_categories(policy, &categories))
    };
    let action = ruling.action;
    let draws = ReviewDraws::of(policy, &event.tenant, &event.id);
    let Sampled { reasons, review_probability, sampling } = ruling.sample(draws, thinning);
    let votes: Vec<_> = votes
        .into_iter()
        .zip(&combined.shares)
        .map(|(vote, share)| WeighedVote { vote, weight: share.weight, contribution: share.contribution })
        .collect();
    let degrades = |weighed: &WeighedVote| {
        let by_design = [Abstention::WrongRole, Abstention::Language, Abstention::NotNeeded];
        let reason = weighed.vote.abstention();
        !weighed.vote.shadow && reason.is_some_and(|reason| !by_design.contains(&reason))
    };
    let degraded = !nothing_to_judge && votes.iter().any(degrades);
    Decision {
        id: RoundId { tenant: event.tenant, policy: event.policy, event: event.id },
        conversation: event.conversation,
        subject: event.subject,
        origin,
        round_time,
        policy_version: policy.version.clone(),
        action,
        probability: combined.probability,
        threshold: policy.threshold(),
        categories,
        votes,
        features: features.filter(|_| policy.features),
        predictor,
        degraded,
        nothing_to_judge,
        hidden_text,
        language,
        reasons,
        review_probability,
        sampling,
        latency_micros,
        trace,
    }
}

impl Decision {
    /// Returns `true` if any expert read only the beginning of the text.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.votes.iter().any(|weighed| weighed.vote.truncated)
    }

    /// The most important reason for a human review.
    #[must_use]
    pub fn review(&self) -> Option<ReviewReason> {
        self.reasons.first().copied()
    }

    /// The encoder of the features, if there are any.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.features.as_ref().map(|features| features.encoder)
    }

    /// The part of the decision that the ledger keeps. `at` is the position of the decision.
    #[must_use]
    pub fn into_round_record(self, at: DecisionRef) -> RoundRecord {
        let votes = self
            .votes
            .into_iter()
            .map(|weighed| RoundVote {
                score: weighed.vote.score(),
                shadow: weighed.vote.shadow,
                decisive: weighed.vote.decisive,
                expert: weighed.vote.expert,
            })
            .collect();
        RoundRecord {
            id: self.id,
            subject: self.subject,
            round_time: self.round_time,
            decision: at,
            votes,
            features: self.features,
        }
    }
}
