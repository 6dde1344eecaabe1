//! `[event_fields]`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::event::{MAX_METADATA, MAX_METADATA_TEXT, Role};

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
            turn_role: Pointer("/role".into()),
            turn_text: Pointer("/content".into()),
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

    /// Checks what serde cannot; the reason names the key and what to write.
    pub(super) fn check(&self) -> Result<(), String> {
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

/// A JSON pointer (RFC 6901). The empty one, which is the whole, says in most places that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Pointer(String);

impl Pointer {
    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written; `None` where it is empty.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        (!self.is_empty()).then_some(&self.0)
    }
}

impl TryFrom<String> for Pointer {
    /// What is wrong, and how to write it.
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("{text:?} is no JSON pointer: begin it with /, as in \"/request/id\""));
        }
        if !text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
            return Err(format!("{text:?} is no JSON pointer: in a name write ~0 for ~ and ~1 for /"));
        }
        Ok(Self(text))
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

/// What a number that is a time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// As Kafka does.
    Milliseconds,
    /// Also with a fraction.
    Seconds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        for good in ["", "/", "/a/b", "/a~1b/m~0n", "//", "/0", "/ä ö", "/a~01"] {
            assert_eq!(Pointer::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for (bad, said) in [
            ("a", "begin it with /"),
            ("$.a", "begin it with /"),
            ("#/a", "begin it with /"),
            (" /a", "begin it with /"),
            ("/a~", "write ~0 for ~"),
            ("/a~2", "write ~0 for ~"),
            ("/~~0", "write ~0 for ~"),
        ] {
            let refused = Pointer::try_from(bad.to_owned()).unwrap_err();
            assert!(refused.contains(said) && refused.contains(bad), "{refused}");
        }
    }
}
