//! What can be wrong, and where it was found.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// So many faults of a kind are shown; all are counted.
pub const SHOWN: usize = 20;

/// A kind of fault.
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
    /// A review request for no decision that asks for one, or that says otherwise than its decision.
    RequestOrphan,
    /// A decision, dead letter, review request, ledger record or predictor that cannot be read.
    Unreadable,
    /// A predictor whose hash is not that of the ledger's fold.
    Hash,
    /// A predictor of another learner or mapping than the configuration's: its hash cannot be checked.
    Policy,
    /// The learner's store was filled from another ledger topic, or has records that the topic lacks.
    Store,
}

impl ViolationKind {
    /// What it is, for people.
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

/// A record's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Its topic.
    #[serde(serialize_with = "text")]
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

fn text<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl Place {
    /// A place.
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

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where it shows.
    pub at: Place,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.at, self.what)
    }
}

/// The faults of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindViolations {
    /// How many.
    pub count: u64,
    /// The first [`SHOWN`].
    pub shown: Vec<Violation>,
}

/// All faults by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Violations(pub BTreeMap<ViolationKind, KindViolations>);

impl Violations {
    /// Notes a fault.
    pub fn add(&mut self, kind: ViolationKind, at: Place, what: impl FnOnce() -> String) {
        let found = self.0.entry(kind).or_default();
        found.count += 1;
        if found.shown.len() < SHOWN {
            found.shown.push(Violation { at, what: what() });
        }
    }

    /// Takes over what others found.
    pub fn merge(&mut self, others: Self) {
        for (kind, other) in others.0 {
            let found = self.0.entry(kind).or_default();
            found.count += other.count;
            found.shown.extend(other.shown);
            found.shown.truncate(SHOWN);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of a kind.
    #[must_use]
    pub fn count(&self, kind: ViolationKind) -> u64 {
        self.0.get(&kind).map_or(0, |found| found.count)
    }
}
