//! The label of a line. The codec reads its fields as it reads a record of the label topic, so that both accept the same
//! labels.

use std::borrow::Cow;

use super::batch::{Batch, RoundLabel, RoundSpan};
use super::fields::{Fields, Name};
use super::line::{Reason, position, time, unit};
use super::value::Scalar;
use crate::codec::{DecodeError, Defaults, LabelJson, Loose, Received, default_label_id};
use crate::core::event::MAX_ID;
use crate::core::label::{Finding, Label};
use crate::core::ledger::{LabelRecord, LabelStatus, Record};

/// The field names of a line that is only a label.
pub(super) const FIELDS: [&str; 17] = [
    "id",
    "label_id",
    "tenant",
    "policy",
    "event_id",
    "annotator",
    "verdict",
    "unsafe",
    "severity",
    "categories",
    "time",
    "label_time",
    "source",
    "inclusion_probability",
    "decision",
    "corrects",
    "retracts",
];

const NO_LABEL: &str = "neither votes nor a label: unsafe, verdict, severity or retracts";

/// Returns the label of a line without votes. If `ledger`, the line is one of the ledger's own, which has more fields.
pub(super) fn alone(
    fields: &mut Fields<'_>,
    defaults: &Defaults,
    ledger: bool,
) -> Result<LabelRecord, Reason> {
    let decision = if ledger { position(fields)? } else { None };
    let received = if ledger { time("received", fields.take(Name::Received))? } else { None };
    let label_status = if ledger { status(fields.take(Name::LabelStatus))? } else { LabelStatus::Accepted };
    let mut raw = shared_fields(fields);
    raw.event_id = fields.take(Name::EventId).into();
    raw.tenant = fields.take(Name::Tenant).into();
    raw.policy = fields.take(Name::Policy).into();
    raw.id = fields.take(Name::Id).into();
    raw.time = fields.take(Name::Time).into();
    raw.decision = std::mem::take(&mut fields.decision);
    let mut label = raw.label(defaults).map_err(reason)?;
    label.decision = decision.or(label.decision);
    Ok(LabelRecord { received: received.unwrap_or(label.time), label, status: label_status })
}

/// Returns the label of a line with votes, if it has one. Such a line may have columns of its own that are named `id`,
/// `time` and `decision`.
pub(super) fn beside_votes(
    fields: &mut Fields<'_>,
    (id, event): (RoundSpan, &str),
    defaults: &Defaults,
    batch: &mut Batch,
) -> Result<Option<RoundLabel>, Reason> {
    if let Some(label) = plain(fields, event, batch) {
        return Ok(Some(label));
    }
    let mut raw = shared_fields(fields);
    let text = |span| Scalar::Text(Cow::Borrowed(batch.text(span))).into();
    raw.event_id = text(id.event);
    raw.tenant = text(id.tenant);
    raw.policy = text(id.policy);
    match raw.label(defaults) {
        Ok(label) => Ok(Some(RoundLabel::Record(Box::new(accepted(label))))),
        Err(DecodeError::NoVerdict) => Ok(None),
        Err(error) => Err(reason(error)),
    }
}

/// Returns the labels of a line that is read by the pointers of the configuration.
pub(super) fn mapped(line: &str, defaults: &Defaults) -> Result<Vec<Record>, Reason> {
    let labels = Received::plain(line.as_bytes()).labels(defaults).map_err(reason)?;
    Ok(labels.into_iter().map(|label| Record::Label(accepted(label))).collect())
}

fn accepted(label: Label) -> LabelRecord {
    LabelRecord { received: label.time, label, status: LabelStatus::Accepted }
}

fn reason(error: DecodeError) -> Reason {
    match error {
        DecodeError::NoVerdict => NO_LABEL.into(),
        other => other.to_string().into(),
    }
}

/// Returns the fields that are a label's on any line.
fn shared_fields(fields: &mut Fields<'_>) -> LabelJson {
    let mut take = |name| fields.take(name).into();
    LabelJson {
        label_id: take(Name::LabelId),
        annotator: take(Name::Annotator),
        verdict: take(Name::Verdict),
        harmful: take(Name::Unsafe),
        severity: take(Name::Severity),
        label_time: take(Name::LabelTime),
        source: take(Name::Source),
        inclusion_probability: take(Name::InclusionProbability),
        corrects: take(Name::Corrects),
        retracts: take(Name::Retracts),
        categories: std::mem::take(&mut fields.categories),
        ..LabelJson::default()
    }
}

/// Returns the label of a line that has no more of it than `unsafe` and an annotator, as most lines do: the fast path, on
/// which nothing is copied. `None` if the line has more or an invalid value, or no label.
fn plain(fields: &Fields<'_>, event: &str, batch: &mut Batch) -> Option<RoundLabel> {
    const OTHERS: [Name; 8] = [
        Name::LabelId,
        Name::Verdict,
        Name::Severity,
        Name::LabelTime,
        Name::Source,
        Name::InclusionProbability,
        Name::Corrects,
        Name::Retracts,
    ];
    let given = |name| fields.get(name) != &Scalar::Absent;
    if OTHERS.into_iter().any(given) || !matches!(fields.categories, Loose::Absent) {
        return None;
    }
    let (verdict, severity) = match fields.get(Name::Unsafe) {
        Scalar::Bool(true) => (Some(Finding::Unsafe), None),
        Scalar::Bool(false) => (Some(Finding::Safe), None),
        number => (None, Some(unit(number)?)),
    };
    let annotator = match fields.get(Name::Annotator) {
        Scalar::Absent => None,
        Scalar::Text(text) if (1..=MAX_ID).contains(&text.len()) => Some(text.as_ref()),
        _ => return None,
    };
    let id = if event.len() + 1 + annotator.map_or(0, str::len) <= MAX_ID {
        let id = batch.intern(event);
        id.to(batch.intern("/")).to(batch.intern(annotator.unwrap_or_default()))
    } else {
        batch.intern(&default_label_id(event, annotator))
    };
    let annotator = annotator.map(|annotator| batch.intern(annotator));
    Some(RoundLabel::Plain { id, annotator, verdict, severity })
}

fn status(value: Scalar<'_>) -> Result<LabelStatus, Reason> {
    let found = match &value {
        Scalar::Absent => Some(LabelStatus::Accepted),
        Scalar::Text(word) => LabelStatus::ALL.into_iter().find(|one| one.word() == word),
        _ => None,
    };
    found.ok_or_else(|| {
        let words: Vec<_> = LabelStatus::ALL.iter().map(|one| one.word()).collect();
        format!("standing: none of {}", words.join(", ")).into()
    })
}

#[cfg(test)]
mod tests;
