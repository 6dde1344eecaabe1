//! The records of the ledger: the set that the learner's state is a function of.
//!
//! On the ledger topic each record has a [`Key`], and compaction keeps the newest record of each. The order of
//! arrival does not matter: see [`super::label::live`] for labels, and [`RoundRecord::key`] for the votes of an
//! event that was decided twice.

use super::event::Millis;
use super::features::{EncoderId, Features};
use super::label::{DecisionRef, Label};

/// The id of a round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId {
    /// The tenant of the event.
    pub tenant: String,
    /// The policy of the decision.
    pub policy: String,
    /// The id of the event.
    pub event: String,
}

/// The vote of an expert, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundVote {
    /// The id of the expert.
    pub expert: String,
    /// P(unsafe) in \[0,1\]; `None` for an abstention.
    pub score: Option<f64>,
    /// `true` for a shadow vote, which is folded as asleep.
    pub shadow: bool,
    /// `true` if the expert was asked only because its vote could change the decision. The vote is folded like others, and
    /// does not count for the expert's quality.
    pub decisive: bool,
}

/// The features of a text with their encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFeatures {
    /// The encoder.
    pub encoder: EncoderId,
    /// The features.
    pub features: Box<Features>,
}

/// The part of a decision that the learner needs.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundRecord {
    /// The id of the round.
    pub id: RoundId,
    /// The key of the user, for erasure.
    pub subject: Option<String>,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The position of the decision; in a replay, its position in the file.
    pub decision: DecisionRef,
    /// The votes, in the order of the UTF-8 bytes of the expert ids, each once.
    pub votes: Vec<RoundVote>,
    /// The features of the judged text.
    pub features: Option<TextFeatures>,
}

impl RoundRecord {
    /// A round without features and subject. The votes are in the order of the UTF-8 bytes of the expert ids. The
    /// position of its decision is the start of partition 0.
    #[must_use]
    pub fn new(id: RoundId, round_time: Millis, votes: Vec<RoundVote>) -> Self {
        let decision = DecisionRef { partition: 0, offset: 0 };
        Self { id, subject: None, round_time, decision, votes, features: None }
    }

    /// The key that selects among several decisions about one event: the lowest gives the round its votes.
    #[must_use]
    pub fn key(&self) -> (Millis, DecisionRef) {
        (self.round_time, self.decision)
    }
}

/// A label with its status.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRecord {
    /// The label as sent.
    pub label: Label,
    /// The broker timestamp of the label.
    pub received: Millis,
    /// The status of the label.
    pub status: LabelStatus,
}

/// The status of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelStatus {
    /// The label counts.
    Accepted,
    /// The decision of its event is not known yet. The label counts once it is.
    Waiting,
    /// The label waited, and when its decision became known, it was later than the horizon allows.
    TooLate,
    /// The label waited for a decision longer than twice the horizon.
    Expired,
}

impl LabelStatus {
    /// All statuses, in the schema's order.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Waiting, Self::TooLate, Self::Expired];

    /// The name of the status in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Waiting => "waiting",
            Self::TooLate => "too_late",
            Self::Expired => "expired",
        }
    }

    /// Returns `true` if the label may teach.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Accepted | Self::Waiting)
    }
}

/// An edit of the set. It applies to present and future records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The id, unique among edits.
    pub id: String,
    /// The action.
    pub action: EditAction,
}

/// The action of an edit. The resulting state is as if the removed labels or rounds had never existed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EditAction {
    /// The annotator's labels do not count.
    Quarantine {
        /// The tenant; empty for all.
        tenant: String,
        /// The annotator.
        annotator: String,
    },
    /// The subject's rounds do not count.
    Erase {
        /// The tenant; empty for all.
        tenant: String,
        /// The subject.
        subject: String,
    },
}

/// A record of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The votes and features of a round.
    Round(RoundRecord),
    /// A label of a round.
    Label(LabelRecord),
    /// An edit.
    Edit(Edit),
}

/// The key of a ledger record: (tenant, policy, event, kind, label's or edit's id, annotator).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The votes of a round.
    Round(RoundId),
    /// A label of a round: its id and its annotator. Two annotators may use one id, and the state keeps the labels of both.
    /// Ledgers written by 0.1 have keys without the annotator.
    Label(RoundId, String, Option<String>),
    /// An edit.
    Edit(String),
}

#[cfg(any(test, feature = "examples"))]
impl Record {
    /// A round at the time and the offset `number`, and its accepted label [`l{number}`](Label::example), for tests.
    #[must_use]
    pub fn examples(
        id: RoundId,
        number: i64,
        votes: &[(&str, f64)],
        verdict: super::label::Finding,
    ) -> [Self; 2] {
        let label = Label::example(&id, number, Some(verdict));
        let vote = |(expert, score): &(&str, f64)| RoundVote {
            expert: (*expert).to_owned(),
            score: Some(*score),
            shadow: false,
            decisive: false,
        };
        let round = RoundRecord {
            decision: DecisionRef { partition: 0, offset: number },
            ..RoundRecord::new(id, number, votes.iter().map(vote).collect())
        };
        let label = LabelRecord { label, received: number, status: LabelStatus::Accepted };
        [Self::Round(round), Self::Label(label)]
    }
}

impl Record {
    /// The key of the record.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Round(round) => Key::Round(round.id.clone()),
            Self::Label(record) => record.label.key(),
            Self::Edit(edit) => Key::Edit(edit.id.clone()),
        }
    }
}

impl Label {
    /// The key of the label's record.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::Label(self.round(), self.id.clone(), self.annotator.clone())
    }

    /// The id of the labelled round.
    #[must_use]
    pub fn round(&self) -> RoundId {
        RoundId { tenant: self.tenant.clone(), policy: self.policy.clone(), event: self.event.clone() }
    }
}
