//! Human labels.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::json::{self, Loose, Nested, Object, Scalar};
use super::schema::kinds;
use super::wire::{List, ListVisitor, Symbol};
use super::{Defaults, Encoding, check_ref, check_time, hex};
use crate::core::event::{MAX_ID, Millis, check_id};
use crate::core::label::{DecisionRef, Finding, Label, Source};

/// The maximum number of categories of a label.
pub const MAX_CATEGORIES: usize = 64;

/// A label with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Label")]
pub(super) struct LabelForm<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) tenant: Option<Cow<'a, str>>,
    pub(super) policy: Option<Cow<'a, str>>,
    pub(super) event_id: Cow<'a, str>,
    pub(super) annotator: Option<Cow<'a, str>>,
    pub(super) verdict: Option<Symbol<Finding>>,
    pub(super) severity: Option<f64>,
    pub(super) categories: List<Cow<'a, str>, MAX_CATEGORIES>,
    pub(super) time: Millis,
    pub(super) source: Symbol<Source>,
    pub(super) inclusion_probability: Option<f64>,
    pub(super) decision: Option<RefForm>,
    pub(super) corrects: Option<Cow<'a, str>>,
    pub(super) retracts: Option<Cow<'a, str>>,
}

/// The position of a decision, with the fields of the schemas.
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
            verdict: label.verdict.map(Symbol),
            severity: label.severity,
            categories: List::of(label.categories.iter().map(|slug| Cow::Borrowed(slug.as_str())).collect()),
            time: label.time,
            source: Symbol(label.source),
            inclusion_probability: label.inclusion_probability,
            decision: label.decision.map(RefForm::from),
            corrects: borrowed(&label.corrects),
            retracts: borrowed(&label.retracts),
        }
    }
}

/// Returns the id of a label that has none: that of its event and annotator, so that an annotator's newer label replaces the
/// older. Gold and calibration labels have ids of their own, because they do not replace what a person says in a review.
fn label_id(event: &str, annotator: Option<&str>, source: Source) -> String {
    let id = default_label_id(event, annotator);
    match source {
        Source::Gold | Source::Calibration => default_label_id(&id, Some(source.word())),
        Source::Review | Source::Report | Source::Appeal => id,
    }
}

/// Returns an id of two names. It is their SHA-256 if it would be too long.
#[must_use]
pub fn default_label_id(event: &str, annotator: Option<&str>) -> String {
    let id = format!("{event}/{}", annotator.unwrap_or_default());
    if id.len() <= MAX_ID { id } else { hex(&Sha256::digest(id)) }
}

/// Returns a label of its form, with defaults for missing fields.
///
/// # Errors
/// Returns a [`DecodeError`] if a value is out of its bounds.
pub(super) fn label(form: LabelForm<'_>, defaults: &Defaults) -> Result<Label, DecodeError> {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    if form.categories.total > form.categories.items.len() {
        return Err(DecodeError::BadValue { field: "categories" });
    }
    let label = Label {
        id: match form.id {
            Some(id) => id.into_owned(),
            None => label_id(&form.event_id, form.annotator.as_deref(), form.source.0),
        },
        tenant: owned(form.tenant).unwrap_or_else(|| defaults.tenant.clone()),
        policy: owned(form.policy).unwrap_or_else(|| defaults.policy.clone()),
        event: form.event_id.into_owned(),
        annotator: owned(form.annotator),
        verdict: form.verdict.map(|verdict| verdict.0),
        // Labels are ordered by the bits of their numbers, in which a negative zero is the greatest.
        severity: form.severity.map(|severity| severity + 0.0),
        // A tool without categories may write an empty one.
        categories: form
            .categories
            .items
            .into_iter()
            .map(Cow::into_owned)
            .filter(|slug| !slug.is_empty())
            .collect(),
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

/// A label in JSON, whose fields may be missing or have any type. Files for `aegis replay` call two of the fields
/// `label_id` and `label_time`, since a line may be about a round as well. Both names are read in both places.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LabelJson {
    pub(crate) id: Scalar,
    pub(crate) label_id: Scalar,
    pub(crate) tenant: Scalar,
    pub(crate) policy: Scalar,
    pub(crate) event_id: Scalar,
    pub(crate) annotator: Scalar,
    pub(crate) verdict: Scalar,
    #[serde(rename = "unsafe")]
    pub(crate) harmful: Scalar,
    pub(crate) severity: Scalar,
    pub(crate) categories: Loose<Slugs>,
    pub(crate) time: Scalar,
    pub(crate) label_time: Scalar,
    pub(crate) source: Scalar,
    pub(crate) inclusion_probability: Scalar,
    pub(crate) decision: Loose<Object<RefJson>>,
    pub(crate) corrects: Scalar,
    pub(crate) retracts: Scalar,
}

/// The position of a decision in JSON, whose fields may be missing or have any type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RefJson {
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

/// Categories: a list of texts, or a text with commas between them.
#[derive(Debug)]
pub(crate) struct Slugs(List<Scalar, MAX_CATEGORIES>);

impl<'de> Nested<'de> for Slugs {
    fn text(value: &str) -> Loose<Self> {
        let mut slugs = slugs([value], true);
        let kept = slugs.by_ref().take(MAX_CATEGORIES);
        let items: Vec<_> = kept.map(|slug| Scalar::Text(slug.to_owned())).collect();
        let total = items.len() + slugs.count();
        Loose::Found(Self(List { items, total }))
    }

    fn list<A: SeqAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        ListVisitor(PhantomData).visit_seq(from).map(|list| Loose::Found(Self(list)))
    }
}

/// Returns the categories of texts, which are split at commas if `split` is set. Empty ones are left out, since a tool
/// without categories often writes `""`.
///
/// The iterator is lazy: a text may contain a million categories, of which at most 64 are used.
pub(super) fn slugs<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    split: bool,
) -> impl Iterator<Item = &'a str> {
    let slugs = texts.into_iter().flat_map(move |text| {
        let parts = text.split(move |c| split && c == ',');
        parts.map(move |slug| if split { slug.trim() } else { slug })
    });
    slugs.filter(|slug| !slug.is_empty())
}

fn categories(Slugs(list): Slugs) -> Result<List<Cow<'static, str>, MAX_CATEGORIES>, DecodeError> {
    let bad = || DecodeError::BadValue { field: "categories" };
    let texts: Vec<String> = list
        .items
        .into_iter()
        .map(|slug| slug.text("categories")?.ok_or_else(bad))
        .collect::<Result<_, _>>()?;
    let given = texts.len();
    let items: Vec<_> = texts.into_iter().filter(|slug| !slug.is_empty()).map(Cow::Owned).collect();
    let total = list.total - (given - items.len());
    Ok(List { items, total })
}

/// Reads the field `unsafe`: a finding, or a severity.
fn harm(raw: Scalar) -> Result<(Option<Finding>, Option<f64>), DecodeError> {
    match raw {
        Scalar::Bool(true) => Ok((Some(Finding::Unsafe), None)),
        Scalar::Bool(false) => Ok((Some(Finding::Safe), None)),
        other => Ok((None, other.number("unsafe")?)),
    }
}

fn from_json(text: &str) -> Result<LabelForm<'static>, DecodeError> {
    let (raw, _): (LabelJson, usize) = json::read(text)?;
    form(raw)
}

/// Returns the first of the two that is not missing.
fn first_given(one: Scalar, other: Scalar) -> Scalar {
    if matches!(one, Scalar::Absent) { other } else { one }
}

impl LabelJson {
    /// Returns the label. `defaults` gives the values of missing fields.
    ///
    /// # Errors
    /// Returns the errors of [`decode_label`] that are not about JSON.
    pub(crate) fn label(self, defaults: &Defaults) -> Result<Label, DecodeError> {
        label(form(self)?, defaults)
    }
}

fn form(raw: LabelJson) -> Result<LabelForm<'static>, DecodeError> {
    let id = |scalar: Scalar, field| Ok::<_, DecodeError>(scalar.id(field)?.map(Cow::Owned));
    let (found, grade) = harm(raw.harmful)?;
    let severity = match raw.severity {
        Scalar::Absent => grade,
        other => other.number("severity").map_err(|_| DecodeError::BadSeverity)?,
    };
    Ok(LabelForm {
        event_id: id(raw.event_id, "event_id")?.ok_or(DecodeError::MissingField { field: "event_id" })?,
        id: id(first_given(raw.label_id, raw.id), "id")?,
        tenant: id(raw.tenant, "tenant")?,
        policy: id(raw.policy, "policy")?,
        annotator: id(raw.annotator, "annotator")?,
        verdict: raw.verdict.word("verdict")?.or(found).map(Symbol),
        severity,
        categories: match raw.categories.found("categories")? {
            Some(found) => categories(found)?,
            None => List::of(Vec::new()),
        },
        time: first_given(raw.label_time, raw.time).millis("time")?.unwrap_or(0),
        source: Symbol(raw.source.word("source")?.unwrap_or(Source::Review)),
        inclusion_probability: raw
            .inclusion_probability
            .number("inclusion_probability")
            .map_err(|_| DecodeError::BadInclusionProbability)?,
        decision: raw.decision.found("decision")?.map(reference).transpose()?,
        corrects: id(raw.corrects, "corrects")?,
        retracts: id(raw.retracts, "retracts")?,
    })
}

/// Reads the only human label of a record: see [`Received::label`].
///
/// # Errors
/// Returns the errors of [`Received::label`].
pub fn decode_label(payload: &[u8], defaults: &Defaults) -> Result<Label, DecodeError> {
    Received::plain(payload).label(defaults)
}

impl Received<'_> {
    /// Reads the human labels of a record in any framing. `defaults` gives the values of missing fields and the layout of
    /// JSON.
    ///
    /// A record of a labelling tool may contain several people's labels of one event, tenant and policy, or none if the
    /// configuration skips it.
    ///
    /// # Errors
    /// Returns a [`DecodeError`] if a label has no verdict, if two labels have one id, or if the schema is not available.
    pub fn labels(&self, defaults: &Defaults) -> Result<Vec<Label>, DecodeError> {
        let json = |text: &str| match &defaults.label_fields {
            Some(fields) => fields.read(text),
            None => from_json(text).map(|form| vec![form]),
        };
        let forms = kinds().label.decode_either(self, |form| Ok(vec![form]), json)?;
        let labels: Vec<_> = forms.into_iter().map(|form| label(form, defaults)).collect::<Result<_, _>>()?;
        let mut ids = BTreeSet::new();
        if labels.iter().all(|label| ids.insert(label.id.as_str())) {
            Ok(labels)
        } else {
            Err(DecodeError::SameLabel)
        }
    }

    /// Reads the only human label of a record.
    ///
    /// # Errors
    /// Returns the errors of [`Self::labels`], and [`DecodeError::NotOneLabel`] if the record has none or several.
    pub fn label(&self, defaults: &Defaults) -> Result<Label, DecodeError> {
        let labels = self.labels(defaults)?;
        let count = labels.len();
        let mut labels = labels.into_iter();
        match (labels.next(), labels.next()) {
            (Some(label), None) => Ok(label),
            _ => Err(DecodeError::NotOneLabel { labels: count }),
        }
    }
}

/// Writes a human label.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_label`] would refuse the record.
pub fn encode_label(label: &Label, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(label)?;
    kinds().label.encode(&LabelForm::from(label), encoding)
}
