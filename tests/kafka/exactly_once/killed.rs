//! Members and brokers that are killed in mid-stream: every record has one output, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::kafka::{
    Connection, Consumed, Delivery, Followed, Follower, From, GroupProtocol, Outbox, Polled, Produced,
    Source, Start,
};

use super::{consumed, fill, named};
use crate::support::protocols::on_both;
use crate::support::{Kafka, WAIT, kafka, make, record};

/// The variable that makes this test binary a member of a group, with the plan of the member.
const MEMBER: &str = "AEGIS_TEST_MEMBER";

on_both!(
    members_killed_in_mid_stream_lose_and_repeat_nothing,
    a_broker_killed_in_mid_stream_loses_and_repeats_nothing,
);

/// Not a test, but the program that the tests below start as processes and kill.
#[test]
fn member() {
    let Ok(plan) = std::env::var(MEMBER) else {
        return;
    };
    let [brokers, protocol, id, prefix] = plan.split(' ').collect::<Vec<_>>()[..] else { panic!("{plan}") };
    let mut connection = Connection::new(brokers);
    if protocol == GroupProtocol::Consumer.name() {
        connection.group_protocol = GroupProtocol::Consumer;
    } else {
        connection.settings.insert("session.timeout.ms".into(), "3000".into());
    }
    let out: Arc<str> = format!("{prefix}.out").into();
    let own = Delivery::ExactlyOnce { transactional_id: id.into(), timeout: Duration::from_secs(2) };
    let mut outbox = Outbox::open(&connection, own).unwrap();
    let mut source =
        Source::subscribe(&connection, prefix, &[&format!("{prefix}.in")], Start::Earliest).unwrap();
    let mut records = Vec::new();
    let give_back = |outbox: &mut Outbox, source: &mut Source, records: &mut Vec<Consumed>| {
        let sent: Vec<_> = records
            .iter()
            .map(|one| Produced { payload: one.payload.clone(), ..record(&out, one.partition, "") })
            .collect();
        let done = consumed(records);
        records.clear();
        match outbox.commit(&sent, Some((source.membership(), &done))) {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                eprintln!("{id}: {error}");
                while let Err(error) = source.rewind(WAIT) {
                    assert!(error.is_retryable(), "{error}");
                }
            }
            Err(error) => panic!("{id}: {error}"),
        }
    };
    loop {
        match source.poll(Duration::from_millis(20)).unwrap() {
            Polled::Record(record) => {
                records.push(record);
                if records.len() >= 100 {
                    give_back(&mut outbox, &mut source, &mut records);
                }
            }
            Polled::Idle | Polled::Assigned(_) => give_back(&mut outbox, &mut source, &mut records),
            Polled::Revoked { lost: true, .. } => records.clear(),
            Polled::Revoked { .. } => give_back(&mut outbox, &mut source, &mut records),
        }
    }
}

fn start_member(connection: &Connection, id: &str, prefix: &str) -> Child {
    let (brokers, protocol) = (&connection.brokers, connection.group_protocol.name());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exactly_once::killed::member", "--nocapture"])
        .env(MEMBER, format!("{brokers} {protocol} {id} {prefix}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills its processes when it is dropped.
struct Members(Vec<Child>);

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.0 {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Follows the outputs until `count` records are read, and calls `strike` four times meanwhile. Checks that the sets
/// are equal, without duplicates, and that each partition is in order.
fn verify(connection: &Connection, topic: &str, count: i32, partitions: i32, mut strike: impl FnMut(usize)) {
    let until = Instant::now() + 6 * WAIT; // only a hang takes as long
    let mut follower = Follower::open(connection, topic, &From::Beginning, WAIT).unwrap();
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::new();
    let mut strikes = 0;
    while seen.len() < usize::try_from(count).unwrap() {
        assert!(Instant::now() < until, "{} of {count} outputs", seen.len());
        let Followed::Record(one) = follower.poll(Duration::from_millis(100)).unwrap() else {
            continue;
        };
        let number: i32 = String::from_utf8(one.payload.unwrap()).unwrap().parse().unwrap();
        assert!(seen.insert(number), "{number} came twice");
        assert_eq!(number % partitions, one.partition);
        assert!(
            last.insert(one.partition, number).is_none_or(|before| before < number),
            "{number} is out of order"
        );
        if seen.len() > (strikes + 1) * usize::try_from(count).unwrap() / 5 && strikes < 4 {
            strike(strikes);
            strikes += 1;
        }
    }
    assert_eq!(strikes, 4, "all strikes fell while work was going on");
    let quiet = Instant::now() + Duration::from_secs(2);
    while Instant::now() < quiet {
        assert!(
            !matches!(follower.poll(Duration::from_millis(100)).unwrap(), Followed::Record(_)),
            "one too many"
        );
    }
}

fn members_killed_in_mid_stream_lose_and_repeat_nothing(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [prefix, input, output] = ["killed", "killed.in", "killed.out"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 4, &[]), (&output, 4, &[])]);
    fill(&connection, &input, 4, 20_000);
    let start = |id: usize| start_member(&connection, &format!("{prefix}-{id}"), &prefix);
    let mut members = Members((0..2).map(start).collect());
    verify(&connection, &output, 20_000, 4, |number| {
        let which = number % 2;
        members.0[which].kill().unwrap();
        members.0[which].wait().unwrap();
        members.0[which] = start(which);
    });
}

fn a_broker_killed_in_mid_stream_loses_and_repeats_nothing(protocol: GroupProtocol) {
    let mut broker = Kafka::start();
    let connection = broker.connection_in(protocol);
    make(&connection, &[("gone.in", 2, &[]), ("gone.out", 2, &[])]);
    fill(&connection, "gone.in", 2, 10_000);
    let _members = Members(vec![start_member(&connection, "gone", "gone")]);
    verify(&connection, "gone.out", 10_000, 2, |number| {
        if number == 1 {
            broker.kill();
            broker.restart();
        }
    });
}
