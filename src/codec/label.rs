//! Human labels.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::json::{self, Loose, Object, Scalar};
use super::schema::kinds;
use super::wire::{List, Word};
use super::{Defaults, Encoding, check_ref, check_time, hex};
use crate::core::event::{MAX_ID, Millis, check_id};
use crate::core::label::{DecisionRef, Finding, Label, Source};

/// Greatest number of categories in a label.
pub const MAX_CATEGORIES: usize = 64;

/// A label as its schema has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Label")]
pub(super) struct LabelForm<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) tenant: Option<Cow<'a, str>>,
    pub(super) policy: Option<Cow<'a, str>>,
    pub(super) event_id: Cow<'a, str>,
    pub(super) annotator: Option<Cow<'a, str>>,
    pub(super) verdict: Option<Word<Finding>>,
    pub(super) severity: Option<f64>,
    pub(super) categories: List<Cow<'a, str>, MAX_CATEGORIES>,
    pub(super) time: Millis,
    pub(super) source: Word<Source>,
    pub(super) inclusion_probability: Option<f64>,
    pub(super) decision: Option<RefForm>,
    pub(super) corrects: Option<Cow<'a, str>>,
    pub(super) retracts: Option<Cow<'a, str>>,
}

/// Where a decision lies, as the schemas have it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "DecisionRef")]
pub(super) struct RefForm {
    partition: i32,
    offset: i64,
}

impl RefForm {
    pub(super) fn new(partition: i32, offset: i64) -> Self {
        Self { partition, offset }
    }
}

impl From<DecisionRef> for RefForm {
    fn from(at: DecisionRef) -> Self {
        Self { partition: at.partition, offset: at.offset }
    }
}

impl From<RefForm> for DecisionRef {
    fn from(form: RefForm) -> Self {
        Self { partition: form.partition, offset: form.offset }
    }
}

impl<'a> From<&'a Label> for LabelForm<'a> {
    fn from(label: &'a Label) -> Self {
        let borrowed = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            id: Some(Cow::Borrowed(&label.id)),
            tenant: Some(Cow::Borrowed(&label.tenant)),
            policy: Some(Cow::Borrowed(&label.policy)),
            event_id: Cow::Borrowed(&label.event),
            annotator: borrowed(&label.annotator),
            verdict: label.verdict.map(Word),
            severity: label.severity,
            categories: List::of(label.categories.iter().map(|slug| Cow::Borrowed(slug.as_str())).collect()),
            time: label.time,
            source: Word(label.source),
            inclusion_probability: label.inclusion_probability,
            decision: label.decision.map(RefForm::from),
            corrects: borrowed(&label.corrects),
            retracts: borrowed(&label.retracts),
        }
    }
}

/// The id of a label that came without one: one annotator's labels of one event share it, so the
/// newest of them counts.
#[must_use]
pub fn default_label_id(event: &str, annotator: Option<&str>) -> String {
    let id = format!("{event}/{}", annotator.unwrap_or_default());
    if id.len() <= MAX_ID { id } else { hex(&Sha256::digest(id)) }
}

/// What both encodings give, but for what the JSON reader has already made of it.
pub(super) fn label(form: LabelForm<'_>, defaults: &Defaults) -> Result<Label, DecodeError> {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    if form.categories.total > form.categories.items.len() {
        return Err(DecodeError::BadValue { field: "categories" });
    }
    let label = Label {
        id: match form.id {
            Some(id) => id.into_owned(),
            None => default_label_id(&form.event_id, form.annotator.as_deref()),
        },
        tenant: owned(form.tenant).unwrap_or_else(|| defaults.tenant.clone()),
        policy: owned(form.policy).unwrap_or_else(|| defaults.policy.clone()),
        event: form.event_id.into_owned(),
        annotator: owned(form.annotator),
        verdict: form.verdict.map(|verdict| verdict.0),
        // Labels are ordered by the bits of their numbers: a negative zero would be the greatest.
        severity: form.severity.map(|severity| severity + 0.0),
        categories: form.categories.items.into_iter().map(Cow::into_owned).collect(),
        time: form.time,
        source: form.source.0,
        inclusion_probability: form.inclusion_probability,
        decision: form.decision.map(DecisionRef::from),
        corrects: owned(form.corrects),
        retracts: owned(form.retracts),
    };
    check(&label)?;
    Ok(label)
}

/// Checks every bound on a label.
pub(super) fn check(label: &Label) -> Result<(), DecodeError> {
    check_id("event_id", &label.event)?;
    check_id("id", &label.id)?;
    check_id("tenant", &label.tenant)?;
    check_id("policy", &label.policy)?;
    let named =
        [("annotator", &label.annotator), ("corrects", &label.corrects), ("retracts", &label.retracts)];
    for (field, id) in named {
        id.as_deref().map_or(Ok(()), |id| check_id(field, id))?;
    }
    if label.verdict.is_none() && label.severity.is_none() && label.retracts.is_none() {
        return Err(DecodeError::NoVerdict);
    }
    if !label.severity.is_none_or(|severity| (0.0..=1.0).contains(&severity)) {
        return Err(DecodeError::BadSeverity);
    }
    if !label.inclusion_probability.is_none_or(|chance| chance > 0.0 && chance <= 1.0) {
        return Err(DecodeError::BadInclusionProbability);
    }
    let slug = |slug: &String| (1..=MAX_ID).contains(&slug.len());
    if label.categories.len() > MAX_CATEGORIES || !label.categories.iter().all(slug) {
        return Err(DecodeError::BadValue { field: "categories" });
    }
    check_time("time", label.time)?;
    label.decision.map_or(Ok(()), |at| check_ref("decision", at))
}

/// A label as JSON may give it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LabelJson {
    id: Scalar,
    tenant: Scalar,
    policy: Scalar,
    event_id: Scalar,
    annotator: Scalar,
    verdict: Scalar,
    #[serde(rename = "unsafe")]
    harmful: Scalar,
    severity: Scalar,
    categories: Loose<List<Scalar, MAX_CATEGORIES>>,
    time: Scalar,
    source: Scalar,
    inclusion_probability: Scalar,
    decision: Loose<Object<RefJson>>,
    corrects: Scalar,
    retracts: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RefJson {
    partition: Scalar,
    offset: Scalar,
}

fn reference(Object(raw): Object<RefJson>) -> Result<RefForm, DecodeError> {
    let bad = DecodeError::BadValue { field: "decision" };
    let partition = raw.partition.whole("decision")?.and_then(|partition| i32::try_from(partition).ok());
    match (partition, raw.offset.whole("decision")?) {
        (Some(partition), Some(offset)) => Ok(RefForm { partition, offset }),
        _ => Err(bad),
    }
}

/// What `unsafe` says: yes or no, or how much.
fn harm(raw: Scalar) -> Result<(Option<Finding>, Option<f64>), DecodeError> {
    match raw {
        Scalar::Bool(true) => Ok((Some(Finding::Unsafe), None)),
        Scalar::Bool(false) => Ok((Some(Finding::Safe), None)),
        other => Ok((None, other.number("unsafe")?)),
    }
}

fn from_json(text: &str) -> Result<LabelForm<'static>, DecodeError> {
    let raw: LabelJson = json::parse(text)?;
    let text = |scalar: Scalar, field| Ok::<_, DecodeError>(scalar.text(field)?.map(Cow::Owned));
    let (found, grade) = harm(raw.harmful)?;
    let slug = |slug: Scalar| {
        slug.text("categories")?.map(Cow::Owned).ok_or(DecodeError::BadValue { field: "categories" })
    };
    let categories = match raw.categories.found("categories")? {
        Some(list) => {
            List { total: list.total, items: list.items.into_iter().map(slug).collect::<Result<_, _>>()? }
        }
        None => List::of(Vec::new()),
    };
    let severity = match raw.severity {
        Scalar::Absent => grade,
        other => other.number("severity").map_err(|_| DecodeError::BadSeverity)?,
    };
    Ok(LabelForm {
        event_id: text(raw.event_id, "event_id")?.ok_or(DecodeError::MissingField { field: "event_id" })?,
        id: text(raw.id, "id")?,
        tenant: text(raw.tenant, "tenant")?,
        policy: text(raw.policy, "policy")?,
        annotator: text(raw.annotator, "annotator")?,
        verdict: raw.verdict.word("verdict")?.or(found).map(Word),
        severity,
        categories,
        time: raw.time.millis("time")?.unwrap_or(0),
        source: Word(raw.source.word("source")?.unwrap_or(Source::Review)),
        inclusion_probability: raw
            .inclusion_probability
            .number("inclusion_probability")
            .map_err(|_| DecodeError::BadInclusionProbability)?,
        decision: raw.decision.found("decision")?.map(reference).transpose()?,
        corrects: text(raw.corrects, "corrects")?,
        retracts: text(raw.retracts, "retracts")?,
    })
}

/// Reads a human label, Avro or JSON; what it leaves out comes from `defaults`, and where JSON has what it says.
///
/// # Errors
/// Where it says nothing, or not what a label may say: see [`DecodeError`].
pub fn decode_label(payload: &[u8], defaults: &Defaults) -> Result<Label, DecodeError> {
    Received::plain(payload).label(defaults)
}

impl Received<'_> {
    /// Reads a human label in any framing; what it leaves out comes from `defaults`, and where JSON has what it says.
    ///
    /// # Errors
    /// Where it says nothing, or its schema cannot be had: see [`DecodeError`].
    pub fn label(&self, defaults: &Defaults) -> Result<Label, DecodeError> {
        let json = |text: &str| match &defaults.label_fields {
            Some(fields) => fields.read(text),
            None => from_json(text),
        };
        label(kinds()?.label.decode_either(self, Ok, json)?, defaults)
    }
}

/// Writes a human label.
///
/// # Errors
/// Where [`decode_label`] would refuse it.
pub fn encode_label(label: &Label, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(label)?;
    kinds()?.label.encode(&LabelForm::from(label), encoding)
}
