//! Batches: many parsed lines in a few pieces of memory, which the reading thread hands to the folding thread and gets
//! back to fill again.

use std::collections::BTreeMap;

use super::header::HeaderPolicy;
use crate::core::event::Millis;
use crate::core::features::{EncoderId, Features};
use crate::core::label::{DecisionRef, Finding};
use crate::core::ledger::{LabelRecord, Record};
use crate::core::ledger_state::Score;

/// A piece of a batch's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Returns the span from the start of this one to the end of the other.
    pub(super) fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// A round's id, whose texts are the batch's.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundSpan {
    pub(super) tenant: Span,
    pub(super) policy: Span,
    pub(super) event: Span,
}

/// A line's votes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Votes {
    pub(super) subject: Option<Span>,
    pub(super) time: Option<Millis>,
    pub(super) decision: Option<DecisionRef>,
    /// The panel's number in the reading thread's count.
    pub(super) panel: usize,
    /// The index of its first score among the batch's.
    pub(super) scores: usize,
    /// The index of its features among the batch's.
    pub(super) features: Option<usize>,
    /// The judged text, if an encoder is to read it.
    pub(super) text: Option<Span>,
}

/// The label on a line with votes.
#[derive(Debug)]
pub(super) enum RoundLabel {
    /// A label of no more than a finding and an annotator, as most lines have. Nothing is allocated for it.
    Plain { id: Span, annotator: Option<Span>, verdict: Option<Finding>, severity: Option<f64> },
    /// Any other label.
    Record(Box<LabelRecord>),
}

/// The content of a line.
#[derive(Debug)]
pub(super) enum Item {
    /// Votes, and often a label.
    Round { id: RoundSpan, votes: Votes, label: Option<RoundLabel> },
    /// Labels without votes, or an edit. Empty if `label_fields.skip_if` leaves the line out.
    Records(Vec<Record>),
    /// A header.
    Header(BTreeMap<String, HeaderPolicy>),
    /// The line that describes a savepoint.
    Savepoint(Savepoint),
    /// A line that cannot be read, with the reason.
    Malformed(String),
}

/// The content of the line that describes a savepoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Savepoint {
    /// The learner that the flags asked for.
    pub(super) learner: Option<HeaderPolicy>,
    /// `true` if lines with votes had times. `None` if there were no such lines.
    pub(super) timed: Option<bool>,
    /// The number of lines with votes so far.
    pub(super) position: i64,
    /// The state's hash by policy, in hexadecimal.
    pub(super) states: BTreeMap<String, String>,
}

/// Parsed lines of one stream.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The stream's index.
    pub(super) stream: usize,
    pub(super) text: String,
    pub(super) scores: Vec<Score>,
    pub(super) features: Vec<(EncoderId, Features)>,
    /// Panels that no earlier batch named, each as its experts' ids in order.
    pub(super) panels: Vec<Vec<String>>,
    /// The lines' contents, each with the number of its line, from 1.
    pub(super) items: Vec<(u64, Item)>,
    /// The number of lines read, with empty ones.
    pub(super) lines: u64,
}

impl Batch {
    /// Empties the batch for lines of this stream.
    pub(super) fn clear(&mut self, stream: usize) {
        self.stream = stream;
        self.text.clear();
        self.scores.clear();
        self.features.clear();
        self.panels.clear();
        self.items.clear();
        self.lines = 0;
    }

    /// Copies a text into the batch.
    pub(super) fn intern(&mut self, text: &str) -> Span {
        let offset =
            |at: usize| u32::try_from(at).expect("a batch holds one piece of a file, far below 4 GiB");
        let start = offset(self.text.len());
        self.text.push_str(text);
        Span { start, end: offset(self.text.len()) }
    }

    /// Returns the text of a span.
    ///
    /// # Panics
    /// If the span is another batch's.
    pub(super) fn text(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).expect("the span is this batch's")
    }
}
