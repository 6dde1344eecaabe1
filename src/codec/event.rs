//! Conversation events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cloud_event::{self, Attributes, Mode};
use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::fields;
use super::json::{self, Entries, Loose, Object, Scalar};
use super::schema::kinds;
use super::wire::{List, Symbol};
use super::{Defaults, Encoding, check_time};
use crate::core::event::{Event, EventError, MAX_METADATA, MAX_TURNS, Millis, Role, Turn};

/// An event with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Event")]
pub(super) struct EventForm<'a> {
    id: Cow<'a, str>,
    conversation: Option<Cow<'a, str>>,
    tenant: Option<Cow<'a, str>>,
    policy: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Millis>,
    turns: List<TurnForm<'a>, MAX_TURNS>,
    judged: Option<i32>,
    metadata: MetadataForm<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Turn")]
struct TurnForm<'a> {
    role: Symbol<Role>,
    text: Cow<'a, str>,
}

/// An event's metadata. Reading keeps one entry more than the maximum, so that an excess is noticed.
#[derive(Debug)]
struct MetadataForm<'a>(Cow<'a, BTreeMap<String, String>>);

impl Serialize for MetadataForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MetadataForm<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor).map(|metadata| Self(Cow::Owned(metadata)))
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut metadata = BTreeMap::new();
        while let Some((name, value)) = from.next_entry()? {
            if metadata.len() <= MAX_METADATA {
                metadata.insert(name, value);
            }
        }
        Ok(metadata)
    }
}

impl<'a> From<&'a Event> for EventForm<'a> {
    fn from(event: &'a Event) -> Self {
        let turn = |turn: &'a Turn| TurnForm { role: Symbol(turn.role), text: Cow::Borrowed(&turn.text) };
        Self {
            id: Cow::Borrowed(&event.id),
            conversation: Some(Cow::Borrowed(&event.conversation)),
            tenant: Some(Cow::Borrowed(&event.tenant)),
            policy: Some(Cow::Borrowed(&event.policy)),
            subject: event.subject.as_deref().map(Cow::Borrowed),
            time: event.time,
            turns: List::of(event.turns.iter().map(turn).collect()),
            // The check before this bounds the number of turns.
            judged: i32::try_from(event.judged).ok(),
            metadata: MetadataForm(Cow::Borrowed(&event.metadata)),
        }
    }
}

/// The fields of an event before defaults and checks, from any encoding or layout.
pub(super) struct EventParts {
    pub(super) id: String,
    pub(super) conversation: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) time: Option<Millis>,
    pub(super) turns: Vec<Turn>,
    /// The number of turns in the record. `turns` holds the first [`MAX_TURNS`].
    pub(super) total: usize,
    pub(super) judged: Option<i64>,
    pub(super) metadata: BTreeMap<String, String>,
    /// The number of escapes that stood for no character and were read as U+FFFD.
    pub(super) replaced: usize,
}

impl EventParts {
    /// Returns an event of turns alone.
    pub(super) fn of_turns(id: String, time: Option<Millis>, turns: Vec<Turn>, replaced: usize) -> Self {
        Self {
            id,
            conversation: None,
            tenant: None,
            policy: None,
            subject: None,
            time,
            total: turns.len(),
            turns,
            judged: None,
            metadata: BTreeMap::new(),
            replaced,
        }
    }

    fn event(self, defaults: &Defaults) -> Result<Event, DecodeError> {
        if self.total > self.turns.len() {
            return Err(EventError::TooManyTurns { turns: self.total }.into());
        }
        let judged = match self.judged {
            Some(judged) => usize::try_from(judged).map_err(|_| DecodeError::BadValue { field: "judged" })?,
            None => self.turns.len().saturating_sub(1),
        };
        let event = Event {
            conversation: self.conversation.unwrap_or_else(|| self.id.clone()),
            id: self.id,
            tenant: self.tenant.unwrap_or_else(|| defaults.tenant.clone()),
            policy: self.policy.unwrap_or_else(|| defaults.policy.clone()),
            subject: self.subject,
            time: self.time,
            turns: self.turns,
            judged,
            metadata: self.metadata,
        };
        check(&event)?;
        Ok(event)
    }
}

fn check(event: &Event) -> Result<(), DecodeError> {
    event.check()?;
    event.time.map_or(Ok(()), |time| check_time("time", time))
}

pub(super) fn from_avro(form: EventForm<'_>) -> EventParts {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let total = form.turns.total;
    let turn = |turn: TurnForm<'_>| Turn { role: turn.role.0, text: turn.text.into_owned() };
    EventParts {
        id: form.id.into_owned(),
        conversation: owned(form.conversation),
        tenant: owned(form.tenant),
        policy: owned(form.policy),
        subject: owned(form.subject),
        time: form.time,
        turns: form.turns.items.into_iter().map(turn).collect(),
        total,
        judged: form.judged.map(i64::from),
        metadata: form.metadata.0.into_owned(),
        replaced: 0,
    }
}

/// An event in JSON, whose fields may be missing or have any type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventJson {
    /// A CloudEvent has this attribute, and its data has the other fields.
    specversion: Scalar,
    id: Scalar,
    conversation: Scalar,
    tenant: Scalar,
    policy: Scalar,
    subject: Scalar,
    time: Scalar,
    turns: Loose<List<Loose<Object<TurnJson>>, MAX_TURNS>>,
    text: Scalar,
    judged: Scalar,
    metadata: Loose<Entries<MAX_METADATA>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TurnJson {
    role: Scalar,
    /// `None` if the field is missing. A `null` is an empty text, as in the turn of an assistant that only calls a tool.
    #[serde(deserialize_with = "given")]
    text: Option<Scalar>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scalar>, D::Error> {
    Scalar::deserialize(deserializer).map(Some)
}

fn turn(turn: Loose<Object<TurnJson>>) -> Result<Turn, DecodeError> {
    let Some(Object(turn)) = turn.found("turns")? else {
        return Err(DecodeError::BadValue { field: "turns" });
    };
    Ok(Turn {
        role: match turn.role.text("turns.role")? {
            Some(word) => fields::role(&word).ok_or(DecodeError::BadValue { field: "turns.role" })?,
            None => Role::User,
        },
        text: match turn.text {
            Some(text) => text.text("turns.text")?.unwrap_or_default(),
            None => return Err(DecodeError::MissingField { field: "turns.text" }),
        },
    })
}

impl EventJson {
    /// Returns `true` if this is the outer object of a structured CloudEvent and has no turns of its own.
    fn is_cloud_event(&self) -> bool {
        matches!(
            (&self.specversion, &self.turns, &self.text),
            (Scalar::Text(_), Loose::Absent, Scalar::Absent)
        )
    }

    /// Checks the types of the fields. A missing id or time is that of the CloudEvent around the fields, if there is one.
    pub(super) fn parts(
        self,
        replaced: usize,
        around: Option<Attributes>,
    ) -> Result<EventParts, DecodeError> {
        let missing = || around.as_ref().map(Attributes::id).ok_or(DecodeError::MissingField { field: "id" });
        let id = self.id.id("id")?.map_or_else(missing, Ok)?;
        let single = self.text.text("text")?;
        let (turns, total) = match (self.turns.found("turns")?, single) {
            (Some(list), _) => {
                let turns = list.items.into_iter().map(turn).collect::<Result<Vec<_>, _>>()?;
                (turns, list.total)
            }
            (None, Some(text)) => (vec![Turn { role: Role::User, text }], 1),
            (None, None) => return Err(DecodeError::MissingField { field: "turns" }),
        };
        let entry = |(name, value): (String, Scalar)| match value {
            Scalar::Text(text) => Ok((name, text)),
            _ => Err(DecodeError::BadValue { field: "metadata" }),
        };
        let metadata = self.metadata.found("metadata")?.map_or_else(BTreeMap::new, |entries| entries.0);
        let time = match (self.time.millis("time")?, around) {
            (None, Some(around)) => around.time()?,
            (time, _) => time,
        };
        Ok(EventParts {
            conversation: self.conversation.id("conversation")?,
            tenant: self.tenant.id("tenant")?,
            policy: self.policy.id("policy")?,
            subject: self.subject.id("subject")?,
            judged: self.judged.whole("judged")?,
            metadata: metadata.into_iter().map(entry).collect::<Result<_, _>>()?,
            total,
            ..EventParts::of_turns(id, time, turns, replaced)
        })
    }
}

/// Reads an event in Avro or JSON. `defaults` gives the values of missing fields and the layout of JSON.
///
/// # Errors
/// Returns a [`DecodeError`] if the record is not an event.
pub fn decode_event(payload: &[u8], defaults: &Defaults) -> Result<Event, DecodeError> {
    Received::plain(payload).event(defaults)
}

impl Received<'_> {
    /// Reads an event in any framing. `defaults` gives the values of missing fields and the layout of JSON.
    ///
    /// # Errors
    /// Returns a [`DecodeError`] if the record is not an event, or if its schema is not available.
    pub fn event(&self, defaults: &Defaults) -> Result<Event, DecodeError> {
        self.event_and_replaced(defaults).map(|(event, _)| event)
    }

    /// Reads an event as [`Self::event`] does. Also returns the number of escapes in its JSON that stood for no character,
    /// such as half of a surrogate pair, and were read as U+FFFD.
    ///
    /// # Errors
    /// Returns the errors of [`Self::event`].
    pub fn event_and_replaced(&self, defaults: &Defaults) -> Result<(Event, usize), DecodeError> {
        let avro = |form| Ok(from_avro(form));
        let json = |text: &str| match &defaults.event_fields {
            Some(fields) => fields.read(text, self.place),
            None => self.parse_json(text),
        };
        // Pointers lead through the whole record, so that the attributes of a CloudEvent are fields like all others.
        let mode = if defaults.event_fields.is_none() { cloud_event::mode(self.headers)? } else { None };
        let parts = match mode {
            Some(Mode::Binary) => self.binary_cloud_event()?,
            Some(Mode::Structured) => self.structured_cloud_event()?,
            None => kinds().event.decode_either(self, avro, json)?,
        };
        let replaced = parts.replaced;
        parts.event(defaults).map(|event| (event, replaced))
    }

    fn parse_json(&self, text: &str) -> Result<EventParts, DecodeError> {
        let (raw, replaced): (EventJson, usize) = json::read(text)?;
        if raw.is_cloud_event() {
            return self.envelope(text);
        }
        raw.parts(replaced, None)
    }
}

/// Writes an event.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_event`] would refuse the record.
pub fn encode_event(event: &Event, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(event)?;
    kinds().event.encode(&EventForm::from(event), encoding)
}
