//! Events in JSON of another shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::pointer::{Pointer, Read, TimeUnit, found, look, note, scalar};
use crate::codec::error::DecodeError;
use crate::codec::event::Parts;
use crate::codec::wire::Words;
use crate::codec::{hex, tree};
use crate::core::event::{MAX_ID, MAX_METADATA, MAX_METADATA_TEXT, MAX_TURNS, Role, Turn};

/// `[event_fields]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventFields {
    /// JSON pointer (RFC 6901) to an event's list of turns. Where this or `text` is set, JSON events are read by
    /// the pointers of this section, else by Aegis's own names.
    pub turns: Pointer,
    /// From a turn to its role; empty: every turn is `role`'s.
    pub turn_role: Pointer,
    /// From a turn to its text, or to a list of parts with texts; empty: the turn is the text.
    pub turn_text: Pointer,
    /// To the text of an event of one turn; looked for where there are no turns.
    pub text: Pointer,
    /// Who says `text`, and turns that name no role.
    pub role: Speaker,
    /// Your words for roles: `human = "user"`. The four of `role` are known without.
    pub roles: BTreeMap<String, Speaker>,
    /// To the event's id; empty: the record's place, as topic-partition-offset.
    pub id: Pointer,
    /// To the conversation's id; empty or nothing there: the event's id.
    pub conversation: Pointer,
    /// To the tenant; empty or nothing there: `defaults.tenant`.
    pub tenant: Pointer,
    /// To the policy; empty or nothing there: `defaults.policy`.
    pub policy: Pointer,
    /// To the user's key, by which events are found for erasure; empty or nothing there: none.
    pub subject: Pointer,
    /// To the time, a number or RFC 3339; empty or nothing there: the broker's timestamp.
    pub time: Pointer,
    /// What a number at `time` counts since 1970.
    pub time_unit: TimeUnit,
    /// To the number of the judged turn, from 0; empty or nothing there: the last turn.
    pub judged: Pointer,
    /// The event's notes, each by a pointer: `channel = "/meta/channel"`. Nothing is decided by them.
    pub metadata: BTreeMap<String, Pointer>,
}

impl Default for EventFields {
    fn default() -> Self {
        let none = Pointer::default;
        Self {
            turns: none(),
            turn_role: Pointer::known("/role"),
            turn_text: Pointer::known("/content"),
            text: none(),
            role: Speaker::User,
            roles: BTreeMap::new(),
            id: none(),
            conversation: none(),
            tenant: none(),
            policy: none(),
            subject: none(),
            time: none(),
            time_unit: TimeUnit::Milliseconds,
            judged: none(),
            metadata: BTreeMap::new(),
        }
    }
}

impl EventFields {
    /// Whether JSON events are read by these pointers.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.turns.is_empty() || !self.text.is_empty()
    }

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// In words that name the key and what to write.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_set() && *self != Self::default() {
            return Err("event_fields says where fields of an event are, and not where its text is: set \
                        event_fields.turns to its list of turns, or event_fields.text to its one text"
                .into());
        }
        let notes = self.metadata.len();
        if notes > MAX_METADATA {
            return Err(format!("event_fields.metadata has {notes} entries, more than {MAX_METADATA}"));
        }
        for (name, pointer) in &self.metadata {
            if pointer.is_empty() {
                return Err(format!(
                    "event_fields.metadata.{name} is empty: give it a pointer or leave it out"
                ));
            }
            if name.len() > MAX_METADATA_TEXT {
                let bytes = name.len();
                return Err(format!(
                    "event_fields.metadata has a name of {bytes} bytes, more than {MAX_METADATA_TEXT}"
                ));
            }
        }
        Ok(())
    }
}

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// The person who uses the product.
    User,
    /// The model that answers.
    Assistant,
    /// Instructions of the product's makers.
    System,
    /// What a tool returned.
    Tool,
}

impl From<Speaker> for Role {
    fn from(speaker: Speaker) -> Self {
        match speaker {
            Speaker::User => Self::User,
            Speaker::Assistant => Self::Assistant,
            Speaker::System => Self::System,
            Speaker::Tool => Self::Tool,
        }
    }
}

/// The id of an event that says none: its record's place, which is the same however often it is read.
#[must_use]
pub fn default_event_id(topic: &str, partition: i32, offset: i64) -> String {
    let id = format!("{topic}-{partition}-{offset}");
    if id.len() <= MAX_ID { id } else { hex(&Sha256::digest(id)) }
}

const NOTE: &str = "text, a whole number, true or false";
const NUMBER: &str = "a whole number from 0";
const LIST: &str = "a list";
const ROLE: &str = "user, assistant, system, tool, or a word in event_fields.roles";
const SAID: &str = "text, or a list of parts of which some have a text";

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
    pub(in crate::codec) fn read(
        &self,
        json: &str,
        place: Option<(&str, i32, i64)>,
    ) -> Result<Parts, DecodeError> {
        let root = &tree::parse(json)?;
        let record = Read { section: "event_fields", root };
        let id = match (self.id.given(), place) {
            (Some(at), _) => record.word("id", &self.id)?.ok_or_else(|| record.missing("id", at))?,
            (None, Some((topic, partition, offset))) => default_event_id(topic, partition, offset),
            (None, None) => return Err(DecodeError::MissingField { field: "id" }),
        };
        let judged = match record.look(&self.judged) {
            Some((at, value)) => {
                scalar(value).whole("judged").map_err(|_| record.unfit("judged", at, NUMBER))?
            }
            None => None,
        };
        let mut metadata = BTreeMap::new();
        for (name, at) in &self.metadata {
            if let Some(value) = found(root, at.as_str()) {
                let value = note(value).ok_or_else(|| record.unfit("metadata", at.as_str(), NOTE))?;
                metadata.insert(name.clone(), value);
            }
        }
        let (turns, total) = self.turns(record)?;
        Ok(Parts {
            id,
            conversation: record.word("conversation", &self.conversation)?,
            tenant: record.word("tenant", &self.tenant)?,
            policy: record.word("policy", &self.policy)?,
            subject: record.word("subject", &self.subject)?,
            time: record.time(&self.time, self.time_unit)?,
            turns,
            total,
            judged,
            metadata,
        })
    }

    /// The turns that are kept, and how many there are.
    fn turns(&self, record: Read<'_>) -> Result<(Vec<Turn>, usize), DecodeError> {
        if let Some((at, value)) = record.look(&self.turns) {
            let items = value.as_array().ok_or_else(|| record.unfit("turns", at, LIST))?;
            let turn = |(place, item)| self.turn(record, item, |inner| format!("{at}/{place}{inner}"));
            let turns = items.iter().take(MAX_TURNS).enumerate().map(turn).collect::<Result<_, _>>()?;
            return Ok((turns, items.len()));
        }
        if let Some((at, value)) = record.look(&self.text) {
            let text = said(value).ok_or_else(|| record.unfit("text", at, SAID))?;
            return Ok((vec![Turn { role: self.role.into(), text }], 1));
        }
        Err(match (self.turns.given(), self.text.given()) {
            (Some(at), _) => record.missing("turns", at),
            (None, Some(at)) => record.missing("text", at),
            (None, None) => DecodeError::MissingField { field: "turns" },
        })
    }

    /// A turn; `whole` makes a pointer from the event out of one from the turn.
    fn turn(
        &self,
        record: Read<'_>,
        item: &Value,
        whole: impl Fn(&str) -> String,
    ) -> Result<Turn, DecodeError> {
        let role = match look(item, &self.turn_role) {
            Some((at, value)) => value
                .as_str()
                .and_then(|word| self.role(word))
                .ok_or_else(|| record.unfit("turn_role", whole(at), ROLE))?,
            None => self.role.into(),
        };
        let at = self.turn_text.as_str();
        let text = match item.pointer(at) {
            // As chats have it where the assistant only calls a tool.
            Some(Value::Null) => String::new(),
            Some(value) => said(value).ok_or_else(|| record.unfit("turn_text", whole(at), SAID))?,
            None => return Err(record.missing("turn_text", whole(at))),
        };
        Ok(Turn { role, text })
    }

    fn role(&self, word: &str) -> Option<Role> {
        self.roles.get(word).map(|speaker| (*speaker).into()).or_else(|| Role::read(word))
    }
}
