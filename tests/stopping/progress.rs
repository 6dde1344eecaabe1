//! What a learner says of itself while it comes to know what there is.

use super::support::flow::{read_all, send};
use super::support::site::{PARTITIONS, Process, Site, wait};
use super::support::{Kafka, record};
use super::{INFO, all_committed, events, member, write_ledger};

/// More than a client fetches in one go.
const MANY: usize = 50_000;

/// The number of records read and of all, as `/readyz` says it of a condition.
fn told(role: &Process, condition: &str) -> Option<(usize, usize)> {
    let (status, page) = role.get("/readyz");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("[-] {condition}: ")))?;
    let (read, all) = line.strip_suffix(" records")?.split_once(" of ")?;
    assert_eq!(status, 503);
    Some((read.parse().unwrap(), all.parse().unwrap()))
}

/// The broker holds still in the midst: how far the learner has come by then can be read.
#[test]
fn readiness_says_how_far_a_learner_has_come() {
    let kafka = Kafka::start();
    let site = Site::on(&kafka, "progress", PARTITIONS, &[INFO]);
    write_ledger(&site, MANY);
    // One decision, made of an event that no label is about, and many like it.
    let score = member(&site, "one", &[]);
    send(&site.connection, &events(&site, MANY..MANY + 1));
    all_committed(&site, 1);
    score.stop();
    let made = read_all(&site.connection, &site.topic("decisions")).pop().unwrap().payload.unwrap();
    let like: Vec<_> = (0..MANY).map(|_| record(&site.topic("decisions"), 0, made.clone())).collect();
    send(&site.connection, &like);
    for (point, condition) in [("learn.restoring", "ledger restored"), ("learn.kept", "decisions indexed")] {
        // With a store of its own each knows nothing, and in small units it comes slowly to what it has fetched.
        let store = format!("learn.store={}", site.folder.path().join(point).display());
        let mut learn = site.start_with(
            "learn",
            &["--set", &store, "--set", "learn.commit_records=10"],
            &[("AEGIS_HOLD_AT", point)],
        );
        learn.holds_still_at(point);
        kafka.pause();
        learn.signal("CONT");
        wait(condition, || told(&learn, condition).is_some());
        let (read, all) = told(&learn, condition).unwrap();
        assert!(read < all && all >= MANY, "{read} of {all}");
        kafka.resume();
        wait("readiness", || learn.get("/readyz").0 == 200);
        learn.stop();
    }
}
