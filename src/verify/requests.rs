//! The audit of review requests: each decision that asks for a review has one, and no other decision has.
//!
//! It is pure: it is fed with decisions and requests in any order. It holds some 24 bytes for each decision that asks for
//! a review and has no request yet, and two bits for each one that has.

mod contents;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::offset_set::OffsetSet;
use super::violations::{Place, ViolationKind, Violations};
use crate::core::decision::Decision;
use crate::core::review::ReviewRequest;
use contents::Contents;

/// A partition of decisions.
#[derive(Debug, Default)]
struct Partition {
    /// The first offset that is audited.
    start: i64,
    /// The requests of decisions before this offset may have been deleted from their topic.
    kept_from: i64,
    /// The fingerprints of the decisions that have no request yet, by offset.
    open: BTreeMap<i64, u64>,
    /// The places and fingerprints of requests whose decisions have not been read yet, by the offset of the decision.
    early: BTreeMap<i64, (Place, u64)>,
    /// The offsets of decisions that have a request.
    answered: OffsetSet,
}

/// The counts of an audit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RequestCounts {
    /// The number of review requests read.
    pub requests: u64,
    /// The number of decisions read that ask for a review.
    pub asking: u64,
    /// The number of these decisions without a request whose request may have been deleted from its topic.
    pub not_kept: u64,
    /// The number of requests of decisions before those that are audited.
    pub before: u64,
}

/// An audit of the decisions that ask for a review, and of the review requests.
#[derive(Debug)]
pub struct RequestAudit {
    decisions: Arc<str>,
    partitions: BTreeMap<i32, Partition>,
    counts: RequestCounts,
    violations: Violations,
}

impl RequestAudit {
    /// An audit of the decisions on this topic.
    #[must_use]
    pub fn new(decisions: &Arc<str>) -> Self {
        Self {
            decisions: Arc::clone(decisions),
            partitions: BTreeMap::new(),
            counts: RequestCounts::default(),
            violations: Violations::default(),
        }
    }

    /// Notes that decisions of the partition before `offset` are not audited, or have been deleted.
    pub fn begins(&mut self, partition: i32, offset: i64) {
        let state = self.partitions.entry(partition).or_default();
        state.start = state.start.max(offset);
    }

    /// Notes that the requests of decisions before `offset` may have been deleted, so that they are not reported as missing.
    pub fn kept_from(&mut self, partition: i32, offset: i64) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.kept_from = state.kept_from.max(offset);
        }
    }

    /// Adds the decision at this place.
    pub fn decision(&mut self, partition: i32, offset: i64, decision: &Decision) {
        if decision.review().is_none() {
            return;
        }
        self.counts.asking += 1;
        let expected = Contents::of_decision(decision).fingerprint();
        let state = self.partitions.entry(partition).or_default();
        match state.early.remove(&offset) {
            Some((at, found)) => self.compare(at, offset, found == expected),
            None => _ = state.open.insert(offset, expected),
        }
    }

    /// Adds the request at `at`.
    pub fn request(&mut self, at: Place, request: &ReviewRequest) {
        self.counts.requests += 1;
        let (partition, offset) = (request.decision.partition, request.decision.offset);
        let decision = Place::new(&self.decisions, partition, offset);
        let Some(state) = self.partitions.get_mut(&partition) else {
            return self
                .violations
                .add(ViolationKind::RequestOrphan, at, || format!("there is no {decision}"));
        };
        if offset < state.start {
            self.counts.before += 1;
            return;
        }
        if at.partition != partition {
            self.violations.add(ViolationKind::RequestOrphan, at.clone(), || {
                format!("is of the decision at {decision}: order per key is lost across partitions")
            });
        }
        if !state.answered.add(offset) {
            return self
                .violations
                .add(ViolationKind::RequestDuplicate, at, || format!("{decision} has one already"));
        }
        let found = Contents::of_request(request).fingerprint();
        match state.open.remove(&offset) {
            Some(expected) => self.compare(at, offset, found == expected),
            None => _ = state.early.insert(offset, (at, found)),
        }
    }

    fn compare(&mut self, at: Place, offset: i64, same: bool) {
        if !same {
            let topic = Arc::clone(&self.decisions);
            self.violations.add(ViolationKind::RequestOrphan, at, || {
                format!("differs from the decision that it names, {topic} offset {offset}")
            });
        }
    }

    /// Adds a request that cannot be decoded.
    pub fn unreadable(&mut self, at: Place, why: &str) {
        self.violations.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Returns `true` if the request of this decision has been read, and the decision has not.
    #[must_use]
    pub fn awaits(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|state| state.early.contains_key(&offset))
    }

    /// Returns `true` if this decision asks for a review and has no request yet.
    #[must_use]
    pub fn misses(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|state| state.open.contains_key(&offset))
    }

    /// Returns `true` if a decision lacks its request, or a request its decision.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.partitions.values().any(|state| {
            state.open.range(state.kept_from..).next().is_some()
                || state.early.range(state.start..).next().is_some()
        })
    }

    /// Closes the audit.
    #[must_use]
    pub fn close(mut self) -> (RequestCounts, Violations) {
        for (number, state) in self.partitions {
            self.counts.not_kept += state.open.range(..state.kept_from).count() as u64;
            for offset in state.open.range(state.kept_from..).map(|(offset, _)| *offset) {
                self.violations.add(
                    ViolationKind::RequestGap,
                    Place::new(&self.decisions, number, offset),
                    || "asks for a review and has no request".to_owned(),
                );
            }
            for (offset, (at, _)) in state.early.range(state.start..) {
                let decision = Place::new(&self.decisions, number, *offset);
                self.violations.add(ViolationKind::RequestOrphan, at.clone(), || {
                    format!("there is no decision that asks for a review at {decision}")
                });
            }
        }
        (self.counts, self.violations)
    }
}

#[cfg(test)]
mod tests;
