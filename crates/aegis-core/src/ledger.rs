//! The ledger's records: the set that the learner's state is a function of.
//!
//! On the ledger topic each record stands under a [`Key`]; compaction keeps the newest of each. The
//! order in which records come never matters: see [`super::label::live`] for labels, and
//! [`RoundRecord::key`] for the votes of an event that was decided twice.

use super::event::Millis;
use super::features::{EncoderId, Features};
use super::label::{DecisionRef, Label};

/// Names a round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId {
    /// Whose event it is.
    pub tenant: String,
    /// The policy that it was decided under.
    pub policy: String,
    /// The event's id.
    pub event: String,
}

/// An expert's vote as the ledger keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundVote {
    /// The expert's id.
    pub expert: String,
    /// P(unsafe) in \[0,1\]; `None` for an abstention.
    pub score: Option<f64>,
    /// A shadow vote folds as asleep.
    pub shadow: bool,
}

/// Features with the encoder that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFeatures {
    /// The encoder.
    pub encoder: EncoderId,
    /// The features.
    pub features: Box<Features>,
}

/// What was decided about an event: the part of a decision that the learner needs.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundRecord {
    /// The round's name.
    pub id: RoundId,
    /// The user's key, for erasure.
    pub subject: Option<String>,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// Where the decision lies; in a replay its place in the file.
    pub decision: DecisionRef,
    /// The votes, ordered by the UTF-8 bytes of the expert ids, no expert twice.
    pub votes: Vec<RoundVote>,
    /// The judged text's features.
    pub features: Option<TextFeatures>,
}

impl RoundRecord {
    /// Of several decisions about one event the one with the lowest key gives the round its votes.
    #[must_use]
    pub fn key(&self) -> (Millis, DecisionRef) {
        (self.round_time, self.decision)
    }
}

/// A label with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRecord {
    /// The label as sent.
    pub label: Label,
    /// Its broker timestamp.
    pub received: Millis,
    /// What became of it.
    pub status: LabelStatus,
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelStatus {
    /// It counts.
    Accepted,
    /// Its event's decision is not known yet; it counts as soon as that is.
    Waiting,
    /// It waited, and when its decision became known it had come later than the horizon allows.
    TooLate,
    /// It waited longer than twice the horizon for a decision.
    Expired,
}

impl LabelStatus {
    /// All standings, in the schema's order.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Waiting, Self::TooLate, Self::Expired];

    /// The standing's word in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waiting => "waiting",
            Self::TooLate => "too_late",
            Self::Expired => "expired",
        }
    }

    /// Whether the label may teach.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Accepted | Self::Waiting)
    }
}

/// A standing edit of the set: it holds for what is there and for what comes later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Unique among edits.
    pub id: String,
    /// What it does.
    pub action: EditAction,
}

/// What an edit does. Afterwards the state is that of a world where it never was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EditAction {
    /// The annotator's labels do not count.
    Quarantine {
        /// The tenant, or empty for all.
        tenant: String,
        /// The annotator.
        annotator: String,
    },
    /// The subject's rounds do not count.
    Erase {
        /// The tenant, or empty for all.
        tenant: String,
        /// The subject.
        subject: String,
    },
}

/// A record of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Votes and features of a round.
    Round(RoundRecord),
    /// A label, known or waiting.
    Label(LabelRecord),
    /// An edit.
    Edit(Edit),
}

/// The key of a ledger record: (tenant, policy, event, kind, label's or edit's id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A round's votes.
    Round(RoundId),
    /// A label of a round.
    Label(RoundId, String),
    /// An edit.
    Edit(String),
}

impl Record {
    /// The key that the record stands under.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Round(judged) => Key::Round(judged.id.clone()),
            Self::Label(filed) => Key::Label(filed.label.round(), filed.label.id.clone()),
            Self::Edit(edit) => Key::Edit(edit.id.clone()),
        }
    }
}

impl Label {
    /// The round that the label speaks of.
    #[must_use]
    pub fn round(&self) -> RoundId {
        RoundId { tenant: self.tenant.clone(), policy: self.policy.clone(), event: self.event.clone() }
    }
}
