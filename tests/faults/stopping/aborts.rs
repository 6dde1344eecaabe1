//! The second signal, and the waits that a first signal interrupts: no wait delays the end of the process, and its
//! uncommitted work has no effect.

use aegis::core::label::Finding;
use aegis::core::vote::{Abstention, Outcome};

use super::experts_support::Folder;
use super::support::Kafka;
use super::support::flow::{event, label, label_record, read_all, send};
use super::support::site::{PARTITIONS, Process, Site, wait};
use super::{ASSIGNED, INFO, all_committed, decided, events, hang, hanging, member, write_ledger};

/// A clean stop under load, with an expert that hangs: the process ends although the expert is never released. Its
/// timeout ends the run, and all pending events are decided and committed.
#[test]
fn a_clean_stop_takes_no_longer_than_its_grace_period() {
    let panel = Folder::new();
    let site = hanging("grace", &panel, &[("experts.timeout_ms", "3000")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    score.says("health and metrics");
    send(&site.connection, &events(&site, 0..30));
    send(&site.connection, &[hang(&site, 40)]);
    wait("the events", || {
        score.get("/metrics").1.lines().any(|line| line == "aegis_events_consumed_total 31")
    });
    score.stop();
    assert_eq!(site.committed("score", "events"), 31);
    let made = decided(&site, 31);
    let hung = made.iter().find(|decision| decision.id.event == "e00040").unwrap();
    assert!(hung.degraded, "it says that a vote is missing");
    let timed_out = Outcome::Abstained(Abstention::TimedOut);
    assert!(hung.votes.iter().any(|weighed| weighed.vote.outcome == timed_out), "{:?}", hung.votes);
    site.verified();
}

/// A second SIGTERM while an expert hangs: uncommitted decisions are aborted and never visible, and the next start
/// decides the events once. The process ends while the expert is held: the run's timeout and the batch's interval are
/// longer than the test waits.
#[test]
fn a_second_sigterm_aborts_the_batch() {
    let panel = Folder::new();
    let slow = [("experts.timeout_ms", "600000"), ("score.commit_interval_ms", "600000")];
    let site = hanging("aborting", &panel, &slow);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    score.says("health and metrics");
    send(&site.connection, &[hang(&site, 40)]);
    send(&site.connection, &events(&site, 0..30));
    wait("the events", || {
        score.get("/metrics").1.lines().any(|line| line == "aegis_events_consumed_total 31")
    });
    score.signal("TERM");
    // Two signals at the same time count as one.
    score.says("a second signal aborts it");
    assert!(score.ended().is_none(), "an event is still in work");
    gives_up(&mut score);
    let log = score.log();
    assert!(!log.contains("could not judge"), "a run that was stopped is no fault: {log}");
    assert!(!log.contains("left behind"), "it ends by itself: {log}");
    assert!(read_all(&site.connection, &site.topic("decisions")).is_empty(), "nothing is committed");

    let quick = ["--set", "experts.timeout_ms=500", "--set", "score.commit_interval_ms=100"];
    let again = site.start_with("score", &quick, &[]);
    all_committed(&site, 31);
    decided(&site, 31);
    again.stop();
    site.verified();
}

/// Sends the second signal and checks that the process ends while the resource that it waits for is still held; the
/// caller releases it afterwards. `cli::supervise` limits the time for this, and checks the limit against the
/// documented two seconds.
fn gives_up(process: &mut Process) {
    process.signal("TERM");
    let status = process.end();
    assert_eq!(status.code(), Some(130), "{}", process.log());
}

/// Stops a role twice on its own broker. The role stops at a point with an open transaction, or just after one. Then
/// the broker is suspended, the role continues and waits for it, and gets two signals.
fn stopped_twice(kafka: &Kafka, role: &mut Process, point: &str) {
    role.holds_still_at(point);
    kafka.pause();
    role.signal("CONT");
    role.signal("TERM");
    role.says("a second signal aborts it");
    assert!(role.ended().is_none(), "the broker does not answer");
    gives_up(role);
    kafka.resume();
}

/// A second SIGTERM while the brokers do not answer and a transaction is open: its records are never visible, and the
/// next start decides the events once.
#[test]
fn a_second_sigterm_abandons_an_open_transaction() {
    let kafka = Kafka::start();
    let site = Site::on(&kafka, "open", PARTITIONS, &[INFO]);
    let mut score = site.start_with("score", &[], &[("AEGIS_HOLD_AT", "unit.sent")]);
    score.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..100));
    stopped_twice(&kafka, &mut score, "unit.sent");
    assert!(read_all(&site.connection, &site.topic("decisions")).is_empty(), "nothing is committed");
    assert_eq!(site.committed("score", "events"), 0);

    let again = site.start_with("score", &[], &[]);
    all_committed(&site, 100);
    decided(&site, 100);
    again.stop();
    site.verified();
}

/// A learner that waits for its own records, or has an open transaction, ends as promptly. The next learner processes
/// its pending labels once.
#[test]
fn a_second_sigterm_ends_a_learner_wherever_it_waits() {
    let kafka = Kafka::start();
    for (index, point) in ["unit.sent", "learn.committed"].into_iter().enumerate() {
        let prefix = format!("learner{index}");
        let site = Site::on(&kafka, &prefix, PARTITIONS, &[INFO]);
        let mut learn = site.start_with("learn", &[], &[("AEGIS_HOLD_AT", point)]);
        learn.says("this learner is active");
        let labels: Vec<_> = (0..10)
            .map(|number| label(&format!("l{number}"), &event(number, "").id, Finding::Safe))
            .map(|label| label_record(&site.topic("labels"), &label))
            .collect();
        send(&site.connection, &labels);
        stopped_twice(&kafka, &mut learn, point);

        let again = site.start_with("learn", &[], &[]);
        wait("labels", || site.committed("learn", "labels") == 10);
        assert_eq!(site.waiting().len(), 10, "each waits for its event, once");
        again.stop();
        site.verified();
    }
}

/// A learner that restores its state stops at the first signal, because it has no pending work.
#[test]
fn sigterm_ends_a_learner_that_restores() {
    let site = Site::with("restoring", &[INFO]);
    write_ledger(&site, 50_000);
    let mut learn = site.start_with("learn", &[], &[("AEGIS_HOLD_AT", "learn.restoring")]);
    learn.holds_still_at("learn.restoring");
    learn.signal("TERM");
    learn.signal("CONT");
    let status = learn.end();
    let log = learn.log();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("restoring the ledger"), "it did not go on with ten thousand records: {log}");
}
