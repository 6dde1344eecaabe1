//! Decisions.

use std::borrow::Cow;

use apache_avro::types::Value;
use serde::{Deserialize, Serialize};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::ledger::{FeaturesForm, check_round, features, reading};
use super::schema::kinds;
use super::wire::{Code, List, Sha256, Symbol};
use super::{Encoding, check_share, check_time};
use crate::core::decision::{Decision, Origin, ReviewReason, Sampling, WeighedVote};
use crate::core::event::{Millis, check_id};
use crate::core::ledger::RoundId;
use crate::core::policy::Action;
use crate::core::predictor::PredictorRef;
use crate::core::text::HiddenText;
use crate::core::vote::{Abstention, CategoryScore, MAX_REVISION, Outcome, Vote};

/// The maximum number of reasons. Later versions may have reasons that this one does not know.
pub(super) const MAX_REASONS: usize = 64;

/// A decision with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Decision")]
struct DecisionForm<'a> {
    event_id: Cow<'a, str>,
    tenant: Cow<'a, str>,
    policy: Cow<'a, str>,
    policy_version: Cow<'a, str>,
    conversation: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    source_topic: Cow<'a, str>,
    source_partition: i32,
    source_offset: i64,
    round_time: Millis,
    action: Symbol<Action>,
    probability: Option<f64>,
    threshold: f64,
    categories: Vec<ScoreForm<'a>>,
    votes: Vec<VoteForm<'a>>,
    features: Option<FeaturesForm<'a>>,
    predictor: PredictorForm<'a>,
    degraded: bool,
    /// Derived from the votes, for readers of the topic; not read back.
    truncated: bool,
    review: Option<Symbol<ReviewReason>>,
    review_probability: f64,
    latency_micros: i64,
    trace: Option<Cow<'a, str>>,
    #[serde(default)]
    nothing_to_judge: bool,
    #[serde(default)]
    hidden_text: Vec<Symbol<HiddenText>>,
    #[serde(default)]
    reasons: List<Symbol<ReviewReason>, MAX_REASONS>,
    #[serde(default)]
    sampling: Option<SamplingForm>,
    #[serde(default)]
    language: Code,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Sampling")]
pub(super) struct SamplingForm {
    audit: f64,
    uncertainty: f64,
    thinned: bool,
}

impl From<Sampling> for SamplingForm {
    fn from(sampling: Sampling) -> Self {
        Self { audit: sampling.audit, uncertainty: sampling.uncertainty, thinned: sampling.thinned }
    }
}

impl From<SamplingForm> for Sampling {
    fn from(form: SamplingForm) -> Self {
        Self { audit: form.audit, uncertainty: form.uncertainty, thinned: form.thinned }
    }
}

pub(super) fn check_sampling(sampling: Sampling) -> Result<(), DecodeError> {
    check_share("sampling.audit", sampling.audit)?;
    check_share("sampling.uncertainty", sampling.uncertainty)
}

/// Returns each reason once. All reasons that only a later version knows are read as one.
pub(super) fn distinct_reasons(
    list: List<Symbol<ReviewReason>, MAX_REASONS>,
) -> Result<Vec<ReviewReason>, DecodeError> {
    if list.total > MAX_REASONS {
        return Err(DecodeError::BadValue { field: "reasons" });
    }
    let mut reasons = Vec::new();
    for Symbol(reason) in list.items {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Ok(reasons)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "CategoryScore")]
pub(super) struct ScoreForm<'a> {
    category: Cow<'a, str>,
    score: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Vote")]
struct VoteForm<'a> {
    expert: Cow<'a, str>,
    model_sha256: Option<Sha256>,
    score: Option<f64>,
    abstention: Option<Symbol<Abstention>>,
    categories: Vec<ScoreForm<'a>>,
    shadow: bool,
    truncated: bool,
    #[serde(default)]
    cached: bool,
    #[serde(default = "one")]
    windows: i32,
    #[serde(default)]
    explored: bool,
    #[serde(default)]
    decisive: bool,
    #[serde(default)]
    revision: Option<Cow<'a, str>>,
    weight: f64,
    contribution: f64,
}

fn one() -> i32 {
    1
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "PredictorRef")]
struct PredictorForm<'a> {
    learner: Cow<'a, str>,
    state_hash: Sha256,
    rounds: i64,
    ledger_offset: i64,
    #[serde(default)]
    pinned: bool,
}

pub(super) fn scores(scores: &[CategoryScore]) -> Vec<ScoreForm<'_>> {
    scores
        .iter()
        .map(|found| ScoreForm { category: Cow::Borrowed(&found.category), score: found.score })
        .collect()
}

pub(super) fn owned_scores(forms: Vec<ScoreForm<'_>>) -> Vec<CategoryScore> {
    forms
        .into_iter()
        .map(|form| CategoryScore { category: form.category.into_owned(), score: form.score })
        .collect()
}

impl<'a> From<&'a WeighedVote> for VoteForm<'a> {
    fn from(weighed: &'a WeighedVote) -> Self {
        let vote = &weighed.vote;
        let (score, abstention, categories) = match &vote.outcome {
            Outcome::Voted { score, categories } => (Some(*score), None, scores(categories)),
            Outcome::Abstained(reason) => (None, Some(Symbol(*reason)), Vec::new()),
        };
        Self {
            expert: Cow::Borrowed(&vote.expert),
            model_sha256: vote.model.map(Sha256),
            score,
            abstention,
            categories,
            shadow: vote.shadow,
            truncated: vote.truncated,
            cached: vote.cached,
            windows: i32::try_from(vote.windows).unwrap_or(i32::MAX),
            explored: vote.explored,
            decisive: vote.decisive,
            revision: vote.revision.as_deref().map(Cow::Borrowed),
            weight: weighed.weight,
            contribution: weighed.contribution,
        }
    }
}

fn weighed(form: VoteForm<'_>) -> Result<WeighedVote, DecodeError> {
    let outcome = match (form.score, form.abstention) {
        (Some(score), None) => Outcome::Voted { score, categories: owned_scores(form.categories) },
        (None, Some(Symbol(reason))) => Outcome::Abstained(reason),
        _ => return Err(DecodeError::BadValue { field: "votes" }),
    };
    let vote = Vote {
        expert: form.expert.into_owned(),
        model: form.model_sha256.map(|hash| hash.0),
        outcome,
        shadow: form.shadow,
        truncated: form.truncated,
        cached: form.cached,
        windows: usize::try_from(form.windows)
            .map_err(|_| DecodeError::BadValue { field: "votes.windows" })?,
        explored: form.explored,
        decisive: form.decisive,
        revision: form.revision.map(Cow::into_owned),
    };
    Ok(WeighedVote { vote, weight: form.weight, contribution: form.contribution })
}

impl<'a> From<&'a Decision> for DecisionForm<'a> {
    fn from(decision: &'a Decision) -> Self {
        Self {
            event_id: Cow::Borrowed(&decision.id.event),
            tenant: Cow::Borrowed(&decision.id.tenant),
            policy: Cow::Borrowed(&decision.id.policy),
            policy_version: Cow::Borrowed(&decision.policy_version),
            conversation: Cow::Borrowed(&decision.conversation),
            subject: decision.subject.as_deref().map(Cow::Borrowed),
            source_topic: Cow::Borrowed(&decision.origin.topic),
            source_partition: decision.origin.partition,
            source_offset: decision.origin.offset,
            round_time: decision.round_time,
            action: Symbol(decision.action),
            probability: decision.probability,
            threshold: decision.threshold,
            categories: scores(&decision.categories),
            votes: decision.votes.iter().map(VoteForm::from).collect(),
            features: decision.features.as_ref().map(features),
            predictor: PredictorForm {
                learner: Cow::Borrowed(&decision.predictor.learner),
                state_hash: Sha256(decision.predictor.state_hash),
                rounds: i64::try_from(decision.predictor.rounds).unwrap_or(i64::MAX),
                ledger_offset: decision.predictor.ledger_offset,
                pinned: decision.predictor.pinned,
            },
            degraded: decision.degraded,
            truncated: decision.truncated(),
            review: decision.review().map(Symbol),
            review_probability: decision.review_probability,
            latency_micros: decision.latency_micros,
            trace: decision.trace.as_deref().map(Cow::Borrowed),
            nothing_to_judge: decision.nothing_to_judge,
            hidden_text: decision.hidden_text.iter().copied().map(Symbol).collect(),
            reasons: List::of(decision.reasons.iter().copied().map(Symbol).collect()),
            sampling: Some(decision.sampling.into()),
            language: Code(decision.language),
        }
    }
}

fn decision(form: DecisionForm<'_>) -> Result<Decision, DecodeError> {
    let rounds = form.predictor.rounds;
    let reasons = distinct_reasons(form.reasons)?;
    let decision = Decision {
        id: RoundId {
            tenant: form.tenant.into_owned(),
            policy: form.policy.into_owned(),
            event: form.event_id.into_owned(),
        },
        conversation: form.conversation.into_owned(),
        subject: form.subject.map(Cow::into_owned),
        origin: Origin {
            topic: form.source_topic.into_owned(),
            partition: form.source_partition,
            offset: form.source_offset,
        },
        round_time: form.round_time,
        policy_version: form.policy_version.into_owned(),
        action: form.action.0,
        probability: form.probability,
        threshold: form.threshold,
        categories: owned_scores(form.categories),
        votes: form.votes.into_iter().map(weighed).collect::<Result<_, _>>()?,
        features: form.features.map(reading),
        predictor: PredictorRef {
            learner: form.predictor.learner.into_owned(),
            state_hash: form.predictor.state_hash.0,
            rounds: u64::try_from(rounds).map_err(|_| DecodeError::BadValue { field: "predictor" })?,
            ledger_offset: form.predictor.ledger_offset,
            pinned: form.predictor.pinned,
        },
        degraded: form.degraded,
        // An earlier version wrote only the first reason.
        reasons: if reasons.is_empty() {
            form.review.iter().map(|reason| reason.0).collect()
        } else {
            reasons
        },
        review_probability: form.review_probability,
        sampling: form.sampling.map(Sampling::from).unwrap_or_default(),
        latency_micros: form.latency_micros,
        trace: form.trace.map(Cow::into_owned),
        nothing_to_judge: form.nothing_to_judge,
        hidden_text: form.hidden_text.into_iter().map(|kind| kind.0).collect(),
        language: form.language.0,
    };
    check(&decision)?;
    Ok(decision)
}

fn check(decision: &Decision) -> Result<(), DecodeError> {
    check_round(&decision.id)?;
    decision.subject.as_deref().map_or(Ok(()), |subject| check_id("subject", subject))?;
    check_time("round_time", decision.round_time)?;
    check_share("threshold", decision.threshold)?;
    check_share("review_probability", decision.review_probability)?;
    check_sampling(decision.sampling)?;
    decision.probability.map_or(Ok(()), |p| check_share("probability", p))?;
    decision.categories.iter().try_for_each(|found| check_share("categories", found.score))?;
    if !decision.votes.is_sorted_by(|a, b| a.vote.expert < b.vote.expert) {
        return Err(DecodeError::BadValue { field: "votes" });
    }
    for WeighedVote { vote, weight, contribution } in &decision.votes {
        check_id("votes.expert", &vote.expert)?;
        if vote.revision.as_ref().is_some_and(|revision| revision.len() > MAX_REVISION) {
            return Err(DecodeError::BadValue { field: "votes.revision" });
        }
        if let Outcome::Voted { score, categories } = &vote.outcome {
            check_share("votes.score", *score)?;
            categories.iter().try_for_each(|found| check_share("votes.categories", found.score))?;
        }
        if !weight.is_finite() || !contribution.is_finite() {
            return Err(DecodeError::BadValue { field: "votes.weight" });
        }
    }
    Ok(())
}

/// Returns a number that identifies the set of schemas of decisions that this version reads. A version with another
/// number may read decisions that this one cannot.
#[must_use]
pub fn decisions_read() -> u64 {
    kinds().decision.readable_schemas()
}

/// Reads a decision in Avro or JSON.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a decision.
pub fn decode_decision(payload: &[u8]) -> Result<Decision, DecodeError> {
    Received::plain(payload).decision()
}

/// Reads a decision of an Avro container file.
///
/// # Errors
/// Returns a [`DecodeError`] if `value` is not a decision.
pub fn decode_decision_value(value: Value) -> Result<Decision, DecodeError> {
    decision(kinds().decision.decode_value(value)?)
}

impl Received<'_> {
    /// Reads a decision in any framing.
    ///
    /// # Errors
    /// Returns a [`DecodeError`] if the record is not a decision, or if its schema is not available.
    pub fn decision(&self) -> Result<Decision, DecodeError> {
        decision(kinds().decision.decode(self)?)
    }
}

/// Writes a decision.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_decision`] would refuse the record.
pub fn encode_decision(decision: &Decision, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(decision)?;
    kinds().decision.encode_directly(&DecisionForm::from(decision), encoding)
}
