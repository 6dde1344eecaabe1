//! The parser of one line of a replay file.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeSeed as _;

use super::batch::{Batch, Item, RoundSpan, Span, Votes};
use super::fields::{Fields, LineVisitor, Name};
use super::value::{Listed, Scalar};
use super::votes::VoteReader;
use super::{header, label};
use crate::codec::time::{EARLIEST, LATEST};
use crate::codec::{self, Defaults, read_into};
use crate::core::event::{MAX_ID, MAX_TEXT, Millis};
use crate::core::features::{DIMENSIONS, Features};
use crate::core::hash::unhex;
use crate::core::label::DecisionRef;
use crate::core::ledger::{Edit, EditAction, Record};

/// The tenant and the policy of lines that name none.
const DEFAULT: &str = "default";

/// Parses lines.
#[derive(Debug)]
pub(super) struct Parser {
    votes: VoteReader,
    /// If `true`, texts are kept for an encoder to read.
    pub(super) keep_texts: bool,
    /// The tenant and the policy of lines that name none, and the pointers by which labels are read.
    pub(super) defaults: Defaults,
}

impl Default for Parser {
    fn default() -> Self {
        let defaults = Defaults { tenant: DEFAULT.into(), policy: DEFAULT.into(), ..Defaults::default() };
        Self { votes: VoteReader::default(), keep_texts: false, defaults }
    }
}

/// The reason why a line is malformed, without any of its content.
pub(super) type Reason = Cow<'static, str>;

impl Parser {
    /// Parses a line into the batch.
    pub(super) fn parse(&mut self, number: u64, line: &str, batch: &mut Batch) {
        let item = match self.item(line, batch) {
            Ok(item) => item,
            Err(reason) => Item::Malformed(reason.into_owned()),
        };
        batch.panels.extend(self.votes.new_panels());
        batch.items.push((number, item));
    }

    /// Parses a record of a container file, given as a line. As on the label topic, pointers apply to JSON alone.
    pub(super) fn parse_record(&mut self, number: u64, line: &str, batch: &mut Batch) {
        let pointers = self.defaults.label_fields.take();
        self.parse(number, line, batch);
        self.defaults.label_fields = pointers;
    }

    /// Parses a line with the fast reader. A line that it refuses is read again with the codec's reader of records, which
    /// accepts more and is exact about numbers.
    fn item(&mut self, line: &str, batch: &mut Batch) -> Result<Item, Reason> {
        let mut from = serde_json::Deserializer::from_str(line);
        let visitor = LineVisitor { votes: &mut self.votes, keep_texts: self.keep_texts };
        let fields = visitor.deserialize(&mut from).and_then(|fields| from.end().map(|()| fields));
        let item = match fields {
            Ok(fields) => self.item_of(line, fields, batch),
            Err(error) => Err(reason(&error, self.votes.reading)),
        };
        let refused = match item {
            Ok(item) => return Ok(item),
            Err(reason) => reason,
        };
        let visitor = LineVisitor { votes: &mut self.votes, keep_texts: self.keep_texts };
        match read_into(line, visitor) {
            Some(fields) => self.item_of(line, fields, batch),
            None => Err(refused),
        }
    }

    fn item_of(&mut self, line: &str, mut fields: Fields<'_>, batch: &mut Batch) -> Result<Item, Reason> {
        let kind = fields.take(Name::Aegis);
        if self.defaults.label_fields.is_some() && kind == Scalar::Absent && !fields.has_votes {
            return label::mapped(line, &self.defaults).map(Item::Records);
        }
        // Of a line that is only a label, all other names are columns of its own.
        let all = kind != Scalar::Absent || fields.has_votes;
        if let Some(name) = fields.repeated.iter().find(|name| all || label::FIELDS.contains(*name)) {
            return Err(format!("{name}: there twice, and readers differ in which they take").into());
        }
        let kind = match &kind {
            Scalar::Absent if fields.has_votes => return self.round(&mut fields, true, batch),
            Scalar::Absent => return self.label(&mut fields, false),
            Scalar::Text(kind) => kind.as_ref(),
            _ => "",
        };
        match kind {
            "round" if fields.has_votes => self.round(&mut fields, false, batch),
            "round" => Err("votes: missing on a round".into()),
            "label" => self.label(&mut fields, true),
            "edit" => Ok(Item::Records(vec![Record::Edit(edit(&mut fields)?)])),
            "header" => header::read(&fields).map(Item::Header).map_err(Reason::from),
            "savepoint" => header::savepoint(&fields).map(Item::Savepoint).map_err(Reason::from),
            _ => Err("aegis: no such kind of line".into()),
        }
    }

    fn label(&self, fields: &mut Fields<'_>, ledger: bool) -> Result<Item, Reason> {
        Ok(Item::Records(vec![Record::Label(label::alone(fields, &self.defaults, ledger)?)]))
    }

    /// Returns a line with votes, and its label if it may have one. An error leaves the batch as it was.
    fn round(
        &mut self,
        fields: &mut Fields<'_>,
        may_have_label: bool,
        batch: &mut Batch,
    ) -> Result<Item, Reason> {
        let lengths = (batch.text.len(), batch.scores.len(), batch.features.len());
        let item = self.votes_and_label(fields, may_have_label, batch);
        if item.is_err() {
            batch.text.truncate(lengths.0);
            batch.scores.truncate(lengths.1);
            batch.features.truncate(lengths.2);
        }
        item
    }

    fn votes_and_label(
        &mut self,
        fields: &mut Fields<'_>,
        may_have_label: bool,
        batch: &mut Batch,
    ) -> Result<Item, Reason> {
        let event = id("event_id", fields.take(Name::EventId))?.ok_or("event_id: missing")?;
        let Defaults { tenant, policy, .. } = &self.defaults;
        let id = RoundSpan {
            tenant: name_or("tenant", fields.take(Name::Tenant), tenant, batch)?,
            policy: name_or("policy", fields.take(Name::Policy), policy, batch)?,
            event: batch.intern(&event),
        };
        let decision = position(fields)?;
        let votes = self.votes(fields, decision, batch)?;
        let label = if may_have_label {
            label::beside_votes(fields, (id, &event), &self.defaults, batch)?
        } else {
            None
        };
        Ok(Item::Round { id, votes, label })
    }

    fn votes(
        &mut self,
        fields: &mut Fields<'_>,
        decision: Option<DecisionRef>,
        batch: &mut Batch,
    ) -> Result<Votes, Reason> {
        let (shadow, decisive) = (texts("shadow", &fields.shadow)?, texts("decisive", &fields.decisive)?);
        let scores = batch.scores.len();
        self.votes.scores(&shadow, &decisive, &mut batch.scores)?;
        let features = features(fields, batch)?;
        let mut text = None;
        if self.keep_texts && features.is_none() {
            let given = match fields.take(Name::Text) {
                Scalar::Absent => fields.last_turn.take().unwrap_or_default(),
                given => given,
            };
            text = match given {
                Scalar::Absent => None,
                Scalar::Text(given) if given.len() <= MAX_TEXT => Some(batch.intern(&given)),
                Scalar::Text(_) => return Err("text: too long".into()),
                _ => return Err("text: not a text".into()),
            };
        }
        Ok(Votes {
            subject: id("subject", fields.take(Name::Subject))?.map(|subject| batch.intern(&subject)),
            time: time("event_time", fields.take(Name::EventTime))?,
            decision,
            panel: self.votes.panel(),
            scores,
            features,
            text,
        })
    }
}

/// Returns the reason why a line is not an object that the fast reader takes, without any of its content.
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

/// Returns an id, which may be a number. `None` if it is absent.
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

/// Returns a name, or the default if it is absent.
fn name_or(field: &'static str, value: Scalar<'_>, default: &str, batch: &mut Batch) -> Result<Span, Reason> {
    let name = id(field, value)?.unwrap_or(Cow::Borrowed(default));
    Ok(batch.intern(&name))
}

/// Returns a time in any of the shapes that records of topics may have.
pub(super) fn time(field: &'static str, value: Scalar<'_>) -> Result<Option<Millis>, Reason> {
    let found = match value {
        Scalar::Absent => return Ok(None),
        Scalar::Whole(millis) if (EARLIEST..=LATEST).contains(&millis) => Some(millis),
        other => codec::Scalar::from(other).millis(field).map_err(|error| Cow::Owned(error.to_string()))?,
    };
    let found = found.filter(|millis| (EARLIEST..=LATEST).contains(millis));
    found.map(Some).ok_or_else(|| format!("{field}: not a time of the years 0 to 9999").into())
}

/// Returns a number from 0 to 1. `None` for any other value.
pub(super) fn unit(value: &Scalar<'_>) -> Option<f64> {
    let found = match value {
        Scalar::Whole(number) => *number as f64,
        Scalar::Number(number) => *number,
        _ => return None,
    };
    // Negative zero becomes zero.
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

/// Returns the position of a decision in its topic.
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

/// Copies a line's features into the batch and returns their index.
fn features(fields: &mut Fields<'_>, batch: &mut Batch) -> Result<Option<usize>, Reason> {
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
    batch.features.push((encoder, features));
    Ok(Some(batch.features.len() - 1))
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
