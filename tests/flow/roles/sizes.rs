//! Records of the maximum size that their topic accepts: each has its one outcome, and no role stops.

use std::collections::{BTreeMap, BTreeSet};

use aegis::codec::hex;
use aegis::core::label::Finding;
use aegis::dead_letter::{Headers, NotReplayable, not_replayable, original};
use aegis::kafka::{Consumed, Produced};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use sha2::{Digest, Sha256};

use super::Site;
use crate::support::flow::{
    decisions, event, event_record, label, label_record, ledger, raw, read_all, read_until, send,
};

/// The default limit of Kafka's topics.
const USUAL: usize = 1_048_588;

/// A generator of numbers and bytes without a pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// Returns headers with a total size of `bytes` bytes.
    fn headers(&mut self, bytes: usize) -> Vec<(String, Option<Vec<u8>>)> {
        let count = 1 + self.below(4);
        (0..count).map(|number| (format!("h{}", number % 3), Some(self.bytes(bytes / count)))).collect()
    }
}

/// The parts of a record that can be large.
const PARTS: [&str; 4] = ["key", "header", "value", "all"];

/// Enlarges one part of a record, or all of them, so that the record takes about `size` bytes.
fn grow(noise: &mut Noise, mut record: Produced, part: &str, size: usize) -> Produced {
    let free = size - record.wire_size() - 100;
    let share = if part == "all" { free / 3 } else { free };
    if matches!(part, "key" | "all") {
        record.key = Some(noise.bytes(share));
    }
    if matches!(part, "header" | "all") {
        record.headers = noise.headers(share);
    }
    if matches!(part, "value" | "all") {
        record.payload.as_mut().unwrap().extend(noise.bytes(share));
    }
    assert!(record.wire_size() <= size, "{}", record.wire_size());
    record
}

/// Returns an event that can be judged, with a text of `bytes` bytes.
fn good(topic: &str, number: usize, noise: &mut Noise, bytes: usize) -> Produced {
    let text: String =
        (0..bytes).map(|_| char::from(b'a' + u8::try_from(noise.below(26)).unwrap())).collect();
    event_record(topic, &event(number, &text))
}

impl Site {
    /// Changes a setting of a topic, and resets its other settings to their defaults.
    fn alter(&self, topic: &str, key: &str, value: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.connection.brokers);
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let changed = [AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value)];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers = runtime.block_on(admin.alter_configs(&changed, &AdminOptions::new())).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}

type Place = (i32, i64);

/// Returns the records of a topic by their positions.
fn by_place(site: &Site, topic: &str) -> BTreeMap<Place, Consumed> {
    let records = read_all(&site.connection, topic);
    records.into_iter().map(|record| ((record.partition, record.offset), record)).collect()
}

/// Checks that a dead letter names exactly the lost parts of its original. Returns the position of the original.
fn check_letter(letter: &Consumed, topic: &str, originals: &BTreeMap<Place, Consumed>) -> Option<Place> {
    let of = Headers::of(&letter.headers).unwrap();
    if of.topic != topic {
        return None;
    }
    let place = (of.partition, of.offset);
    let from = &originals[&place];
    let figure = |name: &str| {
        let name = format!("__connect.errors.{name}");
        let (_, value) = letter.headers.iter().rfind(|(header, _)| *header == name)?;
        Some(String::from_utf8(value.clone().unwrap()).unwrap())
    };
    let hash = |bytes: &Option<Vec<u8>>| hex(&Sha256::digest(bytes.as_ref().unwrap()));
    if figure("key.left.out.bytes").is_some() {
        assert_eq!(letter.key, Some(hash(&from.key).into_bytes()));
        assert_eq!(figure("key.left.out.bytes"), Some(from.key.as_ref().unwrap().len().to_string()));
    } else {
        assert_eq!(letter.key, from.key);
    }
    if figure("value.left.out.bytes").is_some() {
        assert_eq!(letter.payload, None);
        assert_eq!(figure("value.left.out.bytes"), Some(from.payload.as_ref().unwrap().len().to_string()));
        assert_eq!(figure("value.left.out.sha256"), Some(hash(&from.payload)));
    } else {
        assert_eq!(letter.payload, from.payload);
    }
    let left: usize = figure("headers.left.out.count").map_or(0, |count| count.parse().unwrap());
    let kept = letter.headers.iter().take_while(|(name, _)| !name.starts_with("__connect.errors.")).count();
    assert_eq!(kept + left, from.headers.len());
    if not_replayable(&letter.headers).is_none() {
        assert_eq!(original(letter.clone()).unwrap().0.payload, from.payload);
    }
    Some(place)
}

/// Checks that every event has one outcome, and that each outcome names the parts that were left out. Returns the
/// number of decisions.
fn check_events(site: &Site) -> usize {
    let topics = &site.config.topics;
    let events = by_place(site, &topics.events);
    let decided = read_all(&site.connection, &topics.decisions);
    let mut places = Vec::new();
    for (record, decision) in decided.iter().zip(decisions(&decided)) {
        let place = (decision.origin.partition, decision.origin.offset);
        let from = &events[&place];
        assert_eq!(record.key, from.key);
        let kept: Vec<_> = record.headers.iter().filter(|(name, _)| !name.starts_with("aegis.")).collect();
        let count = record.headers.iter().find(|(name, _)| name == "aegis.headers.left.out.count");
        let count = count
            .map_or(0, |(_, value)| std::str::from_utf8(value.as_deref().unwrap()).unwrap().parse().unwrap());
        assert_eq!(kept.len() + count, from.headers.len());
        assert!(kept.iter().all(|header| from.headers.contains(header)));
        places.push(place);
    }
    let letters = read_all(&site.connection, &topics.dlq);
    places.extend(letters.iter().filter_map(|letter| check_letter(letter, &topics.events, &events)));
    assert_eq!(places.len(), events.len());
    assert_eq!(places.into_iter().collect::<BTreeSet<_>>(), events.into_keys().collect());
    decided.len()
}

/// A key, a header, a value, or all of them near the limit of topics that accept the same size, in usable and unusable
/// records: each has one outcome.
#[test]
fn records_of_any_size_near_the_limit_have_one_outcome_each() {
    const LIMIT: usize = 20_000;
    let site = Site::limited("sizes", LIMIT);
    let topics = &site.config.topics;
    let mut noise = Noise(19);
    let (mut events, mut labels) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let part = PARTS[number % 4];
        let size = if number % 5 == 0 { LIMIT } else { LIMIT - noise.below(4_000) };
        let bad = raw(&topics.events, "k", "garbage ");
        // Arbitrary bytes cannot be added to the value of a good event.
        let fine = match part {
            "value" => good(&topics.events, number, &mut noise, size - 700),
            "all" => good(&topics.events, number, &mut noise, 9_000),
            part => {
                let small = good(&topics.events, number, &mut noise, 20);
                grow(&mut noise, small, part, size)
            }
        };
        events.extend([fine, grow(&mut noise, bad, part, size)]);
        let bad = raw(&topics.labels, "k", "garbage ");
        let fine = label_record(&topics.labels, &label("l", &format!("e{number:05}"), Finding::Safe));
        let part = if part == "key" { "key" } else { "header" };
        labels.extend([grow(&mut noise, fine, part, size), grow(&mut noise, bad, PARTS[number % 4], size)]);
    }
    for (number, event) in events.iter_mut().enumerate() {
        event.partition = Some(i32::try_from(number % 3).unwrap());
    }
    send(&site.sender, &events);
    let score = site.score(&[]);
    let outcomes = |topic: &str| read_all(&site.connection, topic).len();
    read_until(&site.connection, &topics.dlq, "a dead letter of each bad event", |letters| {
        letters.len() >= events.len() / 2 && letters.len() + outcomes(&topics.decisions) >= events.len()
    });
    score.stop();
    let made = check_events(&site);
    assert!(made > 30, "{made} decisions");
    let letters = outcomes(&topics.dlq);

    send(&site.sender, &labels);
    let learn = site.learn();
    read_until(&site.connection, &topics.dlq, "a dead letter of each bad label", |found| {
        found.len() >= letters + labels.len() / 2
    });
    read_until(&site.connection, &topics.rounds, "the good labels", |records| {
        let filed = ledger(records)
            .iter()
            .filter(|record| matches!(record, aegis::core::ledger::Record::Label(_)))
            .count();
        filed >= labels.len() / 2
    });
    learn.stop();
    let sent = by_place(&site, &topics.labels);
    let letters = read_all(&site.connection, &topics.dlq);
    let refused = letters.iter().filter_map(|letter| check_letter(letter, &topics.labels, &sent));
    assert_eq!(refused.collect::<BTreeSet<_>>().len(), labels.len() / 2);
    site.verify();
}

/// A header or a key of the maximum size of a default topic, in an event and in labels.
#[test]
fn one_record_as_large_as_its_topic_accepts_stops_nothing() {
    let site = Site::new("huge");
    let topics = &site.config.topics;
    let mut noise = Noise(20);
    let header = |noise: &mut Noise, bytes| vec![("large".to_owned(), Some(noise.bytes(bytes)))];
    let near = Produced {
        headers: header(&mut noise, 1_048_000),
        ..event_record(&topics.events, &event(0, "hello"))
    };
    let keyed =
        Produced { key: Some(noise.bytes(1_048_350)), ..event_record(&topics.events, &event(1, "hello")) };
    let poison = |topic: &str, noise: &mut Noise| {
        let key = Produced { key: Some(noise.bytes(1_048_450)), ..raw(topic, "k", "bad") };
        [key, Produced { headers: header(noise, 1_048_450), ..raw(topic, "k", "bad") }]
    };
    let mut events = vec![near, keyed];
    events.extend(poison(&topics.events, &mut noise));
    events.push(event_record(&topics.events, &event(2, "hello")));
    events.iter_mut().for_each(|event| event.partition = Some(0));
    send(&site.sender, &events);
    let score = site.score(&[]);
    read_until(&site.connection, &topics.decisions, "the decision behind them", |records| records.len() >= 2);
    score.stop();
    assert_eq!(check_events(&site), 2);
    let letters = read_all(&site.connection, &topics.dlq);
    let lost: Vec<_> = letters.iter().map(|letter| not_replayable(&letter.headers)).collect();
    let all = [NotReplayable::WithoutKey, NotReplayable::WithoutKey, NotReplayable::WithoutHeaders].map(Some);
    assert_eq!(lost.into_iter().collect::<BTreeSet<_>>(), all.into_iter().collect());
    let reasons = crate::support::flow::reasons(&letters);
    assert_eq!(reasons, [("NotAvro".to_owned(), 2), ("OutputTooLarge".to_owned(), 1)].into());
    assert!(events.iter().all(|event| event.wire_size() < USUAL + 200));

    let mut labels = poison(&topics.labels, &mut noise).to_vec();
    labels.push(label_record(&topics.labels, &label("l", "e00002", Finding::Safe)));
    send(&site.sender, &labels);
    let learn = site.learn();
    read_until(&site.connection, &topics.dlq, "dead letters of labels", |letters| letters.len() >= 5);
    read_until(&site.connection, &topics.rounds, "the good label", |records| records.len() >= 2);
    learn.stop();

    // Each dead letter that lost a part is listed as such, and is not put back.
    let listed = site.aegis(&["dlq", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("stays: its key was too large to be kept").count(), 3, "{listed}");
    assert_eq!(listed.matches("stays: its headers were too large to be kept").count(), 2, "{listed}");
    let replayed = site.aegis(&["dlq", "replay"]);
    let replayed = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.contains("NotAvro: 0 put back") && replayed.contains("2 stay: its key"), "{replayed}");
    site.verify();
}

/// The topics accept less than a ledger record or a decision: every label and event becomes a dead letter.
#[test]
fn what_fits_no_topic_of_outputs_becomes_a_dead_letter() {
    let site = Site::limited("narrow", 4_000);
    let topics = &site.config.topics;
    let alter = |topic: &str, limit: usize| site.alter(topic, "max.message.bytes", &limit.to_string());
    send(
        &site.sender,
        &(0..4).map(|number| event_record(&topics.events, &event(number, "hello"))).collect::<Vec<_>>(),
    );
    let score = site.score(&[]);
    read_until(&site.connection, &topics.decisions, "decisions", |records| records.len() >= 4);
    alter(&topics.rounds, 100);
    let labels: Vec<_> = (0..4)
        .map(|number| label_record(&topics.labels, &label("l", &format!("e{number:05}"), Finding::Safe)))
        .collect();
    send(&site.sender, &labels);
    let learn = site.learn();
    let letters =
        read_until(&site.connection, &topics.dlq, "dead letters of labels", |letters| letters.len() >= 4);
    learn.stop();
    assert_eq!(crate::support::flow::reasons(&letters), [("OutputTooLarge".to_owned(), 4)].into());
    assert_eq!(read_all(&site.connection, &topics.rounds), []);

    // A decision whose review request does not fit is not written, even if it fits itself.
    alter(&topics.review, 100);
    send(
        &site.sender,
        &[event_record(&topics.events, &event(4, "🙂")), event_record(&topics.events, &event(5, "hello"))],
    );
    read_until(&site.connection, &topics.dlq, "the dead letter of an event", |letters| letters.len() >= 5);
    read_until(&site.connection, &topics.decisions, "decisions", |records| records.len() >= 5);
    alter(&topics.decisions, 100);
    send(&site.sender, &[event_record(&topics.events, &event(6, "hello"))]);
    let letters = read_until(&site.connection, &topics.dlq, "the dead letter of an event", |letters| {
        letters.len() >= 6
    });
    score.stop();
    assert!(letters.iter().all(|letter| not_replayable(&letter.headers).is_none()), "each can be put back");
    check_events(&site);
    site.verify();

    // A record that its own topic no longer accepts is not put back; the others are.
    alter(&topics.events, 100);
    let replayed = site.aegis(&["dlq", "replay"]);
    let replayed = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.contains("OutputTooLarge: 4 put back"), "{replayed}");
    assert!(replayed.contains("2 stay: is larger than its topic accepts"), "{replayed}");
    let noted = site.topics();
    assert!(noted.1.contains("note: ") && noted.1.contains("labels whose ledger record"), "{}", noted.1);
}
