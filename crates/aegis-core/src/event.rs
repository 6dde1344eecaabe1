//! A conversation event: what Aegis is asked to judge.

use std::collections::BTreeMap;

use thiserror::Error;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Greatest size of an id (event, conversation, tenant, policy, subject, label, annotator), in bytes.
pub const MAX_ID: usize = 256;
/// Greatest size of all turns' text together, in bytes.
pub const MAX_TEXT: usize = 1_000_000;
/// Greatest number of turns.
pub const MAX_TURNS: usize = 10_000;
/// Greatest number of metadata entries.
pub const MAX_METADATA: usize = 64;
/// Greatest size of one metadata key or value, in bytes.
pub const MAX_METADATA_TEXT: usize = 1_024;

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The person who uses the product.
    User,
    /// The model that answers.
    Assistant,
    /// Instructions of the product's makers.
    System,
    /// What a tool returned.
    Tool,
}

impl Role {
    /// All roles, in the schema's order.
    pub const ALL: [Self; 4] = [Self::User, Self::Assistant, Self::System, Self::Tool];

    /// The role's word in records.
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
    /// Who speaks.
    pub role: Role,
    /// What is said. Never logged.
    pub text: String,
}

/// A conversation event as consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique within tenant and policy.
    pub id: String,
    /// The conversation that it belongs to.
    pub conversation: String,
    /// Whose traffic it is.
    pub tenant: String,
    /// The policy to judge it under.
    pub policy: String,
    /// The user's key, for erasure.
    pub subject: Option<String>,
    /// When it happened, by its producer's clock.
    pub time: Option<Millis>,
    /// The conversation up to and including the judged turn (later turns are context as well).
    pub turns: Vec<Turn>,
    /// Which turn is judged.
    pub judged: usize,
    /// The producer's own notes; never interpreted, and in no output.
    pub metadata: BTreeMap<String, String>,
}

/// Why an event cannot be judged. The names are metric labels and dead-letter reasons.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// An id is empty.
    #[error("{field} is empty: give every event its ids")]
    EmptyId {
        /// The field's name.
        field: &'static str,
    },
    /// An id is over [`MAX_ID`].
    #[error("{field} has {bytes} bytes, more than {MAX_ID}: shorten or hash it")]
    IdTooLong {
        /// The field's name.
        field: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The text is over [`MAX_TEXT`].
    #[error(
        "the turns hold {bytes} bytes of text, more than {MAX_TEXT}: send the judged turn and less context"
    )]
    TextTooLong {
        /// The size of all turns together.
        bytes: usize,
    },
    /// More turns than [`MAX_TURNS`].
    #[error("{turns} turns, more than {MAX_TURNS}: send the judged turn and less context")]
    TooManyTurns {
        /// Their number.
        turns: usize,
    },
    /// No such turn.
    #[error("the judged turn is number {judged} of {turns}: judged counts from 0")]
    NoJudgedTurn {
        /// The index given.
        judged: usize,
        /// How many turns there are.
        turns: usize,
    },
    /// Metadata over [`MAX_METADATA`] or [`MAX_METADATA_TEXT`].
    #[error("metadata has more than {MAX_METADATA} entries or one over {MAX_METADATA_TEXT} bytes")]
    MetadataTooLarge,
}

impl EventError {
    /// The error's name, as metric label and dead-letter reason.
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

/// Checks one id against the bounds that hold for all of them.
///
/// # Errors
/// Where it is empty or too long.
pub fn check_id(field: &'static str, id: &str) -> Result<(), EventError> {
    match id.len() {
        0 => Err(EventError::EmptyId { field }),
        bytes if bytes > MAX_ID => Err(EventError::IdTooLong { field, bytes }),
        _ => Ok(()),
    }
}

impl Event {
    /// The text that experts judge; empty where the judged turn does not exist.
    #[must_use]
    pub fn judged_text(&self) -> &str {
        self.turns.get(self.judged).map_or("", |turn| turn.text.as_str())
    }

    /// Checks every bound on the event.
    ///
    /// # Errors
    /// Returns the first bound that is broken. An empty judged text breaks none: there is nothing to judge then.
    pub fn check(&self) -> Result<(), EventError> {
        check_id("id", &self.id)?;
        check_id("conversation", &self.conversation)?;
        check_id("tenant", &self.tenant)?;
        check_id("policy", &self.policy)?;
        if let Some(subject) = &self.subject {
            check_id("subject", subject)?;
        }
        let turns = self.turns.len();
        if turns > MAX_TURNS {
            return Err(EventError::TooManyTurns { turns });
        }
        let bytes = self.turns.iter().map(|turn| turn.text.len()).sum();
        if bytes > MAX_TEXT {
            return Err(EventError::TextTooLong { bytes });
        }
        if self.judged >= turns {
            return Err(EventError::NoJudgedTurn { judged: self.judged, turns });
        }
        let small = |(key, value): (&String, &String)| {
            key.len() <= MAX_METADATA_TEXT && value.len() <= MAX_METADATA_TEXT
        };
        if self.metadata.len() > MAX_METADATA || !self.metadata.iter().all(small) {
            return Err(EventError::MetadataTooLarge);
        }
        Ok(())
    }
}

/// The time that orders rounds: the earlier of the event's own time and its broker timestamp, so that
/// nobody can date an event into the future.
#[must_use]
pub fn round_time(own: Option<Millis>, broker: Millis) -> Millis {
    own.map_or(broker, |own| own.min(broker))
}
