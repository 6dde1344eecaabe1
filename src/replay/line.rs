//! One line of a replay file: what it is, or why it is nothing.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeSeed as _;

use super::ballot::Ballot;
use super::batch::{Batch, Item, Span, Votes, Who};
use super::fields::{Fields, LineVisitor, Name};
use super::value::{Listed, Scalar};
use super::{header, label};
use crate::codec::time::{EARLIEST, LATEST};
use crate::codec::{self, Defaults, read_into};
use crate::core::event::{MAX_ID, MAX_TEXT, Millis};
use crate::core::features::{DIMENSIONS, Features};
use crate::core::hash::unhex;
use crate::core::label::DecisionRef;
use crate::core::ledger::{Edit, EditAction};

/// Tenant and policy of lines that name none.
const DEFAULT: &str = "default";

/// Reads lines.
#[derive(Debug)]
pub(super) struct Parser {
    ballot: Ballot,
    /// Texts are kept for an encoder to read.
    pub(super) texts: bool,
    /// The tenant and the policy of lines that name none, and the pointers by which labels are read.
    pub(super) defaults: Defaults,
}

impl Default for Parser {
    fn default() -> Self {
        let defaults = Defaults { tenant: DEFAULT.into(), policy: DEFAULT.into(), ..Defaults::default() };
        Self { ballot: Ballot::default(), texts: false, defaults }
    }
}

pub(super) type Reason = Cow<'static, str>;

/// The kinds of lines that bring a round or a label.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Round,
    Label,
    /// A labelled vote: a round, a label, or both.
    Both,
}

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

    /// Reads a record of a container file, written as a line. Pointers are for JSON alone, as on the topic of labels.
    pub(super) fn record(&mut self, number: u64, line: &str, batch: &mut Batch) {
        let pointers = self.defaults.label_fields.take();
        self.read(number, line, batch);
        self.defaults.label_fields = pointers;
    }

    /// Reads a line with the fast reader. A line that it refuses is read again as the codec reads records of topics,
    /// which follows more and is exact about numbers.
    fn item(&mut self, line: &str, batch: &mut Batch) -> Result<Item, Reason> {
        let mut from = serde_json::Deserializer::from_str(line);
        let visitor = LineVisitor { ballot: &mut self.ballot, texts: self.texts };
        let read = visitor.deserialize(&mut from).and_then(|fields| from.end().map(|()| fields));
        let read = match read {
            Ok(fields) => self.line(line, fields, batch),
            Err(error) => Err(reason(&error, self.ballot.reading)),
        };
        let refused = match read {
            Ok(item) => return Ok(item),
            Err(reason) => reason,
        };
        let visitor = LineVisitor { ballot: &mut self.ballot, texts: self.texts };
        match read_into(line, visitor) {
            Some(fields) => self.line(line, fields, batch),
            None => Err(refused),
        }
    }

    fn line(&mut self, line: &str, mut fields: Fields<'_>, batch: &mut Batch) -> Result<Item, Reason> {
        let kind = fields.take(Name::Aegis);
        if self.defaults.label_fields.is_some() && kind == Scalar::Absent && !fields.has_votes {
            return label::mapped(line, &self.defaults, batch).map(Item::Labels);
        }
        // Of a line that is only a label, the other names are columns of its own.
        let all = kind != Scalar::Absent || fields.has_votes;
        if let Some(name) = fields.twice.iter().find(|name| all || label::FIELDS.contains(*name)) {
            return Err(format!("{name}: there twice, and readers differ in which they take").into());
        }
        match &kind {
            Scalar::Absent => self.round(fields, batch, Kind::Both),
            Scalar::Text(kind) => match kind.as_ref() {
                "round" if fields.has_votes => self.round(fields, batch, Kind::Round),
                "round" => Err("votes: missing on a round".into()),
                "label" => {
                    fields.has_votes = false;
                    self.round(fields, batch, Kind::Label)
                }
                "edit" => edit(&mut fields).map(Item::Edit),
                "header" => header::read(&fields).map(Item::Header).map_err(Reason::from),
                "savepoint" => header::savepoint(&fields).map(Item::Savepoint).map_err(Reason::from),
                _ => Err("aegis: no such kind of line".into()),
            },
            _ => Err("aegis: no such kind of line".into()),
        }
    }

    /// A round, a label, or both.
    fn round(&mut self, mut fields: Fields<'_>, batch: &mut Batch, kind: Kind) -> Result<Item, Reason> {
        let mark = (batch.text.len(), batch.scores.len(), batch.readings.len());
        let item = if fields.has_votes {
            self.voted(&mut fields, batch, kind)
        } else {
            label::alone(&mut fields, &self.defaults, kind == Kind::Label, batch)
                .map(|(who, said)| Item::Round { who, votes: None, said: Some(said) })
        };
        if item.is_err() {
            batch.text.truncate(mark.0);
            batch.scores.truncate(mark.1);
            batch.readings.truncate(mark.2);
        }
        item
    }

    fn voted(&mut self, fields: &mut Fields<'_>, batch: &mut Batch, kind: Kind) -> Result<Item, Reason> {
        let event = id("event_id", fields.take(Name::EventId))?.ok_or("event_id: missing")?;
        let Defaults { tenant, policy, .. } = &self.defaults;
        let who = Who {
            tenant: named("tenant", fields.take(Name::Tenant), tenant, batch)?,
            policy: named("policy", fields.take(Name::Policy), policy, batch)?,
            event: batch.keep(&event),
        };
        let at = position(fields)?;
        let votes = Some(self.votes(fields, at, batch)?);
        let said =
            if kind == Kind::Both { label::beside(fields, &event, &self.defaults, batch)? } else { None };
        Ok(Item::Round { who, votes, said })
    }

    fn votes(
        &mut self,
        fields: &mut Fields<'_>,
        at: Option<DecisionRef>,
        batch: &mut Batch,
    ) -> Result<Votes, Reason> {
        let shadow = texts("shadow", &fields.shadow)?;
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

/// An id; `None` where there is none. Many are numbers.
pub(super) fn id<'a>(field: &'static str, value: Scalar<'a>) -> Result<Option<Cow<'a, str>>, Reason> {
    match value {
        Scalar::Absent => Ok(None),
        Scalar::Text(text) if text.is_empty() => Err(format!("{field}: empty").into()),
        Scalar::Text(text) if text.len() > MAX_ID => {
            Err(format!("{field}: longer than {MAX_ID} bytes").into())
        }
        Scalar::Text(text) => Ok(Some(text)),
        Scalar::Whole(number) => Ok(Some(number.to_string().into())),
        Scalar::Wide(digits) => Ok(Some(digits.into())),
        _ => Err(format!("{field}: neither a text nor a whole number").into()),
    }
}

fn named(field: &'static str, value: Scalar<'_>, default: &str, batch: &mut Batch) -> Result<Span, Reason> {
    let name = id(field, value)?.unwrap_or(Cow::Borrowed(default));
    Ok(batch.keep(&name))
}

/// A time of the shapes that records of topics may give.
pub(super) fn time(field: &'static str, value: Scalar<'_>) -> Result<Option<Millis>, Reason> {
    let found = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Whole(millis) if (EARLIEST..=LATEST).contains(&millis) => Some(millis),
        other => codec::Scalar::from(other).millis(field).map_err(|error| Cow::Owned(error.to_string()))?,
    };
    let found = found.filter(|millis| (EARLIEST..=LATEST).contains(millis));
    found.map(Some).ok_or_else(|| format!("{field}: not a time of the years 0 to 9999").into())
}

/// A number from 0 to 1.
pub(super) fn unit(value: &Scalar<'_>) -> Option<f64> {
    let found = match value {
        Scalar::Whole(number) => *number as f64,
        Scalar::Number(number) => *number,
        _ => return None,
    };
    // Minus zero is zero.
    (0.0..=1.0).contains(&found).then(|| found.abs())
}

fn texts<'a>(field: &'static str, list: &'a Listed<'_>) -> Result<Vec<&'a str>, Reason> {
    let bad = || Reason::from(format!("{field}: not a list of texts"));
    let text = |value: &'a Scalar<'_>| match value {
        Scalar::Text(text) if text.len() <= MAX_ID => Ok(text.as_ref()),
        _ => Err(bad()),
    };
    match list {
        Listed::Absent => Ok(Vec::new()),
        Listed::Items(items) => items.iter().map(text).collect(),
        Listed::Other => Err(bad()),
    }
}

pub(super) fn position(fields: &mut Fields<'_>) -> Result<Option<DecisionRef>, Reason> {
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
