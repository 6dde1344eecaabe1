//! Processes that are killed around a pin: what a person has pinned is neither lost nor replaced, and every event has one
//! decision, by the pinned predictor or by one that was in use before or after.

use std::collections::BTreeMap;

use aegis::codec;
use aegis::core::predictor::Published;
use aegis::kafka::Consumed;

use super::support::flow::{decisions, event_record, read_all, read_until, send};
use super::support::site::{Process, Site, hex, wait};
use super::{about, decide, events, send_labels};

const INFO: [(&str, &str); 2] = [("log.level", "info"), ("score.commit_records", "8")];

/// Waits for the learner's predictor of this number of rounds.
fn published(site: &Site, rounds: u64) -> Published {
    let last = |records: &[Consumed]| {
        let is_pin = |record: &&Consumed| codec::pin_policy(record.key.as_deref().unwrap()).is_some();
        let last = records.iter().rfind(|record| !is_pin(record))?;
        Some(codec::decode_published(last.payload.as_deref()?).unwrap())
    };
    let records = read_until(&site.connection, &site.topic("weights"), "a predictor", |records| {
        last(records).is_some_and(|published| published.rounds == rounds)
    });
    last(&records).unwrap()
}

fn run(site: &Site, arguments: &[&str]) {
    let output = site.aegis(&[arguments, &["--reason", "a test", "--by", "ann"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Sends the events with these numbers.
fn send_events(site: &Site, numbers: std::ops::Range<usize>) {
    let records: Vec<_> =
        events(numbers.end)[numbers].iter().map(|event| event_record(&site.topic("events"), event)).collect();
    send(&site.connection, &records);
}

/// Waits until this number of events is committed, and stops the scorer.
fn finish(site: &Site, score: Process, count: i64) {
    wait("events", || site.committed("score", "events") == count);
    score.stop();
}

/// The hash of each event's predictor, and whether it was pinned. Each event has one decision.
fn used(site: &Site) -> BTreeMap<String, (String, bool)> {
    let made = decisions(&read_all(&site.connection, &site.topic("decisions")));
    let count = made.len();
    let by = |decision: &aegis::core::decision::Decision| {
        (hex(&decision.predictor.state_hash), decision.predictor.pinned)
    };
    let used: BTreeMap<_, _> =
        made.iter().map(|decision| (decision.id.event.clone(), by(decision))).collect();
    assert_eq!(used.len(), count, "an event has two decisions");
    used
}

#[test]
fn a_pin_outlives_killed_learners_and_scorers() {
    let site = Site::with("pinkill", &INFO);
    decide(&site, &events(12));
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (0..6).map(about));
    let old = published(&site, 6);
    learn.kill();
    run(&site, &["weights", "pin", &hex(&old.state_hash)]);

    // Learners die before and after they publish, and the next one publishes beside the pin.
    for (point, labels) in [("learn.publish", 6..9), ("learn.published", 9..12)] {
        let mut learn = site.start_with("learn", &[], &[("AEGIS_CRASH_AT", point)]);
        send_labels(&site, labels.map(about));
        let status = learn.end();
        learn.died_at(status, point);
    }
    let learn = site.start_with("learn", &[], &[]);
    let newest = published(&site, 12);
    assert_ne!(newest.state_hash, old.state_hash);

    // Scorers die with decisions by the pinned predictor that are not committed, and with some that are.
    send_events(&site, 12..44);
    for point in ["score.decided:3", "unit.commit", "unit.committed"] {
        let mut score = site.start_with("score", &[], &[("AEGIS_CRASH_AT", point)]);
        let status = score.end();
        score.died_at(status, point.split(':').next().unwrap());
    }
    finish(&site, site.start_with("score", &[], &[]), 44);
    let by_old = (hex(&old.state_hash), true);
    let made = used(&site);
    assert!((12..44).all(|number| made[&format!("e{number:05}")] == by_old), "{made:?}");

    // A scorer dies after the pin has ended for others, and with decisions that are not committed. They are made again.
    send_events(&site, 44..60);
    let mut score = site.start_with("score", &[], &[("AEGIS_CRASH_AT", "unit.sent")]);
    let status = score.end();
    score.died_at(status, "unit.sent");
    run(&site, &["weights", "unpin"]);
    finish(&site, site.start_with("score", &[], &[]), 60);
    let by_newest = (hex(&newest.state_hash), false);
    let made = used(&site);
    assert!((44..60).all(|number| made[&format!("e{number:05}")] == by_newest), "{made:?}");
    learn.stop();
    site.verified();
}
