//! A rolling upgrade and a rollback: processes of two versions on the same topics. One of them simulates the previous
//! version, which does not have the schema that decisions are written with now.

use aegis::codec::{self, Encoding};
use aegis::core::predictor::FORMAT;
use aegis::kafka::Produced;

use super::support::flow::{decisions, event_record, raw, read_all, read_until, send};
use super::support::site::{Process, Site, hex, wait};
use super::{about, decide, events, learned, send_labels};

/// Lets a process read only decisions of earlier schemas.
const OLDER: (&str, &str) = ("AEGIS_PLAY_OLDER", "1");
const UNREADABLE: &str = "decisions cannot be indexed";

fn older(site: &Site) -> Process {
    site.start_with("learn", &[], &[OLDER])
}

fn newer(site: &Site) -> Process {
    site.start_with("learn", &[], &[])
}

/// Scorers are upgraded first. The older learner skips decisions that it cannot decode, and their labels wait. The
/// newer learner reads these decisions again and joins the labels of before and after the upgrade, also after a
/// rollback and a second upgrade.
#[test]
fn labels_of_decisions_that_an_older_learner_cannot_read_are_joined_after_the_upgrade() {
    let site = Site::with("rolling", &[("log.level", "info")]);
    let all = events(12);
    decide(&site, &all[..8]);

    let mut learn = older(&site);
    learn.says(UNREADABLE);
    send_labels(&site, (0..4).map(about));
    wait("labels that wait", || site.waiting().len() == 4);
    learn.stop();
    let mut learn = newer(&site);
    learned(&site, 4);
    learn.says("decisions that another version could not read are read again");
    assert!(site.waiting().is_empty());
    send_labels(&site, (4..6).map(about));
    learned(&site, 6);
    learn.stop();

    // A rollback, with more decisions meanwhile. The older learner has indexed some of them, and cannot decode them
    // either.
    decide(&site, &all[8..]);
    let mut learn = older(&site);
    learn.says(UNREADABLE);
    send_labels(&site, (6..10).map(about));
    wait("labels that wait", || site.waiting().len() == 4);
    learn.kill();
    let learn = newer(&site);
    learned(&site, 10);
    send_labels(&site, (10..12).map(about));
    learned(&site, 12);
    assert!(site.waiting().is_empty());
    learn.stop();
    site.verified();
}

/// The learner is upgraded first. A scorer that cannot use the newer predictor continues with the one that it has, also
/// after a restart, as long as the topic has that one.
#[test]
fn a_scorer_continues_with_the_last_predictor_that_it_can_use() {
    let site = Site::with("newer", &[("log.level", "info")]);
    let all = events(8);
    decide(&site, &all[..4]);
    let learn = newer(&site);
    send_labels(&site, (0..4).map(about));
    let known = site.published(4, 0);
    learn.stop();

    let later =
        aegis::core::predictor::Published { format: FORMAT + 1, ledger_offset: 1_000, ..known.clone() };
    let payload = codec::encode_published(&later, Encoding::Avro).unwrap();
    let record = Produced { partition: Some(0), ..raw(&site.topic("weights"), &later.policy, payload) };
    let mut score = site.start_with("score", &[], &[]);
    score.says("partitions assigned");
    send(&site.connection, &[record]);
    score.says("a predictor cannot be used");
    let sent = |numbers: std::ops::Range<usize>| {
        let records: Vec<_> =
            all[numbers].iter().map(|event| event_record(&site.topic("events"), event)).collect();
        send(&site.connection, &records);
    };
    sent(4..6);
    let decisions_topic = site.topic("decisions");
    read_until(&site.connection, &decisions_topic, "two more", |records| records.len() == 6);
    score.stop();
    let mut score = site.start_with("score", &[], &[]);
    score.says("a predictor cannot be used");
    sent(6..8);
    let records = read_until(&site.connection, &decisions_topic, "two more", |records| records.len() == 8);
    // Partitions are read in any order.
    for decision in decisions(&records).iter().filter(|decision| *decision.id.event >= *"e00004") {
        assert_eq!(hex(&decision.predictor.state_hash), hex(&known.state_hash));
    }
    score.stop();
}

/// After a rollback a learner stops with an error at a ledger record of a later version. Its commits stay as they are.
#[test]
fn an_older_learner_stops_at_a_ledger_of_a_later_version() {
    let site = Site::with("later-ledger", &[("log.level", "info")]);
    decide(&site, &events(2));
    let learn = newer(&site);
    send_labels(&site, (0..2).map(about));
    learned(&site, 2);
    learn.stop();
    // The first bytes of a record identify its schema.
    let record = read_all(&site.connection, &site.topic("rounds")).swap_remove(0);
    let mut value = record.payload.unwrap();
    value[2] ^= 1;
    let later = Produced { partition: Some(0), key: record.key, ..raw(&site.topic("rounds"), "", value) };
    send(&site.connection, &[later]);
    let mut learn = newer(&site);
    assert_eq!(learn.end().code(), Some(69), "{}", learn.log());
    let log = learn.log();
    assert!(log.contains("Was it written by another program or version?"), "{log}");
}
