//! A decision: the one outcome of an event that could be read, with everything that made it.

use super::event::{Event, Millis};
use super::features::EncoderId;
use super::label::DecisionRef;
use super::ledger::{RoundId, RoundRecord, RoundVote, TextFeatures};
use super::policy::{Action, Policy};
use super::predictor::{Combined, PredictorRef};
use super::text::{self, HiddenText};
use super::vote::{CategoryScore, Outcome, Vote};

/// Where a record was consumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A vote with what it did to the decision.
#[derive(Debug, Clone, PartialEq)]
pub struct WeighedVote {
    /// The vote.
    pub vote: Vote,
    /// The expert's share of the aggregation, in \[0,1\].
    pub weight: f64,
    /// p minus what p would be with this expert asleep.
    pub contribution: f64,
}

/// Why a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReviewReason {
    /// Fewer experts awake than the policy asks for.
    TooFewAwake,
    /// p is near the threshold.
    NearThreshold,
    /// A category's rule asks for it.
    Category,
    /// What is flagged goes to review under this policy.
    Flagged,
    /// There is nothing to judge, and the policy sends that to review.
    NothingToJudge,
}

impl ReviewReason {
    /// All reasons, in the schema's order.
    pub const ALL: [Self; 5] =
        [Self::TooFewAwake, Self::NearThreshold, Self::Category, Self::Flagged, Self::NothingToJudge];

    /// The reason's word in records and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TooFewAwake => "too_few_awake",
            Self::NearThreshold => "near_threshold",
            Self::Category => "category",
            Self::Flagged => "flagged",
            Self::NothingToJudge => "nothing_to_judge",
        }
    }
}

/// A decision as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The round's name: tenant, policy, event id.
    pub id: RoundId,
    /// The conversation.
    pub conversation: String,
    /// The user's key, for erasure.
    pub subject: Option<String>,
    /// Where the event was consumed.
    pub origin: Origin,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// Version of the policy.
    pub policy_version: String,
    /// What is done.
    pub action: Action,
    /// What the ensemble believes: P(unsafe); `None` with all experts asleep.
    pub probability: Option<f64>,
    /// What p was compared with.
    pub threshold: f64,
    /// The greatest score per category over all awake experts, by slug.
    pub categories: Vec<CategoryScore>,
    /// Each expert's vote, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<WeighedVote>,
    /// The judged text's features, unless the policy turns them off.
    pub features: Option<TextFeatures>,
    /// The predictor that combined the votes.
    pub predictor: PredictorRef,
    /// An expert of the panel, no shadow, abstained although there was something to judge.
    pub degraded: bool,
    /// The judged text is empty, or only white space and invisible characters: no expert was asked.
    pub nothing_to_judge: bool,
    /// The ways in which a part of the judged text was hidden, in the order of [`HiddenText::ALL`].
    pub hidden_text: Vec<HiddenText>,
    /// Why a person should look, the weightiest reason; `None`: nobody need. A review request is written
    /// exactly where there is one.
    pub review: Option<ReviewReason>,
    /// The probability with which an event like this is sent to review.
    pub review_probability: f64,
    /// Microseconds from reading the event to this decision.
    pub latency_micros: i64,
    /// The trace that the event belongs to (`traceparent`), if any.
    pub trace: Option<String>,
}

#[cfg(any(test, feature = "examples"))]
impl Decision {
    /// A decision in which nothing was judged and nothing learned, for tests of what is done with decisions.
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
            predictor: PredictorRef {
                learner: "hedge".into(),
                state_hash: [0; 32],
                rounds: 0,
                ledger_offset: -1,
            },
            degraded: false,
            nothing_to_judge: false,
            hidden_text: Vec::new(),
            review: None,
            review_probability: 0.0,
            latency_micros: 1,
            trace: None,
        }
    }
}

/// What a policy makes of a verdict.
#[derive(Debug, Clone, PartialEq)]
struct Ruling {
    action: Action,
    /// Why a person should look, the weightiest first; none: nobody need.
    reasons: Vec<ReviewReason>,
}

fn strictness(action: Action) -> u8 {
    match action {
        Action::Allow => 0,
        Action::Review => 1,
        Action::Block => 2,
    }
}

/// Rules on an event with nothing to judge.
fn rule_nothing(policy: &Policy) -> Ruling {
    let action = policy.nothing_to_judge;
    let reasons = if action == Action::Review { vec![ReviewReason::NothingToJudge] } else { Vec::new() };
    Ruling { action, reasons }
}

fn rule(policy: &Policy, p: Option<f64>, awake: usize, categories: &[CategoryScore]) -> Ruling {
    let Some(p) = p.filter(|_| awake >= policy.min_awake) else {
        return Ruling { action: Action::Review, reasons: vec![ReviewReason::TooFewAwake] };
    };
    let threshold = policy.threshold();
    let flagged = if p >= threshold { policy.flagged } else { Action::Allow };
    let found = |CategoryScore { category, score }: &CategoryScore| {
        policy.categories.get(category).filter(|rule| *score >= rule.threshold).map(|rule| rule.action)
    };
    let category = categories.iter().filter_map(found).max_by_key(|action| strictness(*action));
    let category = category.unwrap_or(Action::Allow);
    let action = if strictness(category) > strictness(flagged) { category } else { flagged };
    let mut reasons = Vec::new();
    if action == Action::Review {
        let asks = [(flagged, ReviewReason::Flagged), (category, ReviewReason::Category)];
        reasons.extend(asks.into_iter().filter(|(by, _)| *by == action).map(|(_, reason)| reason));
    }
    if (p - threshold).abs() < policy.review_margin {
        // A person is asked; what is done meanwhile stays with the verdict.
        reasons.push(ReviewReason::NearThreshold);
    }
    Ruling { action, reasons }
}

/// The greatest score per category over all awake votes, ordered by slug.
fn greatest(votes: &[Vote]) -> Vec<CategoryScore> {
    let mut found = std::collections::BTreeMap::<&str, f64>::new();
    for vote in votes.iter().filter(|vote| !vote.shadow) {
        let Outcome::Voted { categories, .. } = &vote.outcome else { continue };
        for CategoryScore { category, score } in categories {
            let best = found.entry(category).or_insert(0.0);
            *best = best.max(*score);
        }
    }
    found
        .into_iter()
        .map(|(category, score)| CategoryScore { category: category.to_owned(), score })
        .collect()
}

/// Everything about an event that is known once its experts have answered.
#[derive(Debug)]
pub struct DecisionInput {
    /// The event.
    pub event: Event,
    /// Where it was consumed.
    pub origin: Origin,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// Each expert's vote, in the order of the ids' UTF-8 bytes.
    pub votes: Vec<Vote>,
    /// The judged text's features.
    pub features: Option<TextFeatures>,
    /// The event's `traceparent`.
    pub trace: Option<String>,
}

/// Decides. Same votes, predictor and policy: same decision, but for `latency_micros`.
#[must_use]
pub fn decide(
    asked: DecisionInput,
    policy: &Policy,
    predictor: PredictorRef,
    combined: &Combined,
    latency_micros: i64,
) -> Decision {
    let DecisionInput { event, origin, round_time, votes, features, trace } = asked;
    let categories = greatest(&votes);
    let awake = votes.iter().filter(|vote| vote.awake().is_some()).count();
    let nothing_to_judge = text::is_blank(event.judged_text());
    let hidden_text = text::reveal(event.judged_text()).hidden;
    let ruling = if nothing_to_judge {
        rule_nothing(policy)
    } else {
        rule(policy, combined.probability, awake, &categories)
    };
    let votes: Vec<_> = votes
        .into_iter()
        .zip(&combined.shares)
        .map(|(vote, share)| WeighedVote { vote, weight: share.weight, contribution: share.contribution })
        .collect();
    let abstained = |weighed: &WeighedVote| !weighed.vote.shadow && weighed.vote.score().is_none();
    let degraded = !nothing_to_judge && votes.iter().any(abstained);
    Decision {
        id: RoundId { tenant: event.tenant, policy: event.policy, event: event.id },
        conversation: event.conversation,
        subject: event.subject,
        origin,
        round_time,
        policy_version: policy.version.clone(),
        action: ruling.action,
        probability: combined.probability,
        threshold: policy.threshold(),
        categories,
        votes,
        features: features.filter(|_| policy.features),
        predictor,
        degraded,
        nothing_to_judge,
        hidden_text,
        review: ruling.reasons.first().copied(),
        review_probability: if ruling.reasons.is_empty() { 0.0 } else { 1.0 },
        latency_micros,
        trace,
    }
}

impl Decision {
    /// Whether any expert read only the beginning of the text.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.votes.iter().any(|weighed| weighed.vote.truncated)
    }

    /// Why a person should look, by the policy that it was decided under: [`review`](Self::review) first,
    /// then what else holds. Empty: nobody need.
    #[must_use]
    pub fn reasons(&self, policy: &Policy) -> Vec<ReviewReason> {
        if self.nothing_to_judge {
            return rule_nothing(policy).reasons;
        }
        let awake = self.votes.iter().filter(|weighed| weighed.vote.awake().is_some()).count();
        rule(policy, self.probability, awake, &self.categories).reasons
    }

    /// The encoder that made the features.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.features.as_ref().map(|reading| reading.encoder)
    }

    /// What the ledger keeps of the decision that lies at `at`.
    #[must_use]
    pub fn into_round_record(self, at: DecisionRef) -> RoundRecord {
        let votes = self
            .votes
            .into_iter()
            .map(|weighed| RoundVote {
                score: weighed.vote.score(),
                shadow: weighed.vote.shadow,
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
