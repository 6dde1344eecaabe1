//! The audit of review requests: each decision that asks for a review has one, and no other decision has.
//!
//! It is pure: it is fed with decisions and requests in any order. It holds some 24 bytes for each decision that asks for
//! a review and has no request yet, and two bits for each one that has.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::offset_set::OffsetSet;
use super::violations::{Place, ViolationKind, Violations};
use crate::core::decision::{Decision, Origin, ReviewReason, Sampling};
use crate::core::event::Millis;
use crate::core::ledger::RoundId;
use crate::core::policy::Action;
use crate::core::review::ReviewRequest;

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
        let contents = Contents {
            id: &decision.id,
            origin: &decision.origin,
            round_time: decision.round_time,
            action: decision.action,
            reasons: reasons(&decision.reasons, decision.sampling),
            numbers: Numbers([
                decision.probability,
                Some(decision.threshold),
                Some(decision.review_probability),
                Some(decision.sampling.audit),
                Some(decision.sampling.uncertainty),
            ]),
            thinned: decision.sampling.thinned,
        };
        let expected = contents.fingerprint();
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
        let contents = Contents {
            id: &request.id,
            origin: &request.origin,
            round_time: request.round_time,
            action: request.action,
            reasons: reasons(&request.reasons, request.sampling),
            numbers: Numbers([
                request.probability,
                Some(request.threshold),
                Some(request.inclusion_probability),
                Some(request.sampling.audit),
                Some(request.sampling.uncertainty),
            ]),
            thinned: request.sampling.thinned,
        };
        let found = contents.fingerprint();
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

/// The contents that a decision and its request have in common.
#[derive(Hash)]
struct Contents<'a> {
    id: &'a RoundId,
    origin: &'a Origin,
    round_time: Millis,
    action: Action,
    reasons: &'a [ReviewReason],
    numbers: Numbers,
    thinned: bool,
}

/// The reasons that a decision and its request have in common. A decision without sampling may have been written by an
/// earlier version, which wrote all reasons into the request and only the first into the decision.
fn reasons(all: &[ReviewReason], sampling: Sampling) -> &[ReviewReason] {
    if sampling == Sampling::default() { all.get(..1).unwrap_or_default() } else { all }
}

/// The probability, the threshold, the probability of review, and those of the draws.
struct Numbers([Option<f64>; 5]);

impl Hash for Numbers {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.0.map(|number| number.map(f64::to_bits)).hash(to);
    }
}

impl Contents<'_> {
    /// A hash of the contents.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::label::DecisionRef;

    fn asking(offset: i64) -> Decision {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: format!("e{offset}") };
        Decision {
            action: Action::Review,
            degraded: true,
            reasons: vec![ReviewReason::TooFewAwake, ReviewReason::Audit],
            review_probability: 1.0,
            sampling: Sampling { audit: 0.25, ..Sampling::default() },
            ..Decision::example(id, offset)
        }
    }

    fn request(offset: i64) -> ReviewRequest {
        let decision = asking(offset);
        ReviewRequest {
            id: decision.id,
            conversation: decision.conversation,
            subject: None,
            origin: decision.origin,
            decision: DecisionRef { partition: 0, offset },
            round_time: 1,
            policy_version: "1".into(),
            action: Action::Review,
            probability: None,
            threshold: 0.5,
            reasons: decision.reasons,
            inclusion_probability: 1.0,
            sampling: decision.sampling,
            categories: Vec::new(),
            trace: None,
        }
    }

    fn at(offset: i64) -> Place {
        Place::new(&"review".into(), 0, offset)
    }

    /// An audit of the decisions 3 to 6, of which 5 does not ask for a review.
    fn audit(decided: bool) -> RequestAudit {
        let mut audit = RequestAudit::new(&"decisions".into());
        audit.begins(0, 3);
        if decided {
            decide(&mut audit);
        }
        audit
    }

    fn decide(audit: &mut RequestAudit) {
        for offset in [3, 4, 6] {
            audit.decision(0, offset, &asking(offset));
        }
        audit.decision(0, 5, &Decision { reasons: Vec::new(), ..asking(5) });
    }

    fn kinds(audit: RequestAudit) -> Vec<(ViolationKind, u64)> {
        let (_, violations) = audit.close();
        violations.0.iter().map(|(kind, found)| (*kind, found.count)).collect()
    }

    #[test]
    fn complete_records_have_no_violation_in_any_order() {
        for decided in [true, false] {
            let mut audit = audit(decided);
            for offset in [2, 3, 6, 4] {
                audit.request(at(offset), &request(offset));
            }
            if !decided {
                assert!(audit.has_gaps() && audit.awaits(0, 4) && !audit.awaits(0, 2));
                decide(&mut audit);
            }
            assert!(!audit.has_gaps());
            let (counts, violations) = audit.close();
            assert!(violations.is_empty(), "{violations:?}");
            assert_eq!(counts, RequestCounts { requests: 4, asking: 3, not_kept: 0, before: 1 });
        }
    }

    #[test]
    fn each_violation_is_found_and_nothing_else() {
        let with = |offsets: &[i64]| {
            let mut audit = audit(true);
            offsets.iter().for_each(|offset| audit.request(at(*offset), &request(*offset)));
            kinds(audit)
        };
        assert_eq!(with(&[3, 4, 6]), []);
        assert_eq!(with(&[3, 4]), [(ViolationKind::RequestGap, 1)]);
        assert_eq!(with(&[3, 4, 6, 4]), [(ViolationKind::RequestDuplicate, 1)]);
        assert_eq!(with(&[3, 4, 6, 5]), [(ViolationKind::RequestOrphan, 1)]);
        assert_eq!(with(&[3, 4, 6, 7]), [(ViolationKind::RequestOrphan, 1)]);
    }

    #[test]
    fn a_request_that_differs_from_its_decision_is_found() {
        let changes: [fn(&mut ReviewRequest); 10] = [
            |request| request.id.event = "other".into(),
            |request| request.origin.offset += 1,
            |request| request.inclusion_probability = 0.5,
            |request| request.probability = Some(0.5),
            |request| request.reasons = vec![ReviewReason::Flagged],
            |request| request.reasons.truncate(1),
            |request| request.sampling.audit = 0.5,
            |request| request.sampling.uncertainty = 0.5,
            |request| request.sampling.thinned = true,
            |request| request.decision = DecisionRef { partition: 9, offset: 4 },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut audit = audit(true);
            let mut changed = request(4);
            change(&mut changed);
            for (place, request) in [request(3), changed, request(6)].iter().enumerate() {
                audit.request(at(i64::try_from(place).unwrap()), request);
            }
            let gap = if number == 9 { vec![(ViolationKind::RequestGap, 1)] } else { Vec::new() };
            let expected = [gap, vec![(ViolationKind::RequestOrphan, 1)]].concat();
            assert_eq!(kinds(audit), expected, "change {number}");
        }
    }

    #[test]
    fn a_decision_of_an_earlier_version_has_only_the_first_reason_of_its_request() {
        let mut audit = audit(false);
        let sampling = Sampling::default();
        let reasons = vec![ReviewReason::TooFewAwake];
        audit.decision(0, 3, &Decision { reasons, sampling, ..asking(3) });
        let reasons = vec![ReviewReason::TooFewAwake, ReviewReason::NearThreshold];
        audit.request(at(0), &ReviewRequest { reasons, sampling, ..request(3) });
        assert_eq!(kinds(audit), []);
    }

    #[test]
    fn a_request_in_another_partition_than_its_decision_is_found() {
        let mut audit = audit(true);
        for offset in [3, 4, 6] {
            let at = Place::new(&"review".into(), i32::from(offset == 4), offset);
            audit.request(at, &request(offset));
        }
        assert_eq!(kinds(audit), [(ViolationKind::RequestOrphan, 1)]);
    }

    #[test]
    fn requests_that_may_have_been_deleted_are_not_missed() {
        let mut audit = audit(true);
        audit.kept_from(0, 4);
        assert!(audit.has_gaps() && audit.misses(0, 4));
        audit.request(at(0), &request(6));
        let (counts, violations) = audit.close();
        assert_eq!((counts.not_kept, violations.count(ViolationKind::RequestGap)), (1, 1));
    }
}
