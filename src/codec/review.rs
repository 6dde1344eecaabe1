//! Review requests.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::confluent::Received;
use super::decision::{
    MAX_REASONS, SamplingForm, ScoreForm, check_sampling, distinct_reasons, owned_scores, scores,
};
use super::error::{DecodeError, EncodeError};
use super::label::RefForm;
use super::ledger::check_round;
use super::schema::kinds;
use super::wire::{List, Symbol};
use super::{Encoding, check_ref, check_share, check_time};
use crate::core::decision::{Origin, ReviewReason, Sampling};
use crate::core::event::{Millis, check_id};
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundId;
use crate::core::policy::Action;
use crate::core::review::ReviewRequest;

/// A review request with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "ReviewRequest")]
struct ReviewForm<'a> {
    event_id: Cow<'a, str>,
    tenant: Cow<'a, str>,
    policy: Cow<'a, str>,
    policy_version: Cow<'a, str>,
    conversation: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    source_topic: Cow<'a, str>,
    source_partition: i32,
    source_offset: i64,
    decision: RefForm,
    round_time: Millis,
    action: Symbol<Action>,
    probability: Option<f64>,
    threshold: f64,
    reasons: List<Symbol<ReviewReason>, MAX_REASONS>,
    inclusion_probability: f64,
    categories: Vec<ScoreForm<'a>>,
    trace: Option<Cow<'a, str>>,
    #[serde(default)]
    sampling: Option<SamplingForm>,
}

impl<'a> From<&'a ReviewRequest> for ReviewForm<'a> {
    fn from(request: &'a ReviewRequest) -> Self {
        Self {
            event_id: Cow::Borrowed(&request.id.event),
            tenant: Cow::Borrowed(&request.id.tenant),
            policy: Cow::Borrowed(&request.id.policy),
            policy_version: Cow::Borrowed(&request.policy_version),
            conversation: Cow::Borrowed(&request.conversation),
            subject: request.subject.as_deref().map(Cow::Borrowed),
            source_topic: Cow::Borrowed(&request.origin.topic),
            source_partition: request.origin.partition,
            source_offset: request.origin.offset,
            decision: request.decision.into(),
            round_time: request.round_time,
            action: Symbol(request.action),
            probability: request.probability,
            threshold: request.threshold,
            reasons: List::of(request.reasons.iter().copied().map(Symbol).collect()),
            inclusion_probability: request.inclusion_probability,
            sampling: Some(request.sampling.into()),
            categories: scores(&request.categories),
            trace: request.trace.as_deref().map(Cow::Borrowed),
        }
    }
}

fn request(form: ReviewForm<'_>) -> Result<ReviewRequest, DecodeError> {
    let request = ReviewRequest {
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
        decision: DecisionRef::from(form.decision),
        round_time: form.round_time,
        policy_version: form.policy_version.into_owned(),
        action: form.action.0,
        probability: form.probability,
        threshold: form.threshold,
        reasons: distinct_reasons(form.reasons)?,
        inclusion_probability: form.inclusion_probability,
        sampling: form.sampling.map(Sampling::from).unwrap_or_default(),
        categories: owned_scores(form.categories),
        trace: form.trace.map(Cow::into_owned),
    };
    check(&request)?;
    Ok(request)
}

fn check(request: &ReviewRequest) -> Result<(), DecodeError> {
    check_round(&request.id)?;
    request.subject.as_deref().map_or(Ok(()), |subject| check_id("subject", subject))?;
    check_ref("decision", request.decision)?;
    check_time("round_time", request.round_time)?;
    check_share("threshold", request.threshold)?;
    check_sampling(request.sampling)?;
    request.probability.map_or(Ok(()), |p| check_share("probability", p))?;
    request.categories.iter().try_for_each(|found| check_share("categories", found.score))?;
    if request.reasons.is_empty() {
        return Err(DecodeError::BadValue { field: "reasons" });
    }
    let chance = request.inclusion_probability;
    if chance > 0.0 && chance <= 1.0 { Ok(()) } else { Err(DecodeError::BadInclusionProbability) }
}

/// Reads a review request in Avro or JSON.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a review request.
pub fn decode_review(payload: &[u8]) -> Result<ReviewRequest, DecodeError> {
    Received::plain(payload).review()
}

impl Received<'_> {
    /// Reads a review request in any framing.
    ///
    /// # Errors
    /// Returns a [`DecodeError`] if the record is not a review request, or if its schema is not available.
    pub fn review(&self) -> Result<ReviewRequest, DecodeError> {
        request(kinds().review.decode(self)?)
    }
}

/// Writes a review request.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_review`] would refuse the record.
pub fn encode_review(request: &ReviewRequest, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(request)?;
    kinds().review.encode(&ReviewForm::from(request), encoding)
}
