//! The violations of the guarantees, and their places.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// The number of violations of a kind that are shown. All are counted.
pub const SHOWN: usize = 20;

/// The kind of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// An event below the committed offset without an outcome.
    Gap,
    /// Events that the brokers deleted before they were decided.
    Deleted,
    /// A second outcome of one record.
    Duplicate,
    /// A decision after one of a later event of the same partition.
    Order,
    /// A decision or dead letter of a record that does not exist.
    Orphan,
    /// A decision that asks for a review, without a request.
    RequestGap,
    /// A second review request for one decision.
    RequestDuplicate,
    /// A review request without a decision that asks for one, or that differs from its decision.
    RequestOrphan,
    /// A decision, dead letter, review request, ledger record or predictor that cannot be read.
    Unreadable,
    /// A predictor whose hash differs from that of the ledger's fold.
    Hash,
    /// A predictor of another learner or mapping than the configuration's, so that its hash cannot be verified.
    Policy,
    /// The learner's store was filled from another ledger topic, or has records that the topic does not have.
    Store,
}

impl ViolationKind {
    /// A description of the violations of this kind.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Gap => "events without an outcome below the committed offset",
            Self::Deleted => "runs of events that were deleted before they were decided",
            Self::Duplicate => "second outcomes of one record",
            Self::Order => "decisions out of their events' order",
            Self::Orphan => "outcomes of no event or label",
            Self::RequestGap => "decisions that ask for a review, without a request",
            Self::RequestDuplicate => "second review requests for one decision",
            Self::RequestOrphan => "review requests that fit no decision",
            Self::Unreadable => "records that cannot be read",
            Self::Hash => "predictors that are not the ledger's fold",
            Self::Policy => "predictors of another configuration",
            Self::Store => "differences between the learner's store and the ledger",
        }
    }
}

/// The place of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The topic.
    #[serde(serialize_with = "text")]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

fn text<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl Place {
    /// The place of a record by topic, partition and offset.
    #[must_use]
    pub fn new(topic: &Arc<str>, partition: i32, offset: i64) -> Self {
        Self { topic: Arc::clone(topic), partition, offset }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} partition {} offset {}", self.topic, self.partition, self.offset)
    }
}

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The record that shows it.
    pub at: Place,
    /// A description of the violation.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.at, self.what)
    }
}

/// The violations of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindViolations {
    /// Their number.
    pub count: u64,
    /// The first [`SHOWN`].
    pub shown: Vec<Violation>,
}

/// All violations, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Violations(pub BTreeMap<ViolationKind, KindViolations>);

impl Violations {
    /// Adds a violation.
    pub fn add(&mut self, kind: ViolationKind, at: Place, what: impl FnOnce() -> String) {
        let found = self.0.entry(kind).or_default();
        found.count += 1;
        if found.shown.len() < SHOWN {
            found.shown.push(Violation { at, what: what() });
        }
    }

    /// Adds the violations of another audit.
    pub fn merge(&mut self, others: Self) {
        for (kind, other) in others.0 {
            let found = self.0.entry(kind).or_default();
            found.count += other.count;
            found.shown.extend(other.shown);
            found.shown.truncate(SHOWN);
        }
    }

    /// Returns `true` if there are no violations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of violations of a kind.
    #[must_use]
    pub fn count(&self, kind: ViolationKind) -> u64 {
        self.0.get(&kind).map_or(0, |found| found.count)
    }
}
