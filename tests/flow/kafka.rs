//! score and learn as two processes on a real Apache Kafka, killed with SIGKILL in mid-stream: no record is lost or
//! processed twice, and the state is that of an offline replay of the ledger topic.

mod layouts;

use crate::support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use aegis::core::label::Finding;
use aegis::core::ledger::Record;
use aegis::kafka::Consumed;
use support::flow::{
    decisions, event, event_record, header, label, label_record, ledger, poison, raw, read_all, read_until,
    reasons, send,
};
use support::site::{Site, hex, wait};

const EVENTS: usize = 2_000;

#[test]
fn kill_9_of_each_role_loses_nothing_and_doubles_nothing() {
    let site = Site::new("kill");
    let connection = &site.connection;
    let score = site.start("score");
    let learn = site.start("learn");

    let text = |number: usize| if number.is_multiple_of(3) { "I will kill you" } else { "hello" };
    let events: Vec<_> = (0..EVENTS).map(|number| event(number, text(number))).collect();
    let mut bad = 0;
    for (part, chunk) in events.chunks(EVENTS / 4).enumerate() {
        let mut records: Vec<_> =
            chunk.iter().map(|event| event_record(&site.topic("events"), event)).collect();
        // A poison record in the middle of the partitions.
        records.insert(records.len() / 2, raw(&site.topic("events"), &format!("bad{part}"), "poison"));
        bad += 1;
        send(connection, &records);
        let labels: Vec<_> = chunk
            .iter()
            .step_by(5)
            .map(|event| {
                let finding =
                    if event.judged_text().contains("kill") { Finding::Unsafe } else { Finding::Safe };
                label_record(&site.topic("labels"), &label(&format!("l-{}", event.id), &event.id, finding))
            })
            .collect();
        send(connection, &labels);
        // They are sent twice: a duplicate counts as one label.
        send(connection, &labels[..10]);
    }

    // Each role is killed while it works, and started again.
    let some = |topic: &str, count: usize| {
        read_until(connection, &site.topic(topic), "progress", |records| records.len() >= count);
    };
    some("decisions", 200);
    score.kill();
    some("rounds", 50);
    learn.kill();
    let learn = site.start("learn");
    let score = site.start("score");
    some("decisions", EVENTS);
    some("dlq", bad);

    let decided = read_all(connection, &site.topic("decisions"));
    let made = decisions(&decided);
    assert_eq!(made.len(), EVENTS, "each event has exactly one decision");
    let ids: BTreeSet<_> = made.iter().map(|decision| decision.id.event.clone()).collect();
    assert_eq!(ids, events.iter().map(|event| event.id.clone()).collect());
    assert_eq!(reasons(&read_all(connection, &site.topic("dlq"))), BTreeMap::from([("NotAvro".into(), bad)]));
    let mut last: HashMap<i32, i64> = HashMap::new();
    for (record, decision) in decided.iter().zip(&made) {
        assert_eq!(record.partition, decision.origin.partition);
        let before = last.insert(record.partition, decision.origin.offset).unwrap_or(-1);
        assert!(before < decision.origin.offset, "order within a partition is kept");
    }

    let labels = EVENTS / 5;
    let published = site.published(labels as u64, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());
    let records = ledger(&read_all(connection, &site.topic("rounds")));
    let filed: BTreeSet<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Label(filed) if filed.status.counts() => Some(filed.label.id.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(filed.len(), labels, "each label has its ledger record");

    // SIGTERM ends both cleanly. With sled deleted the learner reaches the same state.
    score.stop();
    learn.stop();
    fs::remove_dir_all(site.folder.path().join("store")).unwrap();
    let learn = site.start("learn");
    let one_more = label("more", "e00001", Finding::Safe);
    send(connection, &[label_record(&site.topic("labels"), &one_more)]);
    let published = site.published(labels as u64 + 1, 0);
    assert_eq!(hex(&published.state_hash), site.replayed(), "losing sled loses nothing");
    learn.stop();
}

#[test]
fn a_standby_takes_over_and_an_operator_edits_the_ledger() {
    let site = Site::new("standby");
    let connection = &site.connection;
    let score = site.start("score");
    let first = site.start("learn");
    let events: Vec<_> = (0..60).map(|number| event(number, "hello")).collect();
    send(
        connection,
        &events.iter().map(|event| event_record(&site.topic("events"), event)).collect::<Vec<_>>(),
    );
    read_until(connection, &site.topic("decisions"), "60 decisions", |records| records.len() >= 60);
    let labels = |numbers: std::ops::Range<usize>| {
        let labels = numbers.map(|number| {
            let mut label = label(&format!("l{number}"), &events[number].id, Finding::Safe);
            label.annotator = Some(format!("r{}", number % 2));
            label_record(&site.topic("labels"), &label)
        });
        send(connection, &labels.collect::<Vec<_>>());
    };
    labels(0..20);
    site.published(20, 0);
    // The standby has its own store, because sled cannot be shared.
    let store = site.folder.path().join("store2");
    let second = site.start_with("learn", &["--set", &format!("learn.store={}", store.display())], &[]);
    first.kill();
    labels(20..40);
    let published = site.published(40, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());

    let edited = site.aegis(&["ledger", "quarantine", "r1"]);
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let published = site.published(20, published.ledger_offset);
    assert_eq!(hex(&published.state_hash), site.replayed());
    second.stop();
    score.stop();
}

/// Every kind of poison in the middle of one partition: each becomes a dead letter in its place, and all other events
/// are decided.
#[test]
fn poison_of_every_kind_stops_no_partition() {
    let mut site = Site::new("poison");
    let events = site.topic("events");
    let bad = poison(&events);
    let reasoned: BTreeMap<_, _> = bad.iter().map(|(reason, _)| ((*reason).to_owned(), 1)).collect();
    let mut records: Vec<_> = (0..10).map(|number| event_record(&events, &event(number, "hello"))).collect();
    for (number, (_, record)) in (10..).zip(bad.clone()) {
        records.extend([record, event_record(&events, &event(number, "kill"))]);
    }
    records.extend((20..30).map(|number| event_record(&events, &event(number, "hello"))));
    records.iter_mut().for_each(|record| record.partition = Some(1));
    let (sent, good) = (records.len(), records.len() - bad.len());
    // One record is larger than the default limit of the client.
    site.connection.settings.insert("message.max.bytes".into(), "4000000".into());
    let score = site.start("score");
    send(&site.connection, &records);
    wait("every record", || site.committed("score", "events") == sent as i64);

    let letters = read_all(&site.connection, &site.topic("dlq"));
    assert_eq!(reasons(&letters), reasoned);
    let place = |letter: &Consumed| header(letter, "offset").parse::<usize>().unwrap();
    let places: Vec<_> = letters.iter().map(place).collect();
    for (letter, place) in letters.iter().zip(&places) {
        assert_eq!(header(letter, "partition"), "1");
        let original = &records[*place];
        assert_eq!(letter.key, original.key, "at {place}");
        assert!(letter.payload.is_none() || letter.payload == original.payload, "at {place}");
    }
    let made = decisions(&read_all(&site.connection, &site.topic("decisions")));
    let offsets: Vec<_> = made.iter().map(|decision| decision.origin.offset).collect();
    assert!(offsets.is_sorted(), "order within the partition is kept: {offsets:?}");
    assert_eq!((made.len(), offsets.iter().collect::<BTreeSet<_>>().len()), (good, good));
    score.stop();
    site.verified();
}

/// If there are more dead letters in a minute than an operator allows, the role stops with the reason and does not move
/// the whole stream. With a higher limit it continues at the same position.
#[test]
fn a_surge_of_dead_letters_stops_the_role_and_loses_nothing() {
    let site = Site::new("surge");
    let events = site.topic("events");
    let records: Vec<_> = (0..20).map(|number| raw(&events, &format!("k{number}"), "poison")).collect();
    send(&site.connection, &records);
    let most = |count: usize| format!("score.max_dead_letters_per_minute={count}");
    let mut score = site.start_with("score", &["--set", &most(5)], &[]);
    let status = score.end();
    let log = score.log();
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(log.contains("more than 5 dead letters within a minute, the last one for NotAvro"), "{log}");
    assert!(log.contains("raise score.max_dead_letters_per_minute"), "{log}");
    let letters = || read_all(&site.connection, &site.topic("dlq"));
    assert!(letters().len() <= 5, "{}", letters().len());

    let score = site.start_with("score", &["--set", &most(1_000)], &[]);
    wait("every record", || site.committed("score", "events") == 20);
    let places: BTreeSet<_> =
        letters().iter().map(|letter| (header(letter, "partition"), header(letter, "offset"))).collect();
    assert_eq!((letters().len(), places.len()), (20, 20), "each has its one dead letter");
    score.stop();
    site.verified();
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let site = Site::new("start");
    let refused = |arguments: &[&str]| {
        let output = site.aegis(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = refused(&["check", "--set", "score.windwo=3"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("did you mean `window`?"), "{text}");
    let (code, text) = refused(&["run", "--set", "kafka.settings.enable.auto.commit=true"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("enable.auto.commit"), "{text}");
    let (code, text) = refused(&["run", "--role", "score", "--set", "topics.events=absent"]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("aegis topics --create"), "{text}");
    fs::write(site.folder.path().join("models/strict/rules.toml"), "base = 0.2\n").unwrap();
    let (code, text) = refused(&["check"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("rules.sha256"), "{text}");
    assert_eq!(refused(&["run"]).0, Some(78));
    let usage = Command::new(env!("CARGO_BIN_EXE_aegis")).arg("dance").output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
    assert!(Path::new(&site.config()).exists());
}
