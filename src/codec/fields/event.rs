//! Events in JSON of another shape: the configuration says by JSON pointers (RFC 6901) where their fields are.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::DecodeError;
use super::event::Parts;
use super::json::Scalar;
use super::wire::Words;
use super::{hex, tree};
use crate::core::event::{MAX_ID, MAX_TURNS, Millis, Role, Turn};

/// Where an event's fields are. Pointers that are none find nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFields {
    /// The list of turns.
    pub turns: Option<String>,
    /// From a turn to its role; `None`: all are `role`'s.
    pub turn_role: Option<String>,
    /// From a turn to its text; the empty one is the turn itself.
    pub turn_text: String,
    /// The one text of an event without turns.
    pub text: Option<String>,
    /// Who says `text`, and turns without a role.
    pub role: Role,
    /// Words for roles beside Aegis's own.
    pub roles: BTreeMap<String, Role>,
    /// The id; `None`: it is made of the record's place.
    pub id: Option<String>,
    /// The conversation.
    pub conversation: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The policy.
    pub policy: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The time.
    pub time: Option<String>,
    /// Whether a number that is a time counts seconds; else milliseconds.
    pub seconds: bool,
    /// The number of the judged turn.
    pub judged: Option<String>,
    /// Metadata by its names.
    pub metadata: BTreeMap<String, String>,
}

/// The id of an event that says none: its record's place, which is the same however often it is read.
#[must_use]
pub fn default_event_id(topic: &str, partition: i32, offset: i64) -> String {
    let id = format!("{topic}-{partition}-{offset}");
    if id.len() <= MAX_ID { id } else { hex(&Sha256::digest(id)) }
}

/// What ids and notes may be.
const WORD: &str = "text or a whole number";
const NOTE: &str = "text, a whole number, true or false";
const TIME: &str = "a time (a number as event_fields.time_unit says, or RFC 3339)";
const NUMBER: &str = "a whole number from 0";
const LIST: &str = "a list";
const ROLE: &str = "user, assistant, system, tool, or a word in event_fields.roles";
const SAID: &str = "text, or a list of parts of which some have a text";

/// What stands there; null is nothing.
fn found<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

fn missing(field: &'static str, pointer: impl Into<String>) -> DecodeError {
    DecodeError::MissingAt { field, pointer: pointer.into() }
}

fn unfit(field: &'static str, pointer: impl Into<String>, wanted: &'static str) -> DecodeError {
    DecodeError::UnfitAt { field, pointer: pointer.into(), wanted }
}

/// An id: many are numbers. Digits of a number that is not whole would depend on who writes them.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

fn note(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        other => word(other),
    }
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Scalar::Whole(whole),
            (None, Some(value)) if number.is_f64() => Scalar::Number(value),
            _ => Scalar::Other,
        },
        _ => Scalar::Other,
    }
}

/// Milliseconds of a number of seconds.
fn of_seconds(seconds: Scalar) -> Scalar {
    match seconds {
        Scalar::Whole(whole) => whole.checked_mul(1_000).map_or(Scalar::Other, Scalar::Whole),
        Scalar::Number(value) => Scalar::Number((value * 1_000.0).round()),
        other => other,
    }
}

/// What is said: a text, or the texts of a list of parts, one to a line. A part without a text, such as an
/// image, is passed over, whatever it calls itself.
fn said(value: &Value) -> Option<String> {
    let parts = match value {
        Value::String(text) => return Some(text.clone()),
        Value::Array(parts) => parts,
        _ => return None,
    };
    let mut texts = Vec::new();
    for part in parts {
        match part {
            Value::String(text) => texts.push(text.as_str()),
            Value::Object(part) => match part.get("text") {
                Some(Value::String(text)) => texts.push(text),
                None | Some(Value::Null) => {}
                Some(_) => return None,
            },
            _ => return None,
        }
    }
    Some(texts.join("\n"))
}

impl EventFields {
    /// Reads an event from `json`, a record at `place`: topic, partition and offset.
    pub(super) fn read(&self, json: &str, place: Option<(&str, i32, i64)>) -> Result<Parts, DecodeError> {
        let root = &tree::parse(json)?;
        let word = |field: &'static str, at: &Option<String>| {
            let Some((at, value)) = look(root, at.as_deref()) else { return Ok(None) };
            word(value).map(Some).ok_or_else(|| unfit(field, at, WORD))
        };
        let id = match (&self.id, place) {
            (Some(at), _) => word("id", &self.id)?.ok_or_else(|| missing("id", at))?,
            (None, Some((topic, partition, offset))) => default_event_id(topic, partition, offset),
            (None, None) => return Err(DecodeError::MissingField { field: "id" }),
        };
        let judged = match look(root, self.judged.as_deref()) {
            Some((at, value)) => scalar(value).whole("judged").map_err(|_| unfit("judged", at, NUMBER))?,
            None => None,
        };
        let mut metadata = BTreeMap::new();
        for (name, at) in &self.metadata {
            if let Some(value) = found(root, at) {
                let value = note(value).ok_or_else(|| unfit("metadata", at, NOTE))?;
                metadata.insert(name.clone(), value);
            }
        }
        let (turns, total) = self.turns(root)?;
        Ok(Parts {
            id,
            conversation: word("conversation", &self.conversation)?,
            tenant: word("tenant", &self.tenant)?,
            policy: word("policy", &self.policy)?,
            subject: word("subject", &self.subject)?,
            time: self.time(root)?,
            turns,
            total,
            judged,
            metadata,
        })
    }

    fn time(&self, root: &Value) -> Result<Option<Millis>, DecodeError> {
        let Some((at, value)) = look(root, self.time.as_deref()) else { return Ok(None) };
        let time = scalar(value);
        let time = if self.seconds { of_seconds(time) } else { time };
        time.millis("time").map_err(|_| unfit("time", at, TIME))
    }

    /// The turns that are kept, and how many there are.
    fn turns(&self, root: &Value) -> Result<(Vec<Turn>, usize), DecodeError> {
        if let Some((at, value)) = look(root, self.turns.as_deref()) {
            let items = value.as_array().ok_or_else(|| unfit("turns", at, LIST))?;
            let turn = |(place, item)| self.turn(item, |inner| format!("{at}/{place}{inner}"));
            let turns = items.iter().take(MAX_TURNS).enumerate().map(turn).collect::<Result<_, _>>()?;
            return Ok((turns, items.len()));
        }
        if let Some((at, value)) = look(root, self.text.as_deref()) {
            let text = said(value).ok_or_else(|| unfit("text", at, SAID))?;
            return Ok((vec![Turn { role: self.role, text }], 1));
        }
        Err(match (&self.turns, &self.text) {
            (Some(at), _) => missing("turns", at),
            (None, Some(at)) => missing("text", at),
            (None, None) => DecodeError::MissingField { field: "turns" },
        })
    }

    /// A turn; `whole` makes a pointer from the event out of one from the turn.
    fn turn(&self, item: &Value, whole: impl Fn(&str) -> String) -> Result<Turn, DecodeError> {
        let role = match look(item, self.turn_role.as_deref()) {
            Some((at, value)) => value
                .as_str()
                .and_then(|word| self.role(word))
                .ok_or_else(|| unfit("turn_role", whole(at), ROLE))?,
            None => self.role,
        };
        let at = &self.turn_text;
        let text = match item.pointer(at) {
            // As chats have it where the assistant only calls a tool.
            Some(Value::Null) => String::new(),
            Some(value) => said(value).ok_or_else(|| unfit("turn_text", whole(at), SAID))?,
            None => return Err(missing("turn_text", whole(at))),
        };
        Ok(Turn { role, text })
    }

    fn role(&self, word: &str) -> Option<Role> {
        self.roles.get(word).copied().or_else(|| Role::read(word))
    }
}

/// What stands at a pointer, with it; nothing where there is no pointer.
fn look<'p, 'v>(value: &'v Value, pointer: Option<&'p str>) -> Option<(&'p str, &'v Value)> {
    let pointer = pointer?;
    found(value, pointer).map(|found| (pointer, found))
}
