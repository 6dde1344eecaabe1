//! `aegis explain` and `aegis weights`.

use aegis::codec::{self, Encoding};
use aegis::core::label::Finding;
use aegis::kafka::Produced;

use crate::site::Site;
use crate::support::flow::{decisions, label, label_record, raw, send};
use crate::support::kafka;

#[test]
fn a_decision_is_explained_from_its_topics_and_weights_are_shown() {
    let site = Site::new("explain", "");
    assert!(site.says(0, &["weights", "show"]).contains("nothing is learned yet"));
    let (_score, _learn) = (site.start("score"), site.start("learn"));
    site.send_events(0..12);
    site.await_records("decisions", 12);
    let teach = |numbers: std::ops::Range<usize>| {
        let labels: Vec<_> = numbers
            .map(|number| {
                let finding = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
                let label = label(&format!("l{number}"), &format!("e{number:05}"), finding);
                label_record(&site.topic("labels"), &label)
            })
            .collect();
        send(&site.connection, &labels);
    };
    teach(0..6);
    site.published("six rounds", |published| published.rounds == 6);
    teach(6..12);
    let newest = site.published("twelve rounds", |published| published.rounds == 12);
    explained(&site, &newest);
    weights(&site, &newest);
}

fn explained(site: &Site, newest: &aegis::core::predictor::Published) {
    // The event was decided before anything was learned, so the prior predictor is computed again.
    let first = site.json(&["explain", "e00003"]);
    assert_eq!(
        (&first["predictor"]["standing"], &first["computed"]["same"]),
        (&"untaught".into(), &true.into())
    );
    assert_eq!(first["votes"].as_array().unwrap().len(), 2);

    // The scorer gets new weights with a delay, so events are decided until it has the newest.
    let hash = codec::hex(&newest.state_hash);
    let mut number = 12;
    let last = loop {
        site.send_events(number..number + 1);
        site.await_records("decisions", number + 1);
        let last = site.json(&["explain", &format!("e{number:05}")]);
        number += 1;
        if last["predictor"]["state_hash"] == hash.as_str() && last["probability"].as_f64() < Some(0.5) {
            break last;
        }
        assert!(number < 60, "{last}");
    };
    assert_eq!((&last["predictor"]["standing"], &last["computed"]["same"]), (&"newest".into(), &true.into()));
    let flip = &last["computed"]["flip"];
    assert!(flip["probability"].as_f64() >= Some(0.5) && flip["from"] != flip["to"], "{last}");
    let event = last["event"].as_str().unwrap();
    let text = site.says(0, &["explain", event]);
    for words in [
        "action     allow: p 0.",
        "it is the newest",
        "flip ",
        "lenient ",
        "strict ",
        "below the threshold 0.5000",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains("hello"), "{text}");

    // A decision whose predictor was removed by compaction, and which is newer than the first one about its event.
    let mut decision = decisions(&site.await_records("decisions", 1)).remove(0);
    decision.predictor.state_hash = [9; 32];
    decision.predictor.ledger_offset = 7;
    let payload = codec::encode_decision(&decision, Encoding::Avro).unwrap();
    let record = raw(&site.topic("decisions"), "k", payload);
    send(&site.connection, &[Produced { partition: Some(decision.origin.partition), ..record }]);
    let event = decision.id.event.as_str();
    let gone = site.json(&["explain", event]);
    assert_eq!(
        (&gone["predictor"]["standing"], &gone["computed"]),
        (&"gone".into(), &serde_json::Value::Null)
    );
    assert_eq!(gone["votes"].as_array().unwrap().len(), 2);
    let all = site.json(&["explain", event, "--all"]);
    let standings: Vec<_> =
        all.as_array().unwrap().iter().map(|one| one["predictor"]["standing"].as_str()).collect();
    assert_eq!(standings, [Some("untaught"), Some("gone")]);

    let text = site.says(65, &["explain", "nobody"]);
    assert!(text.contains("has no decision about event nobody of tenant t under policy default"), "{text}");
    let text = site.says(65, &["explain", event, "--tenant", "other"]);
    assert!(text.contains("there is one for --tenant t --policy default"), "{text}");
}

fn weights(site: &Site, newest: &aegis::core::predictor::Published) {
    let show = site.json(&["weights", "show"]);
    let [shown] = &show.as_array().unwrap()[..] else { panic!("{show}") };
    assert_eq!(
        (&shown["rounds"], &shown["state_hash"]),
        (&12.into(), &codec::hex(&newest.state_hash).into())
    );
    let sum: f64 = shown["weights"].as_object().unwrap().values().map(|mass| mass.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    assert!(site.says(0, &["weights", "show"]).contains("stacking"));

    let history = site.json(&["weights", "history"]);
    // The first predictor may have learned nothing yet.
    let learned = history.as_array().unwrap().iter().filter(|one| one["learned"] == true);
    let history: Vec<_> = learned.collect();
    assert!(history.len() >= 2, "{history:?}");
    let rounds: Vec<_> = history.iter().map(|one| one["rounds"].as_u64().unwrap()).collect();
    assert!(rounds.is_sorted() && rounds.last() == Some(&12), "{rounds:?}");
    let (first, last) = (history[0], history[history.len() - 1]);
    let (from, to) = (first["offset"].to_string(), last["state_hash"].as_str().unwrap());
    let diff = site.json(&["weights", "diff", &from, &to[..10]]);
    for member in diff["members"].as_array().unwrap() {
        let name = member["member"].as_str().unwrap();
        let (old, new) = (&first["weights"][name], &last["weights"][name]);
        assert_eq!((&member["from"], &member["to"]), (old, new));
        let change = new.as_f64().unwrap() - old.as_f64().unwrap();
        assert!((member["change"].as_f64().unwrap() - change).abs() < 1e-12);
    }
    let newest_two = site.says(0, &["weights", "diff"]);
    assert!(newest_two.contains(&format!("offset {}", last["offset"])), "{newest_two}");
    // The exported predictor is the published one, and decides on a file.
    let exported = site.says(0, &["weights", "export"]);
    assert_eq!(codec::decode_published(exported.trim().as_bytes()).unwrap(), *newest);
    let (weights, events) = (site.path("learned.jsonl"), site.path("one.jsonl"));
    std::fs::write(&weights, &exported).unwrap();
    std::fs::write(&events, "{\"id\": \"x\", \"text\": \"hello there\"}\n").unwrap();
    let scored = site.aegis(&["score", events.to_str().unwrap(), "--weights", weights.to_str().unwrap()]);
    let decision: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    assert_eq!(decision["predictor"]["state_hash"], codec::hex(&newest.state_hash).as_str(), "{decision}");
    let absent = site.says(69, &["weights", "show", "--set", "topics.weights=absent"]);
    assert!(
        absent.contains(&format!("brokers {}", kafka().bootstrap())) && absent.contains("absent"),
        "{absent}"
    );
    assert!(site.says(65, &["weights", "diff", "99999"]).contains("`aegis weights history` lists them"));
    assert!(
        site.says(65, &["weights", "show", "--policy", "none"]).contains("holds nothing for policy none")
    );
}
