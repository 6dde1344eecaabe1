use super::*;

fn at(topic: &str, partition: i32, offset: i64) -> Place {
    Place::new(&topic.into(), partition, offset)
}

/// Partition 0 with events 3 to 9 but 5, which is a control record; 8 is committed.
fn books() -> OutcomeAudit {
    let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
    books.partition(0, 3..10, Some(8));
    books.label_partition(0, 0..4);
    for offset in [3, 4, 6, 7, 8, 9] {
        books.event(0, offset);
    }
    books
}

fn decide(books: &mut OutcomeAudit, offsets: &[i64]) {
    for (lies, offset) in (100..).zip(offsets) {
        books.decision(at("decisions", 0, lies), "events", 0, *offset);
    }
}

fn kinds(books: OutcomeAudit) -> Vec<(ViolationKind, u64)> {
    let (_, faults) = books.close("g", true);
    faults.0.iter().map(|(kind, found)| (*kind, found.count)).collect()
}

#[test]
fn what_is_whole_has_no_fault_and_open_events_are_no_gaps() {
    let mut books = books();
    decide(&mut books, &[2, 3, 6, 7]);
    assert!(books.has_gaps() && books.misses(0, 4) && !books.misses(0, 3));
    books.dead_letter(at("dlq", 1, 5), "events", 0, 4);
    books.dead_letter(at("dlq", 1, 6), "labels", 0, 3);
    assert!(!books.has_gaps());
    let (counts, faults) = books.close("g", true);
    assert!(faults.is_empty(), "{faults:?}");
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
        let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
        books.partition(0, 3..10, Some(8));
        [3, 4, 6].into_iter().for_each(|offset| books.event(0, offset));
        [7, 8].into_iter().for_each(|offset| books.tombstone(0, offset));
        decide(&mut books, decided);
        let letters = (0..).zip(letters);
        letters.for_each(|(lies, offset)| books.dead_letter(at("dlq", 0, lies), "events", 0, *offset));
        let (counts, faults) = books.close("g", false);
        assert_eq!((counts.events, counts.tombstones, counts.open), (5, 2, 0));
        faults.0.iter().map(|(kind, found)| (*kind, found.count)).collect::<Vec<_>>()
    };
    assert_eq!(with(&[], &[3, 4, 6]), []);
    assert_eq!(with(&[7], &[3, 4, 6]), []);
    assert_eq!(with(&[7, 7], &[3, 4, 6]), [(ViolationKind::Duplicate, 1)]);
    assert_eq!(with(&[], &[3, 4]), [(ViolationKind::Gap, 1)]);
}

#[test]
fn each_fault_is_found_and_nothing_else() {
    let with = |offsets: &[i64]| {
        let mut books = books();
        decide(&mut books, offsets);
        kinds(books)
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
    let mut books = books();
    decide(&mut books, &[3, 4, 6, 7]);
    books.dead_letter(at("dlq", 0, 1), "events", 0, 3);
    books.dead_letter(at("dlq", 0, 2), "labels", 0, 1);
    books.dead_letter(at("dlq", 0, 3), "labels", 0, 1);
    books.dead_letter(at("dlq", 0, 4), "labels", 0, 4);
    books.dead_letter(at("dlq", 0, 5), "others", 0, 0);
    assert_eq!(kinds(books), [(ViolationKind::Duplicate, 2), (ViolationKind::Orphan, 2)]);
}

#[test]
fn another_partition_or_topic_is_named() {
    let mut books = books();
    decide(&mut books, &[3, 4, 6]);
    books.decision(at("decisions", 1, 0), "events", 0, 7);
    books.decision(at("decisions", 0, 200), "elsewhere", 0, 7);
    books.unreadable(at("decisions", 0, 201), "the record is empty");
    assert_eq!(
        kinds(books),
        [(ViolationKind::Order, 1), (ViolationKind::Orphan, 1), (ViolationKind::Unreadable, 1)]
    );
}

#[test]
fn outcomes_that_are_no_longer_kept_are_not_missed() {
    let mut books = books();
    books.kept_from(0, 6);
    decide(&mut books, &[6]);
    let (counts, faults) = books.close("g", true);
    assert_eq!((counts.not_kept, counts.open), (2, 2));
    assert_eq!(faults.count(ViolationKind::Gap), 1);
    let shown = faults.0.get(&ViolationKind::Gap).unwrap().shown.first().unwrap().to_string();
    assert!(shown.starts_with("events partition 0 offset 7: has neither"), "{shown}");
}

/// Partition 0 with events from 50 on, and outcomes of these and of `before`; `committed` by the group.
fn deleted(before: &[i64], committed: Option<i64>, events: &[i64]) -> (Counts, Vec<String>) {
    let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
    books.partition(0, 50..60, committed);
    events.iter().for_each(|offset| books.event(0, *offset));
    decide(&mut books, before);
    decide(&mut books, events);
    let (counts, faults) = books.close("g", true);
    let shown = faults.0.values().flat_map(|found| &found.shown).map(ToString::to_string);
    (counts, shown.collect())
}

#[test]
fn events_that_were_deleted_before_they_were_decided_are_named() {
    let all: Vec<i64> = (50..60).collect();
    let to = |end: i64| (0..end).collect::<Vec<i64>>();
    // Decided up to the first event kept, by a group that began anywhere.
    assert_eq!(deleted(&to(50), Some(60), &all).1, [""; 0]);
    assert_eq!(deleted(&to(50)[20..], Some(60), &all).1, [""; 0]);
    assert_eq!(deleted(&[], None, &all).1, [""; 0]);
    // The scorer is still away, or has gone on behind the gap, which may not reach to the first event kept.
    for (before, committed, first) in [(to(30), 30, 30), (to(30), 60, 30), (vec![], 20, 20)] {
        let (counts, shown) = deleted(&before, Some(committed), if committed == 60 { &all } else { &[] });
        let named = format!("events partition 0 offset {first}: up to offset 49: {} offsets", 50 - first);
        assert!(shown.len() == 1 && shown[0].starts_with(&named), "{shown:?}");
        assert_eq!((counts.deleted, counts.deleted_or_markers), (50 - first as u64, 0));
    }
    let (_, shown) = deleted(&[to(10), (40..50).collect()].concat(), Some(60), &all);
    assert!(shown[0].starts_with("events partition 0 offset 10: up to offset 39"), "{shown:?}");
    // One event is named where the offsets of those that are kept have no holes.
    assert_eq!(deleted(&to(49), Some(60), &all).1.len(), 1);
}

#[test]
fn offsets_that_transactions_can_have_used_up_are_no_fault() {
    let to = |end: i64| (0..end).collect::<Vec<i64>>();
    // Markers, and a transaction of two that was aborted: three offsets in a row are no events.
    let holes = [50, 51, 55, 56, 58];
    assert_eq!(deleted(&to(47), Some(60), &holes).1, [""; 0]);
    assert_eq!(deleted(&to(47), Some(60), &holes).0.deleted_or_markers, 3);
    assert_eq!(deleted(&to(46), Some(60), &holes).0.deleted, 4);
    // Where nothing is kept, the last marker.
    assert_eq!(deleted(&to(49), Some(49), &[]).1, [""; 0]);
    // The outcomes have gone, too.
    let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
    books.partition(0, 50..60, Some(60));
    books.kept_from(0, 45);
    decide(&mut books, &(45..50).collect::<Vec<_>>());
    assert_eq!(kinds(books), []);
    // A time was named: nothing before it is looked at.
    let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
    books.partition(0, 50..60, Some(20));
    assert!(books.close("g", false).1.is_empty());
}

#[test]
fn only_some_faults_are_shown_and_all_counted() {
    let mut books = OutcomeAudit::new(&"events".into(), &"labels".into());
    books.partition(0, 0..1_000, Some(1_000));
    (0..1_000).for_each(|offset| books.event(0, offset));
    let (_, faults) = books.close("g", true);
    let found = faults.0.get(&ViolationKind::Gap).unwrap();
    assert_eq!((found.count, found.shown.len()), (1_000, super::super::violations::SHOWN));
}
