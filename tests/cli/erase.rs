//! `aegis erase`: the subject is removed from the ledger, the learner's state is that of a run without the subject, and
//! a later read proves it.

use std::time::Instant;

use aegis::codec;
use aegis::core::label::Finding;
use aegis::core::ledger::{Key, Record};

use crate::site::Site;
use crate::support::flow::{decisions, label, label_record, read_all, send};
use crate::support::{WAIT, kafka, make};

#[test]
fn a_subject_is_erased_and_reading_proves_it() {
    // Compaction within the time that a test can wait.
    let soon = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "200"),
        ("delete.retention.ms", "100"),
    ];
    make(&kafka().connection(), &[("erase.rounds", 1, &soon)]);
    let site = Site::new("erase", "");
    let (_score, _learn) = (site.start("score"), site.start("learn"));
    site.send_events(0..28);
    let decided = decisions(&site.await_records("decisions", 28));
    let theirs = |event: &str| {
        decided.iter().any(|decision| decision.id.event == event && decision.subject.as_deref() == Some("u3"))
    };
    let teach = |numbers: std::ops::Range<usize>| {
        let record = |number: usize| {
            let finding = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
            label_record(
                &site.topic("labels"),
                &label(&format!("l{number}"), &format!("e{number:05}"), finding),
            )
        };
        send(&site.connection, &numbers.map(record).collect::<Vec<_>>());
    };
    teach(0..21);
    let before = site.published("21 rounds", |published| published.rounds == 21);
    let erased = ["erase", "--subject", "u3"];
    let proven = ["erase", "--verify", "--subject", "u3"];
    let text = site.says(65, &proven);
    assert!(text.contains("run `aegis erase`") && text.contains("3 of the subject stand"), "{text}");

    // Every seventh event is the subject's: three are labelled, and a fourth is decided.
    let done = site.json(&erased);
    assert_eq!(done["tombstones"], 6, "votes and label of three rounds: {done}");
    let stays = |name: &str| {
        let topic = site.topic(name);
        let all = done["stays"].as_array().unwrap();
        let found = all.iter().find(|one| one["topic"] == topic.as_str());
        found.unwrap_or_else(|| panic!("{name} is not in {done}")).clone()
    };
    for (name, records) in [("events", 4), ("decisions", 4), ("labels", 3)] {
        assert_eq!(stays(name)["records"], records, "{name}");
        assert!(stays(name)["until"].as_str().is_some(), "{name}");
    }
    let after = site.published("a world without them", |published| published.rounds == 18);
    assert_ne!(after.state_hash, before.state_hash);
    // A late label for an event of the subject teaches nothing and restores nothing.
    teach(24..25);
    assert!(theirs("e00024"));

    let until = Instant::now() + WAIT;
    let mut number = 25;
    let mut taken_out = false;
    loop {
        let output = site.aegis(&[&proven[..], &["--output", "json"]].concat());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["standing"], 0, "{report}");
        // The late label names only its event. Only the event and its decision name the subject.
        if report["labels"] == 1 {
            assert_eq!(report["holds"], false);
            let text = site.says(65, &proven);
            assert!(text.contains("1 about events of the subject stand"), "{text}");
            assert_eq!(site.json(&erased)["tombstones"], 1);
            taken_out = true;
        }
        if taken_out && report["holds"] == true {
            assert_eq!(output.status.code(), Some(0));
            break;
        }
        assert_eq!(output.status.code(), Some(65));
        assert!(Instant::now() < until, "{report}");
        // A segment can be compacted only after a later record has started another.
        send(
            &site.connection,
            &[label_record(&site.topic("labels"), &label(&format!("w{number}"), "e00001", Finding::Safe))],
        );
        number += 1;
    }
    // No record of the ledger names the subject, except for the edit.
    for record in read_all(&site.connection, &site.topic("rounds")) {
        let key = codec::decode_key(record.key.as_deref().unwrap()).unwrap();
        let value = record.payload.as_deref().map(|payload| codec::decode_record(payload).unwrap());
        match (key, value) {
            (Key::Edit(_), _) | (_, None) => {}
            (Key::Round(id), Some(Record::Round(judged))) => {
                assert!(judged.subject.as_deref() != Some("u3") && !theirs(&id.event), "{id:?}");
            }
            (Key::Label(id, label, _), _) => assert!(!theirs(&id.event), "{id:?} {label}"),
            (key, value) => panic!("{key:?} {value:?}"),
        }
    }
    // A second run has nothing to do.
    assert_eq!(site.json(&erased)["tombstones"], 0);
    assert!(site.says(0, &["verify"]).contains("holds"));
    let json = site.path("replay.json");
    site.says(0, &["replay", &format!("topic:{}", site.topic("rounds")), "--json", json.to_str().unwrap()]);
    let replayed: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let last = site.published("the last", |published| published.rounds == 18);
    assert_eq!(replayed["state_hash"], codec::hex(&last.state_hash).as_str());
}
