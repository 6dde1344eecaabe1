//! The queue: its order, its claims, and what answers and labels do.

mod properties;
mod sequences;

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Lane, MAX_LABELS, Place, Rules, Status};
use super::queue::{Next, Prepared, PreparedUndo, Queue, Served, Settings};
use super::refusal::Refusal;
use crate::config::Policies;
use crate::core::decision::{Origin, ReviewReason, Sampling};
use crate::core::event::Millis;
use crate::core::label::{DecisionRef, Finding, Label, Source};
use crate::core::ledger::{EditAction, RoundId};
use crate::core::policy::Action;
use crate::core::review::ReviewRequest;

const CLAIM: Millis = 1_000;
const POLICY: &str = "default";

fn settings() -> Settings {
    Settings { requests: 1_000, claim: CLAIM, second_opinions: 0.0, gold: 0.0, secret: [7; 32] }
}

fn queue(settings: Settings) -> Queue {
    let policies = Policies::default();
    let rules = policies.policies.iter().map(|(name, policy)| (name.clone(), Rules::of(policy)));
    Queue::new(settings, rules.collect())
}

fn id(number: usize) -> RoundId {
    RoundId { tenant: "t".into(), policy: POLICY.into(), event: format!("e{number}") }
}

fn request(number: usize, lane: Lane) -> ReviewRequest {
    let (action, reason) = match lane {
        Lane::Audit => (Action::Allow, ReviewReason::Audit),
        Lane::Held => (Action::Review, ReviewReason::Flagged),
        Lane::Uncertain => (Action::Allow, ReviewReason::NearThreshold),
    };
    ReviewRequest {
        id: id(number),
        conversation: "c".into(),
        subject: Some(format!("u{}", number % 3)),
        origin: Origin { topic: "events".into(), partition: 0, offset: 0 },
        decision: DecisionRef { partition: 0, offset: 0 },
        round_time: 0,
        policy_version: "1".into(),
        action,
        probability: Some(0.5),
        threshold: 0.5,
        reasons: vec![reason],
        inclusion_probability: 0.25,
        sampling: Sampling::default(),
        categories: Vec::new(),
        trace: None,
    }
}

fn add(queue: &mut Queue, number: usize, lane: Lane) {
    let offset = i64::try_from(number).unwrap();
    assert!(queue.on_request(request(number, lane), Place { time: offset, partition: 0, offset }));
}

fn label(number: usize, annotator: &str, source: Source, verdict: Finding) -> Label {
    Label {
        annotator: Some(annotator.into()),
        source,
        ..Label::new(&id(number), format!("{annotator}-1"), verdict)
    }
}

fn served(queue: &mut Queue, reviewer: &str, now: Millis) -> Option<Served> {
    match queue.next(reviewer, POLICY, now) {
        Next::Served(served) => Some(served),
        Next::Empty { .. } => None,
    }
}

/// Answers a claim as the console does. Returns the label that was sent.
fn answer(
    queue: &mut Queue,
    reviewer: &str,
    token: &str,
    now: Millis,
    verdict: Finding,
) -> Result<Label, Refusal> {
    match queue.prepare_answer(reviewer, token, now)? {
        Prepared::Sent { label, .. } => Ok(*label),
        Prepared::Send { request, label, source } => {
            let label =
                Label { annotator: Some(reviewer.into()), source, ..Label::new(&request.id, label, verdict) };
            queue.confirm_answer(reviewer, token, &label);
            Ok(label)
        }
    }
}

fn undo(queue: &mut Queue, reviewer: &str, now: Millis) -> Option<Served> {
    let token = queue.last_answer(reviewer)?;
    match queue.prepare_undo(reviewer, &token, now).ok()? {
        PreparedUndo::Send(retraction) => queue.confirm_undo(reviewer, &token, &retraction, now),
        PreparedUndo::Undone(_) => None,
    }
}

fn event(served: &Served) -> String {
    served.request.id.event.clone()
}

#[test]
fn no_lane_starves_another_and_each_is_served_by_age() {
    let mut queue = queue(settings());
    for number in 0..90 {
        add(&mut queue, number, Lane::ALL[number % 3]);
    }
    let mut lanes = Vec::new();
    let mut last = BTreeMap::new();
    for now in 0..24 {
        let one = served(&mut queue, "r", now).unwrap();
        let number: usize = event(&one).trim_start_matches('e').parse().unwrap();
        assert!(last.insert(number % 3, number).is_none_or(|before| before < number), "oldest first");
        lanes.push(Lane::ALL[number % 3]);
        answer(&mut queue, "r", &one.token, now, Finding::Safe).unwrap();
    }
    for window in lanes.windows(4) {
        let count = |lane| window.iter().filter(|one| **one == lane).count();
        assert_eq!((count(Lane::Audit), count(Lane::Held), count(Lane::Uncertain)), (1, 2, 1), "{lanes:?}");
    }
}

#[test]
fn a_lane_that_was_empty_gets_its_share_and_no_more() {
    let mut queue = queue(settings());
    (0..60).for_each(|number| add(&mut queue, number, Lane::Uncertain));
    for now in 0..40 {
        let one = served(&mut queue, "r", now).unwrap();
        answer(&mut queue, "r", &one.token, now, Finding::Safe).unwrap();
    }
    (100..150).for_each(|number| add(&mut queue, number, Lane::Audit));
    let audits = (0..10).filter(|now| {
        let one = served(&mut queue, "r", 100 + now).unwrap();
        answer(&mut queue, "r", &one.token, 100 + now, Finding::Safe).unwrap();
        event(&one).len() == 4
    });
    assert!((5..=6).contains(&audits.count()));
}

#[test]
fn a_full_queue_drops_uncertain_requests_first_and_counts_all() {
    let mut queue = queue(Settings { requests: 4, ..settings() });
    for (number, lane) in [Lane::Audit, Lane::Uncertain, Lane::Audit, Lane::Held].into_iter().enumerate() {
        add(&mut queue, number, lane);
    }
    for number in 10..13 {
        add(&mut queue, number, Lane::Audit);
    }
    let counts = queue.counts().clone();
    assert_eq!((counts.dropped_open, counts.dropped_audit), (2, 1));
    assert_eq!(
        (queue.status(&id(0)), queue.status(&id(2))),
        (Status::NoRequest, Status::Open { missing: 1 })
    );
    // Closed requests and labels without a request are bounded too.
    for number in 100..200 {
        queue.on_label(&label(number, "x", Source::Review, Finding::Safe));
    }
    assert_eq!((queue.shelves().ids().len(), queue.open_of(POLICY)), (8, 4));
}

#[test]
fn a_label_of_any_tool_closes_a_request_and_its_retraction_opens_it_again() {
    let mut queue = queue(settings());
    let given = label(1, "other", Source::Review, Finding::Safe);
    // The label may be read before the request.
    queue.on_label(&given);
    add(&mut queue, 1, Lane::Held);
    assert_eq!((served(&mut queue, "r", 0), queue.status(&id(1))), (None, Status::Answered));
    let retraction =
        Label { verdict: None, retracts: Some(given.id.clone()), id: "other-2".into(), ..given.clone() };
    queue.on_label(&retraction);
    assert_eq!(queue.status(&id(1)), Status::Open { missing: 1 });
    for source in [Source::Report, Source::Appeal] {
        queue.on_label(&Label { id: "by-user".into(), ..label(1, "user", source, Finding::Unsafe) });
    }
    assert_eq!(queue.status(&id(1)), Status::Open { missing: 1 }, "a report is no answer unless it teaches");
    queue.on_label(&label(1, "bad", Source::Review, Finding::Safe));
    assert_eq!(queue.status(&id(1)), Status::Answered);
    queue.on_edit(&EditAction::Quarantine { tenant: String::new(), annotator: "bad".into() });
    assert_eq!(queue.status(&id(1)), Status::Open { missing: 1 });
}

#[test]
fn the_answer_of_a_request_that_was_closed_is_refused_with_the_reason() {
    let mut queue = queue(settings());
    (0..5).for_each(|number| add(&mut queue, number, Lane::Held));
    let claims: Vec<_> =
        ["a", "b", "c", "d"].into_iter().map(|name| (name, served(&mut queue, name, 0).unwrap())).collect();
    queue.on_label(&label(0, "x", Source::Review, Finding::Safe));
    queue.on_expired(&id(1));
    queue.on_edit(&EditAction::Erase { tenant: "t".into(), subject: "u2".into() });
    queue.on_edit(&EditAction::Quarantine { tenant: "t".into(), annotator: "d".into() });
    let refused = |queue: &mut Queue, (name, one): &(&str, Served)| {
        answer(queue, name, &one.token, 1, Finding::Safe).unwrap_err()
    };
    let reasons: Vec<_> = claims.iter().map(|one| refused(&mut queue, one)).collect();
    assert_eq!(reasons, [Refusal::Answered, Refusal::Expired, Refusal::Erased, Refusal::Quarantined]);
    assert_eq!(answer(&mut queue, "a", "forged", 1, Finding::Safe), Err(Refusal::NotClaimed));
    let of_d = &claims[3].1.token;
    assert_eq!(answer(&mut queue, "a", of_d, 1, Finding::Safe), Err(Refusal::NotClaimed));
    assert_eq!(queue.counts().expired, 1);
}

#[test]
fn an_expired_claim_is_served_again_and_can_be_answered_only_while_nobody_has_it() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    let first = served(&mut queue, "a", 0).unwrap();
    assert_eq!(served(&mut queue, "b", CLAIM - 1), None);
    queue.touch("a", &first.token, CLAIM - 1).unwrap();
    assert_eq!(served(&mut queue, "b", 2 * CLAIM - 2), None, "activity extends the claim");
    let second = served(&mut queue, "b", 2 * CLAIM).unwrap();
    assert_eq!(answer(&mut queue, "a", &first.token, 2 * CLAIM, Finding::Safe), Err(Refusal::Claimed));
    // The claim of b expires in its turn, and a is back.
    answer(&mut queue, "a", &first.token, 4 * CLAIM, Finding::Unsafe).unwrap();
    assert_eq!(answer(&mut queue, "b", &second.token, 4 * CLAIM, Finding::Safe), Err(Refusal::Answered));
    assert_eq!(queue.counts().claims_expired, 2);
}

#[test]
fn two_who_have_a_request_that_needs_one_more_answer_do_not_block_each_other() {
    let mut queue = queue(Settings { second_opinions: 1.0, ..settings() });
    add(&mut queue, 1, Lane::Held);
    let (one, other) = (served(&mut queue, "a", 0).unwrap(), served(&mut queue, "b", 0).unwrap());
    queue.on_label(&label(1, "tool", Source::Review, Finding::Safe));
    assert_eq!(served(&mut queue, "c", 0), None);
    answer(&mut queue, "a", &one.token, 1, Finding::Safe).unwrap();
    assert_eq!(answer(&mut queue, "b", &other.token, 1, Finding::Safe), Err(Refusal::Answered));
}

#[test]
fn an_answer_that_is_sent_again_is_the_same_label() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    let one = served(&mut queue, "a", 0).unwrap();
    let prepared = queue.prepare_answer("a", &one.token, 1).unwrap();
    assert_eq!(queue.prepare_answer("a", &one.token, 2).unwrap(), prepared);
    // The brokers did not answer and had it nevertheless.
    let Prepared::Send { label, .. } = prepared else { panic!("{prepared:?}") };
    let sent = Label { annotator: Some("a".into()), ..Label::new(&id(1), label, Finding::Unsafe) };
    queue.on_label(&sent);
    let one_token = one.token.clone();
    let again = queue.prepare_answer("a", &one.token, 3);
    assert_eq!(again, Ok(Prepared::Sent { label: Box::new(sent), request: one.request }));
    assert!(queue.prepare_undo("a", &one_token, 3).is_ok());
}

#[test]
fn undo_retracts_the_last_answer_and_gives_the_request_back() {
    let mut queue = queue(settings());
    (0..2).for_each(|number| add(&mut queue, number, Lane::Held));
    let one = served(&mut queue, "a", 0).unwrap();
    let sent = answer(&mut queue, "a", &one.token, 0, Finding::Safe).unwrap();
    assert_eq!(sent.id, "console/a/1");
    let other = served(&mut queue, "a", 0).unwrap();
    let back = undo(&mut queue, "a", 1).unwrap();
    assert_eq!(event(&back), event(&one));
    let again = answer(&mut queue, "a", &back.token, 2, Finding::Unsafe).unwrap();
    assert_eq!(again.id, "console/a/3", "the retraction has the second number");
    assert_eq!(event(&served(&mut queue, "b", 3).unwrap()), event(&other));
    assert!(undo(&mut queue, "a", 4).is_some() && undo(&mut queue, "a", 5).is_none());
}

#[test]
fn an_undo_that_is_sent_again_retracts_the_same_answer() {
    let mut queue = queue(settings());
    (0..2).for_each(|number| add(&mut queue, number, Lane::Held));
    let tokens = [0, 1].map(|now| {
        let one = served(&mut queue, "a", now).unwrap();
        answer(&mut queue, "a", &one.token, now, Finding::Safe).unwrap();
        one.token
    });
    let prepared = queue.prepare_undo("a", &tokens[1], 2).unwrap();
    assert_eq!(queue.prepare_undo("a", &tokens[1], 3).unwrap(), prepared, "the brokers have not answered");
    let PreparedUndo::Send(retraction) = prepared else { panic!("{prepared:?}") };
    let back = queue.confirm_undo("a", &tokens[1], &retraction, 4).unwrap();
    let again = queue.prepare_undo("a", &tokens[1], 5);
    assert_eq!(again, Ok(PreparedUndo::Undone(retraction.clone())));
    assert_eq!(queue.confirm_undo("a", &tokens[1], &retraction, 5), None);
    assert_eq!(served(&mut queue, "a", 6).unwrap().token, back.token, "the request stays with its reviewer");
    assert_eq!(queue.status(&id(0)), Status::Answered, "the earlier answer stands");
    assert_eq!(queue.prepare_undo("a", "forged", 6), Err(Refusal::NothingToUndo));
    assert_eq!(queue.prepare_undo("b", &tokens[0], 6), Err(Refusal::NothingToUndo));
}

#[test]
fn reports_never_make_a_request_unanswerable() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    for number in 0..2 * MAX_LABELS {
        let report = label(1, "user", Source::Report, Finding::Unsafe);
        queue.on_label(&Label { id: format!("r{number}"), categories: vec!["spam".into()], ..report });
    }
    assert_eq!(queue.counts().dropped_labels, u64::try_from(MAX_LABELS).unwrap());
    let one = served(&mut queue, "a", 0).unwrap();
    let sent = answer(&mut queue, "a", &one.token, 1, Finding::Safe).unwrap();
    let dropped = queue.counts().dropped_labels;
    queue.on_label(&Label { categories: vec!["spam".into()], ..sent });
    assert_eq!(queue.counts().dropped_labels, dropped, "it is known");
    assert_eq!(queue.status(&id(1)), Status::Answered);
    assert!(undo(&mut queue, "a", 2).is_some());
}

#[test]
fn a_reviewer_in_quarantine_is_served_nothing() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    assert!(served(&mut queue, "a", 0).is_some());
    queue.on_edit(&EditAction::Quarantine { tenant: "t".into(), annotator: "a".into() });
    assert_eq!(queue.next("a", POLICY, 1), Next::Empty { others: 1 });
    assert!(queue.is_quarantined_anywhere("a") && served(&mut queue, "b", 1).is_some());
}

#[test]
fn a_skipped_request_goes_to_others_and_comes_back_when_asked_for() {
    let mut queue = queue(settings());
    add(&mut queue, 1, Lane::Held);
    let one = served(&mut queue, "a", 0).unwrap();
    queue.skip("a", &one.token).unwrap();
    assert_eq!(queue.next("a", POLICY, 0), Next::Empty { others: 1 });
    let other = served(&mut queue, "b", 0).unwrap();
    queue.skip("b", &other.token).unwrap();
    assert_eq!(queue.forget_skipped("a"), 1);
    assert!(served(&mut queue, "a", 0).is_some());
    assert_eq!(queue.counts().skipped, 2);
}

#[test]
fn two_who_differ_are_followed_by_a_third() {
    let mut queue = queue(Settings { second_opinions: 1.0, ..settings() });
    (0..2).for_each(|number| add(&mut queue, number, Lane::Held));
    let give = |queue: &mut Queue, name: &str, verdict| {
        let one = served(queue, name, 0).unwrap();
        answer(queue, name, &one.token, 0, verdict).unwrap();
        event(&one)
    };
    // Of the first request two agree, of the second two differ.
    let verdicts = [("a", Finding::Safe), ("b", Finding::Safe), ("a", Finding::Safe), ("b", Finding::Unsafe)];
    let events: Vec<_> = verdicts.map(|(name, verdict)| give(&mut queue, name, verdict)).into();
    assert_eq!(events, ["e0", "e0", "e1", "e1"]);
    assert_eq!(queue.status(&id(0)), Status::Answered);
    assert_eq!(queue.status(&id(1)), Status::Open { missing: 1 });
    assert_eq!((served(&mut queue, "a", 0), served(&mut queue, "b", 0)), (None, None));
    assert_eq!(give(&mut queue, "c", Finding::Safe), "e1");
    assert_eq!(queue.open_of(POLICY), 0);
}

#[test]
fn gold_is_mixed_in_at_its_rate_and_answered_as_a_calibration_that_closes_nothing() {
    let mut queue = queue(Settings { gold: 0.25, requests: 10_000, ..settings() });
    for number in 0..4_000 {
        add(&mut queue, number, Lane::Held);
        if number < 2_000 {
            queue.on_label(&label(number, "expert", Source::Gold, Finding::Unsafe));
        }
    }
    let (mut gold, mut seen) = (0_u32, BTreeSet::new());
    for now in 0..2_000 {
        let one = served(&mut queue, "a", now).unwrap();
        assert!(seen.insert(event(&one)), "{} was served twice", event(&one));
        let sent = answer(&mut queue, "a", &one.token, now, Finding::Safe).unwrap();
        let is_gold = queue.status(&one.request.id) == Status::Gold;
        assert_eq!(sent.source, if is_gold { Source::Calibration } else { Source::Review });
        gold += u32::from(is_gold);
    }
    // Four standard deviations of 2,000 draws.
    assert!((423..=577).contains(&gold), "{gold} of 2000");
    assert_eq!(queue.shelves().gold_total(), 2_000);
}

#[test]
fn without_open_requests_no_gold_is_served() {
    let mut queue = queue(Settings { gold: 1.0, ..settings() });
    add(&mut queue, 1, Lane::Held);
    queue.on_label(&label(1, "expert", Source::Gold, Finding::Unsafe));
    assert_eq!(served(&mut queue, "a", 0), None);
    add(&mut queue, 2, Lane::Held);
    assert_eq!(event(&served(&mut queue, "a", 0).unwrap()), "e1");
}
