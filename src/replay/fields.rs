//! A line's fields, read without building a tree. Unknown names are skipped.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::{Listed, Scalar};
use super::votes::VoteReader;
use crate::codec::{Loose, Object, RefJson, Slugs};

/// The fields that are single values, in the order of [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Name {
    Aegis,
    EventId,
    Unsafe,
    EventTime,
    Policy,
    Tenant,
    Subject,
    Annotator,
    LabelId,
    LabelTime,
    Source,
    Verdict,
    Severity,
    InclusionProbability,
    Corrects,
    Retracts,
    Features,
    Encoder,
    Partition,
    Offset,
    Received,
    LabelStatus,
    EditId,
    Action,
    Id,
    Time,
    Text,
}

pub(super) const NAMES: [&str; 27] = [
    "aegis",
    "event_id",
    "unsafe",
    "event_time",
    "policy",
    "tenant",
    "subject",
    "annotator",
    "label_id",
    "label_time",
    "source",
    "verdict",
    "severity",
    "inclusion_probability",
    "corrects",
    "retracts",
    "features",
    "encoder",
    "partition",
    "offset",
    "received",
    "standing",
    "edit_id",
    "action",
    "id",
    "time",
    "text",
];

/// A line's fields.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) scalars: [Scalar<'a>; NAMES.len()],
    pub(super) categories: Loose<Slugs>,
    pub(super) decision: Loose<Object<RefJson>>,
    pub(super) shadow: Listed<'a>,
    pub(super) decisive: Listed<'a>,
    /// The last turn's text.
    pub(super) last_turn: Option<Scalar<'a>>,
    /// The policies of a header or savepoint.
    pub(super) policies: Option<serde_json::Value>,
    pub(super) format: Scalar<'a>,
    pub(super) has_votes: bool,
    /// Names that the line has more than once, in its order: readers differ in which of the values they take.
    pub(super) repeated: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Returns a field's value.
    pub(super) fn get(&self, name: Name) -> &Scalar<'a> {
        &self.scalars[name as usize]
    }

    /// Takes a field's value and leaves it absent.
    pub(super) fn take(&mut self, name: Name) -> Scalar<'a> {
        std::mem::take(&mut self.scalars[name as usize])
    }
}

/// The field that a name stands for.
enum Key {
    Scalar(usize),
    Votes,
    Categories,
    Decision,
    Shadow,
    Decisive,
    Turns,
    Policies,
    Format,
    Unknown,
}

/// The names beside [`NAMES`], in the order of their bits.
const LISTS: [&str; 8] =
    ["votes", "categories", "decision", "shadow", "turns", "policies", "format", "decisive"];

impl Key {
    /// Returns its bit in a set of names; 0 for an unknown name.
    fn bit(&self) -> u64 {
        let list = |place: usize| 1 << (NAMES.len() + place);
        match self {
            Self::Scalar(at) => 1 << at,
            Self::Votes => list(0),
            Self::Categories => list(1),
            Self::Decision => list(2),
            Self::Shadow => list(3),
            Self::Turns => list(4),
            Self::Policies => list(5),
            Self::Format => list(6),
            Self::Decisive => list(7),
            Self::Unknown => 0,
        }
    }
}

/// Returns the name of a bit.
fn name(bit: u64) -> Option<&'static str> {
    NAMES.iter().chain(&LISTS).nth(bit.trailing_zeros() as usize).copied()
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match name {
            "votes" => Key::Votes,
            "categories" => Key::Categories,
            "decision" => Key::Decision,
            "shadow" => Key::Shadow,
            "decisive" => Key::Decisive,
            "turns" => Key::Turns,
            "policies" => Key::Policies,
            "format" => Key::Format,
            _ => NAMES.iter().position(|known| *known == name).map_or(Key::Unknown, Key::Scalar),
        })
    }
}

impl<'de> DeserializeSeed<'de> for KeyVisitor {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Key, D::Error> {
        from.deserialize_str(self)
    }
}

/// Reads one line. Votes go to the [`VoteReader`].
pub(super) struct LineVisitor<'b> {
    pub(super) votes: &'b mut VoteReader,
    /// If `false`, texts are skipped.
    pub(super) keep_texts: bool,
}

impl<'de> Visitor<'de> for LineVisitor<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut line: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields {
            scalars: Default::default(),
            categories: Loose::Absent,
            decision: Loose::Absent,
            shadow: Listed::Absent,
            decisive: Listed::Absent,
            last_turn: None,
            policies: None,
            format: Scalar::Absent,
            has_votes: false,
            repeated: Vec::new(),
        };
        let mut seen = 0_u64;
        while let Some(key) = line.next_key_seed(KeyVisitor)? {
            let bit = key.bit();
            if seen & bit != 0 {
                fields.repeated.extend(name(bit).filter(|name| !fields.repeated.contains(name)));
            }
            seen |= bit;
            match key {
                Key::Scalar(at) if at == Name::Text as usize && !self.keep_texts => {
                    line.next_value::<IgnoredAny>()?;
                }
                Key::Scalar(at) => {
                    let value = line.next_value()?;
                    if let Some(slot) = fields.scalars.get_mut(at) {
                        *slot = value;
                    }
                }
                Key::Votes => {
                    self.votes.reading = "votes";
                    fields.has_votes = line.next_value_seed(&mut *self.votes)?;
                }
                Key::Categories => fields.categories = line.next_value()?,
                Key::Decision => fields.decision = line.next_value()?,
                Key::Shadow => {
                    self.votes.reading = "shadow";
                    fields.shadow = line.next_value()?;
                }
                Key::Decisive => {
                    self.votes.reading = "decisive";
                    fields.decisive = line.next_value()?;
                }
                Key::Turns if self.keep_texts => {
                    self.votes.reading = "turns";
                    fields.last_turn = line.next_value::<Turns<'de>>()?.0;
                }
                Key::Policies => {
                    self.votes.reading = "policies";
                    fields.policies = line.next_value()?;
                }
                Key::Format => fields.format = line.next_value()?,
                Key::Turns | Key::Unknown => {
                    line.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

impl<'de> DeserializeSeed<'de> for LineVisitor<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Fields<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

/// The text of the last of a list of turns.
struct Turns<'a>(Option<Scalar<'a>>);

struct TurnsVisitor;

impl<'de> Visitor<'de> for TurnsVisitor {
    type Value = Turns<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of turns")
    }

    fn visit_unit<E>(self) -> Result<Turns<'de>, E> {
        Ok(Turns(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Turns<'de>, A::Error> {
        let mut last = None;
        while let Some(turn) = list.next_element::<Turn<'de>>()? {
            last = Some(turn.0);
        }
        Ok(Turns(last))
    }
}

impl<'de> serde::Deserialize<'de> for Turns<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TurnsVisitor)
    }
}

/// One turn: its text.
struct Turn<'a>(Scalar<'a>);

struct TurnVisitor;

impl<'de> Visitor<'de> for TurnVisitor {
    type Value = Turn<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a turn")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut turn: A) -> Result<Turn<'de>, A::Error> {
        let mut text = Scalar::Absent;
        while let Some(key) = turn.next_key_seed(KeyVisitor)? {
            match key {
                Key::Scalar(at) if at == Name::Text as usize => text = turn.next_value()?,
                _ => drop(turn.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Turn(text))
    }
}

impl<'de> serde::Deserialize<'de> for Turn<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(TurnVisitor)
    }
}
