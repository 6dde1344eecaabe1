//! Events in JSON of another shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chat;
use super::pointer::{Pointer, RecordReader, meant, note, scalar};
use crate::codec::error::DecodeError;
use crate::codec::event::EventParts;
use crate::codec::time::{TimeUnit, Zone};
use crate::codec::tree::Node;
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
    /// Your words for roles: `human = "user"`. The four of `role` are known without, and those of OpenAI's, Anthropic's
    /// and Gemini's chats.
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
    /// To the time, a number or a text such as `2026-03-01T09:30:00Z`; empty or nothing there: the broker's timestamp.
    pub time: Pointer,
    /// What a number at `time` counts since 1970.
    pub time_unit: TimeUnit,
    /// The zone of times that say none: `UTC`, an offset such as `+01:00`, or a name such as `Europe/Berlin`. Empty:
    /// such a time is refused.
    pub time_zone: Zone,
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
            time_unit: TimeUnit::Auto,
            time_zone: Zone::default(),
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
        // The example of earlier versions wrote the unit that was the default then.
        let plain = Self { time_unit: TimeUnit::Auto, ..self.clone() };
        if !self.is_set() && plain != Self::default() {
            return Err("event_fields says where fields of an event are, and not where its text is: set \
                        event_fields.turns to its list of turns, or event_fields.text to its one text"
                .into());
        }
        self.effective()?;
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

    /// Refuses settings that cannot take effect.
    fn effective(&self) -> Result<(), String> {
        let default = Self::default();
        let idle = |what: &str, why: &str| Err(format!("event_fields.{what} has no effect: {why}"));
        if self.turns.is_empty() && self.turn_role != default.turn_role {
            return idle("turn_role", "set event_fields.turns to the list of turns, or leave it out");
        }
        if self.turns.is_empty() && self.turn_text != default.turn_text {
            return idle("turn_text", "set event_fields.turns to the list of turns, or leave it out");
        }
        if !self.roles.is_empty() && (self.turns.is_empty() || self.turn_role.is_empty()) {
            return idle("roles", "set event_fields.turns and event_fields.turn_role, or leave it out");
        }
        if self.time.is_empty() && !self.time_zone.is_empty() {
            return idle("time_zone", "set event_fields.time to where the time is, or leave it out");
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
const ROLE: &str = "user, assistant, system, tool, a role of OpenAI's, Anthropic's or Gemini's chats, or a word in \
                    event_fields.roles";
const SAID: &str = "text, or a list of parts of which some have a text";

impl EventFields {
    /// Reads an event from `json`, a record at `place`: topic, partition and offset.
    pub(in crate::codec) fn read(
        &self,
        json: &str,
        place: Option<(&str, i32, i64)>,
    ) -> Result<EventParts, DecodeError> {
        let (root, replaced) = &tree::parse(json)?;
        let record = RecordReader { section: "event_fields", root };
        let id = match (self.id.given(), place) {
            (Some(at), _) => record.word("id", at)?.ok_or_else(|| record.missing("id", at))?,
            (None, Some((topic, partition, offset))) => default_event_id(topic, partition, offset),
            (None, None) => return Err(DecodeError::MissingField { field: "id" }),
        };
        let at = self.judged.as_str();
        let judged = match record.get("judged", at)? {
            Some(value) => {
                let number = scalar(value).whole("judged").ok().flatten().filter(|number| *number >= 0);
                Some(number.ok_or_else(|| record.invalid("judged", at, NUMBER))?)
            }
            None => None,
        };
        let mut metadata = BTreeMap::new();
        for (name, at) in &self.metadata {
            if let Some(value) = record.get("metadata", at.as_str())? {
                let value = note(value).ok_or_else(|| record.invalid("metadata", at.as_str(), NOTE))?;
                metadata.insert(name.clone(), value);
            }
        }
        let (turns, total) = self.turns(record)?;
        Ok(EventParts {
            id,
            conversation: record.word("conversation", self.conversation.as_str())?,
            tenant: record.word("tenant", self.tenant.as_str())?,
            policy: record.word("policy", self.policy.as_str())?,
            subject: record.word("subject", self.subject.as_str())?,
            time: record.time(self.time.as_str(), self.time_unit, &self.time_zone)?,
            turns,
            total,
            judged,
            metadata,
            replaced: *replaced,
        })
    }

    /// The turns that are kept, and how many there are.
    fn turns(&self, record: RecordReader<'_, '_>) -> Result<(Vec<Turn>, usize), DecodeError> {
        let at = self.turns.as_str();
        if let Some(value) = record.get("turns", at)? {
            let Node::List(items) = value else { return Err(record.invalid("turns", at, LIST)) };
            let turn = |(place, item)| self.turn(record, item, |inner| format!("{at}/{place}{inner}"));
            let turns = items.iter().take(MAX_TURNS).enumerate().map(turn).collect::<Result<_, _>>()?;
            return Ok((turns, items.len()));
        }
        let at = self.text.as_str();
        if let Some(value) = record.get("text", at)? {
            let said =
                chat::text(value).map_err(|astray| record.pointer_error("text", at.to_owned(), astray))?;
            let text = said.ok_or_else(|| record.invalid("text", at, SAID))?;
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
        record: RecordReader<'_, '_>,
        item: &Node<'_>,
        whole: impl Fn(&str) -> String,
    ) -> Result<Turn, DecodeError> {
        let (role_at, at) = (self.turn_role.as_str(), self.turn_text.as_str());
        let role = match record.get_in(item, "turn_role", role_at, || whole(role_at))? {
            // OpenAI's conversations have this word for an item whose author is not known.
            Some(value) if value.means("unknown") && !self.roles.contains_key("unknown") => None,
            Some(value) => {
                let role = self.role(value);
                Some(role.ok_or_else(|| record.invalid("turn_role", whole(role_at), ROLE))?)
            }
            None => None,
        };
        let astray = |astray| record.pointer_error("turn_text", whole(at), astray);
        let content = item.at(at).map_err(astray)?;
        if let Some(found) = content.filter(|found| **found != Node::Null) {
            let text = chat::text(found).map_err(astray)?;
            let text = text.ok_or_else(|| record.invalid("turn_text", whole(at), SAID))?;
            let role = if chat::only_results(found) { Role::Tool } else { role.unwrap_or(self.role.into()) };
            return Ok(Turn { role, text });
        }
        // Where a chat's message has its content: the message may be a part of the turn.
        let message =
            at.rsplit_once('/').map_or(Ok(None), |(message, _)| item.at(message)).map_err(astray)?;
        if role.is_none()
            && content.is_none()
            && let Some(message) = message
            && let Some((role, text)) = chat::item(message).map_err(astray)?
        {
            return Ok(Turn { role, text });
        }
        let instead = message.map_or(Ok(None), chat::instead).map_err(astray)?;
        let text = match (instead, content) {
            (Some(text), _) => text,
            (None, Some(_)) => String::new(),
            (None, None) => return Err(record.missing("turn_text", whole(at))),
        };
        Ok(Turn { role: role.unwrap_or(self.role.into()), text })
    }

    fn role(&self, value: &Node<'_>) -> Option<Role> {
        let known = || value.text().and_then(chat::role);
        meant(value, &self.roles).map(Role::from).or_else(known)
    }
}
