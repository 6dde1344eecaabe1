//! Ledger records read straight from their datum. A learner starts with millions of them, and the library's
//! reader takes five times as long.
//!
//! Only what our own writer writes is read here: anything else is `None` and goes the library's way, which
//! reads it or says what is wrong with it. A property holds the two to the same records.

use super::label::MAX_CATEGORIES;
use crate::core::features::{DIMENSIONS, EncoderId};
use crate::core::label::{DecisionRef, Finding, Label, Source};
use crate::core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};
use crate::core::ledger_state::MAX_VOTES;

/// Memory of records that are done with, for those to come: most of what reading one costs is the allocator's.
#[derive(Debug, Default)]
pub struct Spare {
    judged: Vec<RoundRecord>,
    filed: Vec<LabelRecord>,
}

impl Spare {
    /// Takes a record that is done with.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Round(judged) => self.judged.push(judged),
            Record::Label(filed) => self.filed.push(filed),
            Record::Edit(_) => {}
        }
    }
}

/// Reads the datum of a ledger record; what it says is still to be checked.
pub(super) fn record(datum: &[u8], spare: &mut Spare) -> Option<Record> {
    let mut rest = Datum(datum);
    let judged = if rest.given()? { Some(rest.judged(spare.judged.pop())?) } else { None };
    let filed = if rest.given()? { Some(rest.filed(spare.filed.pop())?) } else { None };
    let edit = if rest.given()? { Some(rest.edit()?) } else { None };
    if !rest.0.is_empty() {
        return None;
    }
    match (judged, filed, edit) {
        (Some(judged), None, None) => Some(Record::Round(judged)),
        (None, Some(filed), None) => Some(Record::Label(filed)),
        (None, None, Some(edit)) => Some(Record::Edit(edit)),
        _ => None,
    }
}

fn blank_judged() -> RoundRecord {
    RoundRecord {
        id: RoundId { tenant: String::new(), policy: String::new(), event: String::new() },
        subject: None,
        round_time: 0,
        decision: DecisionRef { partition: 0, offset: 0 },
        votes: Vec::new(),
        features: None,
    }
}

fn blank_filed() -> LabelRecord {
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

/// The rest of a datum.
struct Datum<'a>(&'a [u8]);

impl<'a> Datum<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        // Nine bytes hold 63 bits: what needs a tenth goes the other way.
        for shift in (0..63).step_by(7) {
            let [byte] = *self.array()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
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

    fn onto(&mut self, string: &mut String) -> Option<()> {
        string.clear();
        string.push_str(self.text()?);
        Some(())
    }

    fn onto_given(&mut self, string: &mut Option<String>) -> Option<()> {
        if self.given()? {
            self.onto(string.get_or_insert_default())?;
        } else {
            *string = None;
        }
        Some(())
    }

    /// Which branch of a union with null: whether there is a value.
    fn given(&mut self) -> Option<bool> {
        match *self.array()? {
            [0] => Some(false),
            [2] => Some(true),
            _ => None,
        }
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.given()? { read(self).map(Some) } else { Some(None) }
    }

    fn real(&mut self) -> Option<f64> {
        self.array().map(|bytes| f64::from_le_bytes(*bytes))
    }

    fn truth(&mut self) -> Option<bool> {
        match *self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// One of an enum's values, in the schema's order.
    fn word<T: Copy>(&mut self, values: &[T]) -> Option<T> {
        values.get(self.size()?).copied()
    }

    /// An array in one block, as we write it, onto what is there; each item takes at least one byte.
    fn list<T>(
        &mut self,
        most: usize,
        items: &mut Vec<T>,
        blank: impl FnMut() -> T,
        mut read: impl FnMut(&mut Self, &mut T) -> Option<()>,
    ) -> Option<()> {
        let count = self.size()?;
        if count > most.min(self.0.len()) {
            return None;
        }
        items.resize_with(count, blank);
        for item in items {
            read(self, item)?;
        }
        (count == 0 || self.long()? == 0).then_some(())
    }

    fn place(&mut self) -> Option<DecisionRef> {
        Some(DecisionRef { partition: i32::try_from(self.long()?).ok()?, offset: self.long()? })
    }

    fn vote(&mut self, vote: &mut RoundVote) -> Option<()> {
        self.onto(&mut vote.expert)?;
        vote.score = self.optional(Self::real)?;
        vote.shadow = self.truth()?;
        Some(())
    }

    fn reading(&mut self, reading: &mut Option<TextFeatures>) -> Option<()> {
        if !self.given()? {
            *reading = None;
            return Some(());
        }
        let encoder: EncoderId = *self.array()?;
        let values: &[u8; DIMENSIONS] = self.array()?;
        let known =
            reading.get_or_insert_with(|| TextFeatures { encoder, features: Box::new([0; DIMENSIONS]) });
        known.encoder = encoder;
        *known.features = values.map(u8::cast_signed);
        Some(())
    }

    fn judged(&mut self, spare: Option<RoundRecord>) -> Option<RoundRecord> {
        let mut judged = spare.unwrap_or_else(blank_judged);
        self.onto(&mut judged.id.tenant)?;
        self.onto(&mut judged.id.policy)?;
        self.onto(&mut judged.id.event)?;
        self.onto_given(&mut judged.subject)?;
        judged.round_time = self.long()?;
        judged.decision = self.place()?;
        let blank = || RoundVote { expert: String::new(), score: None, shadow: false };
        self.list(MAX_VOTES, &mut judged.votes, blank, Self::vote)?;
        self.reading(&mut judged.features)?;
        Some(judged)
    }

    fn label(&mut self, label: &mut Label) -> Option<()> {
        // The ledger's labels have all three; one that lacks any goes the other way.
        for string in [&mut label.id, &mut label.tenant, &mut label.policy] {
            self.given()?.then_some(())?;
            self.onto(string)?;
        }
        self.onto(&mut label.event)?;
        self.onto_given(&mut label.annotator)?;
        label.verdict = self.optional(|rest| rest.word(&Finding::ALL))?;
        // Labels are ordered by the bits of their numbers: a negative zero would be the greatest.
        label.severity = self.optional(Self::real)?.map(|severity| severity + 0.0);
        self.list(MAX_CATEGORIES, &mut label.categories, String::new, Self::onto)?;
        label.time = self.long()?;
        label.source = self.word(&Source::ALL)?;
        label.inclusion_probability = self.optional(Self::real)?;
        label.decision = self.optional(Self::place)?;
        self.onto_given(&mut label.corrects)?;
        self.onto_given(&mut label.retracts)
    }

    fn filed(&mut self, spare: Option<LabelRecord>) -> Option<LabelRecord> {
        let mut filed = spare.unwrap_or_else(blank_filed);
        self.label(&mut filed.label)?;
        filed.received = self.long()?;
        filed.status = self.word(&LabelStatus::ALL)?;
        Some(filed)
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
