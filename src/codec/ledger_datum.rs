//! A reader of ledger records' Avro datums that reuses memory.
//!
//! A learner reads millions of ledger records when it starts, and the library's reader takes five times as long
//! (decision 0005). This reader supports only the layout that our own writer writes. It returns `None` for anything else,
//! which the library then reads or refuses. A property test holds the two readers to the same result.

use integer_encoding::VarInt;

use super::label::MAX_CATEGORIES;
use crate::core::features::{DIMENSIONS, EncoderId};
use crate::core::label::{DecisionRef, Finding, Label, Source};
use crate::core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};
use crate::core::ledger_state::MAX_VOTES;

/// Records that are no longer used. New records are read into their memory, since allocation is most of the cost of
/// reading a record.
#[derive(Debug, Default)]
pub struct RecordPool {
    rounds: Vec<RoundRecord>,
    labels: Vec<LabelRecord>,
}

impl RecordPool {
    /// Adds a record that is no longer used.
    pub fn recycle(&mut self, record: Record) {
        match record {
            Record::Round(round) => self.rounds.push(round),
            Record::Label(label) => self.labels.push(label),
            Record::Edit(_) => {}
        }
    }
}

/// The schema of a datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The first one, in which votes end with `shadow`.
    First,
    /// That of later ones, and of the one that this version writes.
    Current,
}

/// Reads the datum of a ledger record. The bounds of its values are not checked.
pub(super) fn record(datum: &[u8], layout: Layout, pool: &mut RecordPool) -> Option<Record> {
    let mut reader = DatumReader(datum);
    let round = if reader.is_some()? { Some(reader.round(layout, pool.rounds.pop())?) } else { None };
    let label = if reader.is_some()? { Some(reader.label_record(pool.labels.pop())?) } else { None };
    let edit = if reader.is_some()? { Some(reader.edit()?) } else { None };
    if !reader.0.is_empty() {
        return None;
    }
    match (round, label, edit) {
        (Some(round), None, None) => Some(Record::Round(round)),
        (None, Some(label), None) => Some(Record::Label(label)),
        (None, None, Some(edit)) => Some(Record::Edit(edit)),
        _ => None,
    }
}

fn blank_round() -> RoundRecord {
    RoundRecord {
        id: RoundId { tenant: String::new(), policy: String::new(), event: String::new() },
        subject: None,
        round_time: 0,
        decision: DecisionRef { partition: 0, offset: 0 },
        votes: Vec::new(),
        features: None,
    }
}

fn blank_label() -> LabelRecord {
    let label = Label {
        id: String::new(),
        tenant: String::new(),
        policy: String::new(),
        event: String::new(),
        annotator: None,
        verdict: None,
        severity: None,
        categories: Vec::new(),
        time: 0,
        source: Source::Review,
        inclusion_probability: None,
        decision: None,
        corrects: None,
        retracts: None,
    };
    LabelRecord { label, received: 0, status: LabelStatus::Accepted }
}

/// Reads values from the front of a datum. Every method returns `None` if the datum does not begin with its value.
struct DatumReader<'a>(&'a [u8]);

impl<'a> DatumReader<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn long(&mut self) -> Option<i64> {
        let (value, length) = i64::decode_var(self.0)?;
        self.0 = self.0.get(length..)?;
        Some(value)
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.long()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let size = self.size()?;
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        std::str::from_utf8(taken).ok()
    }

    fn string(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn string_into(&mut self, string: &mut String) -> Option<()> {
        string.clear();
        string.push_str(self.text()?);
        Some(())
    }

    fn optional_string_into(&mut self, string: &mut Option<String>) -> Option<()> {
        if self.is_some()? {
            self.string_into(string.get_or_insert_default())?;
        } else {
            *string = None;
        }
        Some(())
    }

    /// Reads the branch of a union of null and one other type: `true` if a value follows.
    fn is_some(&mut self) -> Option<bool> {
        match *self.array()? {
            [0] => Some(false),
            [2] => Some(true),
            _ => None,
        }
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.is_some()? { read(self).map(Some) } else { Some(None) }
    }

    fn double(&mut self) -> Option<f64> {
        self.array().map(|bytes| f64::from_le_bytes(*bytes))
    }

    fn boolean(&mut self) -> Option<bool> {
        match *self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Reads one of an enum's values, which are in the schema's order.
    fn symbol<T: Copy>(&mut self, values: &[T]) -> Option<T> {
        values.get(self.size()?).copied()
    }

    /// Reads an array of at most `max` items in one block into `items`. Each item takes at least one byte.
    fn list<T>(
        &mut self,
        max: usize,
        items: &mut Vec<T>,
        blank: impl FnMut() -> T,
        mut read: impl FnMut(&mut Self, &mut T) -> Option<()>,
    ) -> Option<()> {
        let count = self.size()?;
        if count > max.min(self.0.len()) {
            return None;
        }
        items.resize_with(count, blank);
        for item in items {
            read(self, item)?;
        }
        (count == 0 || self.long()? == 0).then_some(())
    }

    fn decision_ref(&mut self) -> Option<DecisionRef> {
        Some(DecisionRef { partition: i32::try_from(self.long()?).ok()?, offset: self.long()? })
    }

    fn vote(&mut self, layout: Layout, vote: &mut RoundVote) -> Option<()> {
        self.string_into(&mut vote.expert)?;
        vote.score = self.optional(Self::double)?;
        vote.shadow = self.boolean()?;
        vote.decisive = layout == Layout::Current && self.boolean()?;
        Some(())
    }

    fn features(&mut self, features: &mut Option<TextFeatures>) -> Option<()> {
        if !self.is_some()? {
            *features = None;
            return Some(());
        }
        let encoder: EncoderId = *self.array()?;
        let values: &[u8; DIMENSIONS] = self.array()?;
        let blank = || TextFeatures { encoder, features: Box::new([0; DIMENSIONS]) };
        let features = features.get_or_insert_with(blank);
        features.encoder = encoder;
        *features.features = values.map(u8::cast_signed);
        Some(())
    }

    fn round(&mut self, layout: Layout, recycled: Option<RoundRecord>) -> Option<RoundRecord> {
        let mut round = recycled.unwrap_or_else(blank_round);
        self.string_into(&mut round.id.tenant)?;
        self.string_into(&mut round.id.policy)?;
        self.string_into(&mut round.id.event)?;
        self.optional_string_into(&mut round.subject)?;
        round.round_time = self.long()?;
        round.decision = self.decision_ref()?;
        let blank = || RoundVote { expert: String::new(), score: None, shadow: false, decisive: false };
        self.list(MAX_VOTES, &mut round.votes, blank, |reader, vote| reader.vote(layout, vote))?;
        self.features(&mut round.features)?;
        Some(round)
    }

    fn label(&mut self, label: &mut Label) -> Option<()> {
        // The ledger's labels have all three. The library reads a record that lacks one of them.
        for string in [&mut label.id, &mut label.tenant, &mut label.policy] {
            self.is_some()?.then_some(())?;
            self.string_into(string)?;
        }
        self.string_into(&mut label.event)?;
        self.optional_string_into(&mut label.annotator)?;
        label.verdict = self.optional(|reader| reader.symbol(&Finding::ALL))?;
        // Labels are ordered by the bits of their numbers, in which a negative zero is the greatest.
        label.severity = self.optional(Self::double)?.map(|severity| severity + 0.0);
        self.list(MAX_CATEGORIES, &mut label.categories, String::new, Self::string_into)?;
        label.time = self.long()?;
        label.source = self.symbol(&Source::ALL)?;
        label.inclusion_probability = self.optional(Self::double)?;
        label.decision = self.optional(Self::decision_ref)?;
        self.optional_string_into(&mut label.corrects)?;
        self.optional_string_into(&mut label.retracts)
    }

    fn label_record(&mut self, recycled: Option<LabelRecord>) -> Option<LabelRecord> {
        let mut record = recycled.unwrap_or_else(blank_label);
        self.label(&mut record.label)?;
        record.received = self.long()?;
        record.status = self.symbol(&LabelStatus::ALL)?;
        Some(record)
    }

    fn edit(&mut self) -> Option<Edit> {
        let (id, tenant) = (self.string()?, self.string()?);
        let action = match (self.optional(Self::string)?, self.optional(Self::string)?) {
            (Some(annotator), None) => EditAction::Quarantine { tenant, annotator },
            (None, Some(subject)) => EditAction::Erase { tenant, subject },
            _ => return None,
        };
        Some(Edit { id, action })
    }
}
