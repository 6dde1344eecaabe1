//! A conversation event: the input of moderation.

mod conversation;

use std::collections::BTreeMap;

pub use conversation::{Conversation, ConversationRef};
use thiserror::Error;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// The greatest size of an id (event, conversation, tenant, policy, subject, label, annotator), in bytes.
pub const MAX_ID: usize = 256;
/// The greatest size of the text of all turns together, in bytes.
pub const MAX_TEXT: usize = 1_000_000;
/// The greatest number of turns.
pub const MAX_TURNS: usize = 10_000;
/// The greatest number of metadata entries.
pub const MAX_METADATA: usize = 64;
/// The greatest size of a metadata key or value, in bytes.
pub const MAX_METADATA_TEXT: usize = 1_024;

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The user of the product.
    User,
    /// The model that answers.
    Assistant,
    /// The instructions of the product.
    System,
    /// The result of a tool.
    Tool,
}

impl Role {
    /// All roles, in the schema's order.
    pub const ALL: [Self; 4] = [Self::User, Self::Assistant, Self::System, Self::Tool];

    /// The name of the role in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The speaker.
    pub role: Role,
    /// The text. It is never logged.
    pub text: String,
}

/// A conversation event as consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The id, unique within tenant and policy.
    pub id: String,
    /// The id of the conversation.
    pub conversation: String,
    /// The tenant.
    pub tenant: String,
    /// The name of the policy.
    pub policy: String,
    /// The key of the user, for erasure.
    pub subject: Option<String>,
    /// The time of the event by its producer's clock.
    pub time: Option<Millis>,
    /// The turns of the conversation, including the judged one. The others are context.
    pub turns: Vec<Turn>,
    /// The index of the judged turn in `turns`.
    pub judged: usize,
    /// The producer's own notes. They are not interpreted and not part of any output.
    pub metadata: BTreeMap<String, String>,
}

/// The reason for which an event is invalid. The variants' names are metric labels and dead-letter reasons.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// An id is empty.
    #[error("{field} is empty: give every event its ids")]
    EmptyId {
        /// The field's name.
        field: &'static str,
    },
    /// An id is longer than [`MAX_ID`].
    #[error("{field} has {bytes} bytes, more than {MAX_ID}: shorten or hash it")]
    IdTooLong {
        /// The field's name.
        field: &'static str,
        /// Its size in bytes.
        bytes: usize,
    },
    /// The text is longer than [`MAX_TEXT`].
    #[error(
        "the turns hold {bytes} bytes of text, more than {MAX_TEXT}: send the judged turn and less context"
    )]
    TextTooLong {
        /// The size of all turns together, in bytes.
        bytes: usize,
    },
    /// There are more turns than [`MAX_TURNS`].
    #[error("{turns} turns, more than {MAX_TURNS}: send the judged turn and less context")]
    TooManyTurns {
        /// The number of turns.
        turns: usize,
    },
    /// The judged turn does not exist.
    #[error("the judged turn is number {judged} of {turns}: judged counts from 0")]
    NoJudgedTurn {
        /// The index of the judged turn.
        judged: usize,
        /// The number of turns.
        turns: usize,
    },
    /// The metadata exceed [`MAX_METADATA`] or [`MAX_METADATA_TEXT`].
    #[error("metadata has more than {MAX_METADATA} entries or one over {MAX_METADATA_TEXT} bytes")]
    MetadataTooLarge,
}

impl EventError {
    /// The name of the error, which is a metric label and a dead-letter reason.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::EmptyId { .. } => "EmptyId",
            Self::IdTooLong { .. } => "IdTooLong",
            Self::TextTooLong { .. } => "TextTooLong",
            Self::TooManyTurns { .. } => "TooManyTurns",
            Self::NoJudgedTurn { .. } => "NoJudgedTurn",
            Self::MetadataTooLarge => "MetadataTooLarge",
        }
    }
}

/// Checks the size of an id.
///
/// # Errors
/// Returns an error if the id is empty or longer than [`MAX_ID`].
pub fn check_id(field: &'static str, id: &str) -> Result<(), EventError> {
    match id.len() {
        0 => Err(EventError::EmptyId { field }),
        bytes if bytes > MAX_ID => Err(EventError::IdTooLong { field, bytes }),
        _ => Ok(()),
    }
}

/// Checks the size of a conversation. An empty judged text is valid.
///
/// # Errors
/// Returns an error if there are too many turns or too much text, or if there is no judged turn.
pub fn check_turns(turns: &[Turn], judged: usize) -> Result<(), EventError> {
    if turns.len() > MAX_TURNS {
        return Err(EventError::TooManyTurns { turns: turns.len() });
    }
    let bytes = turns.iter().map(|turn| turn.text.len()).sum();
    if bytes > MAX_TEXT {
        return Err(EventError::TextTooLong { bytes });
    }
    if judged >= turns.len() {
        return Err(EventError::NoJudgedTurn { judged, turns: turns.len() });
    }
    Ok(())
}

#[cfg(any(test, feature = "examples"))]
impl Event {
    /// An event of the tenant `t` under the policy `default` with one turn of a user, for tests.
    #[must_use]
    pub fn example(id: &str, text: &str) -> Self {
        Self {
            id: id.into(),
            conversation: "c".into(),
            tenant: "t".into(),
            policy: "default".into(),
            subject: None,
            time: None,
            turns: vec![Turn { role: Role::User, text: text.into() }],
            judged: 0,
            metadata: BTreeMap::new(),
        }
    }
}

impl Event {
    /// The text that experts judge.
    ///
    /// # Panics
    /// Panics if the judged turn does not exist, which [`check`](Self::check) excludes.
    #[must_use]
    pub fn judged_text(&self) -> &str {
        &self.turns[self.judged].text
    }

    /// Checks all bounds on the event. An empty judged text is valid.
    ///
    /// # Errors
    /// Returns the first violation.
    pub fn check(&self) -> Result<(), EventError> {
        check_id("id", &self.id)?;
        check_id("conversation", &self.conversation)?;
        check_id("tenant", &self.tenant)?;
        check_id("policy", &self.policy)?;
        if let Some(subject) = &self.subject {
            check_id("subject", subject)?;
        }
        check_turns(&self.turns, self.judged)?;
        let small = |(key, value): (&String, &String)| {
            key.len() <= MAX_METADATA_TEXT && value.len() <= MAX_METADATA_TEXT
        };
        if self.metadata.len() > MAX_METADATA || !self.metadata.iter().all(small) {
            return Err(EventError::MetadataTooLarge);
        }
        Ok(())
    }
}

/// The time that orders rounds: the earlier of the event's own time and its broker timestamp, so that a
/// producer cannot date an event into the future.
#[must_use]
pub fn round_time(own: Option<Millis>, broker: Millis) -> Millis {
    own.map_or(broker, |own| own.min(broker))
}
