//! Each fault is found and named.

use super::*;

#[test]
fn a_gap_is_found() {
    let world = World::new("gap", None, &|world, outputs| {
        let lost = second(outputs, world)[2];
        assert_eq!(origin(&outputs.remove(lost)), 2);
    });
    world.finds("gap", &["gap.events partition 1 offset 2: has neither decision nor dead letter"]);
}

#[test]
fn a_duplicate_is_found() {
    let world = World::new("twice", None, &|world, outputs| {
        outputs.push(outputs[second(outputs, world)[2]].clone());
    });
    world.finds("duplicate", &["twice.events partition 1 offset 2 has an outcome already"]);
}

#[test]
fn a_swapped_pair_is_found() {
    let world = World::new("swap", None, &|world, outputs| {
        let here = second(outputs, world);
        outputs.swap(here[2], here[3]);
    });
    world.finds("order", &["is of event 2 and comes after that of event 3, at offset"]);
}

#[test]
fn a_decision_for_no_event_is_found() {
    let world = World::new("orphan", None, &|world, outputs| {
        let like = outputs[second(outputs, world)[2]].payload.clone().unwrap();
        let mut decision = codec::decode_decision(&like).unwrap();
        decision.origin.offset = 4_711;
        outputs.push(world.written(&decision));
    });
    world.finds("orphan", &["there is no orphan.events partition 1 offset 4711"]);
}

#[test]
fn a_wrong_hash_is_found() {
    let world = World::new("hash", Some([7; 32]), &whole);
    world.finds("hash", &["the predictor of policy default has the hash 0707070707"]);
}

/// A request that says this instead; there are a dozen, and the fourth is changed.
fn changed(world: &World, requests: &mut [Produced], change: fn(&mut ReviewRequest)) {
    let mut request = codec::decode_review(requests[3].payload.as_deref().unwrap()).unwrap();
    change(&mut request);
    requests[3].payload = world.asked(&request).payload;
}

#[test]
fn a_decision_that_asks_and_has_no_request_is_found() {
    let world = World::asking("unasked", &|_, requests| _ = requests.remove(3));
    world.finds("request_gap", &["unasked.decisions partition ", "asks for a review and has no request"]);
}

#[test]
fn a_second_request_is_found() {
    let world = World::asking("asked2", &|_, requests| requests.push(requests[3].clone()));
    world.finds("request_duplicate", &["asked2.review partition ", "has one already"]);
}

#[test]
fn a_request_for_no_decision_is_found() {
    let world = World::asking("astray", &|world, requests| {
        requests.push(requests[3].clone());
        changed(world, requests, |request| request.decision.offset = 4_711);
    });
    world.finds("request_orphan", &["there is no decision that asks for a review at astray.decisions"]);
}

#[test]
fn a_request_that_names_another_events_decision_is_found() {
    let world = World::asking("mixed", &|world, requests| {
        changed(world, requests, |request| request.id.event = "another".into());
    });
    world.finds("request_orphan", &["says otherwise than the decision that it names"]);
}

#[test]
fn what_no_one_can_read_is_found() {
    let world = World::new("noise", None, &|world, outputs| {
        outputs.push(Produced { partition: Some(0), ..raw(&world.topic("decisions"), "k", "noise") });
        outputs.push(Produced { partition: Some(0), ..raw(&world.topic("review"), "k", "noise") });
        outputs.push(raw(&world.topic("dlq"), "k", "no headers"));
    });
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["faults"]["unreadable"]["count"]), (65, &3.into()), "{text}");
}
