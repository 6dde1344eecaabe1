//! What the reading thread hands to the folding thread: many lines, parsed, in a few pieces of memory
//! that go round.

use crate::core::event::Millis;
use crate::core::features::{EncoderId, Features};
use crate::core::label::{DecisionRef, Finding, Source};
use crate::core::ledger::{Edit, LabelStatus};
use crate::core::ledger_state::Score;
use std::collections::BTreeMap;

use super::header::HeaderPolicy;

/// A piece of a batch's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From where this one starts to where the other ends.
    pub(super) fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// Names a round: the texts are the batch's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) tenant: Span,
    pub(super) policy: Span,
    pub(super) event: Span,
}

/// A line's votes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Votes {
    pub(super) subject: Option<Span>,
    pub(super) time: Option<Millis>,
    pub(super) at: Option<DecisionRef>,
    /// The panel's number, as the reading thread counts them.
    pub(super) panel: usize,
    /// Where its scores start among the batch's.
    pub(super) scores: usize,
    /// Which of the batch's readings is its.
    pub(super) reading: Option<usize>,
    /// The judged text, where the line brings one, no features, and an encoder is to read it.
    pub(super) text: Option<Span>,
}

/// A line's label.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) id: Span,
    pub(super) annotator: Option<Span>,
    pub(super) verdict: Option<Finding>,
    pub(super) severity: Option<f64>,
    pub(super) categories: Vec<String>,
    pub(super) time: Millis,
    pub(super) source: Source,
    pub(super) inclusion_probability: Option<f64>,
    pub(super) decision: Option<DecisionRef>,
    pub(super) corrects: Option<Span>,
    pub(super) retracts: Option<Span>,
    pub(super) received: Millis,
    pub(super) standing: LabelStatus,
}

/// What a line turned out to be.
#[derive(Debug)]
pub(super) enum Item {
    /// A round, a label, or both.
    Round { who: Who, votes: Option<Votes>, said: Option<Said> },
    /// The labels of a record of another shape.
    Labels(Vec<(Who, Said)>),
    /// An edit.
    Edit(Edit),
    /// A header.
    Header(BTreeMap<String, HeaderPolicy>),
    /// A savepoint's own line.
    Savepoint(Savepoint),
    /// A line that is none of these, with the reason.
    Malformed(String),
}

/// What a savepoint says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Savepoint {
    /// The learner that flags had asked for.
    pub(super) learner: Option<HeaderPolicy>,
    /// Whether the lines had times.
    pub(super) timed: Option<bool>,
    /// Lines with votes so far.
    pub(super) position: i64,
    /// The state's hash by policy, in hexadecimal.
    pub(super) states: BTreeMap<String, String>,
}

/// Lines of one file, parsed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Which of the streams.
    pub(super) stream: usize,
    pub(super) text: String,
    pub(super) scores: Vec<Score>,
    pub(super) readings: Vec<(EncoderId, Features)>,
    /// Panels that no batch before named: the experts' ids in order.
    pub(super) panels: Vec<Vec<String>>,
    /// Each with the number of its line, from 1.
    pub(super) items: Vec<(u64, Item)>,
    /// Lines read, empty ones included.
    pub(super) lines: u64,
}

impl Batch {
    pub(super) fn clear(&mut self, stream: usize) {
        self.stream = stream;
        self.text.clear();
        self.scores.clear();
        self.readings.clear();
        self.panels.clear();
        self.items.clear();
        self.lines = 0;
    }

    pub(super) fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        // A batch comes from one piece of a file, far below 4 GiB.
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: short(start), end: short(self.text.len()) }
    }

    pub(super) fn text(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }
}
