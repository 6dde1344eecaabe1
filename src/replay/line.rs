//! One line of a replay file: what it is, or why it is nothing.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeSeed as _;

use super::ballot::Ballot;
use super::batch::{Batch, Item, Said, Span, Votes, Who};
use super::fields::{Fields, LineVisitor, Name, Scalar};
use super::header;
use crate::codec::time::{EARLIEST, LATEST, parse_millis};
use crate::core::event::{MAX_ID, MAX_TEXT, Millis};
use crate::core::features::{DIMENSIONS, Features};
use crate::core::hash::unhex;
use crate::core::label::{DecisionRef, Finding, Source};
use crate::core::ledger::{Edit, EditAction, Standing};

/// Tenant and policy of lines that name none.
pub(super) const DEFAULT: &str = "default";

/// Reads lines.
#[derive(Debug, Default)]
pub(super) struct Parser {
    ballot: Ballot,
    /// Texts are kept for an encoder to read.
    pub(super) texts: bool,
}

type Reason = Cow<'static, str>;

impl Parser {
    /// Reads one line into the batch.
    pub(super) fn read(&mut self, number: u64, line: &str, batch: &mut Batch) {
        let item = match self.item(line, batch) {
            Ok(item) => item,
            Err(reason) => Item::Malformed(reason.into_owned()),
        };
        batch.panels.extend(self.ballot.news());
        batch.items.push((number, item));
    }

    fn item(&mut self, line: &str, batch: &mut Batch) -> Result<Item, Reason> {
        let mut from = serde_json::Deserializer::from_str(line);
        let visitor = LineVisitor { ballot: &mut self.ballot, texts: self.texts };
        let read = visitor.deserialize(&mut from).and_then(|fields| from.end().map(|()| fields));
        let mut fields = read.map_err(|error| reason(&error, self.ballot.reading))?;
        let kind = fields.take(Name::Aegis);
        match &kind {
            Scalar::Absent => self.round(fields, batch, true),
            Scalar::Text(kind) => match kind.as_ref() {
                "round" if fields.has_votes => self.round(fields, batch, false),
                "round" => Err("votes: missing on a round".into()),
                "label" => {
                    fields.has_votes = false;
                    self.round(fields, batch, false)
                }
                "edit" => edit(&mut fields).map(Item::Edit),
                "header" => header::read(&fields).map(Item::Header).map_err(Reason::from),
                "savepoint" => header::savepoint(&fields).map(Item::Savepoint).map_err(Reason::from),
                _ => Err("aegis: no such kind of line".into()),
            },
            _ => Err("aegis: no such kind of line".into()),
        }
    }

    /// A round, a label, or both; `both`: where the line may bring both.
    fn round(&mut self, mut fields: Fields<'_>, batch: &mut Batch, both: bool) -> Result<Item, Reason> {
        let mark = (batch.text.len(), batch.scores.len(), batch.readings.len());
        let item = self.try_round(&mut fields, batch, both);
        if item.is_err() {
            batch.text.truncate(mark.0);
            batch.scores.truncate(mark.1);
            batch.readings.truncate(mark.2);
        }
        item
    }

    fn try_round(&mut self, fields: &mut Fields<'_>, batch: &mut Batch, both: bool) -> Result<Item, Reason> {
        let event = match fields.take(Name::EventId) {
            Scalar::Whole(number) => Cow::Owned(number.to_string()),
            other => id("event_id", other)?.ok_or("event_id: missing")?,
        };
        let who = Who {
            tenant: named("tenant", fields.take(Name::Tenant), batch)?,
            policy: named("policy", fields.take(Name::Policy), batch)?,
            event: batch.keep(&event),
        };
        let at = position(fields)?;
        let votes = if fields.has_votes { Some(self.votes(fields, at, batch)?) } else { None };
        let said =
            if both || votes.is_none() { said(fields, &event, at.filter(|_| !both), batch)? } else { None };
        if votes.is_none() && said.is_none() {
            return Err("neither votes nor a label: unsafe, verdict, severity or retracts".into());
        }
        Ok(Item::Round { who, votes, said })
    }

    fn votes(
        &mut self,
        fields: &mut Fields<'_>,
        at: Option<DecisionRef>,
        batch: &mut Batch,
    ) -> Result<Votes, Reason> {
        let shadow = texts("shadow", fields.shadow.as_deref())?;
        let scores = batch.scores.len();
        self.ballot.scores(&shadow, &mut batch.scores)?;
        let reading = reading(fields, batch)?;
        let mut text = None;
        if self.texts && reading.is_none() {
            let given = match fields.take(Name::Text) {
                Scalar::Absent => fields.turn.take().unwrap_or_default(),
                given => given,
            };
            text = match given {
                Scalar::Absent => None,
                Scalar::Text(given) if given.len() <= MAX_TEXT => Some(batch.keep(&given)),
                Scalar::Text(_) => return Err("text: too long".into()),
                _ => return Err("text: not a text".into()),
            };
        }
        Ok(Votes {
            subject: id("subject", fields.take(Name::Subject))?.map(|subject| batch.keep(&subject)),
            time: time("event_time", fields.take(Name::EventTime))?,
            at,
            panel: self.ballot.panel(),
            scores,
            reading,
            text,
        })
    }
}

/// Why a line is no JSON object of ours, without what stands in it.
fn reason(error: &serde_json::Error, reading: &str) -> Reason {
    use serde_json::error::Category;
    let place = format!(" at column {}", error.column());
    match error.classify() {
        Category::Syntax | Category::Eof => {
            let full = error.to_string();
            let what = full.split(" at line ").next().unwrap_or("unreadable");
            Cow::Owned(format!("not JSON: {what}{place}"))
        }
        _ if reading.is_empty() => "not a JSON object".into(),
        _ => Cow::Owned(format!("{reading}: not what it should be{place}")),
    }
}

/// An id; `None` where there is none.
fn id<'a>(field: &'static str, value: Scalar<'a>) -> Result<Option<Cow<'a, str>>, Reason> {
    match value {
        Scalar::Absent => Ok(None),
        Scalar::Text(text) if text.is_empty() => Err(format!("{field}: empty").into()),
        Scalar::Text(text) if text.len() > MAX_ID => {
            Err(format!("{field}: longer than {MAX_ID} bytes").into())
        }
        Scalar::Text(text) => Ok(Some(text)),
        _ => Err(format!("{field}: not a text").into()),
    }
}

fn named(field: &'static str, value: Scalar<'_>, batch: &mut Batch) -> Result<Span, Reason> {
    let name = id(field, value)?.unwrap_or(Cow::Borrowed(DEFAULT));
    Ok(batch.keep(&name))
}

fn time(field: &'static str, value: Scalar<'_>) -> Result<Option<Millis>, Reason> {
    let found = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Whole(millis) => Some(millis).filter(|millis| (EARLIEST..=LATEST).contains(millis)),
        Scalar::Text(text) => parse_millis(&text),
        _ => None,
    };
    found.map(Some).ok_or_else(|| format!("{field}: neither milliseconds nor an RFC 3339 time").into())
}

fn unit(field: &'static str, value: Scalar<'_>) -> Result<Option<f64>, Reason> {
    let found = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Whole(number) => number as f64,
        Scalar::Number(number) => number,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&found) {
        // Minus zero is zero.
        return Ok(Some(found.abs()));
    }
    Err(format!("{field}: not a number from 0 to 1").into())
}

/// A word of a list, `None` where there is none.
fn word<T: Copy>(
    field: &'static str,
    value: Scalar<'_>,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Reason> {
    let Scalar::Text(text) = value else {
        return if value == Scalar::Absent { Ok(None) } else { Err(format!("{field}: not a text").into()) };
    };
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.map(Some).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        format!("{field}: none of {}", names.join(", ")).into()
    })
}

fn texts<'a>(field: &'static str, list: Option<&'a [Scalar<'_>]>) -> Result<Vec<&'a str>, Reason> {
    let text = |value: &'a Scalar<'_>| match value {
        Scalar::Text(text) if text.len() <= MAX_ID => Ok(text.as_ref()),
        _ => Err(Reason::from(format!("{field}: not a list of texts"))),
    };
    list.unwrap_or(&[]).iter().map(text).collect()
}

fn position(fields: &mut Fields<'_>) -> Result<Option<DecisionRef>, Reason> {
    match (fields.take(Name::Partition), fields.take(Name::Offset)) {
        (Scalar::Absent, Scalar::Absent) => Ok(None),
        (Scalar::Whole(partition), Scalar::Whole(offset)) => match i32::try_from(partition) {
            Ok(partition) => Ok(Some(DecisionRef { partition, offset })),
            Err(_) => Err("partition: out of range".into()),
        },
        _ => Err("partition, offset: two whole numbers, or neither".into()),
    }
}

fn reading(fields: &mut Fields<'_>, batch: &mut Batch) -> Result<Option<usize>, Reason> {
    let encoder = match fields.take(Name::Encoder) {
        Scalar::Absent => [0; 32],
        Scalar::Text(text) => unhex(&text).ok_or("encoder: not 64 hexadecimal digits")?,
        _ => return Err("encoder: not 64 hexadecimal digits".into()),
    };
    let text = match fields.take(Name::Features) {
        Scalar::Absent => return Ok(None),
        Scalar::Text(text) => text,
        _ => return Err("features: not a text".into()),
    };
    let mut bytes = [0u8; DIMENSIONS];
    match STANDARD.decode_slice(text.as_bytes(), &mut bytes) {
        Ok(DIMENSIONS) => {}
        _ => return Err(format!("features: not {DIMENSIONS} bytes in padded base64").into()),
    }
    let features: Features = bytes.map(u8::cast_signed);
    batch.readings.push((encoder, features));
    Ok(Some(batch.readings.len() - 1))
}

fn said(
    fields: &mut Fields<'_>,
    event: &str,
    decision: Option<DecisionRef>,
    batch: &mut Batch,
) -> Result<Option<Said>, Reason> {
    let mut verdict = word("verdict", fields.take(Name::Verdict), &Finding::ALL, Finding::word)?;
    let mut severity = unit("severity", fields.take(Name::Severity))?;
    match fields.take(Name::Unsafe) {
        Scalar::Absent => {}
        Scalar::Bool(found) => {
            let says = if found { Finding::Unsafe } else { Finding::Safe };
            verdict = verdict.or(if severity.is_none() { Some(says) } else { None });
        }
        number => {
            let given = unit("unsafe", number)?;
            severity = severity.or(given);
        }
    }
    let retracts = id("retracts", fields.take(Name::Retracts))?;
    if verdict.is_none() && severity.is_none() && retracts.is_none() {
        return Ok(None);
    }
    let annotator = id("annotator", fields.take(Name::Annotator))?;
    let given = id("label_id", fields.take(Name::LabelId))?;
    let id_ = match (&given, &annotator) {
        (Some(given), _) => batch.keep(given),
        (None, None) => batch.keep(event),
        (None, Some(annotator)) => {
            let start = batch.keep(event);
            batch.keep("/");
            let end = batch.keep(annotator);
            start.to(end)
        }
    };
    let inclusion = match fields.take(Name::InclusionProbability) {
        Scalar::Absent => None,
        given => match unit("inclusion_probability", given)? {
            Some(given) if given > 0.0 => Some(given),
            _ => return Err("inclusion_probability: not a number above 0".into()),
        },
    };
    let time_ = time("label_time", fields.take(Name::LabelTime))?.unwrap_or(0);
    let categories = texts("categories", fields.categories.as_deref())?;
    Ok(Some(Said {
        id: id_,
        annotator: annotator.map(|annotator| batch.keep(&annotator)),
        verdict,
        severity,
        categories: categories.into_iter().map(str::to_owned).collect(),
        time: time_,
        source: word("source", fields.take(Name::Source), &Source::ALL, Source::word)?
            .unwrap_or(Source::Review),
        inclusion_probability: inclusion,
        decision,
        corrects: id("corrects", fields.take(Name::Corrects))?.map(|other| batch.keep(&other)),
        retracts: retracts.map(|other| batch.keep(&other)),
        received: time("received", fields.take(Name::Received))?.unwrap_or(time_),
        standing: word("standing", fields.take(Name::Standing), &Standing::ALL, Standing::word)?
            .unwrap_or(Standing::Accepted),
    }))
}

fn edit(fields: &mut Fields<'_>) -> Result<Edit, Reason> {
    let needed = |field: &'static str, value: Scalar<'_>| {
        id(field, value)?.map(Cow::into_owned).ok_or_else(|| Reason::from(format!("{field}: missing")))
    };
    let edit_id = needed("edit_id", fields.take(Name::EditId))?;
    let tenant = match fields.take(Name::Tenant) {
        Scalar::Text(text) if text.is_empty() => String::new(),
        given => id("tenant", given)?.map(Cow::into_owned).unwrap_or_default(),
    };
    let action = match fields.take(Name::Action) {
        Scalar::Text(action) if action == "quarantine" => {
            EditAction::Quarantine { tenant, annotator: needed("annotator", fields.take(Name::Annotator))? }
        }
        Scalar::Text(action) if action == "erase" => {
            EditAction::Erase { tenant, subject: needed("subject", fields.take(Name::Subject))? }
        }
        _ => return Err("action: none of quarantine, erase".into()),
    };
    Ok(Edit { id: edit_id, action })
}
