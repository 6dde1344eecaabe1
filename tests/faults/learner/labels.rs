//! Labels in any order, with restarts.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use aegis::core::event::{Event, Millis};
use aegis::core::label::{Finding, Label};

use super::support::flow::{event_record, label, send};
use super::{Site, about, decide, events, send_labels, wait};

const EVENTS: usize = 60;

/// Returns events with a time, some of them twice and one of long ago, and labels for them.
fn stream() -> (Vec<Event>, Vec<Label>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = Millis::try_from(now).unwrap();
    let mut events = events(EVENTS);
    for (age, event) in (1..).zip(&mut events) {
        event.time = Some(now - 3_600_000 + age);
    }
    events[EVENTS - 1].time = Some(now - 60 * 86_400_000);
    events.extend_from_within(3..8);

    let mut labels: Vec<_> = (0..EVENTS).map(about).collect();
    for number in (0..EVENTS).step_by(6) {
        let id = format!("e{number:05}");
        let label_id = format!("l{number}");
        labels.extend([
            Label {
                annotator: Some("r2".into()),
                ..label(&format!("s{number}"), &id, Finding::NeedsCaution)
            },
            Label {
                corrects: Some(label_id.clone()),
                time: 2,
                ..label(&format!("c{number}"), &id, Finding::Unsafe)
            },
        ]);
    }
    labels.push(Label {
        retracts: Some("l11".into()),
        verdict: None,
        time: 3,
        ..label("undo", "e00011", Finding::Safe)
    });
    // A label with the same id and another verdict. The later time counts.
    labels.push(Label { time: 5, ..label("l13", "e00013", Finding::Unsafe) });
    labels.push(label("ghost", "e77777", Finding::Unsafe));
    (events, labels)
}

/// Waits until all labels are committed and only the one of an unknown event is waiting.
fn settle(site: &Site, labels: usize) {
    let count = i64::try_from(labels).unwrap();
    let ghost = BTreeSet::from(["ghost".to_owned()]);
    wait("labels", || site.committed("learn", "labels") == count && site.waiting() == ghost);
}

#[test]
fn the_order_of_labels_never_matters() {
    let (events, labels) = stream();
    let ordered = Site::new("straight");
    decide(&ordered, &events);
    let learn = ordered.start_with("learn", &[], &[]);
    send_labels(&ordered, labels.clone());
    settle(&ordered, labels.len());
    learn.stop();

    // The labels are shuffled and have duplicates, half of the events come after the first labels, and both roles run
    // and are killed.
    let sets = [("log.level", "info"), ("learn.commit_records", "7"), ("score.commit_records", "5")];
    let shuffled_site = Site::with("crooked", &sets);
    let mut random = fastrand::Rng::with_seed(7);
    let mut shuffled: Vec<_> = labels.iter().chain(labels.iter().step_by(3)).cloned().collect();
    random.shuffle(&mut shuffled);
    let score = shuffled_site.start_with("score", &[], &[]);
    let mut learn = shuffled_site.start_with("learn", &[], &[]);
    let sent: Vec<_> =
        events.iter().map(|event| event_record(&shuffled_site.topic("events"), event)).collect();
    let (early, late) = sent.split_at(EVENTS / 2);
    for (number, chunk) in shuffled.chunks(shuffled.len().div_ceil(4)).enumerate() {
        send_labels(&shuffled_site, chunk.to_vec());
        match number {
            0 => send(&shuffled_site.connection, early),
            1 => {
                learn.kill();
                learn = shuffled_site.start_with("learn", &[], &[]);
            }
            2 => send(&shuffled_site.connection, late),
            _ => {
                let taken = i64::try_from(shuffled.len() / 2).unwrap();
                wait("half of the labels", || shuffled_site.committed("learn", "labels") >= taken);
                learn.kill();
                learn = shuffled_site.start_with("learn", &[], &[]);
            }
        }
    }
    settle(&shuffled_site, shuffled.len());
    // The killed learner may have committed the last labels without publishing the predictor that follows from them.
    // Its successor publishes it, but only if it is stopped after it has restored the ledger.
    learn.says("this learner is active");
    learn.ready();
    learn.stop();
    score.stop();

    assert_eq!(ordered.hash(), ordered.replayed());
    assert_eq!(shuffled_site.hash(), shuffled_site.replayed());
    assert_eq!(shuffled_site.hash(), ordered.hash(), "the state is a function of the set of labels");
    shuffled_site.verified();
}
