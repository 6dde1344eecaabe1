//! `aegis demo --drive` on a real Apache Kafka: the laps of the producer and the answers of the labeller, without a
//! running role.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use aegis::codec::{self, Defaults};
use aegis::core::event::Event;
use aegis::core::label::Label;
use aegis::kafka::topics::ensure;
use aegis::kafka::{Connection, Consumed};
use support::flow::{read_all, read_until};
use support::{WAIT, kafka};

/// The number of good events of a lap.
const LAP: usize = 200;

/// One side of the demo, as a process that ends with its test.
struct Side(Child);

impl Side {
    fn start(side: &str, config: &PathBuf) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_aegis"))
            .args(["demo", "--drive", side, "--rate", "1000", "--events", "200", "--seed", "7", "--config"])
            .arg(config)
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Sends SIGTERM and checks that the process ends without an error.
    fn stop(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn events(records: &[Consumed]) -> Vec<Event> {
    let read = |record: &Consumed| codec::decode_event(record.payload.as_deref()?, &Defaults::default()).ok();
    records.iter().filter_map(read).filter(|event| event.id.starts_with("demo-")).collect()
}

fn labels(records: &[Consumed]) -> Vec<Label> {
    let read = |record: &Consumed| codec::decode_label(record.payload.as_deref()?, &Defaults::default()).ok();
    records.iter().filter_map(read).collect()
}

/// Splits an id into the part of its lap and the rest.
fn split(id: &str) -> (&str, &str) {
    id.split_at(id.rfind("-e").unwrap() + 1)
}

/// Returns the judged texts by event number of each complete lap, in the order of the laps' starts.
fn laps(events: &[Event]) -> Vec<(String, BTreeMap<String, String>)> {
    let mut laps: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for event in events {
        let (lap, number) = split(&event.id);
        let text = event.turns[event.judged].text.clone();
        let again = laps.entry(lap.into()).or_default().insert(number.into(), text);
        assert_eq!(again, None, "{} was sent twice", event.id);
    }
    laps.into_iter().filter(|(_, texts)| texts.len() == LAP).collect()
}

#[test]
fn the_producer_sends_seeded_laps_and_the_labeller_answers_them_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aegis.toml");
    fs::write(&path, format!("[kafka]\nbrokers = \"{}\"\n", kafka().bootstrap())).unwrap();
    let config = aegis::config::load(&path, [], &[]).unwrap().config;
    let connection: Connection = kafka().connection();
    ensure(&connection, &aegis::config::topic_specs(&config, 3), WAIT).unwrap();
    let topics = &config.topics;
    let read = |topic: &str, what: &str, enough: &dyn Fn(&[Consumed]) -> bool| {
        read_until(&connection, topic, what, enough)
    };

    let producer = Side::start("events", &path);
    let whole = |count: usize| move |records: &[Consumed]| laps(&events(records)).len() >= count;
    read(&topics.events, "one lap", &whole(1));
    // The labeller starts at the current end of the topic.
    let labeller = Side::start("labels", &path);
    read(&topics.labels, "a label", &|records| !records.is_empty());
    let labelled = |records: &[Consumed]| {
        labels(records).iter().map(|label| split(&label.event).0.to_owned()).collect::<BTreeSet<_>>()
    };
    read(&topics.labels, "labels of three laps", &|records| labelled(records).len() >= 3);
    producer.stop();
    let first = laps(&events(&read(&topics.events, "laps", &whole(3))));
    let seed = |lap: &str| lap.split('-').nth(2).unwrap().to_owned();
    assert_eq!((&*seed(&first[0].0), &*seed(&first[1].0)), ("7", "8"));
    assert_ne!(first[0].1, first[1].1, "each lap has texts of its own");

    // Another run sends the same texts with new ids.
    let producer = Side::start("events", &path);
    let count = first.len() + 1;
    let all = read(&topics.events, "a lap of the second run", &|records| {
        laps(&events(records)).iter().filter(|lap| seed(&lap.0) == "7").count() == 2 && whole(count)(records)
    });
    producer.stop();
    labeller.stop();
    let same: Vec<_> = laps(&events(&all)).into_iter().filter(|lap| seed(&lap.0) == "7").collect();
    assert_eq!(same[0].1, same[1].1, "the same seed, the same texts");

    // Each label is about an event that was sent, except for the few that are wrong on purpose.
    let sent = events(&read_all(&connection, &topics.events));
    let known: BTreeSet<String> = sent.into_iter().map(|event| event.id).collect();
    let all = labels(&read_all(&connection, &topics.labels));
    let stray = all.iter().filter(|label| !known.contains(&label.event)).collect::<Vec<_>>();
    assert!(stray.iter().all(|label| label.event.ends_with("-unseen")), "{stray:?}");
    assert!(all.len() > 100 && stray.len() * 20 < all.len(), "{} of {}", stray.len(), all.len());
    let corrected = all.iter().filter_map(|label| label.corrects.as_ref().or(label.retracts.as_ref()));
    for id in corrected {
        assert!(id.starts_with("demo-"), "{id} would correct a label of another lap");
    }
}

#[test]
fn a_side_needs_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(["demo", "--drive", "events", "--models"])
        .arg(fs::canonicalize(crate::experts_support::models()).unwrap())
        .env_remove("AEGIS_CONFIG")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config"));
}
