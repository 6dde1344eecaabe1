//! The sequences that reviewers see: the counts around known answers, and requests that come again.

use super::*;

/// The number of open requests that the page of this reviewer shows.
fn open(queue: &Queue, reviewer: &str) -> usize {
    queue.open_for(reviewer, POLICY)
}

/// A queue of six requests, of which the first two have reference answers and are served first.
fn queue_with_gold() -> Queue {
    let mut queue = queue(Settings { gold: 1.0, ..settings() });
    (0..6).for_each(|number| add(&mut queue, number, Lane::Held));
    (0..2).for_each(|number| {
        queue.on_label(&label(number, "expert", Source::Gold, Finding::Unsafe));
    });
    queue
}

#[test]
fn the_number_of_open_requests_falls_by_one_with_each_answer_whether_it_is_known_or_not() {
    let mut queue = queue_with_gold();
    assert_eq!((queue.open_of(POLICY), open(&queue, "a")), (4, 6));
    let (mut expected, mut known) = (6, 0);
    while let Some(one) = served(&mut queue, "a", 0) {
        assert_eq!(open(&queue, "a"), expected, "while {} is shown", event(&one));
        let is_known = queue.status(&one.request.id) == Status::Gold;
        known += usize::from(is_known);
        answer(&mut queue, "a", &one.token, 0, Finding::Safe).unwrap();
        expected -= 1;
        if queue.open_of(POLICY) == 0 {
            break;
        }
        assert_eq!(open(&queue, "a"), expected, "after {}, known: {is_known}", event(&one));
        // Undo gives the same request back, and the count with it.
        let back = undo(&mut queue, "a", 0).unwrap();
        assert_eq!((event(&back), open(&queue, "a")), (event(&one), expected + 1));
        answer(&mut queue, "a", &back.token, 0, Finding::Safe).unwrap();
    }
    assert_eq!(known, 2, "both requests with a reference answer were served");
    assert_eq!(open(&queue, "a"), 0, "without open requests none is served");
}

#[test]
fn a_skipped_request_stays_in_the_count_whether_its_answer_is_known_or_not() {
    let mut queue = queue_with_gold();
    let mut skipped = BTreeSet::new();
    for _ in 0..3 {
        let one = served(&mut queue, "a", 0).unwrap();
        queue.skip("a", &one.token).unwrap();
        skipped.insert(event(&one));
        assert_eq!(open(&queue, "a"), 6, "{skipped:?}");
    }
    assert_eq!(skipped.len(), 3);
}

#[test]
fn an_event_that_is_sent_again_after_retention_opens_its_request() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    queue.on_expired(&id(1));
    // The same request again, as after a restart of score, is about the record that is gone.
    add(&mut queue, 1, Lane::Held);
    assert_eq!((served(&mut queue, "a", 0), queue.open_of(POLICY)), (None, 0));
    let origin = Origin { topic: "events".into(), partition: 0, offset: 9 };
    let again = ReviewRequest { origin, ..request(1, Lane::Held) };
    queue.on_request(again, Place { time: 9, partition: 0, offset: 9 });
    assert_eq!(served(&mut queue, "a", 0).map(|one| event(&one)), Some("e1".into()));
}

#[test]
fn a_request_that_is_served_again_after_its_claim_expired_has_one_claim_and_one_answer() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    let first = served(&mut queue, "a", 0).unwrap();
    let again = served(&mut queue, "a", CLAIM).unwrap();
    assert_eq!((&again.token, again.expires), (&first.token, 2 * CLAIM));
    // A window that slept answers, and so does the one that is awake: the first answer is the label.
    let given = answer(&mut queue, "a", &first.token, CLAIM, Finding::Safe).unwrap();
    assert_eq!(answer(&mut queue, "a", &again.token, CLAIM, Finding::Unsafe), Ok(given));
    assert_eq!(queue.status(&id(1)), Status::Answered);
}
