//! The books of review requests: each decision that asks for a review has one, and nothing else has.
//!
//! Pure: fed with decisions and requests in any order. It holds some 24 bytes for each decision that asks and
//! has no request yet, and two bits for each that has.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::offset_set::OffsetSet;
use super::violations::{Place, ViolationKind, Violations};
use crate::core::decision::{Decision, Origin, ReviewReason};
use crate::core::event::Millis;
use crate::core::ledger::RoundId;
use crate::core::policy::Action;
use crate::core::review::ReviewRequest;

/// One partition of decisions.
#[derive(Debug, Default)]
struct Partition {
    /// The first offset that is looked at.
    start: i64,
    /// Before this the requests may be gone from their topic.
    kept_from: i64,
    /// What the requests must say that are still to come, by their decisions' offsets.
    open: BTreeMap<i64, u64>,
    /// RequestAudit whose decisions are still to come.
    early: BTreeMap<i64, (Place, u64)>,
    /// Decisions that have a request.
    answered: OffsetSet,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RequestCounts {
    /// Review requests read.
    pub requests: u64,
    /// Decisions read that ask for a review.
    pub asking: u64,
    /// Of these, the ones whose request may be gone from its topic: not looked for.
    pub not_kept: u64,
    /// RequestAudit of decisions before those that are looked at.
    pub before: u64,
}

/// Decisions that ask for a review, and review requests.
#[derive(Debug)]
pub struct RequestAudit {
    decisions: Arc<str>,
    partitions: BTreeMap<i32, Partition>,
    counts: RequestCounts,
    faults: Violations,
}

impl RequestAudit {
    /// OutcomeAudit for the decisions of this topic.
    #[must_use]
    pub fn new(decisions: &Arc<str>) -> Self {
        Self {
            decisions: Arc::clone(decisions),
            partitions: BTreeMap::new(),
            counts: RequestCounts::default(),
            faults: Violations::default(),
        }
    }

    /// Decisions of the partition before `offset` are not looked at, or have gone from their topic.
    pub fn begins(&mut self, partition: i32, offset: i64) {
        let known = self.partitions.entry(partition).or_default();
        known.start = known.start.max(offset);
    }

    /// The requests of decisions before `offset` may be gone from their topic: they are not missed.
    pub fn kept_from(&mut self, partition: i32, offset: i64) {
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.kept_from = known.kept_from.max(offset);
        }
    }

    /// A decision was read at this place.
    pub fn decision(&mut self, partition: i32, offset: i64, decision: &Decision) {
        let Some(reason) = decision.review else { return };
        self.counts.asking += 1;
        let says = Said {
            id: &decision.id,
            origin: &decision.origin,
            round_time: decision.round_time,
            action: decision.action,
            reason: Some(reason),
            numbers: Numbers([
                decision.probability,
                Some(decision.threshold),
                Some(decision.review_probability),
            ]),
        };
        let says = says.print();
        let known = self.partitions.entry(partition).or_default();
        match known.early.remove(&offset) {
            Some((at, said)) => self.compare(at, offset, said == says),
            None => _ = known.open.insert(offset, says),
        }
    }

    /// A request was read at `at`.
    pub fn request(&mut self, at: Place, request: &ReviewRequest) {
        self.counts.requests += 1;
        let (partition, offset) = (request.decision.partition, request.decision.offset);
        let decision = Place::new(&self.decisions, partition, offset);
        let Some(known) = self.partitions.get_mut(&partition) else {
            return self.faults.add(ViolationKind::RequestOrphan, at, || format!("there is no {decision}"));
        };
        if offset < known.start {
            self.counts.before += 1;
            return;
        }
        if at.partition != partition {
            self.faults.add(ViolationKind::RequestOrphan, at.clone(), || {
                format!("is of the decision at {decision}: order per key is lost across partitions")
            });
        }
        if !known.answered.add(offset) {
            return self
                .faults
                .add(ViolationKind::RequestDuplicate, at, || format!("{decision} has one already"));
        }
        let says = Said {
            id: &request.id,
            origin: &request.origin,
            round_time: request.round_time,
            action: request.action,
            reason: request.reasons.first().copied(),
            numbers: Numbers([
                request.probability,
                Some(request.threshold),
                Some(request.inclusion_probability),
            ]),
        };
        let said = says.print();
        match known.open.remove(&offset) {
            Some(says) => self.compare(at, offset, said == says),
            None => _ = known.early.insert(offset, (at, said)),
        }
    }

    fn compare(&mut self, at: Place, offset: i64, same: bool) {
        if !same {
            let topic = Arc::clone(&self.decisions);
            self.faults.add(ViolationKind::RequestOrphan, at, || {
                format!("says otherwise than the decision that it names, {topic} offset {offset}")
            });
        }
    }

    /// Something at `at` cannot be read.
    pub fn unreadable(&mut self, at: Place, why: &str) {
        self.faults.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Whether this decision's request has been read and waits for it.
    #[must_use]
    pub fn awaits(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|known| known.early.contains_key(&offset))
    }

    /// Whether this decision asks and has no request yet.
    #[must_use]
    pub fn misses(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|known| known.open.contains_key(&offset))
    }

    /// Whether a decision's request or a request's decision is still to come.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.partitions.values().any(|known| {
            known.open.range(known.kept_from..).next().is_some()
                || known.early.range(known.start..).next().is_some()
        })
    }

    /// Closes the books.
    #[must_use]
    pub fn close(mut self) -> (RequestCounts, Violations) {
        for (number, known) in self.partitions {
            self.counts.not_kept += known.open.range(..known.kept_from).count() as u64;
            for offset in known.open.range(known.kept_from..).map(|(offset, _)| *offset) {
                self.faults.add(
                    ViolationKind::RequestGap,
                    Place::new(&self.decisions, number, offset),
                    || "asks for a review and has no request".to_owned(),
                );
            }
            for (offset, (at, _)) in known.early.range(known.start..) {
                let decision = Place::new(&self.decisions, number, *offset);
                self.faults.add(ViolationKind::RequestOrphan, at.clone(), || {
                    format!("there is no decision that asks for a review at {decision}")
                });
            }
        }
        (self.counts, self.faults)
    }
}

/// What a decision and its request both say.
#[derive(Hash)]
struct Said<'a> {
    id: &'a RoundId,
    origin: &'a Origin,
    round_time: Millis,
    action: Action,
    reason: Option<ReviewReason>,
    numbers: Numbers,
}

/// The probability, the threshold, the probability of review.
struct Numbers([Option<f64>; 3]);

impl Hash for Numbers {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.0.map(|number| number.map(f64::to_bits)).hash(to);
    }
}

impl Said<'_> {
    fn print(&self) -> u64 {
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
            review: Some(ReviewReason::TooFewAwake),
            review_probability: 1.0,
            ..Decision::bare(id, offset)
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
            reasons: vec![ReviewReason::TooFewAwake],
            inclusion_probability: 1.0,
            categories: Vec::new(),
            trace: None,
        }
    }

    fn at(offset: i64) -> Place {
        Place::new(&"review".into(), 0, offset)
    }

    /// Decisions 3 to 6 are looked at; 5 asks for nothing.
    fn books(decided: bool) -> RequestAudit {
        let mut books = RequestAudit::new(&"decisions".into());
        books.begins(0, 3);
        if decided {
            decide(&mut books);
        }
        books
    }

    fn decide(books: &mut RequestAudit) {
        for offset in [3, 4, 6] {
            books.decision(0, offset, &asking(offset));
        }
        books.decision(0, 5, &Decision { review: None, ..asking(5) });
    }

    fn kinds(books: RequestAudit) -> Vec<(ViolationKind, u64)> {
        let (_, faults) = books.close();
        faults.0.iter().map(|(kind, found)| (*kind, found.count)).collect()
    }

    #[test]
    fn what_is_whole_has_no_fault_whichever_comes_first() {
        for decided in [true, false] {
            let mut books = books(decided);
            for offset in [2, 3, 6, 4] {
                books.request(at(offset), &request(offset));
            }
            if !decided {
                assert!(books.has_gaps() && books.awaits(0, 4) && !books.awaits(0, 2));
                decide(&mut books);
            }
            assert!(!books.has_gaps());
            let (counts, faults) = books.close();
            assert!(faults.is_empty(), "{faults:?}");
            assert_eq!(counts, RequestCounts { requests: 4, asking: 3, not_kept: 0, before: 1 });
        }
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        let with = |offsets: &[i64]| {
            let mut books = books(true);
            offsets.iter().for_each(|offset| books.request(at(*offset), &request(*offset)));
            kinds(books)
        };
        assert_eq!(with(&[3, 4, 6]), []);
        assert_eq!(with(&[3, 4]), [(ViolationKind::RequestGap, 1)]);
        assert_eq!(with(&[3, 4, 6, 4]), [(ViolationKind::RequestDuplicate, 1)]);
        assert_eq!(with(&[3, 4, 6, 5]), [(ViolationKind::RequestOrphan, 1)]);
        assert_eq!(with(&[3, 4, 6, 7]), [(ViolationKind::RequestOrphan, 1)]);
    }

    #[test]
    fn what_says_otherwise_than_its_decision_is_found() {
        let changes: [fn(&mut ReviewRequest); 6] = [
            |request| request.id.event = "other".into(),
            |request| request.origin.offset += 1,
            |request| request.inclusion_probability = 0.5,
            |request| request.probability = Some(0.5),
            |request| request.reasons = vec![ReviewReason::Flagged],
            |request| request.decision = DecisionRef { partition: 9, offset: 4 },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut books = books(true);
            let mut changed = request(4);
            change(&mut changed);
            for (place, request) in [request(3), changed, request(6)].iter().enumerate() {
                books.request(at(i64::try_from(place).unwrap()), request);
            }
            let gap = if number == 5 { vec![(ViolationKind::RequestGap, 1)] } else { Vec::new() };
            let expected = [gap, vec![(ViolationKind::RequestOrphan, 1)]].concat();
            assert_eq!(kinds(books), expected, "change {number}");
        }
    }

    #[test]
    fn a_request_in_another_partition_than_its_decision_is_found() {
        let mut books = books(true);
        for offset in [3, 4, 6] {
            let at = Place::new(&"review".into(), i32::from(offset == 4), offset);
            books.request(at, &request(offset));
        }
        assert_eq!(kinds(books), [(ViolationKind::RequestOrphan, 1)]);
    }

    #[test]
    fn requests_that_are_no_longer_kept_are_not_missed() {
        let mut books = books(true);
        books.kept_from(0, 4);
        assert!(books.has_gaps() && books.misses(0, 4));
        books.request(at(0), &request(6));
        let (counts, faults) = books.close();
        assert_eq!((counts.not_kept, faults.count(ViolationKind::RequestGap)), (1, 1));
    }
}
