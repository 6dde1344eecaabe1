//! Events in JSON of another layout.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chat;
use super::pointer::{Pointer, RecordReader, configured, metadata_text, scalar};
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
    /// JSON pointer (RFC 6901) to an event's list of turns. If this or `text` is set, JSON events are read by the pointers
    /// of this section, otherwise by Aegis's own field names.
    pub turns: Pointer,
    /// Pointer from a turn to its role. If empty, every turn has the role `role`.
    pub turn_role: Pointer,
    /// Pointer from a turn to its text, or to a list of parts with texts. If empty, the turn is the text.
    pub turn_text: Pointer,
    /// Pointer to the text of an event of one turn, used if there is no list of turns.
    pub text: Pointer,
    /// The role of `text`, and of turns without a role.
    pub role: Speaker,
    /// Your names of roles: `human = "user"`. The four of `role` and those of OpenAI's, Anthropic's and Gemini's chats need
    /// no entry.
    pub roles: BTreeMap<String, Speaker>,
    /// Pointer to the event's id. If empty, the id is the record's position, as topic-partition-offset.
    pub id: Pointer,
    /// Pointer to the conversation's id, which defaults to the event's id.
    pub conversation: Pointer,
    /// Pointer to the tenant, which defaults to `defaults.tenant`.
    pub tenant: Pointer,
    /// Pointer to the policy, which defaults to `defaults.policy`.
    pub policy: Pointer,
    /// Pointer to the user's key, by which events are found for erasure. Events need not have one.
    pub subject: Pointer,
    /// Pointer to the time, a number or a text such as `2026-03-01T09:30:00Z`. It defaults to the broker's timestamp.
    pub time: Pointer,
    /// The unit of a number at `time`, counted since 1970.
    pub time_unit: TimeUnit,
    /// The zone of times without one: `UTC`, an offset such as `+01:00`, or a name such as `Europe/Berlin`. If empty, such
    /// a time is refused.
    pub time_zone: Zone,
    /// Pointer to the number of the judged turn, from 0. It defaults to the last turn.
    pub judged: Pointer,
    /// Pointers to the event's metadata: `channel = "/meta/channel"`. Decisions do not depend on it.
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
    /// Returns `true` if JSON events are read by these pointers.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.turns.is_empty() || !self.text.is_empty()
    }

    /// Checks the settings together.
    ///
    /// # Errors
    /// Returns a message with the key and what to write.
    pub fn check(&self) -> Result<(), String> {
        // The example configuration of earlier versions contains the unit that was the default then.
        let plain = Self { time_unit: TimeUnit::Auto, ..self.clone() };
        if !self.is_set() && plain != Self::default() {
            return Err("event_fields says where fields of an event are, and not where its text is: set \
                        event_fields.turns to its list of turns, or event_fields.text to its one text"
                .into());
        }
        self.check_effective()?;
        let entries = self.metadata.len();
        if entries > MAX_METADATA {
            return Err(format!("event_fields.metadata has {entries} entries, more than {MAX_METADATA}"));
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
    fn check_effective(&self) -> Result<(), String> {
        let default = Self::default();
        let unused = |what: &str, why: &str| Err(format!("event_fields.{what} has no effect: {why}"));
        if self.turns.is_empty() && self.turn_role != default.turn_role {
            return unused("turn_role", "set event_fields.turns to the list of turns, or leave it out");
        }
        if self.turns.is_empty() && self.turn_text != default.turn_text {
            return unused("turn_text", "set event_fields.turns to the list of turns, or leave it out");
        }
        if !self.roles.is_empty() && (self.turns.is_empty() || self.turn_role.is_empty()) {
            return unused("roles", "set event_fields.turns and event_fields.turn_role, or leave it out");
        }
        if self.time.is_empty() && !self.time_zone.is_empty() {
            return unused("time_zone", "set event_fields.time to where the time is, or leave it out");
        }
        Ok(())
    }
}

/// The role of a turn's speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// The user of the product.
    User,
    /// The model.
    Assistant,
    /// The instructions of the product's developers.
    System,
    /// The result of a tool.
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

/// Returns the id of an event without one: the position of its record, which is the same each time it is read.
#[must_use]
pub fn default_event_id(topic: &str, partition: i32, offset: i64) -> String {
    let id = format!("{topic}-{partition}-{offset}");
    if id.len() <= MAX_ID { id } else { hex(&Sha256::digest(id)) }
}

const METADATA: &str = "text, a whole number, true or false";
const NUMBER: &str = "a whole number from 0";
const LIST: &str = "a list";
const ROLE: &str = "user, assistant, system, tool, a role of OpenAI's, Anthropic's or Gemini's chats, or a word in \
                    event_fields.roles";
const TEXT: &str = "text, or a list of parts of which some have a text";

impl EventFields {
    /// Reads an event from `json`, a record at the topic, partition and offset of `place`.
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
                let value =
                    metadata_text(value).ok_or_else(|| record.invalid("metadata", at.as_str(), METADATA))?;
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

    /// Returns the first [`MAX_TURNS`] turns, and the number of all turns.
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
            let text =
                chat::text(value).map_err(|error| record.pointer_error("text", at.to_owned(), error))?;
            let text = text.ok_or_else(|| record.invalid("text", at, TEXT))?;
            return Ok((vec![Turn { role: self.role.into(), text }], 1));
        }
        Err(match (self.turns.given(), self.text.given()) {
            (Some(at), _) => record.missing("turns", at),
            (None, Some(at)) => record.missing("text", at),
            (None, None) => DecodeError::MissingField { field: "turns" },
        })
    }

    /// Reads a turn. `whole` converts a pointer from the turn to one from the event.
    fn turn(
        &self,
        record: RecordReader<'_, '_>,
        item: &Node<'_>,
        whole: impl Fn(&str) -> String,
    ) -> Result<Turn, DecodeError> {
        let (role_at, at) = (self.turn_role.as_str(), self.turn_text.as_str());
        let role = match record.get_in(item, "turn_role", role_at, || whole(role_at))? {
            // OpenAI's conversations use this role for an item whose author is not known.
            Some(value) if value.means("unknown") && !self.roles.contains_key("unknown") => None,
            Some(value) => {
                let role = self.role(value);
                Some(role.ok_or_else(|| record.invalid("turn_role", whole(role_at), ROLE))?)
            }
            None => None,
        };
        let pointer_error = |error| record.pointer_error("turn_text", whole(at), error);
        let content = item.at(at).map_err(pointer_error)?;
        if let Some(found) = content.filter(|found| **found != Node::Null) {
            let text = chat::text(found).map_err(pointer_error)?;
            let text = text.ok_or_else(|| record.invalid("turn_text", whole(at), TEXT))?;
            let role =
                if chat::is_tool_result(found) { Role::Tool } else { role.unwrap_or(self.role.into()) };
            return Ok(Turn { role, text });
        }
        // The message that has the content may be a part of the turn.
        let message =
            at.rsplit_once('/').map_or(Ok(None), |(message, _)| item.at(message)).map_err(pointer_error)?;
        if role.is_none()
            && content.is_none()
            && let Some(message) = message
            && let Some((role, text)) = chat::item(message).map_err(pointer_error)?
        {
            return Ok(Turn { role, text });
        }
        let replacement = message.map_or(Ok(None), chat::text_without_content).map_err(pointer_error)?;
        let text = match (replacement, content) {
            (Some(text), _) => text,
            (None, Some(_)) => String::new(),
            (None, None) => return Err(record.missing("turn_text", whole(at))),
        };
        Ok(Turn { role: role.unwrap_or(self.role.into()), text })
    }

    fn role(&self, value: &Node<'_>) -> Option<Role> {
        let known = || value.text().and_then(chat::role);
        configured(value, &self.roles).map(Role::from).or_else(known)
    }
}
