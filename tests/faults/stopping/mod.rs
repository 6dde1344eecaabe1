//! Shutdown, outages and hangs on a real Apache Kafka: the signals, an unavailable broker, an expert that hangs, many
//! connections, and a scorer that is stopped with an open transaction. Each event has its outcome once.

use crate::experts_support;
use crate::support;

mod aborts;
mod connections;
mod deferred;
mod fatal;
mod panel;
mod progress;
mod slow;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use aegis::codec::{self, Encoding};
use aegis::core::decision::Decision;
use aegis::core::label::Finding;
use aegis::core::ledger::{LabelRecord, LabelStatus, Record};
use aegis::core::vote::{Abstention, Outcome};
use aegis::kafka::Produced;
use experts_support::{Folder, faulty_classifier, models};
use support::flow::{decisions, event, event_record, label, label_record, read_all, read_until, send};
use support::site::{PARTITIONS, Process, Site, hex, wait};
use support::{Kafka, kafka, record};

/// Makes the members log their progress.
const INFO: (&str, &str) = ("log.level", "info");
const ASSIGNED: &str = "partitions assigned";

fn member(site: &Site, name: &str, variables: &[(&str, &str)]) -> Process {
    site.start_with("score", &["--set", &format!("score.member={name}")], variables)
}

fn events(site: &Site, numbers: std::ops::Range<usize>) -> Vec<Produced> {
    // A word in the vocabulary of the tiny experts.
    numbers.map(|number| event_record(&site.topic("events"), &event(number, "fine"))).collect()
}

/// Writes a ledger of `labels` waiting labels.
fn write_ledger(site: &Site, labels: usize) {
    let filed = |number| {
        let label = label(&format!("l{number}"), &event(number, "").id, Finding::Safe);
        let filed = Record::Label(LabelRecord { label, received: 1, status: LabelStatus::Waiting });
        let payload = codec::encode_record(&filed, Encoding::Avro).unwrap();
        let key = Some(codec::encode_key(&filed.key()));
        Produced { key, ..record(&site.topic("rounds"), 0, payload) }
    };
    send(&site.connection, &(0..labels).map(filed).collect::<Vec<_>>());
}

/// Returns the decisions. Checks that each event has exactly one.
fn decided(site: &Site, count: usize) -> Vec<Decision> {
    let made = decisions(&read_all(&site.connection, &site.topic("decisions")));
    let mut ids: Vec<_> = made.iter().map(|decision| &decision.id.event).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((made.len(), ids.len()), (count, count), "each event has one decision");
    made
}

fn all_committed(site: &Site, count: i64) {
    wait("events", || site.committed("score", "events") == count);
}

/// A scorer that is stopped between its records and its commit keeps its partitions only for its session: the other
/// member decides and commits its events in the meantime. The session of 6 s and the transaction, which ends before it,
/// are the only limits: a member may be silent for `max.poll.interval.ms`, five minutes, which is longer than the test
/// waits. When the scorer continues, no event is decided twice.
#[test]
fn a_transaction_that_hangs_keeps_its_partitions_for_a_session_only() {
    let site = Site::with("hanging", &[INFO]);
    let mut old = member(&site, "old", &[("AEGIS_HOLD_AT", "unit.sent")]);
    old.says(ASSIGNED);
    let mut new = member(&site, "new", &[]);
    new.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..300));
    old.says("holding still at unit.sent");
    all_committed(&site, 300);
    assert!(old.ended().is_none(), "it still holds still, with its transaction open");
    decided(&site, 300);

    old.signal("CONT");
    // Its commit fails, because its transaction is void or another member has taken its transactional id over.
    wait("the word of the one that held still", || {
        old.ended().is_some() || old.log().contains("a batch is repeated")
    });
    send(&site.connection, &events(&site, 300..400));
    all_committed(&site, 400);
    decided(&site, 400);
    // Decisions that were not committed do not count, in either process.
    let mut counted = decisions_counted(&new);
    match old.ended() {
        Some(status) => assert_eq!(status.code(), Some(69), "{}", old.log()),
        None => counted += decisions_counted(&old),
    }
    assert_eq!(counted, 400.0);
    drop(old);
    new.stop();
    site.verified();
}

/// Returns the number of decisions that a process reports as committed.
fn decisions_counted(process: &Process) -> f64 {
    let (_, page) = process.get("/metrics");
    let lines = page.lines().filter(|line| line.starts_with("aegis_decisions_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Returns the memory of a process, in MiB.
fn resident(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// The duration of the outage. It exceeds the timeout of a transaction, the ten seconds that a new producer waits, and
/// the session.
const OUTAGE: Duration = Duration::from_secs(60);
/// The memory in MiB by which a role may grow while the broker is unavailable.
const GROWTH: usize = 64;

#[test]
fn while_the_broker_is_away_both_roles_wait_and_then_go_on() {
    const EVENTS: usize = 6_000;
    let mut kafka = Kafka::start();
    let site = Site::on(&kafka, "away", PARTITIONS, &[INFO, ("score.commit_records", "50")]);
    let mut roles = ["score", "learn"].map(|role| site.start_with(role, &[], &[]));
    roles.iter_mut().for_each(|role| role.says("health and metrics"));
    roles[0].says(ASSIGNED);
    roles[1].says("this learner is active");
    let labels: Vec<_> = (0..EVENTS)
        .step_by(10)
        .map(|number| {
            let label = label(&format!("l{number}"), &event(number, "").id, Finding::Safe);
            label_record(&site.topic("labels"), &label)
        })
        .collect();
    send(&site.connection, &labels);
    send(&site.connection, &events(&site, 0..EVENTS));
    read_until(&site.connection, &site.topic("decisions"), "progress", |records| records.len() >= 300);

    let before = roles.each_ref().map(resident);
    kafka.kill();
    let until = Instant::now() + OUTAGE;
    let mut unready = [false; 2];
    while Instant::now() < until {
        for (index, role) in roles.iter_mut().enumerate() {
            assert_eq!(role.ended(), None, "{}", role.log());
            assert_eq!(role.get("/livez").0, 200);
            let (status, page) = role.get("/readyz");
            unready[index] |= status == 503 && page.contains("broker seen");
            let now = resident(role);
            assert!(now < before[index] + GROWTH, "{now} MiB, {} before", before[index]);
        }
        thread::sleep(Duration::from_millis(200)); // the outage itself
    }
    assert_eq!(unready, [true; 2], "/readyz names the broker");
    for role in &roles {
        let (status, page) = role.get("/readyz?verbose");
        assert_eq!(status, 503, "at the outage's end: {page}");
    }
    kafka.restart();
    all_committed(&site, EVENTS as i64);
    decided(&site, EVENTS);
    let published = site.published(labels.len() as u64, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());
    for role in &roles {
        wait("readiness", || role.get("/readyz").0 == 200);
    }
    roles.into_iter().for_each(Process::stop);
    site.verified();
}

/// SIGTERM under load: pending events are committed, and the member leaves its group. The session is longer than the
/// test waits, so the other member can have the partitions only because the first one has released them.
#[test]
fn sigterm_finishes_and_leaves_the_group() {
    const EVENTS: usize = 3_000;
    let site = Site::with("sigterm", &[INFO, ("score.commit_records", "50")]);
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config + "[kafka.settings]\n\"session.timeout.ms\" = \"240000\"\n").unwrap();
    let mut one = member(&site, "one", &[]);
    one.says(ASSIGNED);
    let mut two = member(&site, "two", &[]);
    two.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..EVENTS));
    read_until(&site.connection, &site.topic("decisions"), "progress", |records| records.len() >= 300);
    let assigned = two.log().matches(ASSIGNED).count();
    one.stop();
    wait("the partitions of the one that left", || two.log().matches(ASSIGNED).count() > assigned);
    all_committed(&site, EVENTS as i64);
    decided(&site, EVENTS);
    two.stop();
    site.verified();
}

/// Creates a site whose panel hangs on the word "hang", with a second expert that answers at once.
fn hanging(prefix: &str, panel: &Folder, sets: &[(&str, &str)]) -> Site {
    hanging_on(kafka(), prefix, panel, sets)
}

/// Creates the same on this broker.
fn hanging_on(kafka: &Kafka, prefix: &str, panel: &Folder, sets: &[(&str, &str)]) -> Site {
    panel.classifier("faulty", &faulty_classifier());
    panel.rules("rules", "base = 0.125\n");
    let (folder, runtime) = (panel.path().display().to_string(), models().join("runtime/libonnxruntime.so"));
    let runtime = runtime.display().to_string();
    let mut all = vec![INFO, ("experts.folder", &folder), ("experts.runtime", &runtime)];
    all.extend(sets);
    let site = Site::on(kafka, prefix, PARTITIONS, &all);
    // A member that does not poll is removed soon.
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config + "[kafka.settings]\n\"max.poll.interval.ms\" = \"7000\"\n").unwrap();
    site
}

fn hang(site: &Site, number: usize) -> Produced {
    event_record(&site.topic("events"), &event(number, "hang"))
}

/// An expert hangs for ten seconds, longer than the session. The member continues to poll and keeps its partitions, and
/// the decision is made without that vote.
#[test]
fn an_expert_that_hangs_costs_its_vote_and_no_partition() {
    let panel = Folder::new();
    // The panel has no room beside the run that hangs.
    let site = hanging("hung.expert", &panel, &[("experts.timeout_ms", "10000"), ("score.window", "1")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    send(&site.connection, &[hang(&site, 40)]);
    send(&site.connection, &events(&site, 0..30));
    all_committed(&site, 31);
    let made = decided(&site, 31);
    let hung = made.iter().find(|decision| decision.id.event == "e00040").unwrap();
    assert!(hung.degraded, "it says that a vote is missing");
    // The run has taken its whole timeout.
    let timed_out = Outcome::Abstained(Abstention::TimedOut);
    assert!(hung.votes.iter().any(|weighed| weighed.vote.outcome == timed_out), "{:?}", hung.votes);
    let log = score.log();
    assert!(!log.contains("partitions revoked") && log.matches(ASSIGNED).count() == 1, "{log}");
    score.stop();
    site.verified();
}
