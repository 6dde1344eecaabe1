//! Many records in a row that cannot be used, or that are tombstones: all read records are committed, and each start
//! makes progress.

use std::sync::Arc;

use aegis::config::Tombstones;
use aegis::core::label::Finding;
use aegis::kafka::{Produced, committed};
use aegis::learn::LearnError;
use aegis::ops::StopReason;
use aegis::score::ScoreError;

use super::Site;
use crate::support::WAIT;
use crate::support::flow::{
    event, event_record, label, label_record, ledger, raw, read_all, read_until, reasons, send,
};
use crate::support::site::wait;

impl Site {
    /// Returns the number of records of a topic before the group's committed offsets.
    fn committed(&self, group: &str, topic: &str) -> i64 {
        committed(&self.connection, group, topic, WAIT).unwrap().values().sum()
    }

    fn letters(&self) -> usize {
        read_all(&self.connection, &self.config.topics.dlq).len()
    }
}

/// 1,100 records that cannot be used: the role stops at its limit with all records before it committed, the dead
/// letters can be read, and the next start continues after them.
#[test]
fn a_surge_of_dead_letters_commits_what_was_read_before_and_goes_on() {
    let site = Site::new("surge.events");
    let topics = &site.config.topics;
    let mut records = vec![event_record(&topics.events, &event(0, "hello"))];
    records.extend((0..1_100).map(|_| raw(&topics.events, "k", "poison")));
    records.push(event_record(&topics.events, &event(1, "hello")));
    records.iter_mut().for_each(|record| record.partition = Some(0));
    send(&site.sender, &records);
    let error = site.score(&[]).failed();
    assert!(matches!(error, ScoreError::Surge { limit: 1_000, reason: "NotAvro" }), "{error}");
    assert_eq!((site.letters(), site.committed(&site.config.score.group, &topics.events)), (1_000, 1_001));
    site.verify();

    let score = site.score(&[]);
    read_until(&site.connection, &topics.decisions, "the event behind them", |records| records.len() >= 2);
    score.stop();
    assert_eq!((site.letters(), site.committed(&site.config.score.group, &topics.events)), (1_100, 1_102));
    site.verify();
}

/// The same for labels. learn stops after the batch in which it exceeded its limit.
#[test]
fn a_surge_of_bad_labels_commits_them_and_goes_on() {
    let mut site = Site::new("surge.labels");
    Arc::make_mut(&mut site.config).learn.max_dead_letters_per_minute = 10;
    let topics = &site.config.topics;
    let mut labels: Vec<_> = (0..30).map(|_| raw(&topics.labels, "k", "poison")).collect();
    labels.push(label_record(&topics.labels, &label("l", "e00000", Finding::Safe)));
    labels.iter_mut().for_each(|record| record.partition = Some(0));
    send(&site.sender, &labels);
    let group = &site.config.learn.group;
    let (mut before, mut surges) = (0, 0);
    loop {
        let learn = site.learn();
        let mut committed = 0;
        wait("the last label, or the end of learn", || {
            committed = site.committed(group, &topics.labels);
            committed == 31 || learn.thread.is_finished()
        });
        learn.shutdown.request(StopReason::Program);
        if let Err(error) = learn.thread.join().unwrap() {
            assert!(matches!(error, LearnError::Surge { limit: 10, reason: "NotAvro" }), "{error}");
            surges += 1;
        }
        committed = site.committed(group, &topics.labels);
        assert!(committed > before, "each start makes progress");
        before = committed;
        if committed == 31 {
            break;
        }
    }
    assert!(surges > 0);
    assert_eq!(site.letters(), 30);
    assert_eq!(ledger(&read_all(&site.connection, &topics.rounds)).len(), 1);
    site.verify();
}

/// A role continues if only a small part of its stream is bad, however many records that part has.
#[test]
fn many_dead_letters_among_more_good_records_stop_nothing() {
    let mut site = Site::new("share");
    Arc::make_mut(&mut site.config).score.max_dead_letters_per_minute = 10;
    let topics = &site.config.topics;
    let records: Vec<_> = (0..200)
        .map(|number| match number % 4 {
            3 => raw(&topics.events, "k", "poison"),
            _ => event_record(&topics.events, &event(number, "hello")),
        })
        .map(|record| Produced { partition: Some(0), ..record })
        .collect();
    send(&site.sender, &records);
    let score = site.score(&[]);
    read_until(&site.connection, &topics.decisions, "the good ones", |records| records.len() >= 150);
    score.stop();
    assert_eq!(site.letters(), 50);
    site.verify();
}

/// Records with a null value are passed over, committed and counted, or are dead letters if the configuration requires
/// it.
#[test]
fn tombstones_are_passed_over_unless_the_configuration_says_otherwise() {
    let page = crate::metrics_page();
    let mut site = Site::new("tombstones");
    let topics = site.config.topics.clone();
    let null = |topic: &str| Produced { payload: None, partition: Some(0), ..raw(topic, "k", "") };
    let mut records: Vec<_> = (0..1_100).map(|_| null(&topics.events)).collect();
    records.push(Produced { partition: Some(0), ..event_record(&topics.events, &event(0, "hello")) });
    records.extend([null(&topics.events), Produced { partition: Some(0), ..raw(&topics.events, "k", "") }]);
    send(&site.sender, &records);
    let mut labels: Vec<_> = (0..20).map(|_| null(&topics.labels)).collect();
    labels.push(Produced {
        partition: Some(0),
        ..label_record(&topics.labels, &label("l", "e00000", Finding::Safe))
    });
    send(&site.sender, &labels);

    let score = site.score(&[]);
    read_until(&site.connection, &topics.decisions, "the good event", |records| !records.is_empty());
    let letters = read_until(&site.connection, &topics.dlq, "a dead letter", |letters| !letters.is_empty());
    assert_eq!(reasons(&letters), [("Empty".to_owned(), 1)].into(), "an empty value is no null value");
    score.stop();
    let learn = site.learn();
    read_until(&site.connection, &topics.rounds, "the good label", |records| records.len() >= 2);
    learn.stop();
    assert_eq!(site.committed(&site.config.score.group, &topics.events), 1_103);
    assert_eq!(site.letters(), 1);
    let counted = page.render();
    for line in ["aegis_tombstones_total{side=\"event\"} 1101", "aegis_tombstones_total{side=\"label\"} 20"] {
        assert!(counted.contains(line), "{counted}");
    }
    site.verify();

    let config = Arc::make_mut(&mut site.config);
    (config.score.tombstones, config.learn.tombstones) = (Tombstones::DeadLetter, Tombstones::DeadLetter);
    send(&site.sender, &[null(&topics.events), null(&topics.labels)]);
    let (score, learn) = (site.score(&[]), site.learn());
    let letters = read_until(&site.connection, &topics.dlq, "dead letters", |letters| letters.len() >= 3);
    assert_eq!(reasons(&letters), [("Empty".to_owned(), 3)].into());
    score.stop();
    learn.stop();
    site.verify();
}
