//! Published predictors.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::schema::kinds;
use super::wire::{Sha256, StateBytes};
use super::{Encoding, check_time};
use crate::core::event::{Millis, check_id};
use crate::core::learners::{LearnerSpec, Mass};
use crate::core::predictor::Published;

/// A predictor with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Predictor")]
struct PublishedForm<'a> {
    policy: Cow<'a, str>,
    format: u32,
    learner: LearnerForm<'a>,
    mapping: Cow<'a, str>,
    experts: Vec<Cow<'a, str>>,
    encoder: Option<Sha256>,
    rounds: i64,
    last_key: Option<KeyForm<'a>>,
    ledger_offset: i64,
    state_hash: Sha256,
    state: StateBytes<'a>,
    masses: Vec<MassForm<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Learner")]
struct LearnerForm<'a> {
    name: Cow<'a, str>,
    eta: Option<f64>,
    beta: Option<f64>,
    alpha: Option<f64>,
    gamma: Option<f64>,
    variance: Option<f64>,
    noise: Option<Cow<'a, str>>,
    prior: Option<Vec<MassForm<'a>>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Mass")]
struct MassForm<'a> {
    member: Cow<'a, str>,
    mass: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "RoundKey")]
struct KeyForm<'a> {
    round_time: Millis,
    tenant: Cow<'a, str>,
    event_id: Cow<'a, str>,
}

fn mass<'a>(member: &'a str, mass: f64) -> MassForm<'a> {
    MassForm { member: Cow::Borrowed(member), mass }
}

impl<'a> From<&'a LearnerSpec> for LearnerForm<'a> {
    fn from(spec: &'a LearnerSpec) -> Self {
        let prior = spec.prior.as_ref();
        Self {
            name: Cow::Borrowed(spec.name.as_str()),
            eta: spec.eta,
            beta: spec.beta,
            alpha: spec.alpha,
            gamma: spec.gamma,
            variance: spec.variance,
            noise: spec.noise.map(|noise| Cow::Borrowed(noise.as_str())),
            prior: prior.map(|prior| prior.iter().map(|(expert, share)| mass(expert, *share)).collect()),
        }
    }
}

fn spec(form: LearnerForm<'_>) -> Result<LearnerSpec, DecodeError> {
    let bad = |_| DecodeError::BadValue { field: "learner" };
    let owned = |form: MassForm<'_>| (form.member.into_owned(), form.mass);
    let spec = LearnerSpec {
        name: form.name.parse().map_err(bad)?,
        eta: form.eta,
        beta: form.beta,
        alpha: form.alpha,
        gamma: form.gamma,
        variance: form.variance,
        noise: form.noise.map(|noise| noise.parse()).transpose().map_err(bad)?,
        seed: None,
        prior: form.prior.map(|prior| prior.into_iter().map(owned).collect()),
    };
    spec.check().map_err(bad)?;
    Ok(spec)
}

impl<'a> From<&'a Published> for PublishedForm<'a> {
    fn from(published: &'a Published) -> Self {
        let key = |(round_time, tenant, event): &'a (Millis, String, String)| KeyForm {
            round_time: *round_time,
            tenant: Cow::Borrowed(tenant),
            event_id: Cow::Borrowed(event),
        };
        Self {
            policy: Cow::Borrowed(&published.policy),
            format: published.format,
            learner: (&published.learner).into(),
            mapping: Cow::Borrowed(&published.mapping),
            experts: published.experts.iter().map(|expert| Cow::Borrowed(expert.as_str())).collect(),
            encoder: published.encoder.map(Sha256),
            rounds: i64::try_from(published.rounds).unwrap_or(i64::MAX),
            last_key: published.last_key.as_ref().map(key),
            ledger_offset: published.ledger_offset,
            state_hash: Sha256(published.state_hash),
            state: StateBytes(Cow::Borrowed(&published.state)),
            masses: published.masses.iter().map(|found| mass(&found.member, found.mass)).collect(),
        }
    }
}

fn published(form: PublishedForm<'_>) -> Result<Published, DecodeError> {
    let rounds = form.rounds;
    let key = |key: KeyForm<'_>| (key.round_time, key.tenant.into_owned(), key.event_id.into_owned());
    let owned = |form: MassForm<'_>| Mass { member: form.member.into_owned(), mass: form.mass };
    let published = Published {
        policy: form.policy.into_owned(),
        format: form.format,
        learner: spec(form.learner)?,
        mapping: form.mapping.into_owned(),
        experts: form.experts.into_iter().map(Cow::into_owned).collect(),
        encoder: form.encoder.map(|hash| hash.0),
        rounds: u64::try_from(rounds).map_err(|_| DecodeError::BadValue { field: "rounds" })?,
        last_key: form.last_key.map(key),
        ledger_offset: form.ledger_offset,
        state_hash: form.state_hash.0,
        state: form.state.0.into_owned(),
        masses: form.masses.into_iter().map(owned).collect(),
    };
    check(&published)?;
    Ok(published)
}

fn check(published: &Published) -> Result<(), DecodeError> {
    check_id("policy", &published.policy)?;
    published.experts.iter().try_for_each(|expert| check_id("experts", expert))?;
    if !published.experts.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::BadValue { field: "experts" });
    }
    if let Some((round_time, ..)) = published.last_key {
        check_time("last_key", round_time)?;
    }
    if published.state.iter().any(|number| number.is_nan()) {
        return Err(DecodeError::BadValue { field: "state" });
    }
    if !published.masses.iter().all(|found| found.mass.is_finite()) {
        return Err(DecodeError::BadValue { field: "masses" });
    }
    Ok(())
}

/// Reads a predictor in Avro or JSON. The record does not contain the seed of a learner that draws; the reader's
/// configuration does.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a predictor.
pub fn decode_published(payload: &[u8]) -> Result<Published, DecodeError> {
    published(kinds().predictor.decode(&Received::plain(payload))?)
}

/// Writes a predictor without its learner's seed.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_published`] would refuse the record.
pub fn encode_published(published: &Published, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(published)?;
    kinds().predictor.encode(&PublishedForm::from(published), encoding)
}
