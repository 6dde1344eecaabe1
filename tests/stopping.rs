//! Being stopped, left alone and held up, on a real Apache Kafka: the signals, a broker that is away, an expert
//! that hangs, a scorer that holds still with its transaction open. Each event has its outcome once.

mod experts_support;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use aegis::codec::{self, Encoding};
use aegis::core::decision::Decision;
use aegis::core::label::Finding;
use aegis::core::ledger::{Filed, Record, Standing};
use aegis::kafka::Produced;
use experts_support::{Folder, faulty_classifier, models};
use support::flow::{decisions, event, event_record, label, label_record, read_all, read_until, send};
use support::site::{PARTITIONS, Process, Site, hex, wait};
use support::{Kafka, WAIT, record};

/// How long a process may take to end after the second signal.
const PROMPT: Duration = Duration::from_secs(2);
/// Members say what they do.
const INFO: (&str, &str) = ("log.level", "info");
const ASSIGNED: &str = "partitions assigned";
/// The session time-out where nothing else is set.
const SESSION: Duration = Duration::from_secs(6);

fn member(site: &Site, name: &str, variables: &[(&str, &str)]) -> Process {
    site.start_with("score", &["--set", &format!("score.member={name}")], variables)
}

fn events(site: &Site, numbers: std::ops::Range<usize>) -> Vec<Produced> {
    numbers.map(|number| event_record(&site.topic("events"), &event(number, "hello"))).collect()
}

/// The decisions, of which each event has one.
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

/// A scorer that holds still between its records and its commit keeps its partitions dark for its session's
/// time-out and no longer; when it goes on, nothing doubles.
#[test]
fn a_transaction_that_hangs_keeps_its_partitions_for_a_session_only() {
    let site = Site::with("hanging", &[INFO]);
    let mut old = member(&site, "old", &[("AEGIS_HOLD_AT", "unit.sent")]);
    old.says(ASSIGNED);
    let mut new = member(&site, "new", &[]);
    new.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..300));
    old.says("holding still at unit.sent");
    let held = Instant::now();
    all_committed(&site, 300);
    let took = held.elapsed();
    assert!(took < SESSION + Duration::from_secs(3), "the partitions were dark for {took:?}");
    decided(&site, 300);

    old.signal("CONT");
    // It is told that its unit is void, or that its transaction was taken from it.
    wait("the word of the one that held still", || {
        old.ended().is_some() || old.log().contains("a unit is done again")
    });
    send(&site.connection, &events(&site, 300..400));
    all_committed(&site, 400);
    decided(&site, 400);
    // What was decided and not committed counts for nothing, whoever did it.
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

/// How many decisions a process says that it has committed.
fn decisions_counted(process: &Process) -> f64 {
    let (_, page) = get(process, "/metrics");
    let lines = page.lines().filter(|line| line.starts_with("aegis_decisions_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// GET of a path that a role serves; the status and the page.
fn get(process: &Process, path: &str) -> (u16, String) {
    let log = process.log();
    let line = log.lines().find(|line| line.contains("health and metrics")).unwrap();
    let mut stream = TcpStream::connect(line.split("address=").nth(1).unwrap().trim()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    (page.split(' ').nth(1).unwrap().parse().unwrap(), page)
}

/// What a process has of memory, MiB.
fn resident(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// Longer than a transaction's time-out, than the ten seconds that a new producer waits, and than the session.
const OUTAGE: Duration = Duration::from_secs(20);
/// MiB that a role may grow by while the broker is away.
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
            assert_eq!(get(role, "/livez").0, 200);
            let (status, page) = get(role, "/readyz");
            unready[index] |= status == 503 && page.contains("broker seen");
            let now = resident(role);
            assert!(now < before[index] + GROWTH, "{now} MiB, {} before", before[index]);
        }
        thread::sleep(Duration::from_millis(200)); // the outage itself
    }
    assert_eq!(unready, [true; 2], "/readyz names the broker");
    for role in &roles {
        let (status, page) = get(role, "/readyz?verbose");
        assert_eq!(status, 503, "at the outage's end: {page}");
    }
    kafka.restart();
    all_committed(&site, EVENTS as i64);
    decided(&site, EVENTS);
    let published = site.published(labels.len() as u64, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());
    for role in &roles {
        wait("readiness", || get(role, "/readyz").0 == 200);
    }
    roles.into_iter().for_each(Process::stop);
    site.verified();
}

/// SIGTERM under load: what is in work is committed, and the group is left, so that the other member has the
/// partitions at once and not when the session ends.
#[test]
fn sigterm_finishes_and_leaves_the_group() {
    const EVENTS: usize = 3_000;
    let site = Site::with("sigterm", &[INFO, ("score.commit_records", "50")]);
    let mut one = member(&site, "one", &[]);
    one.says(ASSIGNED);
    let mut two = member(&site, "two", &[]);
    two.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..EVENTS));
    read_until(&site.connection, &site.topic("decisions"), "progress", |records| records.len() >= 300);
    let assigned = two.log().matches(ASSIGNED).count();
    one.stop();
    let left = Instant::now();
    wait("the partitions of the one that left", || two.log().matches(ASSIGNED).count() > assigned);
    assert!(left.elapsed() < SESSION / 2, "{:?}", left.elapsed());
    all_committed(&site, EVENTS as i64);
    decided(&site, EVENTS);
    two.stop();
    site.verified();
}

/// A site whose panel hangs on the word "hang", beside an expert that answers at once.
fn hanging(prefix: &str, panel: &Folder, sets: &[(&str, &str)]) -> Site {
    panel.classifier("faulty", &faulty_classifier());
    panel.rules("rules", "base = 0.125\n");
    let (folder, runtime) = (panel.path().display().to_string(), models().join("runtime/libonnxruntime.so"));
    let runtime = runtime.display().to_string();
    let mut all = vec![INFO, ("experts.folder", &folder), ("experts.runtime", &runtime)];
    all.extend(sets);
    let site = Site::with(prefix, &all);
    // A member that does not poll is thrown out soon.
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config + "[kafka.settings]\n\"max.poll.interval.ms\" = \"7000\"\n").unwrap();
    site
}

fn hang(site: &Site, number: usize) -> Produced {
    event_record(&site.topic("events"), &event(number, "hang"))
}

/// A second SIGTERM while an expert hangs: what was decided and not committed is given up, nobody sees any of
/// it, and the next start decides it, once. The run that hangs is stopped, and nobody waits for its time to be over.
#[test]
fn a_second_sigterm_gives_the_unit_up() {
    let panel = Folder::new();
    let slow = [("experts.timeout_ms", "20000"), ("score.commit_interval_ms", "60000")];
    let site = hanging("aborting", &panel, &slow);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    score.says("health and metrics");
    send(&site.connection, &[hang(&site, 40)]);
    send(&site.connection, &events(&site, 0..30));
    wait("the events", || {
        get(&score, "/metrics").1.lines().any(|line| line == "aegis_events_consumed_total 31")
    });
    score.signal("TERM");
    // Two signals at once are one.
    score.says("a second signal gives it up");
    assert!(score.ended().is_none(), "an event is still in work");
    gives_up(&mut score);
    let log = score.log();
    assert!(!log.contains("could not judge"), "a run that was stopped is no fault: {log}");
    assert!(read_all(&site.connection, &site.topic("decisions")).is_empty(), "nothing is committed");

    let quick = ["--set", "experts.timeout_ms=500", "--set", "score.commit_interval_ms=100"];
    let again = site.start_with("score", &quick, &[]);
    all_committed(&site, 31);
    decided(&site, 31);
    again.stop();
    site.verified();
}

/// The second signal, after which the process ends at once, whatever it waits for.
fn gives_up(process: &mut Process) {
    let sent = Instant::now();
    process.signal("TERM");
    let status = process.end();
    let took = sent.elapsed();
    println!("gone {took:?} after the second signal");
    assert_eq!(status.code(), Some(130), "{}", process.log());
    assert!(took < PROMPT, "{took:?}: {}", process.log());
}

/// One role on a broker of its own holds still at a point where it has a transaction open, or has just ended one;
/// the broker does too, and the role goes on, waits for it, and is told to stop twice.
fn stopped_twice(kafka: &Kafka, role: &mut Process, point: &str) {
    role.says(&format!("holding still at {point}"));
    kafka.pause();
    role.signal("CONT");
    role.signal("TERM");
    role.says("a second signal gives it up");
    assert!(role.ended().is_none(), "the broker does not answer");
    gives_up(role);
    kafka.resume();
}

/// A second SIGTERM while the brokers do not answer and a transaction is open: nobody ever sees any of it, and the
/// next start decides it, once.
#[test]
fn a_second_sigterm_leaves_an_open_transaction_to_nobody() {
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

/// A learner that waits for its own records, or with a transaction open, ends as promptly, and what it had in hand
/// is done by the next one, once.
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

/// A learner that restores stops at the first signal: it has nothing in hand.
#[test]
fn sigterm_ends_a_learner_that_restores() {
    let site = Site::with("restoring", &[INFO]);
    let records: Vec<_> = (0..50_000)
        .map(|number| {
            let label = label(&format!("l{number}"), &event(number, "").id, Finding::Safe);
            let filed = Record::Filed(Filed { label, received: 1, standing: Standing::Waiting });
            Produced {
                key: Some(codec::encode_key(&filed.key())),
                ..record(&site.topic("rounds"), 0, codec::encode_record(&filed, Encoding::Avro).unwrap())
            }
        })
        .collect();
    send(&site.connection, &records);
    let mut learn = site.start_with("learn", &[], &[("AEGIS_HOLD_AT", "learn.restoring")]);
    learn.says("holding still at learn.restoring");
    learn.signal("TERM");
    learn.signal("CONT");
    let status = learn.end();
    let log = learn.log();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("restoring the ledger"), "it did not go on with ten thousand records: {log}");
}

/// An expert that hangs for ten seconds, longer than the session: the member goes on polling and keeps its
/// partitions, and the decision is made without that vote.
#[test]
fn an_expert_that_hangs_costs_its_vote_and_no_partition() {
    let panel = Folder::new();
    // The panel is full of the one that hangs.
    let site = hanging("hung", &panel, &[("experts.timeout_ms", "10000"), ("score.window", "1")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    let sent = Instant::now();
    send(&site.connection, &[hang(&site, 40)]);
    send(&site.connection, &events(&site, 0..30));
    all_committed(&site, 31);
    assert!(sent.elapsed() > Duration::from_secs(9) && sent.elapsed() < WAIT, "{:?}", sent.elapsed());
    let made = decided(&site, 31);
    let hung = made.iter().find(|decision| decision.id.event == "e00040").unwrap();
    assert!(hung.degraded, "it says that a vote is missing");
    let log = score.log();
    assert!(!log.contains("partitions revoked") && log.matches(ASSIGNED).count() == 1, "{log}");
    score.stop();
    site.verified();
}
