//! Exactly-once on a real Apache Kafka: outputs and consumed offsets are one transaction, whichever process is killed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::dead_letter::{self, Outputs};
use aegis::kafka::{
    CommitError, Connection, Consumed, Delivery, Followed, Follower, From, Offsets, Outbox, Polled, Produced,
    Source, Start,
};

use crate::support;
use support::{Kafka, WAIT, kafka, make, read, record};

/// The variable that makes this test binary a member of a group, with the plan of the member.
const MEMBER: &str = "AEGIS_TEST_MEMBER";

fn once(id: &str) -> Delivery {
    Delivery::ExactlyOnce { transactional_id: id.into(), timeout: Duration::from_secs(4) }
}

fn fill(connection: &Connection, topic: &str, partitions: i32, count: i32) {
    let sent: Vec<_> =
        (0..count).map(|number| record(topic, number % partitions, format!("{number}"))).collect();
    Outbox::open(connection, Delivery::AtLeastOnce).unwrap().commit(&sent, None).unwrap();
}

fn consumed(records: &[Consumed]) -> Offsets {
    records.iter().map(|one| ((one.topic.clone(), one.partition), one.offset + 1)).collect()
}

/// Returns all committed records of a topic.
fn everything(connection: &Connection, topic: &str) -> Vec<Consumed> {
    let until = Instant::now() + WAIT;
    let mut follower = Follower::open(connection, topic, &From::Beginning, WAIT).unwrap();
    let mut all = Vec::new();
    loop {
        assert!(Instant::now() < until);
        match follower.poll(Duration::from_millis(100)).unwrap() {
            Followed::Record(record) => all.push(record),
            Followed::End => return all,
            _ => {}
        }
    }
}

fn committed(source: &Source) -> i64 {
    source.committed(WAIT).unwrap().iter().filter_map(|(_, next)| *next).sum()
}

#[test]
fn outputs_and_offsets_count_together_or_not_at_all() {
    let connection = kafka().connection();
    make(&connection, &[("unit.in", 2, &[]), ("unit.out", 2, &[])]);
    fill(&connection, "unit.in", 2, 20);
    let mut outbox = Outbox::open(&connection, once("unit")).unwrap();
    let mut source = Source::subscribe(&connection, "unit", &["unit.in"], Start::Earliest).unwrap();
    let records = read(&mut source, 20);
    let done = consumed(&records);

    // A transaction that is dropped without a commit is invisible, and does not move the offsets.
    let mut transaction = outbox.transaction();
    transaction.send(&[record("unit.out", 0, "never")]).unwrap();
    drop(transaction);
    assert_eq!(committed(&source), 0);
    // A transaction with two sends: the second record contains the position of the first.
    let mut transaction = outbox.transaction();
    let places = transaction.send(&[record("unit.out", 0, "decision")]).unwrap();
    transaction.send(&[record("unit.out", 1, format!("{places:?}"))]).unwrap();
    transaction.commit(Some((source.membership(), &done))).unwrap();
    assert_eq!(committed(&source), 20);
    // Offsets alone are a transaction as well. Without records and offsets there is none.
    outbox.commit(&[], Some((source.membership(), &done))).unwrap();
    assert_eq!(outbox.commit(&[], None), Ok(vec![]));

    let out = everything(&connection, "unit.out");
    let shown: BTreeMap<_, _> = out.iter().map(|one| (one.partition, one.payload.clone().unwrap())).collect();
    // The aborted record and its marker have the offsets 0 and 1.
    assert_eq!(out.len(), 2);
    assert_eq!(shown, BTreeMap::from([(0, b"decision".to_vec()), (1, b"[(0, 2)]".to_vec())]));
}

#[test]
fn a_refused_output_takes_the_unit_with_it() {
    let connection = kafka().connection();
    make(&connection, &[("refuse.in", 1, &[]), ("refuse.out", 1, &[])]);
    fill(&connection, "refuse.in", 1, 5);
    let mut outbox = Outbox::open(&connection, once("refuse")).unwrap();
    let mut source = Source::subscribe(&connection, "refuse", &["refuse.in"], Start::Earliest).unwrap();
    let records = read(&mut source, 5);
    let done = consumed(&records);
    let mut sent = vec![record("refuse.out", 0, "1"), record("refuse.out", 0, vec![0; 9_000_000])];
    let refused = outbox.commit(&sent, Some((source.membership(), &done))).unwrap_err();
    assert!(matches!(refused, CommitError::TooLarge { index: 1, .. }), "{refused:?}");
    assert_eq!((committed(&source), everything(&connection, "refuse.out").len()), (0, 0));
    source.rewind(WAIT).unwrap();
    assert_eq!(read(&mut source, 5), records);
    sent[1].payload = None;
    outbox.commit(&sent, Some((source.membership(), &done))).unwrap();
    assert_eq!((committed(&source), everything(&connection, "refuse.out").len()), (5, 2));
}

/// The client keeps a partition paused, also while the partition is assigned to another member.
#[test]
fn a_partition_that_was_paused_when_it_went_flows_when_it_is_back() {
    let connection = kafka().connection();
    make(&connection, &[("back.in", 2, &[])]);
    fill(&connection, "back.in", 2, 10);
    let member = || Source::subscribe(&connection, "back", &["back.in"], Start::Earliest).unwrap();
    let mut one = member();
    read(&mut one, 10);
    one.pause().unwrap();
    let mut two = member();
    let until = Instant::now() + WAIT;
    while two.assigned().is_empty() {
        assert!(Instant::now() < until, "the second member has no partition");
        one.poll(Duration::from_millis(50)).unwrap();
        two.poll(Duration::from_millis(50)).unwrap();
    }
    assert_eq!(one.assigned().len(), 1);
    one.resume().unwrap();
    two.close(WAIT);
    // Nothing was committed, so the returned partition is read from its beginning.
    assert_eq!(read(&mut one, 5).len(), 5);
}

#[test]
fn a_zombie_is_fenced_for_good() {
    let connection = kafka().connection();
    make(&connection, &[("zombie", 1, &[])]);
    let mut old = Outbox::open(&connection, once("zombie")).unwrap();
    old.commit(&[record("zombie", 0, "1")], None).unwrap();
    let mut transaction = old.transaction();
    transaction.send(&[record("zombie", 0, "never")]).unwrap();
    let mut new = Outbox::open(&connection, once("zombie")).unwrap();
    let fenced = transaction.commit(None).unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced { .. }), "{fenced:?}");
    for _ in 0..2 {
        let again = old.commit(&[record("zombie", 0, "never")], None).unwrap_err();
        assert!(matches!(again, CommitError::Fenced { .. }), "{again:?}");
    }
    new.commit(&[record("zombie", 0, "2")], None).unwrap();
    assert_eq!(everything(&connection, "zombie").len(), 2);
}

#[test]
fn a_transaction_that_hangs_is_given_up_and_its_holder_is_told() {
    let connection = kafka().connection();
    make(&connection, &[("hang", 1, &[])]);
    let short = Delivery::ExactlyOnce { transactional_id: "hang".into(), timeout: Duration::from_secs(1) };
    let mut outbox = Outbox::open(&connection, short).unwrap();
    let mut transaction = outbox.transaction();
    transaction.send(&[record("hang", 0, "never")]).unwrap();
    // The brokers abort the transaction. If it stayed open, this reader would wait before the next record.
    Outbox::open(&connection, Delivery::AtLeastOnce)
        .unwrap()
        .commit(&[record("hang", 0, "after")], None)
        .unwrap();
    let until = Instant::now() + WAIT;
    let mut follower = Follower::open(&connection, "hang", &From::Beginning, WAIT).unwrap();
    loop {
        assert!(Instant::now() < until, "the transaction is not given up");
        if let Followed::Record(record) = follower.poll(Duration::from_millis(50)).unwrap() {
            assert_eq!(record.payload.as_deref(), Some(b"after".as_slice()));
            break;
        }
    }
    let late = transaction.commit(None).unwrap_err();
    assert!(matches!(late, CommitError::Outlived { .. }), "{late:?}");
    assert_eq!(everything(&connection, "hang").len(), 1);
    outbox.commit(&[record("hang", 0, "more")], None).unwrap();
    assert_eq!(everything(&connection, "hang").len(), 2);
}

/// The brokers die between the records and their commit: the outcome is unknown until they are back. The same outbox
/// continues with a new producer.
#[test]
fn a_commit_without_an_answer_is_followed_by_a_new_producer() {
    let mut broker = Kafka::start();
    let connection = broker.connection();
    make(&connection, &[("unknown", 1, &[])]);
    let mut outbox = Outbox::open(&connection, once("unknown")).unwrap();
    let mut transaction = outbox.transaction();
    transaction.send(&[record("unknown", 0, "lost")]).unwrap();
    broker.kill();
    let unknown = transaction.commit(None).unwrap_err();
    assert!(matches!(unknown, CommitError::Indefinite { .. }) && unknown.is_retryable(), "{unknown:?}");
    let away = outbox.commit(&[record("unknown", 0, "away")], None).unwrap_err();
    assert!(matches!(away, CommitError::Unavailable { .. }), "{away:?}");

    broker.restart();
    let until = Instant::now() + WAIT;
    // The coordinator may take some time to load its transactions again.
    while let Err(error) = outbox.commit(&[record("unknown", 0, "done")], None) {
        assert!(error.is_retryable() && Instant::now() < until, "{error:?}");
    }
    // Records whose commit was never requested do not count, and block no reader.
    let payloads: Vec<_> =
        everything(&connection, "unknown").into_iter().map(|one| one.payload.unwrap()).collect();
    assert_eq!(payloads, [b"done".to_vec()]);
}

/// A transaction that is aborted between its records and its commit has no effect.
#[test]
fn what_is_given_up_before_its_commit_is_aborted() {
    let connection = kafka().connection();
    make(&connection, &[("given.up", 1, &[])]);
    let mut outbox = Outbox::open(&connection, once("given-up")).unwrap();
    let asked = Cell::new(0);
    let mut sent = Outputs::new(vec![record("given.up", 0, "never")], &"dlq".into());
    let further = |_: &[Produced], places: &[(i32, i64)]| {
        asked.set(places.len());
        Ok(Vec::new())
    };
    let result = dead_letter::commit_with(&mut outbox, &mut sent, None, further, || asked.get() > 0);
    assert!(matches!(result, Err(CommitError::Aborted { stage: "commit", .. })), "{result:?}");
    assert_eq!((asked.get(), everything(&connection, "given.up").len()), (1, 0));
    outbox.commit(&[record("given.up", 0, "1")], None).unwrap();
    assert_eq!(everything(&connection, "given.up").len(), 1);
}

#[test]
fn a_member_that_lost_its_partitions_commits_nothing() {
    let connection = kafka().connection();
    make(&connection, &[("lost.in", 1, &[]), ("lost.out", 1, &[])]);
    fill(&connection, "lost.in", 1, 10);
    let mut patient = connection.clone();
    patient.settings.insert("session.timeout.ms".into(), "2000".into());
    patient.settings.insert("max.poll.interval.ms".into(), "2000".into());
    let mut old_box = Outbox::open(&connection, once("lost-old")).unwrap();
    let mut old = Source::subscribe(&patient, "lost", &["lost.in"], Start::Earliest).unwrap();
    let records = read(&mut old, 10);
    // The member does not poll for too long while it processes the records, so another member gets them.
    let mut new = Source::subscribe(&connection, "lost", &["lost.in"], Start::Earliest).unwrap();
    let again = read(&mut new, 10);
    assert_eq!(records, again);
    let stale =
        old_box.commit(&[record("lost.out", 0, "never")], Some((old.membership(), &consumed(&records))));
    assert!(matches!(stale, Err(CommitError::Stale { .. })), "{stale:?}");
    let mut new_box = Outbox::open(&connection, once("lost-new")).unwrap();
    new_box.commit(&[record("lost.out", 0, "1")], Some((new.membership(), &consumed(&again)))).unwrap();
    assert_eq!((committed(&new), everything(&connection, "lost.out").len()), (10, 1));
    // The member is notified at its next poll.
    let until = Instant::now() + WAIT;
    loop {
        assert!(Instant::now() < until);
        if let Polled::Revoked { lost, .. } = old.poll(Duration::from_millis(100)).unwrap() {
            assert!(lost);
            break;
        }
    }
}

/// In a transaction, brokers accept offsets for a group with live members even from a client without a membership.
/// Therefore the check of the client itself must come first.
#[test]
fn a_client_without_an_assignment_commits_nothing() {
    let connection = kafka().connection();
    make(&connection, &[("early.in", 1, &[])]);
    fill(&connection, "early.in", 1, 10);
    let mut member = Source::subscribe(&connection, "early", &["early.in"], Start::Earliest).unwrap();
    let done = consumed(&read(&mut member, 10));
    let early = Source::subscribe(&connection, "early", &["early.in"], Start::Earliest).unwrap();
    let mut outbox = Outbox::open(&connection, once("early")).unwrap();
    match outbox.commit(&[], Some((early.membership(), &done))) {
        Err(CommitError::Stale { reason, .. }) if reason.contains("no longer assigned to this member") => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&member), 0);
}

/// Not a test, but the program that the tests below start as processes and kill.
#[test]
fn member() {
    let Ok(plan) = std::env::var(MEMBER) else {
        return;
    };
    let [brokers, id, prefix] = plan.split(' ').collect::<Vec<_>>()[..] else { panic!("{plan}") };
    let mut connection = Connection::new(brokers);
    connection.settings.insert("session.timeout.ms".into(), "3000".into());
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

fn start_member(brokers: &str, id: &str, prefix: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exactly_once::member", "--nocapture"])
        .env(MEMBER, format!("{brokers} {id} {prefix}"))
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
    let until = Instant::now() + 2 * WAIT;
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

#[test]
fn members_killed_in_mid_stream_lose_and_repeat_nothing() {
    let brokers = kafka().bootstrap();
    let connection = kafka().connection();
    make(&connection, &[("killed.in", 4, &[]), ("killed.out", 4, &[])]);
    fill(&connection, "killed.in", 4, 20_000);
    let mut members =
        Members((0..2).map(|id| start_member(&brokers, &format!("killed-{id}"), "killed")).collect());
    verify(&connection, "killed.out", 20_000, 4, |number| {
        let which = number % 2;
        members.0[which].kill().unwrap();
        members.0[which].wait().unwrap();
        members.0[which] = start_member(&brokers, &format!("killed-{which}"), "killed");
    });
}

#[test]
fn a_broker_killed_in_mid_stream_loses_and_repeats_nothing() {
    let mut broker = Kafka::start();
    let (brokers, connection) = (broker.bootstrap(), broker.connection());
    make(&connection, &[("gone.in", 2, &[]), ("gone.out", 2, &[])]);
    fill(&connection, "gone.in", 2, 10_000);
    let _members = Members(vec![start_member(&brokers, "gone", "gone")]);
    verify(&connection, "gone.out", 10_000, 2, |number| {
        if number == 1 {
            broker.kill();
            broker.restart();
        }
    });
}
