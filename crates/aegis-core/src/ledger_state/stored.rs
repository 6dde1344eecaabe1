//! The labels of a round as bytes: 20 to 40 bytes per label, in one allocation per round.

use super::LabelEntry;
use crate::event::Millis;
use crate::label::{DecisionRef, Finding, Label, Source};
use crate::ledger::{LabelRecord, LabelStatus};

/// The encoded labels of one round; `None` if it has none.
#[derive(Debug, Default, Clone)]
pub(super) struct Stored(Option<Box<[u8]>>);

/// One label as stored, with borrowed strings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// `None` if it is equal to the event's id.
    pub(super) id: Option<&'a str>,
    /// The annotator's number + 1; 0 if there is none.
    pub(super) annotator: u32,
    pub(super) verdict: Option<Finding>,
    pub(super) severity: Option<f64>,
    categories: &'a [u8],
    time: Millis,
    pub(super) received: Millis,
    pub(super) source: Source,
    pub(super) status: LabelStatus,
    inclusion_probability: Option<f64>,
    decision: Option<DecisionRef>,
    pub(super) corrects: Option<&'a str>,
    pub(super) retracts: Option<&'a str>,
}

impl Stored {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn entries(&self) -> Entries<'_> {
        Entries(Cursor(self.0.as_deref().unwrap_or(&[])))
    }

    /// The label, if there is exactly one.
    pub(super) fn only(&self) -> Option<Entry<'_>> {
        let mut entries = self.entries();
        let first = entries.next();
        first.filter(|_| entries.0.0.is_empty())
    }

    /// Appends a label and removes the one at the index `replaced`.
    pub(super) fn put(
        &mut self,
        label: &LabelEntry<'_>,
        annotator: u32,
        event: &str,
        replaced: Option<usize>,
    ) {
        let old = self.0.take().unwrap_or_default();
        let mut bytes = Vec::with_capacity(old.len() + 48);
        let mut entries = Entries(Cursor(&old));
        let mut at = 0;
        loop {
            let before = entries.0.0;
            if entries.next().is_none() {
                break;
            }
            let length = before.len() - entries.0.0.len();
            if replaced != Some(at) {
                bytes.extend_from_slice(&before[..length]);
            }
            at += 1;
        }
        write(label, annotator, event, &mut bytes);
        self.0 = Some(bytes.into_boxed_slice());
    }
}

// The flags of a label: two bits each for verdict, source and status, then one bit for each optional field, and the third
// bit of the source.
const SEVERITY: u16 = 1 << 6;
const INCLUSION: u16 = 1 << 7;
const DECISION: u16 = 1 << 8;
const CORRECTS: u16 = 1 << 9;
const RETRACTS: u16 = 1 << 10;
const OWN_ID: u16 = 1 << 11;
const TIME: u16 = 1 << 12;
const CATEGORIES: u16 = 1 << 13;
/// The shift of the source's third bit.
const SOURCE_HIGH: u16 = 14;

fn write(label: &LabelEntry<'_>, annotator: u32, event: &str, out: &mut Vec<u8>) {
    let verdict = label.verdict.map_or(3, |verdict| verdict as u16);
    let source = label.source as u16;
    let mut flags = verdict | (source & 3) << 2 | (label.status as u16) << 4 | (source >> 2) << SOURCE_HIGH;
    for (bit, set) in [
        (SEVERITY, label.severity.is_some()),
        (INCLUSION, label.inclusion_probability.is_some()),
        (DECISION, label.decision.is_some()),
        (CORRECTS, label.corrects.is_some()),
        (RETRACTS, label.retracts.is_some()),
        (OWN_ID, label.id != event),
        (TIME, label.time != 0),
        (CATEGORIES, !label.categories.is_empty()),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.extend(flags.to_le_bytes());
    number(u64::from(annotator), out);
    signed(label.received, out);
    if label.time != 0 {
        signed(label.time, out);
    }
    if label.id != event {
        text(label.id, out);
    }
    for real in [label.severity, label.inclusion_probability].into_iter().flatten() {
        out.extend(real.to_le_bytes());
    }
    if let Some(at) = label.decision {
        signed(i64::from(at.partition), out);
        signed(at.offset, out);
    }
    for id in [label.corrects, label.retracts].into_iter().flatten() {
        text(id, out);
    }
    if !label.categories.is_empty() {
        let mut inner = Vec::new();
        for category in label.categories {
            text(category, &mut inner);
        }
        number(inner.len() as u64, out);
        out.extend(inner);
    }
}

/// Appends a variable-length number, seven bits per byte, the lowest first.
fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push((value & 127) as u8);
}

/// Appends a signed number in zigzag form.
fn signed(value: i64, out: &mut Vec<u8>) {
    number(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
}

fn text(value: &str, out: &mut Vec<u8>) {
    number(value.len() as u64, out);
    out.extend(value.as_bytes());
}

/// Decodes the bytes that [`write`] appended. All methods panic on other bytes.
#[derive(Debug, Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        *self.take(N).first_chunk().expect("the length is N")
    }

    fn number(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let [byte] = self.array();
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return value;
            }
            shift += 7;
        }
    }

    fn length(&mut self) -> usize {
        usize::try_from(self.number()).expect("it is the length of a slice")
    }

    fn signed(&mut self) -> i64 {
        let value = self.number();
        (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
    }

    fn real(&mut self) -> f64 {
        f64::from_le_bytes(self.array())
    }

    fn text(&mut self) -> &'a str {
        let length = self.length();
        std::str::from_utf8(self.take(length)).expect("it was a string")
    }
}

/// Iterates over the labels of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries<'a>(Cursor<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let bytes = &mut self.0;
        if bytes.0.is_empty() {
            return None;
        }
        let flags = u16::from_le_bytes(bytes.array());
        let has = |bit: u16| flags & bit != 0;
        let annotator = u32::try_from(bytes.number()).expect("it was 32 bits");
        let received = bytes.signed();
        let time = if has(TIME) { bytes.signed() } else { 0 };
        let id = has(OWN_ID).then(|| bytes.text());
        let severity = has(SEVERITY).then(|| bytes.real());
        let inclusion_probability = has(INCLUSION).then(|| bytes.real());
        let decision = has(DECISION).then(|| {
            let partition = i32::try_from(bytes.signed()).expect("it was 32 bits");
            DecisionRef { partition, offset: bytes.signed() }
        });
        let corrects = has(CORRECTS).then(|| bytes.text());
        let retracts = has(RETRACTS).then(|| bytes.text());
        let categories = if has(CATEGORIES) {
            let length = bytes.length();
            bytes.take(length)
        } else {
            &[]
        };
        Some(Entry {
            id,
            annotator,
            verdict: Finding::ALL.get(usize::from(flags & 3)).copied(),
            severity,
            categories,
            time,
            received,
            source: Source::ALL[usize::from(flags >> 2 & 3 | (flags >> SOURCE_HIGH & 1) << 2)],
            status: LabelStatus::ALL[usize::from(flags >> 4 & 3)],
            inclusion_probability,
            decision,
            corrects,
            retracts,
        })
    }
}

impl Entry<'_> {
    /// The label as a record.
    pub(super) fn record(
        &self,
        tenant: &str,
        policy: &str,
        event: &str,
        annotator: Option<&str>,
    ) -> LabelRecord {
        let mut categories = Vec::new();
        let mut inner = Cursor(self.categories);
        while !inner.0.is_empty() {
            categories.push(inner.text().to_owned());
        }
        let label = Label {
            id: self.id.unwrap_or(event).to_owned(),
            tenant: tenant.to_owned(),
            policy: policy.to_owned(),
            event: event.to_owned(),
            annotator: annotator.map(str::to_owned),
            verdict: self.verdict,
            severity: self.severity,
            categories,
            time: self.time,
            source: self.source,
            inclusion_probability: self.inclusion_probability,
            decision: self.decision,
            corrects: self.corrects.map(str::to_owned),
            retracts: self.retracts.map(str::to_owned),
        };
        LabelRecord { label, received: self.received, status: self.status }
    }
}
