//! The progress that a learner reports while it restores its state, and the priority of scoring beside it.

use std::fs;

use super::support::flow::{read_all, send};
use super::support::site::{PARTITIONS, Process, Site, wait, wait_while_it_changes};
use super::support::{Kafka, record};
use super::{ASSIGNED, INFO, all_committed, events, member, write_ledger};

/// More records than a client fetches at once.
const MANY: usize = 50_000;

/// Returns the number of records read and of all records, as `/readyz` reports them for a condition.
fn told(role: &Process, condition: &str) -> Option<(usize, usize)> {
    let (status, page) = role.get("/readyz");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("[-] {condition}: ")))?;
    let (read, all) = line.strip_suffix(" records")?.split_once(" of ")?;
    assert_eq!(status, 503);
    Some((read.parse().unwrap(), all.parse().unwrap()))
}

/// The broker is suspended in the middle of the restore. The progress of the learner until then can be read.
#[test]
fn readiness_says_how_far_a_learner_has_come() {
    let kafka = Kafka::start();
    let site = Site::on(&kafka, "progress", PARTITIONS, &[INFO]);
    write_ledger(&site, MANY);
    // One decision about an event without a label, and many copies of it.
    let score = member(&site, "one", &[]);
    send(&site.connection, &events(&site, MANY..MANY + 1));
    all_committed(&site, 1);
    score.stop();
    let made = read_all(&site.connection, &site.topic("decisions")).pop().unwrap().payload.unwrap();
    let like: Vec<_> = (0..MANY).map(|_| record(&site.topic("decisions"), 0, made.clone())).collect();
    send(&site.connection, &like);
    let conditions = ["learn: ledger restored", "learn: decisions indexed"];
    for (point, condition) in ["learn.restoring", "learn.kept"].into_iter().zip(conditions) {
        // With its own store each learner starts from nothing, and with small batches it is slow to process its fetched
        // records.
        let store = format!("learn.store={}", site.folder.path().join(point).display());
        let mut learn = site.start_with(
            "learn",
            &["--set", &store, "--set", "learn.commit_records=50"],
            &[("AEGIS_HOLD_AT", point)],
        );
        learn.holds_still_at(point);
        kafka.pause();
        learn.signal("CONT");
        wait(condition, || told(&learn, condition).is_some());
        let (read, all) = told(&learn, condition).unwrap();
        assert!(read < all && all >= MANY, "{read} of {all}");
        kafka.resume();
        // A learner yields the processor to everything else, so a busy machine makes it slow.
        wait_while_it_changes("readiness", || {
            (learn.get("/readyz").0 != 200).then(|| conditions.map(|condition| told(&learn, condition)))
        });
        learn.stop();
    }
}

/// Returns the niceness of each thread of a process, with the thread's name.
fn niceness(process: &str) -> Vec<(String, i32)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let read = |stat: String| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((name.to_owned(), rest.split_whitespace().nth(16)?.parse().ok()?))
    };
    stats.filter_map(read).collect()
}

/// In one process the threads of a learner, including those of its clients, have a lower priority than those of
/// scoring.
#[test]
fn a_learner_leaves_the_processor_to_score() {
    let site = Site::with("first", &[INFO]);
    let mut both = site.start_with("both", &[], &[]);
    both.says(ASSIGNED);
    both.says("this learner is active");
    wait("readiness", || both.get("/readyz").0 == 200);
    let (own, threads) = (niceness("self")[0].1, niceness(&both.id().to_string()));
    let of = |name: &str| {
        let named = threads.iter().filter(|(known, _)| known.starts_with(name));
        let mut found: Vec<i32> = named.map(|(_, niceness)| *niceness).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let behind = own.max(10);
    assert_eq!((of("score"), of("learn")), (vec![own], vec![behind]), "{threads:?}");
    // The Kafka clients of both roles.
    let clients = if own == behind { vec![own] } else { vec![own, behind] };
    assert_eq!(of("rdk:"), clients, "{threads:?}");
    both.stop();
}
