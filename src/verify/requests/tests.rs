use super::*;
use crate::core::decision::{ReviewReason, Sampling};
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundId;
use crate::core::policy::Action;

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
