//! The Kafka edge on the embedded broker: the flow, lookups and faults. These tests prove nothing about exactly-once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::kafka::embedded::{Embedded, KEPT_BYTES};
use aegis::kafka::{
    CommitError, Connection, Consumed, Delivery, Followed, Follower, From, Lookup, Offsets, Outbox, Polled,
    Produced, Source, SourceError, Start, topics,
};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::site::returns;

const WAIT: Duration = Duration::from_secs(20);

fn record(topic: &str, partition: i32, payload: impl Into<Vec<u8>>) -> Produced {
    Produced {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(b"key".to_vec()),
        payload: Some(payload.into()),
        headers: vec![("h".into(), Some(b"v".to_vec()))],
        timestamp: Some(1_700_000_000_000),
    }
}

fn outbox(connection: &Connection) -> Outbox {
    Outbox::open(connection, Delivery::AtLeastOnce).unwrap()
}

/// Reads `count` records. Returns them.
fn read(source: &mut Source, count: usize) -> Vec<Consumed> {
    let until = Instant::now() + WAIT;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < until, "{} of {count} records", records.len());
        if let Polled::Record(record) = source.poll(Duration::from_millis(100)).unwrap() {
            records.push(record);
        }
    }
    records
}

fn follow_to_end(follower: &mut Follower) -> Vec<Followed> {
    let until = Instant::now() + WAIT;
    let mut seen = Vec::new();
    loop {
        assert!(Instant::now() < until, "no end after {} records", seen.len());
        match follower.poll(Duration::from_millis(100)).unwrap() {
            Followed::End => return seen,
            Followed::Idle => {}
            news => seen.push(news),
        }
    }
}

#[test]
fn records_come_as_they_went_and_offsets_are_resumed() {
    let broker = Embedded::start(&[("in", 2), ("out", 1)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut outbox = outbox(&connection);
    let sent: Vec<_> = (0..10).map(|number| record("in", number % 2, format!("{number}"))).collect();
    let places = outbox.commit(&sent, None).unwrap();
    assert_eq!(places, (0..10).map(|number| (number % 2, i64::from(number / 2))).collect::<Vec<_>>());

    let mut source = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
    let first = read(&mut source, 10);
    for (record, place) in sent.iter().zip(&places) {
        let came = first.iter().find(|came| (came.partition, came.offset) == *place).unwrap();
        assert_eq!(
            (&came.key, &came.payload, &came.headers),
            (&record.key, &record.payload, &record.headers)
        );
        assert_eq!((came.timestamp, &*came.topic), (record.timestamp, "in"));
    }
    // Only committed records are passed over.
    let topic: Arc<str> = "in".into();
    let done: Offsets = [((topic.clone(), 0), 4), ((topic, 1), 1)].into_iter().collect();
    outbox.commit(&[record("out", 0, "x")], Some((source.membership(), &done))).unwrap();
    source.rewind(WAIT).unwrap();
    let mut again: Vec<_> = read(&mut source, 5).iter().map(|came| (came.partition, came.offset)).collect();
    again.sort_unstable();
    assert_eq!(again, [(0, 4), (1, 1), (1, 2), (1, 3), (1, 4)]);
    source.close(WAIT);

    let mut next = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
    assert_eq!(read(&mut next, 5).len(), 5);
    assert_eq!(next.committed(WAIT).unwrap().iter().map(|(_, offset)| offset.unwrap()).sum::<i64>(), 5);
}

#[test]
fn a_pause_holds_and_a_commit_of_nothing_is_nothing() {
    let broker = Embedded::start(&[("in", 1)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut outbox = outbox(&connection);
    let mut source = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
    source.pause().unwrap();
    outbox.commit(&[record("in", 0, "1")], None).unwrap();
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(!matches!(source.poll(Duration::from_millis(50)).unwrap(), Polled::Record(_)));
    }
    source.resume().unwrap();
    assert_eq!(read(&mut source, 1).len(), 1);
    assert_eq!(outbox.commit(&[], Some((source.membership(), &Offsets::default()))).unwrap(), []);
    assert_eq!(outbox.commit(&[], None).unwrap(), []);
}

#[test]
fn a_member_commits_only_what_it_holds() {
    let broker = Embedded::start(&[("in", 1)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut outbox = outbox(&connection);
    let source = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
    let foreign: Offsets = [(("in".into(), 0), 4)].into_iter().collect();
    let refused = outbox.commit(&[], Some((source.membership(), &foreign))).unwrap_err();
    assert!(matches!(refused, CommitError::Stale { .. }), "{refused:?}");
}

#[test]
fn outputs_that_cannot_go_say_why() {
    let broker = Embedded::start(&[("in", 1)]).unwrap();
    let mut connection = Connection::new(broker.bootstrap());
    connection.settings.insert("message.max.bytes".into(), "2000".into());
    let mut outbox = outbox(&connection);
    let mut sent = vec![record("in", 0, "small"), record("in", 0, vec![0; 3_000])];
    match outbox.commit(&sent, None).unwrap_err() {
        CommitError::TooLarge { index: 1, bytes, topic } => assert_eq!((bytes, &*topic), (3_005, "in")),
        other => panic!("{other:?}"),
    }
    sent.truncate(1);
    outbox.commit(&sent, None).unwrap();
    sent[0].partition = Some(7);
    let missing = outbox.commit(&sent, None).unwrap_err();
    assert!(missing.to_string().contains("aegis topics --create"), "{missing}");
    sent[0].partition = Some(0);
    outbox.commit(&sent, None).unwrap();
}

#[test]
fn a_follower_reads_to_the_end_with_tombstones_and_goes_on() {
    let broker = Embedded::start(&[("weights", 3)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut outbox = outbox(&connection);
    let mut empty = Follower::open(&connection, "weights", &From::Beginning, WAIT).unwrap();
    assert!(follow_to_end(&mut empty).is_empty() && empty.at_end());

    let mut sent = vec![record("weights", 0, "a"), record("weights", 2, "b")];
    sent.push(Produced { payload: None, ..record("weights", 2, "") });
    outbox.commit(&sent, None).unwrap();
    let mut follower = Follower::open(&connection, "weights", &From::Beginning, WAIT).unwrap();
    assert!(!follower.at_end());
    let seen = follow_to_end(&mut follower);
    assert_eq!(seen.len(), 3);
    let values = |seen: &[Followed]| -> Vec<_> {
        seen.iter()
            .map(|one| match one {
                Followed::Record(record) => record.payload.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(values(&seen).iter().filter(|value| value.is_none()).count(), 1);
    assert_eq!(follower.positions(), BTreeMap::from([(0, 1), (1, 0), (2, 2)]));

    outbox.commit(&[record("weights", 1, "c")], None).unwrap();
    let until = Instant::now() + WAIT;
    let next = loop {
        assert!(Instant::now() < until);
        if let Followed::Record(record) = follower.poll(Duration::from_millis(100)).unwrap() {
            break record;
        }
    };
    assert_eq!((next.partition, next.payload.as_deref()), (1, Some(b"c".as_slice())));
    let late = From::Offsets(BTreeMap::from([(0, 1), (2, 1)]));
    assert_eq!(follow_to_end(&mut Follower::open(&connection, "weights", &late, WAIT).unwrap()).len(), 2);
    let beyond = From::Offsets(BTreeMap::from([(0, 9)]));
    let refused = Follower::open(&connection, "weights", &beyond, WAIT).err().unwrap();
    assert!(matches!(refused, SourceError::Truncated { position: 9, end: 1, .. }), "{refused:?}");
}

#[test]
fn lookups_find_what_is_there_and_miss_what_has_vanished() {
    let broker = Embedded::start(&[("decisions", 2)]).unwrap();
    let mut connection = Connection::new(broker.bootstrap());
    connection.settings.insert("compression.type".into(), "none".into());
    connection.settings.insert("batch.size".into(), "100000".into());
    let mut outbox = outbox(&connection);
    let value = |number: usize| format!("{number:08}").repeat(128).into_bytes();
    let count = KEPT_BYTES / 1024 * 2;
    for begin in (0..count).step_by(500) {
        let sent: Vec<_> =
            (begin..(begin + 500).min(count)).map(|number| record("decisions", 0, value(number))).collect();
        outbox.commit(&sent, None).unwrap();
    }
    outbox.commit(&[record("decisions", 1, "alone")], None).unwrap();
    let last = i64::try_from(count).unwrap() - 1;

    let mut lookup = Lookup::open(&connection, "decisions", WAIT).unwrap();
    // The offsets are out of order, repeated, near and far, vanished, never written, and in another partition.
    let wanted = [
        (0, last),
        (0, 3),
        (1, 0),
        (0, last - 1),
        (0, last),
        (0, last + 1),
        (0, last - 3_000),
        (1, 5),
        (7, 0),
    ];
    let found = lookup.fetch(&wanted, WAIT).unwrap();
    let there: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true, true, true, false, true, false, false]);
    for ((partition, offset), found) in wanted.iter().zip(&found) {
        if let Some(found) = found {
            assert_eq!((found.partition, found.offset), (*partition, *offset));
            let expected =
                if *partition == 0 { value(usize::try_from(*offset).unwrap()) } else { b"alone".into() };
            assert_eq!(found.payload.as_ref(), Some(&expected));
        }
    }
    // The lookup does not wait for records that have vanished, since that would end with an error at the timeout.
    assert_eq!(lookup.fetch(&[(0, 0), (0, 1)], WAIT).unwrap(), [None, None]);
    cost(&mut lookup, last);

    // A reader is notified if the requested records have vanished.
    let begin = From::Offsets(BTreeMap::from([(0, 1)]));
    let mut follower = Follower::open(&connection, "decisions", &begin, WAIT).unwrap();
    match follower.poll(WAIT).unwrap() {
        Followed::Skipped { partition: 0, asked: 1, from } => assert!(from > 1 && from < last),
        other => panic!("{other:?}"),
    }
}

/// Prints the cost of a fetch: `cargo test --test kafka lookups -- --nocapture`.
fn cost(lookup: &mut Lookup, last: i64) {
    for (name, wanted) in [
        ("one", vec![(0, last - 2_000)]),
        ("200 in 4,000", (0..200).map(|number| (0, last - number * 20)).collect()),
        ("20 far apart", (0..20).map(|number| (0, last - number * 210)).collect::<Vec<_>>()),
    ] {
        let began = Instant::now();
        for _ in 0..5 {
            assert!(lookup.fetch(&wanted, WAIT).unwrap().iter().all(Option::is_some));
        }
        println!("lookup of {name}: {:?} each call", began.elapsed() / 5);
    }
}

#[test]
fn a_missing_topic_names_the_command_that_makes_it() {
    let broker = Embedded::start(&[("in", 3)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    assert_eq!(topics::partitions(&connection, "in", WAIT), Ok(3));
    for refused in [
        topics::partitions(&connection, "absent", WAIT).map(drop),
        Follower::open(&connection, "absent", &From::Beginning, WAIT).map(drop),
        Lookup::open(&connection, "absent", WAIT).map(drop),
    ] {
        assert!(refused.unwrap_err().to_string().contains("aegis topics --create"));
    }
}

/// Each class of a transaction's errors, as brokers return them: the reported error, and that the same outbox can be
/// used again unless it is fenced.
#[test]
fn errors_of_transactions_are_answered_by_their_class() {
    use RDKafkaRespErr as Said;
    let (retriable, again) = (
        Said::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Said::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
    );
    for (number, (step, said, told, goes_on)) in [
        (RDKafkaApiKey::AddPartitionsToTxn, vec![retriable, again], None, true),
        (RDKafkaApiKey::AddOffsetsToTxn, vec![retriable, again], None, true),
        (RDKafkaApiKey::EndTxn, vec![retriable, again, again], None, true),
        (
            RDKafkaApiKey::AddOffsetsToTxn,
            vec![Said::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED],
            Some("Denied"),
            true,
        ),
        (
            RDKafkaApiKey::AddOffsetsToTxn,
            vec![Said::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE],
            Some("Aborted"),
            true,
        ),
        (RDKafkaApiKey::EndTxn, vec![Said::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID], Some("Aborted"), true),
        (RDKafkaApiKey::EndTxn, vec![Said::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE], Some("Indefinite"), true),
        (RDKafkaApiKey::EndTxn, vec![Said::RD_KAFKA_RESP_ERR_PRODUCER_FENCED], Some("Fenced"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic("in", 1, 1).unwrap();
        broker.create_topic("out", 1, 1).unwrap();
        let connection = Connection::new(broker.bootstrap_servers());
        outbox(&connection).commit(&[record("in", 0, "1")], None).unwrap();
        let own = Delivery::ExactlyOnce { transactional_id: "id".into(), timeout: Duration::from_secs(5) };
        let mut outbox = Outbox::open(&connection, own).unwrap();
        let mut source = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
        read(&mut source, 1);
        let done: Offsets = [(("in".into(), 0), 1)].into_iter().collect();
        broker.request_errors(step, &said);
        let consumed = Some((source.membership(), &done));
        let result = outbox.commit(&[record("out", 0, "1")], consumed);
        assert_eq!(result.as_ref().err().map(CommitError::name), told, "{number}: {result:?}");
        let next = outbox.commit(&[record("out", 0, "2")], consumed);
        assert_eq!(next.is_ok(), goes_on, "{number}: {next:?}");
    }
}

#[test]
fn a_broker_that_goes_and_comes_stops_nothing() {
    let broker = Embedded::start(&[("in", 1)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let mut outbox = outbox(&connection);
    let mut source = Source::subscribe(&connection, "g", &["in"], Start::Earliest).unwrap();
    outbox.commit(&[record("in", 0, "1")], None).unwrap();
    read(&mut source, 1);
    // An outage that is longer than the session ends the membership. The next one resumes from this offset.
    let done: Offsets = [(("in".into(), 0), 1)].into_iter().collect();
    outbox.commit(&[], Some((source.membership(), &done))).unwrap();
    let health = |source: &mut Source, wanted: bool| {
        let until = Instant::now() + WAIT;
        while source.health().connected != wanted {
            assert!(Instant::now() < until, "connected is not {wanted}");
            source.poll(Duration::from_millis(50)).unwrap();
        }
    };
    health(&mut source, true);
    broker.set_up(false).unwrap();
    health(&mut source, false);
    broker.set_up(true).unwrap();
    health(&mut source, true);
    outbox.commit(&[record("in", 0, "2")], None).unwrap();
    assert_eq!(read(&mut source, 1)[0].payload.as_deref(), Some(b"2".as_slice()));

    // The time of leaving the group is bounded: the call returns while the broker is still unavailable.
    broker.set_up(false).unwrap();
    returns("leaving the group", move || source.close(Duration::from_secs(2)));
    broker.set_up(true).unwrap();
}
