//! The Kafka edge on a real Apache Kafka: topics, readers, at-least-once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::kafka::topics::{self, Cleanup, Clock, Finding, TopicSpec};
use aegis::kafka::{
    CommitError, Connection, Delivery, Followed, Follower, From, Lookup, Offsets, Outbox, Produced, Source,
    SourceError, Start,
};
use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::support;
use support::{WAIT, kafka, make, read, record};

fn once(id: &str) -> Delivery {
    Delivery::ExactlyOnce { transactional_id: id.into(), timeout: Duration::from_secs(4) }
}

/// Deletes a partition's records before `offset`, as retention does.
fn forget(connection: &Connection, topic: &str, partition: i32, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &connection.brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    done.elements().iter().for_each(|one| one.error().unwrap());
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
fn a_topic_has_an_id_of_its_own() {
    let connection = kafka().connection();
    let id = |topic: &str| topics::id(&connection, topic, WAIT);
    assert!(matches!(id("ids.none"), Err(SourceError::MissingTopic { topic }) if topic == "ids.none"));
    make(&connection, &[("ids.one", 1, &[]), ("ids.two", 3, &[])]);
    let (one, two) = (id("ids.one").unwrap(), id("ids.two").unwrap());
    assert!(one.is_some() && two.is_some() && one != two, "{one:?} {two:?}");
    assert_eq!(id("ids.one").unwrap(), one);
    // Unavailable brokers are not reported as a topic without an id.
    let away = Connection::new("127.0.0.1:1");
    let error = topics::id(&away, "ids.one", Duration::from_millis(300)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[test]
fn topics_are_made_and_checked() {
    let connection = kafka().connection();
    let week = Duration::from_secs(7 * 86_400);
    let ledger = TopicSpec {
        exactly: true,
        cleanup: Some(Cleanup::Compact),
        safe: true,
        ..TopicSpec::new("topics.rounds", 1)
    };
    let labels = TopicSpec {
        cleanup: Some(Cleanup::Delete),
        clock: Some(Clock::Broker),
        keeps: Some(week),
        ..TopicSpec::new("topics.labels", 3)
    };
    let letters = TopicSpec { clock: Some(Clock::Writer), safe: true, ..TopicSpec::new("topics.letters", 2) };
    let specs = [ledger, labels, letters];
    let check = |specs: &[TopicSpec]| topics::check(&connection, specs, true, WAIT).unwrap();
    assert_eq!(check(&specs), vec![Finding::Missing; 3]);
    assert_eq!(topics::ensure(&connection, &specs, WAIT).unwrap(), vec![Finding::Made; 3]);
    assert_eq!(topics::partitions(&connection, "topics.labels", WAIT), Ok(3));
    assert_eq!(topics::ensure(&connection, &specs, WAIT).unwrap(), vec![Finding::Fine; 3]);

    // Each single fault is found and named.
    let [ledger, labels, letters] = specs;
    let wrong = |spec: TopicSpec, said: &str| match &check(&[spec])[..] {
        [Finding::Wrong(why)] => assert!(why.len() == 1 && why[0].contains(said), "{why:?}"),
        other => panic!("{other:?}"),
    };
    wrong(TopicSpec { partitions: 2, ..ledger.clone() }, "has 1 partitions and must have 2");
    wrong(TopicSpec { cleanup: Some(Cleanup::Delete), ..ledger.clone() }, "cleanup.policy=compact");
    wrong(TopicSpec { clock: Some(Clock::Broker), ..ledger }, "message.timestamp.type=LogAppendTime");
    wrong(TopicSpec { clock: Some(Clock::Writer), ..labels.clone() }, "message.timestamp.type=CreateTime");
    wrong(TopicSpec { keeps: Some(week * 2), ..labels.clone() }, "retention.ms=1209600000");
    assert_eq!(check(&[TopicSpec { partitions: 9, ..labels }]), [Finding::Fine]);

    // One broker has one replica, which must be enough: with two required, no producer could write.
    let two = ("min.insync.replicas".to_owned(), "2".to_owned());
    let shut = TopicSpec { config: [two].into(), ..TopicSpec::new("topics.shut", 1) };
    assert_eq!(topics::ensure(&connection, std::slice::from_ref(&shut), WAIT).unwrap(), [Finding::Made]);
    wrong(TopicSpec { safe: true, ..shut }, "min.insync.replicas=1");

    // The broker's clock sets the timestamp, not the producer's.
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
    let dated = Produced { timestamp: Some(4_000_000_000_000), ..record("topics.labels", 0, "x") };
    outbox.commit(&[dated], None).unwrap();
    let mut source = Source::subscribe(&connection, "topics", &["topics.labels"], Start::Earliest).unwrap();
    assert!(read(&mut source, 1)[0].timestamp.unwrap() < 4_000_000_000_000);
    // A dead letter keeps the timestamp of its original, whatever the default of the brokers.
    let dated = Produced { timestamp: Some(1_600_000_000_000), ..record(&letters.name, 0, "x") };
    outbox.commit(&[dated], None).unwrap();
    let mut source = Source::subscribe(&connection, "letters", &[&letters.name], Start::Earliest).unwrap();
    assert_eq!(read(&mut source, 1)[0].timestamp, Some(1_600_000_000_000));
}

#[test]
fn at_least_once_commits_and_resumes() {
    let connection = kafka().connection();
    make(&connection, &[("alo.in", 3, &[]), ("alo.out", 1, &[])]);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
    let sent: Vec<_> = (0..3_000).map(|number| record("alo.in", number % 3, format!("{number}"))).collect();
    let places = outbox.commit(&sent, None).unwrap();
    assert_eq!(places, (0..3_000).map(|number| (number % 3, i64::from(number / 3))).collect::<Vec<_>>());

    let began = Instant::now();
    let mut source = Source::subscribe(&connection, "alo", &["alo.in"], Start::Earliest).unwrap();
    let first = read(&mut source, 3_000);
    println!("joined and read 3,000 in {:?}", began.elapsed());
    let topic: Arc<str> = "alo.in".into();
    let done: Offsets = [((topic.clone(), 0), 1_000), ((topic.clone(), 1), 400)].into_iter().collect();
    let out: Vec<_> = first.iter().take(10).map(|_| record("alo.out", 0, "o")).collect();
    outbox.commit(&out, Some((source.membership(), &done))).unwrap();
    let until = Instant::now() + WAIT;
    while source.health().lag.iter().map(|(_, lag)| lag).sum::<i64>() != 0 || !source.health().connected {
        assert!(Instant::now() < until, "{:?}", source.health());
        source.poll(Duration::from_millis(100)).unwrap();
    }
    // The source is dropped without closing. The next member resumes at the committed offsets.
    drop(source);
    let mut next = Source::subscribe(&connection, "alo", &["alo.in"], Start::Earliest).unwrap();
    let rest = read(&mut next, 1_600);
    let from = |partition| rest.iter().filter(|one| one.partition == partition).map(|one| one.offset).min();
    assert_eq!((from(0), from(1), from(2)), (None, Some(400), Some(0)));
    let committed: BTreeMap<_, _> =
        next.committed(WAIT).unwrap().into_iter().map(|((_, partition), next)| (partition, next)).collect();
    assert_eq!(committed, BTreeMap::from([(0, Some(1_000)), (1, Some(400)), (2, None)]));
    next.close(WAIT);
}

/// Ends of other partitions are reported before a record. They must not count as an empty poll, because a caller that
/// alternates between readers would then get one end in each turn.
#[test]
fn ends_of_other_partitions_hold_up_no_record() {
    let connection = kafka().connection();
    make(&connection, &[("ends", 8, &[])]);
    let mut follower = Follower::open(&connection, "ends", &From::Beginning, WAIT).unwrap();
    assert_eq!(follower.poll(WAIT).unwrap(), Followed::End);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
    for number in 0..24 {
        outbox.commit(&[record("ends", number % 8, number.to_string())], None).unwrap();
        let next = follower.poll(WAIT).unwrap();
        assert!(matches!(next, Followed::Record(_)), "{number}: {next:?}");
    }
}

#[test]
fn a_follower_passes_markers_and_gaps() {
    let connection = kafka().connection();
    make(&connection, &[("follow", 2, &[])]);
    let mut outbox = Outbox::open(&connection, once("follow")).unwrap();
    // The offsets are 0 a, 1 marker, 2 aborted, 3 marker, 4 tombstone, 5 marker, so the end is a marker.
    outbox.commit(&[record("follow", 0, "a")], None).unwrap();
    let mut unit = outbox.transaction();
    unit.send(&[record("follow", 0, "never")]).unwrap();
    drop(unit);
    let tombstone = Produced { payload: None, ..record("follow", 0, "") };
    assert_eq!(outbox.commit(&[tombstone], None).unwrap(), [(0, 4)]);

    let mut follower = Follower::open(&connection, "follow", &From::Beginning, WAIT).unwrap();
    let seen: Vec<_> = follow_to_end(&mut follower)
        .into_iter()
        .map(|one| match one {
            Followed::Record(record) => (record.offset, record.payload),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [(0, Some(b"a".to_vec())), (4, None)]);
    assert_eq!(follower.ends()[&0], 6);

    // After the last record only the marker is left, which counts as the end as well.
    let last = From::Offsets(follower.positions());
    assert_eq!(follow_to_end(&mut Follower::open(&connection, "follow", &last, WAIT).unwrap()), []);

    // Retention has deleted the requested offset.
    forget(&connection, "follow", 0, 3);
    let mut late =
        Follower::open(&connection, "follow", &From::Offsets(BTreeMap::from([(0, 1)])), WAIT).unwrap();
    let seen = follow_to_end(&mut late);
    assert_eq!(seen[0], Followed::Skipped { partition: 0, asked: 1, from: 3 });
    assert!(matches!(&seen[1..], [Followed::Record(record)] if record.offset == 4), "{seen:?}");
}

#[test]
fn a_follower_is_told_when_records_vanish_under_it() {
    let connection = kafka().connection();
    make(&connection, &[("vanish", 1, &[])]);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
    let mut slow = connection.clone();
    for (key, value) in [
        ("queued.min.messages", "1"),
        ("max.partition.fetch.bytes", "1000"),
        ("queued.max.messages.kbytes", "1"),
    ] {
        slow.settings.insert(key.into(), value.into());
    }
    for _ in 0..20 {
        outbox.commit(&[record("vanish", 0, vec![7; 2_000])], None).unwrap();
    }
    let mut follower = Follower::open(&slow, "vanish", &From::Beginning, WAIT).unwrap();
    let until = Instant::now() + WAIT;
    while !matches!(follower.poll(Duration::from_millis(100)).unwrap(), Followed::Record(_)) {
        assert!(Instant::now() < until);
    }
    forget(&connection, "vanish", 0, 15);
    let seen = follow_to_end(&mut follower);
    let skipped = seen.iter().find_map(|one| match one {
        Followed::Skipped { asked, from, .. } => Some((*asked, *from)),
        _ => None,
    });
    let (asked, from) = skipped.expect("it is told");
    assert!(asked < 15 && from == 15, "{asked} {from}");
    assert!(matches!(seen.last(), Some(Followed::Record(record)) if record.offset == 19));
}

#[test]
fn lookups_find_committed_records_only() {
    let connection = kafka().connection();
    make(&connection, &[("lookup", 2, &[("segment.bytes", "1048576")])]);
    let mut outbox = Outbox::open(&connection, once("lookup")).unwrap();
    let value = |number: i32| format!("{number:08}").repeat(128);
    // There are 20 transactions of 500 records of 1 KiB, each followed by a marker.
    let mut places = Vec::new();
    for begin in (0..10_000).step_by(500) {
        let sent: Vec<_> =
            (begin..begin + 500).map(|number| record("lookup", number % 2, value(number))).collect();
        places.extend(outbox.commit(&sent, None).unwrap());
    }
    let mut unit = outbox.transaction();
    let aborted = unit.send(&[record("lookup", 0, "never")]).unwrap()[0];
    drop(unit);

    let mut lookup = Lookup::open(&connection, "lookup", WAIT).unwrap();
    let marker = (0, 250);
    let mut wanted = vec![aborted, places[9_999], marker, places[3], (0, 99_999), places[5_001], places[3]];
    let found = lookup.fetch(&wanted, WAIT).unwrap();
    let there: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false, true, false, true, true]);
    for (found, number) in [(&found[1], 9_999), (&found[3], 3), (&found[5], 5_001)] {
        assert_eq!(found.as_ref().unwrap().payload, Some(value(number).into_bytes()));
    }
    wanted = vec![places[0], aborted];
    forget(&connection, "lookup", places[0].0, 100);
    // The lookup does not wait for records that have vanished, since that would end with an error at the timeout.
    assert_eq!(lookup.fetch(&wanted, WAIT).unwrap(), [None, None]);

    let every = |step: usize, count: usize| (0..count).map(|number| places[9_999 - number * step]).collect();
    let plans: [(&str, Vec<(i32, i64)>); 4] = [
        ("one", every(1, 1)),
        ("500 neighbours", every(1, 500)),
        ("200 in 8,000", every(40, 200)),
        ("15 far apart", every(601, 15)),
    ];
    for (name, wanted) in plans {
        let began = Instant::now();
        for _ in 0..5 {
            assert!(lookup.fetch(&wanted, WAIT).unwrap().iter().all(Option::is_some));
        }
        println!("lookup of {name}: {:?} each call", began.elapsed() / 5);
    }
}

#[test]
fn outputs_that_the_broker_refuses_say_why() {
    let connection = kafka().connection();
    make(&connection, &[("narrow", 1, &[("max.message.bytes", "2000")])]);
    for delivery in [Delivery::AtLeastOnce, once("narrow")] {
        let mut outbox = Outbox::open(&connection, delivery).unwrap();
        let noise: Vec<u8> =
            (0..20_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let refused = outbox.commit(&[record("narrow", 0, noise)], None).unwrap_err();
        assert!(matches!(refused, CommitError::TooLarge { index: 0, .. }), "{refused:?}");
        let missing = outbox.commit(&[record("absent", 0, "x")], None).unwrap_err();
        assert!(matches!(missing, CommitError::MissingTopic { .. }), "{missing:?}");
        outbox.commit(&[record("narrow", 0, "fits")], None).unwrap();
    }
}
