//! Conversation events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::fields;
use super::json::{self, Entries, Loose, Object, Scalar};
use super::schema::kinds;
use super::wire::{List, Word};
use super::{Defaults, Encoding, check_time};
use crate::core::event::{Event, EventError, MAX_METADATA, MAX_TURNS, Millis, Role, Turn};

/// An event as its schema has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Event")]
struct EventForm<'a> {
    id: Cow<'a, str>,
    conversation: Option<Cow<'a, str>>,
    tenant: Option<Cow<'a, str>>,
    policy: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Millis>,
    turns: List<TurnForm<'a>, MAX_TURNS>,
    judged: Option<i32>,
    metadata: Notes<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Turn")]
struct TurnForm<'a> {
    role: Word<Role>,
    text: Cow<'a, str>,
}

/// Metadata, of which no more is kept than it takes to see that it is too much.
#[derive(Debug)]
struct Notes<'a>(Cow<'a, BTreeMap<String, String>>);

impl Serialize for Notes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Notes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NotesVisitor).map(|notes| Self(Cow::Owned(notes)))
    }
}

struct NotesVisitor;

impl<'de> Visitor<'de> for NotesVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut notes = BTreeMap::new();
        while let Some((name, value)) = from.next_entry()? {
            if notes.len() <= MAX_METADATA {
                notes.insert(name, value);
            }
        }
        Ok(notes)
    }
}

impl<'a> From<&'a Event> for EventForm<'a> {
    fn from(event: &'a Event) -> Self {
        let turn = |turn: &'a Turn| TurnForm { role: Word(turn.role), text: Cow::Borrowed(&turn.text) };
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
            metadata: Notes(Cow::Borrowed(&event.metadata)),
        }
    }
}

/// What all encodings and shapes give.
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) conversation: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) time: Option<Millis>,
    pub(super) turns: Vec<Turn>,
    /// How many turns there were, kept or not.
    pub(super) total: usize,
    pub(super) judged: Option<i64>,
    pub(super) metadata: BTreeMap<String, String>,
    /// How many escapes of the record stood for no character and were read as U+FFFD.
    pub(super) replaced: usize,
}

impl Parts {
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

fn from_avro(form: EventForm<'_>) -> Parts {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let total = form.turns.total;
    let turn = |turn: TurnForm<'_>| Turn { role: turn.role.0, text: turn.text.into_owned() };
    Parts {
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

/// An event as JSON may give it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventJson {
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
    /// `None`: it is left out. A turn whose text is `null` is empty, as that of an assistant who only calls a tool.
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

fn from_json(text: &str) -> Result<Parts, DecodeError> {
    let (raw, replaced): (EventJson, usize) = json::read(text)?;
    let id = raw.id.id("id")?.ok_or(DecodeError::MissingField { field: "id" })?;
    let lone = raw.text.text("text")?;
    let (turns, total) = match (raw.turns.found("turns")?, lone) {
        (Some(list), _) => {
            let turns = list.items.into_iter().map(turn).collect::<Result<Vec<_>, _>>()?;
            (turns, list.total)
        }
        (None, Some(text)) => (vec![Turn { role: Role::User, text }], 1),
        (None, None) => return Err(DecodeError::MissingField { field: "turns" }),
    };
    let note = |(name, value): (String, Scalar)| match value {
        Scalar::Text(text) => Ok((name, text)),
        _ => Err(DecodeError::BadValue { field: "metadata" }),
    };
    let metadata = raw.metadata.found("metadata")?.map_or_else(BTreeMap::new, |entries| entries.0);
    Ok(Parts {
        id,
        conversation: raw.conversation.id("conversation")?,
        tenant: raw.tenant.id("tenant")?,
        policy: raw.policy.id("policy")?,
        subject: raw.subject.id("subject")?,
        time: raw.time.millis("time")?,
        turns,
        total,
        judged: raw.judged.whole("judged")?,
        metadata: metadata.into_iter().map(note).collect::<Result<_, _>>()?,
        replaced,
    })
}

/// Reads an event, Avro or JSON; what it leaves out comes from `defaults`, and where JSON has what it says.
///
/// # Errors
/// Where it cannot be judged: see [`DecodeError`].
pub fn decode_event(payload: &[u8], defaults: &Defaults) -> Result<Event, DecodeError> {
    Received::plain(payload).event(defaults)
}

impl Received<'_> {
    /// Reads an event in any framing; what it leaves out comes from `defaults`, and where JSON has what it says.
    ///
    /// # Errors
    /// Where it cannot be judged, or its schema cannot be had: see [`DecodeError`].
    pub fn event(&self, defaults: &Defaults) -> Result<Event, DecodeError> {
        self.event_and_replaced(defaults).map(|(event, _)| event)
    }

    /// Reads an event as [`Self::event`] does; also returns how many escapes of its JSON stood for no character, such as
    /// half of a surrogate pair, and were read as U+FFFD.
    ///
    /// # Errors
    /// Returns the errors of [`Self::event`].
    pub fn event_and_replaced(&self, defaults: &Defaults) -> Result<(Event, usize), DecodeError> {
        let avro = |form| Ok(from_avro(form));
        let json = |text: &str| match &defaults.event_fields {
            Some(fields) => fields.read(text, self.place),
            None => from_json(text),
        };
        let parts = kinds()?.event.decode_either(self, avro, json)?;
        let replaced = parts.replaced;
        parts.event(defaults).map(|event| (event, replaced))
    }
}

/// Writes an event.
///
/// # Errors
/// Where [`decode_event`] would refuse it.
pub fn encode_event(event: &Event, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(event)?;
    kinds()?.event.encode(&EventForm::from(event), encoding)
}
