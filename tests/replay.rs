//! `aegis replay` as a library: streams in, figures out.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aegis::core::book::Book;
use aegis::core::fold::{Fold, Settings};
use aegis::core::hash::hex;
use aegis::core::label::Mapping;
use aegis::core::learners::LearnerSpec;
use aegis::replay::write::{Policy, header, record};
use aegis::replay::{Around, ReplayArgs, ReplayError, Summary, fold_lines, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a run gave and said.
struct Ran {
    result: Result<Summary, ReplayError>,
    out: String,
    notes: String,
}

impl Ran {
    fn summary(&self) -> &Summary {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}\n{}", self.notes))
    }

    fn hash(&self) -> &str {
        let policies = &self.summary().policies;
        assert_eq!(policies.len(), 1);
        &policies.values().next().unwrap().state_hash
    }

    fn code(&self) -> u8 {
        self.result.as_ref().map_or_else(ReplayError::exit_code, |_| 0)
    }
}

fn replay(args: &ReplayArgs) -> Ran {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = run(args, &mut Around::default(), &mut out, &mut notes);
    Ran { result, out: String::from_utf8(out).unwrap(), notes: String::from_utf8(notes).unwrap() }
}

fn args(streams: &[&Path]) -> ReplayArgs {
    ReplayArgs { streams: streams.iter().map(PathBuf::from).collect(), ..ReplayArgs::default() }
}

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    }
}

/// A generator of small numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A stream with late labels, corrections before what they correct, duplicates and edits.
fn stream(events: u64, timed: bool) -> Vec<String> {
    let mut dice = Dice(5);
    let mut lines = Vec::new();
    for event in 0..events {
        let id = format!("event-{event}");
        let vote = |dice: &mut Dice| {
            if dice.below(9) == 0 { Value::Null } else { json!(dice.below(1_000) as f64 / 999.0) }
        };
        let mut line = json!({"event_id": id, "votes": {"rules": vote(&mut dice), "guard": vote(&mut dice)}, "subject": format!("s{}", event % 7)});
        if event > events / 2 {
            line["votes"]["late comer"] = vote(&mut dice);
        }
        if timed {
            line["event_time"] = json!(1_000 + dice.below(events / 2));
        }
        if dice.below(3) > 0 {
            line["unsafe"] = json!(dice.below(2) == 1);
        }
        lines.push(line.to_string());
        if dice.below(4) == 0 {
            let about = dice.below(event + 1);
            let label = json!({"event_id": format!("event-{about}"), "annotator": format!("a{}", dice.below(3)), "severity": dice.below(5) as f64 / 4.0, "label_time": dice.below(9)});
            lines.push(label.to_string());
        }
        if dice.below(10) == 0 {
            let about = dice.below(events);
            lines.push(json!({"event_id": format!("event-{about}"), "label_id": "fix", "corrects": format!("event-{about}"), "unsafe": true}).to_string());
        }
        if dice.below(15) == 0 {
            lines.push(
                json!({"event_id": format!("event-{event}"), "label_id": "undo", "retracts": "fix"})
                    .to_string(),
            );
        }
        if dice.below(10) == 0 {
            let again = dice.below(lines.len() as u64) as usize;
            lines.push(lines[again].clone());
        }
    }
    lines.push(
        json!({"aegis": "edit", "edit_id": "1", "action": "quarantine", "annotator": "a2"}).to_string(),
    );
    lines.insert(3, json!({"aegis": "edit", "edit_id": "2", "action": "erase", "subject": "s3"}).to_string());
    lines
}

#[test]
fn votes_and_labels_become_figures() {
    let room = Room::new();
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
fn annotators_are_shown_with_their_agreement() {
    let room = Room::new();
    let lines = [
        r#"{"event_id":"1","votes":{"a":1},"unsafe":true,"annotator":"x"}"#,
        r#"{"event_id":"1","unsafe":true,"annotator":"y"}"#,
        r#"{"event_id":"1","unsafe":false,"annotator":"z","source":"gold"}"#,
        r#"{"event_id":"2","votes":{"a":0},"unsafe":false,"annotator":"x"}"#,
    ];
    let ran = replay(&args(&[&room.file("s.jsonl", &lines.map(str::to_owned))]));
    let annotators = &ran.summary().policies["default"].annotators;
    let x = &annotators["x"];
    assert_eq!((x.labels, x.compared, x.agreement), (2, 2, Some(0.5)));
    assert_eq!((x.gold, x.gold_agreement, annotators["z"].gold_agreement), (1, Some(0.0), None));
    assert!(ran.out.contains("annotator"), "{}", ran.out);
}

#[test]
fn packed_streams_are_the_same() {
    let room = Room::new();
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
    let room = Room::new();
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
        json!({"event_id": "1", "unsafe": true, "categories": secret}).to_string(),
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

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let room = Room::new();
    let file = room.path("s.jsonl");
    fs::write(&file, b"{\"event_id\":\"1\",\"votes\":{\"a\":1},\"unsafe\":true}\n{\"event_id\":\"\xff\"}\n")
        .unwrap();
    let ran = replay(&args(&[&file]));
    assert_eq!((ran.summary().malformed, ran.summary().rounds()), (1, 1));
}

#[test]
fn shuffled_lines_with_times_give_one_hash() {
    let room = Room::new();
    let mut lines = stream(400, true);
    // Decided twice at one time: by content, whichever line comes first.
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
fn a_savepoint_in_any_cut_gives_the_hash_of_the_whole() {
    let room = Room::new();
    for timed in [false, true] {
        let lines = stream(120, timed);
        let whole = replay(&args(&[&room.file("s.jsonl", &lines)]));
        for cut in (0..=lines.len()).step_by(7) {
            let (first, second) = lines.split_at(cut);
            let (a, b) = (room.file("a.jsonl", first), room.file("b.jsonl", second));
            let save = room.path(if cut % 2 == 0 { "save.jsonl" } else { "save.jsonl.zst" });
            let half = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&a]) });
            half.summary();
            let ran = replay(&ReplayArgs { resume: Some(save.clone()), ..args(&[&b]) });
            assert_eq!(ran.hash(), whole.hash(), "cut at {cut}, timed {timed}");
            assert_eq!(ran.summary().policies, whole.summary().policies);
        }
    }
}

#[test]
fn a_savepoint_keeps_what_flags_asked_for() {
    let room = Room::new();
    let lines = stream(100, false);
    let (first, second) = lines.split_at(80);
    let (a, b) = (room.file("a.jsonl", first), room.file("b.jsonl", second));
    let save = room.path("save");
    let flags = |streams: &[&Path]| ReplayArgs {
        learner: Some("fpl".to_owned()),
        seed: Some("hidden".to_owned()),
        ..args(streams)
    };
    let whole = replay(&flags(&[&a, &b]));
    replay(&ReplayArgs { save: Some(save.clone()), ..flags(&[&a]) }).summary();
    assert!(!fs::read_to_string(&save).unwrap().contains("hidden"));
    let resumed = ReplayArgs { resume: Some(save.clone()), seed: Some("hidden".to_owned()), ..args(&[&b]) };
    assert_eq!(replay(&resumed).hash(), whole.hash());
    assert_eq!(replay(&ReplayArgs { seed: None, ..resumed.clone() }).code(), 64);
    // A damaged one is told.
    let text = fs::read_to_string(&save).unwrap();
    fs::write(&save, text.replacen("\"guard\":0.", "\"guard\":0.1", 40)).unwrap();
    assert_eq!(replay(&resumed).code(), 65);
    fs::write(&save, "").unwrap();
    assert_eq!(replay(&resumed).code(), 65);
}

#[test]
fn some_lines_with_times_and_some_without_is_an_error() {
    let room = Room::new();
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
    let room = Room::new();
    // The label comes before the votes, a repeated line keeps its event's place and first votes.
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

#[test]
fn several_policies_have_figures_each() {
    let room = Room::new();
    let mut lines = Vec::new();
    for event in 0..50 {
        for policy in ["strict", "mild"] {
            lines.push(json!({"event_id": event, "policy": policy, "votes": {"a": 1, policy: 0}, "verdict": "needs_caution"}).to_string());
        }
    }
    let mild = Policy {
        learner: "hedge eta=0.5".parse().unwrap(),
        mapping: Mapping { needs_caution: 0.0, ..Mapping::default() },
        ..Policy::unknown("mild")
    };
    lines.push(header(std::slice::from_ref(&mild)));
    let file = room.file("s.jsonl", &lines);
    let json = room.path("out.json");
    let ran = replay(&ReplayArgs { json: Some(json.clone()), ..args(&[&file]) });
    let figures: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(ran.summary().rounds(), 100);
    assert_eq!(figures["policies"]["mild"]["learner"]["name"], "hedge");
    assert_eq!(figures["policies"]["mild"]["experts"]["a"]["mistakes"], 50);
    assert_eq!(figures["policies"]["strict"]["learner"]["name"], "default");
    assert_eq!(figures["policies"]["strict"]["experts"]["a"]["mistakes"], 0);
    assert!(figures["policies"]["strict"]["experts"]["mild"].is_null());
    // Flags go before headers; two headers may not contradict one another.
    let ran = replay(&ReplayArgs { learner: Some("brier".to_owned()), ..args(&[&file]) });
    assert!(ran.summary().policies.values().all(|figures| figures.learner.name == "brier"));
    lines.push(header(&[Policy { learner: "squint".parse().unwrap(), ..mild }]));
    assert_eq!(replay(&args(&[&room.file("s.jsonl", &lines)])).code(), 65);
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let room = Room::new();
    let file = room.file("s.jsonl", &stream(5, false));
    let flags = |learner: Option<&str>, eta: Option<f64>, costs: Option<&str>| {
        let args = args(&[&file]);
        let (learner, costs) = (learner.map(str::to_owned), costs.map(str::to_owned));
        replay(&ReplayArgs { learner, eta, costs, ..args }).code()
    };
    assert_eq!(flags(Some("hedge"), Some(0.5), Some("1:2")), 0);
    assert_eq!(flags(Some("wisdom"), None, None), 64);
    assert_eq!(flags(Some("squint"), Some(0.5), None), 64);
    assert_eq!(flags(Some("hedge"), Some(-1.0), None), 64);
    assert_eq!(flags(Some("all"), Some(0.5), None), 64);
    assert_eq!(flags(None, Some(0.5), None), 64);
    for costs in ["1", "0:1", "a:b", "1:inf", "NaN:1"] {
        assert_eq!(flags(None, None, Some(costs)), 64, "{costs}");
    }
    assert_eq!(replay(&args(&[])).code(), 64);
    assert_eq!(replay(&args(&[&room.path("missing")])).code(), 69);
    assert_eq!(replay(&args(&[Path::new("topic:aegis.rounds")])).code(), 64);
}

#[test]
fn all_learners_stand_side_by_side() {
    let room = Room::new();
    let file = room.file("s.jsonl", &stream(200, false));
    let json = room.path("out.json");
    let ran =
        replay(&ReplayArgs { learner: Some("all".to_owned()), json: Some(json.clone()), ..args(&[&file]) });
    let figures: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for name in aegis::core::learners::Name::ALL {
        assert!(ran.out.contains(name.as_str()), "{name}\n{}", ran.out);
        let alone = replay(&ReplayArgs { learner: Some(name.to_string()), ..args(&[&file]) });
        assert_eq!(figures["learners"][name.as_str()]["state_hash"], alone.hash());
        assert_eq!(
            figures["learners"][name.as_str()]["mistakes"],
            alone.summary().policies["default"].mistakes
        );
    }
    assert!(ran.out.contains("best sequence, 5 shifts"));
}

#[test]
fn a_trace_tells_every_round() {
    let room = Room::new();
    let file = room.file("s.jsonl", &stream(100, false));
    let trace = room.path("trace.csv");
    for learner in ["hedge", "default"] {
        let ran = replay(&ReplayArgs {
            learner: Some(learner.to_owned()),
            trace: Some(trace.clone()),
            ..args(&[&file])
        });
        let figures = &ran.summary().policies["default"];
        let text = fs::read_to_string(&trace).unwrap();
        let mut lines = text.lines();
        let columns = lines.next().unwrap().split(',').count();
        assert_eq!(columns, 7 + 2 * figures.experts.len());
        let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len() as u64, figures.rounds);
        assert!(rows.iter().all(|row| row.len() == columns));
        assert_eq!(rows.last().unwrap()[6].parse::<u64>().unwrap(), figures.mistakes);
    }
}

#[test]
fn container_files_are_read_like_lines() {
    use apache_avro::{Schema, Writer};
    let room = Room::new();
    let schema = Schema::parse_str(
        r#"{"type": "record", "name": "Labelled", "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "votes", "type": {"type": "map", "values": ["null", "double", "float", "int"]}},
            {"name": "unsafe", "type": ["null", "boolean", "double"]},
            {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "features", "type": ["null", "bytes"]},
            {"name": "encoder", "type": {"type": "fixed", "name": "Id", "size": 32}},
            {"name": "own", "type": {"type": "array", "items": "string"}}]}"#,
    )
    .unwrap();
    use apache_avro::types::{Record, Value as Avro};
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    let mut lines = Vec::new();
    for event in 0..3_000i64 {
        let features = (event % 3 == 0).then(|| vec![event as u8; 384]);
        let score = event as f64 / 3_000.0;
        let union = |at, value| Avro::Union(at, Box::new(value));
        let mut record = Record::new(&schema).unwrap();
        record.put("event_id", format!("e{event}"));
        let votes = [
            ("a", union(1, Avro::Double(score))),
            ("b", union(0, Avro::Null)),
            ("c", union(3, Avro::Int(1))),
        ];
        record
            .put("votes", Avro::Map(votes.into_iter().map(|(name, vote)| (name.to_owned(), vote)).collect()));
        record.put("unsafe", union(1, Avro::Boolean(event % 7 < 3)));
        record.put("event_time", Avro::TimestampMicros(event * 1_000 + 999));
        record.put(
            "features",
            features.clone().map_or(union(0, Avro::Null), |bytes| union(1, Avro::Bytes(bytes))),
        );
        record.put("encoder", Avro::Fixed(32, vec![9; 32]));
        record.put("own", Avro::Array(vec![Avro::String("passed over".to_owned())]));
        writer.append_value(record).unwrap();
        let mut line = json!({"event_id": format!("e{event}"), "votes": {"a": score, "b": null, "c": 1}, "unsafe": event % 7 < 3, "event_time": event, "encoder": "09".repeat(32)});
        if let Some(bytes) = features {
            use base64::Engine as _;
            line["features"] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        lines.push(line.to_string());
    }
    let file = room.path("rounds.avro");
    fs::write(&file, writer.into_inner().unwrap()).unwrap();
    let ran = replay(&args(&[&file]));
    assert_eq!((ran.summary().lines, ran.summary().malformed), (3_000, 0), "{}", ran.notes);
    assert_eq!(ran.hash(), replay(&args(&[&room.file("s.jsonl", &lines)])).hash());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(replay(&args(&[&file])).code(), 65);
}

#[test]
fn records_of_a_topic_are_folded_like_their_lines() {
    use aegis::core::label::{DecisionRef, Finding, Label, Source};
    use aegis::core::ledger::{Filed, Judged, Record, RoundId, RoundVote, Standing};
    let mut records = Vec::new();
    let mut dice = Dice(3);
    for event in 0..60 {
        let id = RoundId { tenant: "t".to_owned(), policy: "p".to_owned(), event: format!("e{event}") };
        let vote = |expert: &str, score: u64| RoundVote {
            expert: expert.to_owned(),
            score: Some(score as f64 / 100.0),
            shadow: false,
        };
        records.push(Record::Filed(Filed {
            label: Label {
                id: "l".to_owned(),
                tenant: id.tenant.clone(),
                policy: id.policy.clone(),
                event: id.event.clone(),
                annotator: None,
                verdict: Some(Finding::ALL[dice.below(2) as usize]),
                severity: None,
                categories: Vec::new(),
                time: 0,
                source: Source::Review,
                inclusion_probability: None,
                decision: None,
                corrects: None,
                retracts: None,
            },
            received: 0,
            standing: Standing::Accepted,
        }));
        records.push(Record::Judged(Judged {
            id,
            subject: None,
            round_time: dice.below(30) as i64,
            decision: DecisionRef { partition: 0, offset: event },
            votes: vec![vote("a", dice.below(101)), vote("b", dice.below(101))],
            reading: None,
        }));
    }
    let lines: Vec<String> = records.iter().map(record).collect();
    let expected = fold_lines(lines.iter().map(String::as_str)).unwrap();
    let mut asked = String::new();
    let mut topic = |name: &str, each: &mut dyn FnMut(Record)| {
        name.clone_into(&mut asked);
        records.iter().cloned().for_each(each);
        Ok(())
    };
    let mut around = Around { topic: Some(&mut topic), ..Around::default() };
    let flags = args(&[Path::new("topic:aegis.rounds")]);
    let summary = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(summary.policies["p"].state_hash, hex(&expected["p"]));
    assert_eq!(asked, "aegis.rounds");
    let mut away = |_: &str, _: &mut dyn FnMut(Record)| Err("no broker".to_owned());
    let mut around = Around { topic: Some(&mut away), ..Around::default() };
    let error = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), 69);
}

#[test]
fn what_the_ledger_holds_comes_back_from_lines() {
    let room = Room::new();
    let lines = stream(150, true);
    let save = room.path("save");
    let first = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&room.file("s.jsonl", &lines)]) });
    // The savepoint's records, written again by the demo's writer, are the same lines.
    let text = fs::read_to_string(&save).unwrap();
    let own: BTreeSet<&str> = text.lines().filter(|line| !line.contains("\"aegis\":\"savepoint\"")).collect();
    let folded = fold_lines(own.iter().copied()).unwrap();
    assert_eq!(hex(&folded["default"]), first.hash());
}

#[test]
fn every_record_is_written_and_read_to_the_bit() {
    use aegis::core::label::{DecisionRef, Finding, Label, Source};
    use aegis::core::ledger::{
        Edit, EditAction, Filed, Judged, Reading, Record, RoundId, RoundVote, Standing,
    };
    let id = RoundId {
        tenant: "tänant \"q\"".to_owned(),
        policy: "p".to_owned(),
        event: "e\n\u{1f600}".to_owned(),
    };
    let vote = |expert: &str, score, shadow| RoundVote { expert: expert.to_owned(), score, shadow };
    let mut features = Box::new([0i8; 384]);
    features.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 256) as u8 as i8);
    let judged = Judged {
        id: id.clone(),
        subject: Some("sübject".to_owned()),
        round_time: -5,
        decision: DecisionRef { partition: 3, offset: i64::MAX },
        votes: vec![
            vote("a", Some(0.1 + 0.2), false),
            vote("b\u{e9}", None, true),
            vote("c", Some(f64::MIN_POSITIVE), true),
            vote("d", Some(1.0), false),
        ],
        reading: Some(Reading { encoder: [7; 32], features }),
    };
    let label = Label {
        id: "l".to_owned(),
        tenant: id.tenant.clone(),
        policy: id.policy.clone(),
        event: id.event.clone(),
        annotator: Some("ann".to_owned()),
        verdict: Some(Finding::NeedsCaution),
        severity: Some(1.0 / 3.0),
        categories: vec!["hate".to_owned()],
        time: 77,
        source: Source::Gold,
        inclusion_probability: Some(0.1),
        decision: Some(DecisionRef { partition: 1, offset: 2 }),
        corrects: Some("other".to_owned()),
        retracts: None,
    };
    let taken_back = Label {
        retracts: Some("l".to_owned()),
        verdict: None,
        severity: None,
        id: "m".to_owned(),
        ..label.clone()
    };
    let filed = |label: Label| Record::Filed(Filed { label, received: 99, standing: Standing::Waiting });
    let records = [
        Record::Edit(Edit {
            id: "e1".to_owned(),
            action: EditAction::Erase { tenant: String::new(), subject: "s".to_owned() },
        }),
        Record::Edit(Edit {
            id: "e2".to_owned(),
            action: EditAction::Quarantine { tenant: "t".to_owned(), annotator: "q".to_owned() },
        }),
        Record::Judged(judged),
        filed(label),
        filed(taken_back),
    ];
    let room = Room::new();
    let (first, second) = (room.path("one"), room.path("two"));
    let file = room.file("s.jsonl", &records.iter().map(record).collect::<Vec<_>>());
    replay(&ReplayArgs { save: Some(first.clone()), strict: true, ..args(&[&file]) }).summary();
    let saved = fs::read_to_string(&first).unwrap();
    for line in records.iter().map(record) {
        assert!(saved.lines().any(|found| found == line), "{line}\nis not in\n{saved}");
    }
    replay(&ReplayArgs { resume: Some(first), save: Some(second.clone()), ..ReplayArgs::default() })
        .summary();
    assert_eq!(fs::read_to_string(second).unwrap(), saved);
    // And folding the records themselves gives the hash of their lines.
    let mut book = Book::new();
    records.iter().for_each(|record| assert!(book.apply(record, &mut Vec::new()).unwrap()));
    let spec: LearnerSpec = "default".parse().unwrap();
    let mut fold = Fold::new(Settings::new("p", spec, Mapping::default()));
    fold.all(&book);
    fold.catch_up(&book).unwrap();
    let lines: Vec<String> = records.iter().map(record).collect();
    assert_eq!(fold_lines(lines.iter().map(String::as_str)).unwrap()["p"], fold.state_hash(&book));
}

#[test]
fn the_report_is_one_page_with_everything_in_it() {
    let room = Room::new();
    // Who is right shifts in the middle; one expert has a hostile name.
    let mut dice = Dice(9);
    let hostile = "<script>alert('x')</script>";
    let lines: Vec<String> = (0..1_200)
        .map(|event| {
            let truth = dice.below(2);
            let mut vote = |wrong: u64| if dice.below(100) < wrong { 1 - truth } else { truth };
            let (first, second) = if event < 600 { (5, 45) } else { (45, 5) };
            let votes = json!({"early": vote(first), "late": vote(second), hostile: vote(40)});
            json!({"event_id": event, "votes": votes, "unsafe": truth == 1}).to_string()
        })
        .collect();
    let file = room.file("s.jsonl", &lines);
    let report = room.path("report.html");
    for learner in ["default", "hedge", "stacking", "majority"] {
        let learner = Some(learner.to_owned());
        replay(&ReplayArgs { report: Some(report.clone()), learner, ..args(&[&file]) }).summary();
        let page = fs::read_to_string(&report).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for part in [
            "Error of every expert",
            "Recovery",
            "Weights over time",
            "Regret",
            "believed",
            "paper",
            "numbers",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("changes after 600 rounds from early to late ("));
        for foreign in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());
        assert!(page.len() < 1_000_000, "{}", page.len());
    }
    // Nothing to show, and a single round.
    for lines in [vec![], vec![lines[0].clone()]] {
        let file = room.file("few.jsonl", &lines);
        replay(&ReplayArgs { report: Some(report.clone()), ..args(&[&file]) }).summary();
        let page = fs::read_to_string(&report).unwrap();
        assert!(page.ends_with("</html>\n") && !page.contains("NaN"));
    }
}

/// The bundled experts, which `make setup` brings.
fn panel() -> aegis::experts::PanelConfig {
    aegis::experts::PanelConfig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
}

#[test]
fn texts_are_read_and_kept() {
    let room = Room::new();
    let lines: Vec<String> = (0..40)
        .map(|event| {
            let mut line = json!({"event_id": event, "votes": {"a": event % 2, "b": 0.5}, "unsafe": event % 3 == 0});
            match event % 4 {
                0 => line["text"] = json!(format!("A text about the number {}.", event % 8)),
                1 => line["turns"] = json!([{"role": "user", "text": "Hello?"}, {"role": "assistant", "text": "Good day."}]),
                2 => line["text"] = json!("   "),
                _ => {}
            }
            line.to_string()
        })
        .collect();
    let file = room.file("s.jsonl", &lines);
    let kept = room.path("kept.jsonl.zst");
    let mut told = (0, 0);
    let mut progress = |done, total| told = (done, total);
    let mut around = Around { panel: Some(panel()), progress: Some(&mut progress), ..Around::default() };
    let flags = ReplayArgs { embed: true, write: Some(kept.clone()), ..args(&[&file]) };
    let read = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(told, (30, 30));
    let text = String::from_utf8(zstd::decode_all(fs::File::open(&kept).unwrap()).unwrap()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"features\":")).count(), 20);
    assert!(!text.contains("A text about"));
    // What was kept needs no encoder.
    let again = replay(&args(&[&kept]));
    assert_eq!(again.hash(), read.policies["default"].state_hash);
    assert_ne!(again.hash(), replay(&args(&[&file])).hash());
    let none =
        Around { panel: Some(aegis::experts::PanelConfig::new(room.path("none"))), ..Around::default() };
    let error = run(&flags, &mut { none }, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), 69);
}

#[cfg(feature = "shared-data")]
mod shared {
    use super::*;

    fn judges() -> PathBuf {
        let folder = std::env::var("AEGIS_SHARED_DATA")
            .expect("AEGIS_SHARED_DATA must name the folder of the shared data");
        let file = Path::new(&folder).join("streams/hatexplain_eight_llm_judges.jsonl");
        assert!(file.is_file(), "{} is missing", file.display());
        file
    }

    fn figures(learner: &str) -> aegis::replay::Figures {
        let mut args = args(&[&judges()]);
        for (at, word) in learner.split(' ').enumerate() {
            let number = |text: &str| text.split_once('=').and_then(|(_, number)| number.parse().ok());
            match word.split('=').next().unwrap() {
                "eta" => args.eta = number(word),
                "beta" => args.beta = number(word),
                "alpha" => args.alpha = number(word),
                "gamma" => args.gamma = number(word),
                name if at == 0 => args.learner = Some(name.to_owned()),
                other => panic!("{other}"),
            }
        }
        replay(&args).summary().policies["default"].clone()
    }

    #[test]
    fn shared_losses_are_pinned() {
        for (learner, loss, mistakes) in [
            ("hedge eta=0.5", 2_959.104_632_59, 2_956),
            ("hedge eta=1", 2_957.480_994_242, 2_957),
            ("hedge eta=0.26", 2_962.758_122_833, 2_956),
            ("fixed-share eta=1 alpha=0.01", 3_326.676_227_627, 3_103),
            ("fixed-share eta=0.3 alpha=0.001", 3_011.686_845_456, 2_956),
        ] {
            let found = figures(learner);
            assert!((found.loss - loss).abs() < 1e-8, "{learner}: {} for {loss}", found.loss);
            assert_eq!(
                (found.mistakes, found.majority_mistakes, found.rounds),
                (mistakes, 3_946, 10_999),
                "{learner}"
            );
        }
    }

    #[test]
    fn shared_texts_make_fewer_mistakes() {
        let mut around = Around { panel: Some(panel()), ..Around::default() };
        let flags = ReplayArgs { embed: true, ..args(&[&judges()]) };
        let summary = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
        let found = &summary.policies["default"];
        println!(
            "{} mistakes, Brier {}, calibration error {}",
            found.mistakes, found.brier, found.calibration_error
        );
        assert!(found.mistakes <= 1_780, "{}", found.mistakes);
        assert!(found.brier <= 0.117, "{}", found.brier);
        assert!(found.calibration_error <= 0.03, "{}", found.calibration_error);
    }

    #[test]
    fn shared_mistakes_are_pinned() {
        for (learner, mistakes, off) in [
            ("weighted-majority beta=0.5", 3_867, 0),
            ("stacking gamma=1", 2_717, 0),
            ("stacking gamma=0.9995", 2_678, 0),
            ("stacking gamma=0.998", 2_715, 0),
            ("default", 2_689, 5),
        ] {
            let found = figures(learner);
            assert!(found.mistakes.abs_diff(mistakes) <= off, "{learner}: {} for {mistakes}", found.mistakes);
        }
        let default = figures("default");
        assert!((default.brier - 0.1668).abs() < 5e-4, "{}", default.brier);
        assert!((default.calibration_error - 0.026).abs() < 2e-3, "{}", default.calibration_error);
        assert_eq!(default.best_expert.as_deref(), Some("flan-t5-xxl"));
    }
}
