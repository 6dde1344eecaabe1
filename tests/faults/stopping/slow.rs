//! Brokers that are far away: timeouts follow the round trip, records are committed, and both roles become ready.
//! Brokers that are suspended: the roles report that nothing is committed.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use aegis::core::label::Finding;
use aegis::kafka::Produced;

use super::support::Kafka;
use super::support::far::Far;
use super::support::flow::{event, event_record, label, label_record, send};
use super::support::site::{PARTITIONS, Process, Site, hex, wait};
use super::{ASSIGNED, INFO, all_committed, decided, events, member};

/// Returns events on which the experts disagree. Their decisions ask for a review, which costs a batch two more round
/// trips.
fn disputed(site: &Site, numbers: Range<usize>) -> Vec<Produced> {
    let dispute = |number| event_record(&site.topic("events"), &event(number, "I will kill you"));
    numbers.map(dispute).collect()
}

/// Returns the value of a metric of a role, or 0 if there is none.
fn metric(process: &Process, line: &str) -> f64 {
    let (_, page) = process.get("/metrics");
    let found = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

fn ready(process: &Process) -> bool {
    process.get("/readyz").0 == 200
}

/// Checks that both roles start at this round trip, decide, learn, publish and become ready, and lose nothing.
fn works_at(round_trip: Duration) {
    let far = Far::start();
    let prefix = format!("far{}", round_trip.as_millis());
    let brokers = far.bootstrap();
    let site = Site::on(&far.kafka, &prefix, PARTITIONS, &[INFO, ("kafka.brokers", &brokers)]);
    far.proxy.set_round_trip(round_trip);
    let labels: Vec<_> = (0..20)
        .map(|number| label(&format!("l{number}"), &event(number, "").id, Finding::Safe))
        .map(|label| label_record(&site.topic("labels"), &label))
        .collect();
    send(&site.connection, &disputed(&site, 0..200));
    send(&site.connection, &labels);
    let mut roles = ["score", "learn"].map(|role| site.start_with(role, &[], &[]));
    roles.iter_mut().for_each(|role| role.says("health and metrics"));
    all_committed(&site, 200);
    assert!(decided(&site, 200).iter().all(|decision| decision.review().is_some()));
    let published = site.published(20, 0);
    for role in &roles {
        wait("readiness", || ready(role));
        assert!(!role.log().contains("a batch is repeated"), "{}", role.log());
    }
    far.proxy.set_round_trip(Duration::ZERO);
    assert_eq!(hex(&published.state_hash), site.replayed());
    roles.into_iter().for_each(Process::stop);
    site.verified();
}

#[test]
fn both_roles_start_and_commit_where_the_brokers_are_far_away() {
    // They mostly wait, so they run in parallel.
    thread::scope(|scope| {
        scope.spawn(|| works_at(Duration::from_millis(400)));
        scope.spawn(|| works_at(Duration::from_secs(1)));
    });
}

/// A scorer that started near its brokers continues when the round trip becomes long.
#[test]
fn a_way_that_grows_long_is_measured_again() {
    let far = Far::start();
    let brokers = far.bootstrap();
    let site = Site::on(&far.kafka, "farther", PARTITIONS, &[INFO, ("kafka.brokers", &brokers)]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    send(&site.connection, &events(&site, 0..20));
    all_committed(&site, 20);
    far.proxy.set_round_trip(Duration::from_millis(700));
    send(&site.connection, &disputed(&site, 20..100));
    all_committed(&site, 100);
    decided(&site, 100);
    far.proxy.set_round_trip(Duration::ZERO);
    score.stop();
    site.verified();
}

/// A broker is suspended while records wait. Both roles report that and are not ready, and become ready again when it
/// continues.
#[test]
fn what_is_not_committed_is_said() {
    let kafka = Kafka::start();
    let sets = [INFO, ("kafka.stalled_after_ms", "1500")];
    let site = Site::on(&kafka, "stalled", PARTITIONS, &sets);
    // The learner's first transaction takes back the predictors that were published before.
    let mut roles = [("score", "unit.sent"), ("learn", "unit.sent:2")]
        .map(|(role, point)| site.start_with(role, &[], &[("AEGIS_HOLD_AT", point)]));
    for (role, starts) in roles.iter_mut().zip([ASSIGNED, "this learner is active"]) {
        role.says("health and metrics");
        role.says(starts);
    }
    let label = label("l0", &event(0, "").id, Finding::Safe);
    send(&site.connection, &events(&site, 0..20));
    roles[0].holds_still_at("unit.sent");
    send(&site.connection, &[label_record(&site.topic("labels"), &label)]);
    roles[1].holds_still_at("unit.sent");
    kafka.pause();
    for (role, name) in roles.iter_mut().zip(["score", "learn"]) {
        role.signal("CONT");
        let stalled = format!("aegis_commit_stalled_seconds{{role=\"{name}\"}}");
        wait("a wait", || metric(role, &stalled) > 1.5);
        wait("its condition", || {
            let (status, page) = role.get("/readyz");
            status == 503 && page.contains(&format!("[-] {name}: committing: records wait"))
        });
        assert_eq!(role.get("/livez").0, 200);
    }
    kafka.resume();
    all_committed(&site, 20);
    for (role, name) in roles.iter().zip(["score", "learn"]) {
        let stalled = format!("aegis_commit_stalled_seconds{{role=\"{name}\"}}");
        wait("a commit", || metric(role, &stalled) == 0.0);
        wait("readiness", || ready(role));
    }
    decided(&site, 20);
    roles.into_iter().for_each(Process::stop);
    site.verified();
}
