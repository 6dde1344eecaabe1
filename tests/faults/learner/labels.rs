//! Labels in any order, over restarts.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use aegis::core::event::{Event, Millis};
use aegis::core::label::{Finding, Label};

use super::support::flow::{event_record, label, send};
use super::{Site, about, decide, events, send_labels, wait};

const EVENTS: usize = 60;

/// Events with times of their own, some of them twice, one from long ago; and all that is said of them.
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
        let mine = format!("l{number}");
        labels.extend([
            Label {
                annotator: Some("r2".into()),
                ..label(&format!("s{number}"), &id, Finding::NeedsCaution)
            },
            Label {
                corrects: Some(mine.clone()),
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
    // The same id with another verdict: the later time counts.
    labels.push(Label { time: 5, ..label("l13", "e00013", Finding::Unsafe) });
    labels.push(label("ghost", "e77777", Finding::Unsafe));
    (events, labels)
}

/// All labels are read, none waits but that of an unknown event.
fn settle(site: &Site, labels: usize) {
    let count = i64::try_from(labels).unwrap();
    let ghost = BTreeSet::from(["ghost".to_owned()]);
    wait("labels", || site.committed("learn", "labels") == count && site.waiting() == ghost);
}

#[test]
fn the_order_of_labels_never_matters() {
    let (events, labels) = stream();
    let straight = Site::new("straight");
    decide(&straight, &events);
    let learn = straight.start_with("learn", &[], &[]);
    send_labels(&straight, labels.clone());
    settle(&straight, labels.len());
    learn.stop();

    // Shuffled, with duplicates, half of the events after the first labels, both roles at work and killed.
    let sets = [("log.level", "info"), ("learn.commit_records", "7"), ("score.commit_records", "5")];
    let crooked = Site::with("crooked", &sets);
    let mut random = fastrand::Rng::with_seed(7);
    let mut shuffled: Vec<_> = labels.iter().chain(labels.iter().step_by(3)).cloned().collect();
    random.shuffle(&mut shuffled);
    let score = crooked.start_with("score", &[], &[]);
    let mut learn = crooked.start_with("learn", &[], &[]);
    let sent: Vec<_> = events.iter().map(|event| event_record(&crooked.topic("events"), event)).collect();
    let (early, late) = sent.split_at(EVENTS / 2);
    for (number, chunk) in shuffled.chunks(shuffled.len().div_ceil(4)).enumerate() {
        send_labels(&crooked, chunk.to_vec());
        match number {
            0 => send(&crooked.connection, early),
            1 => {
                learn.kill();
                learn = crooked.start_with("learn", &[], &[]);
            }
            2 => send(&crooked.connection, late),
            _ => {
                let taken = i64::try_from(shuffled.len() / 2).unwrap();
                wait("half of the labels", || crooked.committed("learn", "labels") >= taken);
                learn.kill();
                learn = crooked.start_with("learn", &[], &[]);
            }
        }
    }
    settle(&crooked, shuffled.len());
    // The killed learner may have committed the last labels without publishing the predictor that follows from them.
    // Its successor publishes it, but only if it is stopped after it has restored the ledger.
    learn.says("this learner is active");
    learn.ready();
    learn.stop();
    score.stop();

    assert_eq!(straight.hash(), straight.replayed());
    assert_eq!(crooked.hash(), crooked.replayed());
    assert_eq!(crooked.hash(), straight.hash(), "the state is a function of the set of labels");
    crooked.verified();
}
