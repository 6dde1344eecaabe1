use super::*;

fn at(topic: &str, partition: i32, offset: i64) -> Place {
    Place::new(&topic.into(), partition, offset)
}

/// An audit of partition 0 with the events 3 to 9 except 5, which is a control record. The committed offset is 8.
fn audit() -> OutcomeAudit {
    let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
    audit.partition(0, 3..10, Some(8));
    audit.label_partition(0, 0..4);
    for offset in [3, 4, 6, 7, 8, 9] {
        audit.event(0, offset);
    }
    audit
}

fn decide(audit: &mut OutcomeAudit, offsets: &[i64]) {
    for (lies, offset) in (100..).zip(offsets) {
        audit.decision(at("decisions", 0, lies), "events", 0, *offset);
    }
}

fn kinds(audit: OutcomeAudit) -> Vec<(ViolationKind, u64)> {
    let (_, violations) = audit.close("g", true);
    violations.0.iter().map(|(kind, found)| (*kind, found.count)).collect()
}

#[test]
fn complete_records_have_no_violation_and_open_events_are_no_gaps() {
    let mut audit = audit();
    decide(&mut audit, &[2, 3, 6, 7]);
    assert!(audit.has_gaps() && audit.misses(0, 4) && !audit.misses(0, 3));
    audit.dead_letter(at("dlq", 1, 5), "events", 0, 4);
    audit.dead_letter(at("dlq", 1, 6), "labels", 0, 3);
    assert!(!audit.has_gaps());
    let (counts, violations) = audit.close("g", true);
    assert!(violations.is_empty(), "{violations:?}");
    let expected = Counts {
        events: 6,
        tombstones: 0,
        decisions: 4,
        event_dead_letters: 1,
        label_dead_letters: 1,
        open: 2,
        not_kept: 0,
        before: 1,
        deleted: 0,
        deleted_or_markers: 0,
    };
    assert_eq!(counts, expected);
}

#[test]
fn a_tombstone_needs_no_outcome_and_has_one_at_most() {
    let with = |letters: &[i64], decided: &[i64]| {
        let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
        audit.partition(0, 3..10, Some(8));
        [3, 4, 6].into_iter().for_each(|offset| audit.event(0, offset));
        [7, 8].into_iter().for_each(|offset| audit.tombstone(0, offset));
        decide(&mut audit, decided);
        let letters = (0..).zip(letters);
        letters.for_each(|(lies, offset)| audit.dead_letter(at("dlq", 0, lies), "events", 0, *offset));
        let (counts, violations) = audit.close("g", false);
        assert_eq!((counts.events, counts.tombstones, counts.open), (5, 2, 0));
        violations.0.iter().map(|(kind, found)| (*kind, found.count)).collect::<Vec<_>>()
    };
    assert_eq!(with(&[], &[3, 4, 6]), []);
    assert_eq!(with(&[7], &[3, 4, 6]), []);
    assert_eq!(with(&[7, 7], &[3, 4, 6]), [(ViolationKind::Duplicate, 1)]);
    assert_eq!(with(&[], &[3, 4]), [(ViolationKind::Gap, 1)]);
}

#[test]
fn each_violation_is_found_and_nothing_else() {
    let with = |offsets: &[i64]| {
        let mut audit = audit();
        decide(&mut audit, offsets);
        kinds(audit)
    };
    assert_eq!(with(&[3, 4, 6, 7]), []);
    assert_eq!(with(&[3, 6, 7]), [(ViolationKind::Gap, 1)]);
    assert_eq!(with(&[3, 4, 6, 7, 4]), [(ViolationKind::Duplicate, 1)]);
    assert_eq!(with(&[3, 6, 4, 7]), [(ViolationKind::Order, 1)]);
    assert_eq!(with(&[3, 4, 5, 6, 7]), [(ViolationKind::Orphan, 1)]);
    assert_eq!(with(&[3, 4, 6, 7, 10]), [(ViolationKind::Orphan, 1)]);
    assert_eq!(with(&[-1, 3, 4, 6, 7]), [(ViolationKind::Orphan, 1)]);
}

#[test]
fn a_dead_letter_and_a_decision_are_one_too_many() {
    let mut audit = audit();
    decide(&mut audit, &[3, 4, 6, 7]);
    audit.dead_letter(at("dlq", 0, 1), "events", 0, 3);
    audit.dead_letter(at("dlq", 0, 2), "labels", 0, 1);
    audit.dead_letter(at("dlq", 0, 3), "labels", 0, 1);
    audit.dead_letter(at("dlq", 0, 4), "labels", 0, 4);
    audit.dead_letter(at("dlq", 0, 5), "others", 0, 0);
    assert_eq!(kinds(audit), [(ViolationKind::Duplicate, 2), (ViolationKind::Orphan, 2)]);
}

#[test]
fn another_partition_or_topic_is_named() {
    let mut audit = audit();
    decide(&mut audit, &[3, 4, 6]);
    audit.decision(at("decisions", 1, 0), "events", 0, 7);
    audit.decision(at("decisions", 0, 200), "elsewhere", 0, 7);
    audit.unreadable(at("decisions", 0, 201), "the record is empty");
    assert_eq!(
        kinds(audit),
        [(ViolationKind::Order, 1), (ViolationKind::Orphan, 1), (ViolationKind::Unreadable, 1)]
    );
}

#[test]
fn outcomes_that_may_have_been_deleted_are_not_missed() {
    let mut audit = audit();
    audit.kept_from(0, 6);
    decide(&mut audit, &[6]);
    let (counts, violations) = audit.close("g", true);
    assert_eq!((counts.not_kept, counts.open), (2, 2));
    assert_eq!(violations.count(ViolationKind::Gap), 1);
    let shown = violations.0.get(&ViolationKind::Gap).unwrap().shown.first().unwrap().to_string();
    assert!(shown.starts_with("events partition 0 offset 7: has neither"), "{shown}");
}

/// Audits partition 0 with the events `events`, outcomes of these and of `before`, and the committed offset.
fn deleted(before: &[i64], committed: Option<i64>, events: &[i64]) -> (Counts, Vec<String>) {
    let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
    audit.partition(0, 50..60, committed);
    events.iter().for_each(|offset| audit.event(0, *offset));
    decide(&mut audit, before);
    decide(&mut audit, events);
    let (counts, violations) = audit.close("g", true);
    let shown = violations.0.values().flat_map(|found| &found.shown).map(ToString::to_string);
    (counts, shown.collect())
}

#[test]
fn events_that_were_deleted_before_they_were_decided_are_named() {
    let all: Vec<i64> = (50..60).collect();
    let to = |end: i64| (0..end).collect::<Vec<i64>>();
    // Everything before the first event kept was decided since the start of the group.
    assert_eq!(deleted(&to(50), Some(60), &all).1, [""; 0]);
    assert_eq!(deleted(&to(50)[20..], Some(60), &all).1, [""; 0]);
    assert_eq!(deleted(&[], None, &all).1, [""; 0]);
    // The scorer is not running, or has continued behind the gap, which may end before the first event kept.
    for (before, committed, first) in [(to(30), 30, 30), (to(30), 60, 30), (vec![], 20, 20)] {
        let (counts, shown) = deleted(&before, Some(committed), if committed == 60 { &all } else { &[] });
        let named = format!("events partition 0 offset {first}: up to offset 49: {} offsets", 50 - first);
        assert!(shown.len() == 1 && shown[0].starts_with(&named), "{shown:?}");
        assert_eq!((counts.deleted, counts.deleted_or_markers), (50 - first as u64, 0));
    }
    let (_, shown) = deleted(&[to(10), (40..50).collect()].concat(), Some(60), &all);
    assert!(shown[0].starts_with("events partition 0 offset 10: up to offset 39"), "{shown:?}");
    // A single event is reported if the offsets of the events kept have no holes.
    assert_eq!(deleted(&to(49), Some(60), &all).1.len(), 1);
}

#[test]
fn offsets_that_transactions_may_have_used_are_no_violation() {
    let to = |end: i64| (0..end).collect::<Vec<i64>>();
    // With markers and an aborted transaction of two records, three consecutive offsets are no events.
    let holes = [50, 51, 55, 56, 58];
    assert_eq!(deleted(&to(47), Some(60), &holes).1, [""; 0]);
    assert_eq!(deleted(&to(47), Some(60), &holes).0.deleted_or_markers, 3);
    assert_eq!(deleted(&to(46), Some(60), &holes).0.deleted, 4);
    // If no event is kept, the last offset may be a marker.
    assert_eq!(deleted(&to(49), Some(49), &[]).1, [""; 0]);
    // The outcomes have been deleted as well.
    let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
    audit.partition(0, 50..60, Some(60));
    audit.kept_from(0, 45);
    decide(&mut audit, &(45..50).collect::<Vec<_>>());
    assert_eq!(kinds(audit), []);
    // With a start time nothing before it is audited.
    let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
    audit.partition(0, 50..60, Some(20));
    assert!(audit.close("g", false).1.is_empty());
}

#[test]
fn some_violations_are_shown_and_all_are_counted() {
    let mut audit = OutcomeAudit::new(&"events".into(), &"labels".into());
    audit.partition(0, 0..1_000, Some(1_000));
    (0..1_000).for_each(|offset| audit.event(0, offset));
    let (_, violations) = audit.close("g", true);
    let found = violations.0.get(&ViolationKind::Gap).unwrap();
    assert_eq!((found.count, found.shown.len()), (1_000, super::super::violations::SHOWN));
}
