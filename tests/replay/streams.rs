//! Lines: how they are read, their order, and errors in some of them.

use super::*;

#[test]
fn votes_and_labels_become_figures() {
    let room = Folder::new();
    let lines = [
        json!({"event_id": 1, "votes": {"a": 1, "b": 0}, "unsafe": true, "text": "passed over", "more": [{"x": 1}]}),
        json!({"event_id": "2", "votes": {"b": 0.25, "a": null}, "unsafe": 0.25}),
        json!({"event_id": "3", "votes": {"a": 0.5, "b": 0.5}}),
        json!({"event_id": "3", "verdict": "safe", "annotator": "ann"}),
        json!({"event_id": "4", "votes": {"a": null, "b": null}, "unsafe": true}),
    ];
    let file = room.file("s.jsonl", &lines.map(|line| line.to_string()));
    let json = room.path("out.json");
    let ran = replay(&ReplayArgs {
        learner: Some("hedge".to_owned()),
        eta: Some(1.0),
        costs: Some("3:1".to_owned()),
        json: Some(json.clone()),
        ..args(&[&file])
    });
    assert_eq!(ran.notes, "");
    let figures: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(figures["rounds"], 3);
    assert_eq!(figures["learner"], json!({"name": "hedge", "parameters": {"eta": 1.0}}));
    assert_eq!(figures["experts"]["a"]["awake"], 2);
    assert_eq!(figures["experts"]["a"]["loss"], 0.5);
    assert_eq!(figures["experts"]["b"]["awake"], 3);
    assert_eq!(figures["experts"]["b"]["mistakes"], 2);
    assert_eq!(figures["mistakes"], 1);
    assert_eq!(figures["majority_mistakes"], 1);
    assert_eq!(figures["threshold"], 0.25);
    assert_eq!(figures["malformed"], 0);
    assert_eq!(figures["lines"], 5);
    assert_eq!(figures["regret_loss"], "absolute");
    for name in [
        "loss",
        "brier",
        "calibration_error",
        "best_expert",
        "regret",
        "regret_bound",
        "seconds",
        "rounds_per_second",
        "cost_weighted_error",
    ] {
        assert!(!figures[name].is_null(), "{name}");
    }
    assert_eq!(figures["state_hash"].as_str().unwrap(), ran.hash());
    assert!(ran.out.contains("3 rounds, hedge (eta 1"), "{}", ran.out);
}

#[test]
fn packed_streams_are_the_same() {
    let room = Folder::new();
    let lines = stream(300, false);
    let plain = room.file("s.jsonl", &lines);
    let bytes = fs::read(&plain).unwrap();
    let gz = room.path("s.jsonl.gz");
    let mut packer =
        flate2::write::GzEncoder::new(fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    packer.write_all(&bytes).unwrap();
    packer.finish().unwrap();
    let zst = room.path("s.jsonl.zst");
    fs::write(&zst, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    let expected = replay(&args(&[&plain]));
    assert_eq!(replay(&args(&[&gz])).hash(), expected.hash());
    assert_eq!(replay(&args(&[&zst])).hash(), expected.hash());
    fs::write(&gz, &fs::read(&gz).unwrap()[..400]).unwrap();
    assert_eq!(replay(&args(&[&gz])).code(), 69);
}

#[test]
fn malformed_lines_are_told_without_content_and_counted() {
    let room = Folder::new();
    let secret = "SECRET";
    let bad = [
        format!("{{\"event_id\": \"{secret}\""),
        secret.to_owned(),
        "[1, 2]".to_owned(),
        format!("\"{secret}\""),
        json!({"votes": {"a": 1}, "unsafe": true}).to_string(),
        json!({"event_id": "", "votes": {"a": 1}}).to_string(),
        json!({"event_id": secret.repeat(100), "votes": {"a": 1}}).to_string(),
        json!({"event_id": "1"}).to_string(),
        json!({"event_id": "1", "votes": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": secret}}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1.5}}).to_string(),
        json!({"event_id": "1", "votes": {"a": -1}}).to_string(),
        json!({"event_id": "1", "votes": {"a": true}}).to_string(),
        "{\"event_id\": \"1\", \"votes\": {\"a\": NaN}}".to_owned(),
        "{\"event_id\": \"1\", \"votes\": {\"a\": 1e999}}".to_owned(),
        "{\"event_id\": \"1\", \"votes\": {\"a\": 1, \"a\": 0}}".to_owned(),
        json!({"event_id": "1", "votes": {"a": 1}, "unsafe": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "unsafe": 2}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "verdict": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "event_time": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "features": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "encoder": secret}).to_string(),
        json!({"event_id": "1", "votes": {"a": 1}, "shadow": [secret]}).to_string(),
        json!({"event_id": "1", "unsafe": true, "categories": {secret: secret}}).to_string(),
        json!({"event_id": "1", "unsafe": true, "inclusion_probability": 0}).to_string(),
        json!({"event_id": "1", "unsafe": true, "source": secret}).to_string(),
        json!({"aegis": secret}).to_string(),
        json!({"aegis": "edit", "edit_id": "1", "action": secret}).to_string(),
        json!({"aegis": "header", "format": 1, "policies": {"p": {"learner": secret}}}).to_string(),
        json!({"aegis": "header", "format": 99, "policies": {}}).to_string(),
        json!({"aegis": "savepoint", "format": 1, "policies": {}}).to_string(),
        "{\"event_id\": \"1\", \"votes\": {\"a\": 1}} trailing".to_owned(),
    ];
    let good = json!({"event_id": "g", "votes": {"a": 1}, "unsafe": true}).to_string();
    let mut lines = vec![good.clone()];
    lines.extend(bad.iter().cloned());
    lines.extend([String::new(), good]);
    let file = room.file("s.jsonl", &lines);
    let ran = replay(&args(&[&file]));
    assert_eq!(ran.summary().malformed, bad.len() as u64, "{}", ran.notes);
    assert_eq!(ran.summary().lines, lines.len() as u64);
    assert_eq!(ran.summary().rounds(), 1);
    assert!(!ran.notes.contains(secret), "{}", ran.notes);
    for (number, note) in (2..).zip(ran.notes.lines()) {
        assert!(note.starts_with(&format!("{}:{number}: ", file.display())), "{note}");
    }
    let strict = replay(&ReplayArgs { strict: true, ..args(&[&file]) });
    assert_eq!(strict.code(), 65);
    let error = strict.result.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:2: ", file.display())), "{error}");
}

/// Labels of a topic, in a file that a spreadsheet tool has written.
#[test]
fn labels_are_read_as_those_of_a_topic() {
    let room = Folder::new();
    let save = room.path("save");
    let lines = [
        "\u{feff}{\"event_id\":7,\"annotator\":12,\"unsafe\":true,\"categories\":\"hate, spam\",\"score\":NaN}".to_owned(),
        json!({"event_id": "e", "id": 3, "verdict": "safe", "time": "2026-03-01T12:00:00+0000", "categories": "",
               "decision": {"partition": 1, "offset": 2}, "partition": "eu", "received": "by post"}).to_string(),
        "\u{feff}{\"event_id\":\"f\",\"severity\":0.5,\"own\":\"\\ud83d\",\"own\":1}".to_owned(),
        "{\"event_id\":\"g\",\"unsafe\":true,\"unsafe\":false}".to_owned(),
    ];
    let ran = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&room.file("l.jsonl", &lines)]) });
    assert_eq!(ran.summary().malformed, 1, "{}", ran.notes);
    assert!(ran.notes.contains(":4: unsafe: there twice"), "{}", ran.notes);
    let saved = fs::read_to_string(save).unwrap();
    let label = |event: &str| -> Value {
        let mut labels = saved.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        labels.find(|line| line["aegis"] == "label" && line["event_id"] == event).unwrap()
    };
    let seven = label("7");
    assert_eq!((&seven["label_id"], &seven["annotator"]), (&json!("7/12"), &json!("12")));
    assert_eq!(seven["categories"], json!(["hate", "spam"]));
    let e = label("e");
    assert_eq!((&e["label_id"], &e["label_time"]), (&json!("3"), &json!(1_772_366_400_000_i64)));
    assert_eq!((&e["partition"], &e["offset"], e.get("categories")), (&json!(1), &json!(2), None));
    assert_eq!(label("f")["severity"], 0.5);
}

/// A stream without a readable line is not an empty stream: the run fails and writes no files.
#[test]
fn a_stream_without_a_line_that_can_be_read_is_refused() {
    let room = Folder::new();
    let header = json!({"aegis": "header", "format": 1, "policies": {}}).to_string();
    let json = room.path("figures.json");
    let bad = room.file("bad.jsonl", &[header.clone(), "SECRET".to_owned(), String::new(), "{".to_owned()]);
    let ran = replay(&ReplayArgs { json: Some(json.clone()), ..args(&[&bad]) });
    assert_eq!(ran.code(), 65);
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("all 2 lines") && !error.contains("SECRET"), "{error}");
    assert!(ran.notes.lines().count() == 2 && ran.out.is_empty() && !json.exists());
    // Empty streams, and streams with a good line, are accepted.
    assert_eq!(replay(&args(&[&room.file("empty.jsonl", &[header])])).code(), 0);
    let label = json!({"event_id": "g", "unsafe": true}).to_string();
    assert_eq!(replay(&args(&[&room.file("label.jsonl", &["{".to_owned(), label])])).code(), 0);
    // The same with a savepoint that the stream adds nothing to.
    let saved = room.path("saved");
    let good = room.file("good.jsonl", &stream(20, true));
    replay(&ReplayArgs { save: Some(saved.clone()), ..args(&[&good]) }).summary();
    assert_eq!(replay(&ReplayArgs { resume: Some(saved), ..args(&[&bad]) }).code(), 65);
}

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let room = Folder::new();
    let file = room.path("s.jsonl");
    fs::write(&file, b"{\"event_id\":\"1\",\"votes\":{\"a\":1},\"unsafe\":true}\n{\"event_id\":\"\xff\"}\n")
        .unwrap();
    let ran = replay(&args(&[&file]));
    assert_eq!((ran.summary().malformed, ran.summary().rounds()), (1, 1));
}

#[test]
fn shuffled_lines_with_times_give_one_hash() {
    let room = Folder::new();
    let mut lines = stream(400, true);
    // Two decisions at the same time are ordered by their content, in any order of the lines.
    for vote in [0.9, 0.1, 0.5] {
        let twice = json!({"event_id": "twice", "event_time": 1_007, "votes": {"rules": vote, "guard": 0.3}, "unsafe": true});
        lines.push(twice.to_string());
    }
    lines.push(header(&[Policy { learner: "fixed-share".parse().unwrap(), ..Policy::unknown("default") }]));
    let expected = replay(&args(&[&room.file("s.jsonl", &lines)]));
    let mut dice = Dice(1);
    for _ in 0..20 {
        dice.shuffle(&mut lines);
        let (first, second) = lines.split_at(lines.len() / 3);
        let files = [room.file("a.jsonl", first), room.file("b.jsonl", second)];
        let ran = replay(&args(&[&files[0], &files[1]]));
        assert_eq!(ran.hash(), expected.hash());
        assert_eq!(ran.summary().policies, expected.summary().policies);
    }
    let folded = fold_lines(lines.iter().map(String::as_str)).unwrap();
    assert_eq!(hex(&folded["default"]), expected.hash());
}

#[test]
fn some_lines_with_times_and_some_without_is_an_error() {
    let room = Folder::new();
    let lines = [
        json!({"event_id": "1", "votes": {"a": 1}, "event_time": "2026-03-01T09:30:00Z"}).to_string(),
        json!({"event_id": "1", "unsafe": true}).to_string(),
        json!({"event_id": "2", "votes": {"a": 1}}).to_string(),
    ];
    let ran = replay(&args(&[&room.file("s.jsonl", &lines)]));
    assert_eq!(ran.code(), 65);
    assert!(ran.result.unwrap_err().to_string().contains("s.jsonl:3: event_time"));
}

#[test]
fn without_times_the_lines_order_the_rounds() {
    let room = Folder::new();
    // The label precedes the votes, and a repeated line keeps the position and the first votes of its event.
    let line =
        |event: &str, vote: f64| json!({"event_id": event, "votes": {"a": vote, "b": 0.5}}).to_string();
    let label = |event: &str| json!({"event_id": event, "unsafe": true}).to_string();
    let one = [label("y"), line("x", 0.1), line("y", 0.2), label("x"), line("x", 0.9)];
    let two = [line("x", 0.1), label("x"), line("y", 0.2), label("y")];
    let three = [line("y", 0.2), label("x"), line("x", 0.1), label("y")];
    let hash = |name: &str, lines: &[String]| {
        let ran = replay(&ReplayArgs {
            learner: Some("fixed-share".to_owned()),
            ..args(&[&room.file(name, lines)])
        });
        ran.hash().to_owned()
    };
    assert_eq!(hash("one", &one), hash("two", &two));
    assert_ne!(hash("two", &two), hash("three", &three));
}
