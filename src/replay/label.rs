//! The label of a line. Its fields are read by the codec, as those of a record of the topic of labels are, so that
//! what one takes the other takes as well.

use std::borrow::Cow;

use super::batch::{Batch, Said, Who};
use super::fields::{Fields, Name};
use super::line::{Reason, position, time, unit};
use super::value::Scalar;
use crate::codec::{DecodeError, Defaults, LabelJson, Loose, Received, default_label_id};
use crate::core::event::MAX_ID;
use crate::core::label::{Finding, Label, Source};
use crate::core::ledger::LabelStatus;

/// The names that a line which is only a label has.
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

const NOTHING: &str = "neither votes nor a label: unsafe, verdict, severity or retracts";

/// The label of a line that brings nothing else. `ledger`: as the ledger keeps it, with the fields that only it has.
pub(super) fn alone(
    fields: &mut Fields<'_>,
    defaults: &Defaults,
    ledger: bool,
    batch: &mut Batch,
) -> Result<(Who, Said), Reason> {
    let decision = if ledger { position(fields)? } else { None };
    let received = if ledger { time("received", fields.take(Name::Received))? } else { None };
    let standing = if ledger { standing(fields.take(Name::LabelStatus))? } else { LabelStatus::Accepted };
    let mut raw = raw(fields);
    raw.event_id = fields.take(Name::EventId).into();
    raw.tenant = fields.take(Name::Tenant).into();
    raw.policy = fields.take(Name::Policy).into();
    raw.id = fields.take(Name::Id).into();
    raw.time = fields.take(Name::Time).into();
    raw.decision = std::mem::take(&mut fields.decision);
    let mut label = raw.label(defaults).map_err(refused)?;
    label.decision = decision.or(label.decision);
    let (who, mut said) = kept(&label, batch);
    (said.received, said.standing) = (received.unwrap_or(said.time), standing);
    Ok((who, said))
}

/// The label beside votes; `None` if there is none. Columns of another meaning may be named `id`, `time` and `decision`.
pub(super) fn beside(
    fields: &mut Fields<'_>,
    event: &str,
    defaults: &Defaults,
    batch: &mut Batch,
) -> Result<Option<Said>, Reason> {
    if let Some(said) = plain(fields, event, batch) {
        return Ok(Some(said));
    }
    let mut raw = raw(fields);
    raw.event_id = Scalar::Text(Cow::Borrowed(event)).into();
    match raw.label(defaults) {
        Ok(label) => Ok(Some(kept(&label, batch).1)),
        Err(DecodeError::NoVerdict) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// The labels of a record that is read by the pointers of the configuration.
pub(super) fn mapped(line: &str, defaults: &Defaults, batch: &mut Batch) -> Result<Vec<(Who, Said)>, Reason> {
    let labels = Received::plain(line.as_bytes()).labels(defaults).map_err(refused)?;
    Ok(labels.iter().map(|label| kept(label, batch)).collect())
}

fn refused(error: DecodeError) -> Reason {
    match error {
        DecodeError::NoVerdict => NOTHING.into(),
        other => other.to_string().into(),
    }
}

/// The fields that lines with votes have, too.
fn raw(fields: &mut Fields<'_>) -> LabelJson {
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

/// The label of a line that says no more than `unsafe` and who says so, which most lines do: nothing is copied for it.
/// `None` if there is more to it.
fn plain(fields: &mut Fields<'_>, event: &str, batch: &mut Batch) -> Option<Said> {
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
        let id = batch.keep(event);
        id.to(batch.keep("/")).to(batch.keep(annotator.unwrap_or_default()))
    } else {
        batch.keep(&default_label_id(event, annotator))
    };
    Some(Said {
        id,
        annotator: annotator.map(|annotator| batch.keep(annotator)),
        verdict,
        severity,
        categories: Vec::new(),
        time: 0,
        source: Source::Review,
        inclusion_probability: None,
        decision: None,
        corrects: None,
        retracts: None,
        received: 0,
        standing: LabelStatus::Accepted,
    })
}

fn kept(label: &Label, batch: &mut Batch) -> (Who, Said) {
    let who = Who {
        tenant: batch.keep(&label.tenant),
        policy: batch.keep(&label.policy),
        event: batch.keep(&label.event),
    };
    let mut keep = |text: &Option<String>| text.as_ref().map(|text| batch.keep(text));
    let (annotator, corrects, retracts) =
        (keep(&label.annotator), keep(&label.corrects), keep(&label.retracts));
    let said = Said {
        id: batch.keep(&label.id),
        annotator,
        verdict: label.verdict,
        severity: label.severity,
        categories: label.categories.clone(),
        time: label.time,
        source: label.source,
        inclusion_probability: label.inclusion_probability,
        decision: label.decision,
        corrects,
        retracts,
        received: label.time,
        standing: LabelStatus::Accepted,
    };
    (who, said)
}

fn standing(value: Scalar<'_>) -> Result<LabelStatus, Reason> {
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
