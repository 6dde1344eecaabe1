//! `aegis replay --decisions`, and `aegis report` on what it writes: the figures of the report are those of the replay.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The number of rounds of the stream.
const ROUNDS: u64 = 2_000;

struct Ran {
    code: Option<i32>,
    out: String,
    notes: String,
}

/// A folder with a stream.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        desk.put("votes.jsonl", &(0..ROUNDS).map(round).collect::<String>());
        desk
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn run(&self, arguments: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        let output = command.env_remove("AEGIS_CONFIG").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), notes: text(output.stderr) }
    }

    fn succeeds(&self, arguments: &str) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments}\n{}", ran.notes);
        ran
    }

    /// Replays the stream with further flags, and returns the figures of the replay and those of the report.
    fn both(&self, more: &str) -> (Value, Value) {
        self.succeeds(&format!(
            "replay votes.jsonl --json figures.json --decisions decisions.jsonl.zst --labels-out labels.jsonl {more}"
        ));
        let report = self.succeeds("report decisions.jsonl.zst --labels labels.jsonl --output json");
        let report: Value = serde_json::from_str(&report.out).unwrap();
        assert_eq!(report["policies"].as_array().unwrap().len(), 1);
        assert_eq!(report["skipped"], json!({}), "{}", report["skipped"]);
        (self.json("figures.json"), report["policies"][0].clone())
    }
}

/// A number below 100 that looks random.
fn dice(number: u64) -> u64 {
    ((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % 100
}

/// Two experts, of which the worse is surer, and a label that comes 300 rounds later.
fn round(number: u64) -> String {
    let roll = dice(number);
    let bad = roll < 30;
    let vote = |right: bool, sure: f64| if right == bad { sure } else { 1.0 - sure };
    let good = vote(!dice(number + ROUNDS).is_multiple_of(10), 0.7);
    let poor = if number.is_multiple_of(7) {
        json!(null)
    } else {
        json!(vote(!dice(number + 2 * ROUNDS).is_multiple_of(2), 0.9))
    };
    let line = json!({
        "event_id": format!("e{number}"), "event_time": 1_700_000_000_000_u64 + number * 1_000,
        "votes": {"good": good, "poor": poor}, "unsafe": bad,
        "label_time": 1_700_000_000_000_u64 + number * 1_000 + 300_000,
    });
    format!("{line}\n")
}

/// The rounds of a trace: p and the target of each.
fn trace(desk: &Desk) -> Vec<(f64, bool)> {
    let text = desk.read("trace.csv");
    let number = |line: &str, column| line.split(',').nth(column).unwrap().parse::<f64>().unwrap();
    text.lines().skip(1).map(|line| (number(line, 4), number(line, 5) >= 0.5)).collect()
}

fn near(figure: &Value, expected: f64) {
    let value = figure["value"].as_f64().unwrap_or_else(|| panic!("no value: {figure}"));
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[expect(clippy::cast_precision_loss, reason = "counts of rounds")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn the_report_has_the_figures_of_the_replay() {
    let desk = Desk::new();
    let (replayed, report) = desk.both("--trace trace.csv");
    let rounds = trace(&desk);
    let count = |of: &dyn Fn(bool, bool) -> bool| {
        rounds.iter().filter(|(p, is_unsafe)| of(*p >= 0.5, *is_unsafe)).count()
    };
    let (flagged, is_unsafe) = (count(&|flagged, _| flagged), count(&|_, bad| bad));
    let caught = count(&|flagged, bad| flagged && bad);
    assert!(caught < flagged && caught < is_unsafe, "the stream has both kinds of mistakes");
    let mistakes = usize::try_from(replayed["mistakes"].as_u64().unwrap()).unwrap();
    assert_eq!(mistakes, flagged + is_unsafe - 2 * caught);

    assert_eq!(report["decisions"], replayed["rounds"]);
    assert_eq!(report["answered"], replayed["rounds"], "each label counts as asked for");
    assert_eq!(report["flagged"], flagged);
    let figures = &report["figures"];
    near(&figures["error_rate"], share(mistakes, rounds.len()));
    near(&figures["prevalence"], share(is_unsafe, rounds.len()));
    near(&figures["precision"], share(caught, flagged));
    near(&figures["recall"], share(caught, is_unsafe));
    let [low, high] = ["low", "high"].map(|end| figures["recall"][end].as_f64().unwrap());
    assert!(high - low < 1e-9, "all rounds have labels: {low} to {high}");
    // The curve has another threshold, and experts are measured on the rounds in which they voted.
    let points = report["curve"].as_array().unwrap();
    let point = points.iter().find(|point| point["threshold"] == 0.3).unwrap();
    assert_eq!(point["flagged"], rounds.iter().filter(|(p, _)| *p >= 0.3).count());
    for expert in report["experts"].as_array().unwrap() {
        let own = &replayed["experts"][expert["expert"].as_str().unwrap()];
        assert_eq!(expert["votes"], own["awake"], "{expert}");
        let [mistakes, awake] = [&own["mistakes"], &own["awake"]].map(|count| count.as_u64().unwrap());
        near(
            &expert["figures"]["error_rate"],
            share(mistakes.try_into().unwrap(), awake.try_into().unwrap()),
        );
    }
    assert_eq!(report["lacks"], json!(["categories", "languages"]));
    let text = desk.succeeds("report decisions.jsonl.zst --labels labels.jsonl --since 2023-11-14T22:13:20Z");
    assert!(text.out.contains("missing    the decisions have no scores of categories and no languages"));
    for expert in ["good ", "poor "] {
        let line = text.out.lines().find(|line| line.starts_with(expert)).unwrap();
        assert_eq!(line.matches(" to ").count(), 3, "agreement, precision and recall: {line}");
    }
}

#[test]
fn hidden_labels_are_estimated_with_their_probabilities() {
    let desk = Desk::new();
    let rounds = usize::try_from(ROUNDS).unwrap();
    let decided = |replayed: &Value| {
        let mistakes = replayed["labels"]["mistakes_when_decided"].as_u64().unwrap();
        assert_ne!(replayed["mistakes"], mistakes, "labels are late");
        share(mistakes.try_into().unwrap(), rounds)
    };
    // With all labels, the errors are those of the p with which the rounds were decided.
    let (replayed, report) = desk.both("--labels audit=1");
    near(&report["figures"]["error_rate"], decided(&replayed));

    let (replayed, report) = desk.both("--labels audit=0.1,margin=0.05,slope=0.2");
    let truth = decided(&replayed);
    assert_eq!(report["decisions"], ROUNDS);
    assert_eq!(report["answered"], replayed["labels"]["used"]);
    assert_eq!(report["requests"], replayed["labels"]["used"]);
    assert_eq!(desk.read("labels.jsonl").lines().count() as u64, replayed["labels"]["used"]);
    let (errors, prevalence) = (&report["figures"]["error_rate"], &report["figures"]["prevalence"]);
    let unsafe_ = (0..ROUNDS).filter(|number| dice(*number) < 30).count();
    for (figure, truth) in [(errors, truth), (prevalence, share(unsafe_, rounds))] {
        let [low, high] = ["low", "high"].map(|end| figure[end].as_f64().unwrap());
        assert!(low < truth && truth < high && high - low < 0.15, "{truth} and {figure}");
    }
    // The probabilities are those of the draws.
    let decisions = zstd::decode_all(&*fs::read(desk.0.path().join("decisions.jsonl.zst")).unwrap()).unwrap();
    for line in String::from_utf8(decisions).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| line["sampling"][name].as_f64().unwrap();
        let (audit, uncertainty) = (number("audit"), number("uncertainty"));
        let inclusion = line["review_probability"].as_f64().unwrap();
        assert!((inclusion - (audit + uncertainty * (1.0 - audit))).abs() < 1e-12, "{line}");
        assert!(inclusion >= 0.1, "{line}");
    }
}

#[test]
fn the_policy_decides_and_another_one_is_previewed() {
    let desk = Desk::new();
    desk.put("aegis.toml", "policies = \"policies.toml\"\n");
    desk.put("policies.toml", "[policies.default]\nflagged = \"review\"\ncost_false_negative = 3.0\n");
    desk.succeeds(
        "replay votes.jsonl --config aegis.toml --decisions d.jsonl --labels-out l.jsonl --trace trace.csv",
    );
    let report = "report d.jsonl --labels l.jsonl --config aegis.toml --output json --threshold 0.75";
    let report: Value = serde_json::from_str(&desk.succeeds(report).out).unwrap();
    let policy = &report["policies"][0];
    let above = |threshold| trace(&desk).iter().filter(|(p, _)| *p >= threshold).count();
    assert_eq!((&policy["known"], &policy["threshold"]), (&json!(true), &json!(0.25)));
    assert_eq!(policy["actions"]["review"], above(0.25));
    let changed = json!([{"from": "review", "to": "allow", "decisions": above(0.25) - above(0.75)}]);
    assert_eq!(policy["preview"]["changed"], changed);
    assert_eq!(
        (&policy["preview"]["uncertain"], &policy["preview"]["other_versions"]),
        (&json!(0), &json!(0))
    );
    // Costs of the command line are another version of the policy.
    desk.succeeds("replay votes.jsonl --costs 1:3 --decisions d.jsonl --labels-out l.jsonl");
    let report = desk.succeeds("report d.jsonl --labels l.jsonl --output json --threshold 0.5").out;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["policies"][0]["actions"]["block"], above(0.75));
    assert_eq!(report["policies"][0]["preview"]["other_versions"], ROUNDS);
}

#[test]
fn labels_that_do_not_count_are_left_out_and_what_is_missing_is_said() {
    let desk = Desk::new();
    let lines = [
        json!({"event_id": "a", "votes": {"x": 0.9}, "unsafe": true, "inclusion_probability": 0.2}),
        json!({"event_id": "b", "votes": {"x": 0.1}}),
        json!({"event_id": "c", "votes": {"x": 0.1}, "unsafe": false, "source": "gold"}),
        json!({"event_id": "a", "unsafe": false, "annotator": "mallory"}),
        json!({"aegis": "edit", "edit_id": "1", "action": "quarantine", "annotator": "mallory"}),
    ];
    desk.put("few.jsonl", &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    let notes = desk.succeeds("replay few.jsonl --decisions d.jsonl --labels-out l.jsonl").notes;
    for said in [
        "d.jsonl: 2 decisions",
        "l.jsonl: 2 labels",
        "1 rounds have no decision",
        "1 rounds have labels with an inclusion probability below 1",
        "the stream has no event_time",
    ] {
        assert!(notes.contains(said), "{said} is not in:\n{notes}");
    }
    assert!(!desk.read("l.jsonl").contains("mallory"), "the annotator is quarantined");
    // No review had asked for the gold label: the probability of its round is not known.
    let report = desk.succeeds("report d.jsonl --labels l.jsonl --output json").out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let counts = &report["policies"][0];
    assert_eq!([&counts["decisions"], &counts["answered"], &counts["uncovered"]], [2, 1, 1]);
    assert_eq!(report["policies"][0]["unrequested_labels"], 1);
    let empty = desk.succeeds("report d.jsonl --labels l.jsonl --since 30d").out;
    assert!(empty.contains("2 decisions that were read have times from 1970-01-01T00:00:00.000Z"), "{empty}");
}

#[test]
fn bad_files_are_refused_with_their_lines() {
    let desk = Desk::new();
    desk.succeeds("replay votes.jsonl --decisions d.jsonl --labels-out l.jsonl");
    let mut lines: Vec<String> = desk.read("d.jsonl").lines().map(str::to_owned).collect();
    lines[6].truncate(40);
    lines[8] = lines[8].replace("\"probability\":0.", "\"probability\":7.");
    desk.put("damaged.jsonl", &lines.join("\n"));
    let ran = desk.succeeds("report damaged.jsonl --labels l.jsonl");
    assert!(ran.notes.contains("damaged.jsonl:7: not a decision: "), "{}", ran.notes);
    assert!(ran.notes.contains("damaged.jsonl:9: not a decision: "), "{}", ran.notes);
    assert!(ran.out.contains("not used: 1 decisions that cannot be read"), "{}", ran.out);
    // The stream itself is not what the report reads, and neither is its trace.
    desk.succeeds("replay votes.jsonl --trace trace.csv");
    for file in ["votes.jsonl", "trace.csv"] {
        let ran = desk.run(&format!("report {file}"));
        assert_eq!(ran.code, Some(65), "{}", ran.notes);
        assert!(ran.notes.contains(&format!("{file}:1: not a decision: ")), "{}", ran.notes);
        assert!(ran.notes.contains("aegis replay STREAM --decisions FILE"), "{}", ran.notes);
    }
    for (arguments, code) in [
        ("replay votes.jsonl --decisions one --labels-out one", 64),
        ("replay votes.jsonl --labels-out l.jsonl", 64),
        ("replay votes.jsonl --decisions no/such/folder/d.jsonl", 69),
    ] {
        let ran = desk.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments}\n{}", ran.notes);
    }
    assert!(!desk.0.path().join("one").exists());
}
