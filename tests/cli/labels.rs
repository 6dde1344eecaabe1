//! `aegis labels` and `aegis review export` on the embedded broker, with both roles running: what goes out to a labelling
//! tool comes back as labels, and the ledger is as expected.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use aegis::config::{Config, topic_specs};
use aegis::core::label::{Finding, Label, Mapping, Source};
use aegis::core::ledger::{LabelStatus, Record, RoundId};
use aegis::core::ledger_state::LedgerState;
use aegis::kafka::Connection;
use aegis::kafka::embedded::Embedded;
use serde_json::{Value, json};

use crate::support::WAIT;
use crate::support::flow::{
    event, event_record, experts, label, label_record, ledger, read_all, read_until, reviews, send,
};

/// Both roles in one process, on a broker in this one.
struct Desk {
    folder: tempfile::TempDir,
    connection: Connection,
    roles: Child,
    _broker: Embedded,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.roles.kill();
        let _ = self.roles.wait();
    }
}

impl Desk {
    /// Starts the roles under a policy that asks for a review of every flagged event.
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let specs = topic_specs(&Config::default(), 2);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let config = format!(
            "policies = \"policies.toml\"\n[kafka]\nbrokers = \"{}\"\ndelivery = \"at-least-once\"\n[defaults]\ntenant = \"t\"\n\
             [learn]\nstore = \"store\"\npublish_interval_ms = 100\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [experts]\nfolder = \"models\"\n[log]\nlevel = \"warn\"\n",
            broker.bootstrap()
        );
        fs::write(folder.path().join("aegis.toml"), config).unwrap();
        fs::write(folder.path().join("policies.toml"), "[policies.default]\nflagged = \"review\"\n").unwrap();
        let connection = Connection::new(broker.bootstrap());
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut roles = command(&folder, &["run"]);
        let roles = roles.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self { folder, connection, roles, _broker: broker }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, code: i32, arguments: &[&str]) -> Output {
        let output = command(&self.folder, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        output
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(code, &[arguments, &["--output", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn says(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(code, arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Sends flagged events with these numbers, and waits for their review requests.
    fn events(&self, numbers: std::ops::Range<usize>) {
        let count = numbers.end;
        let records = numbers.map(|number| event_record("moderation.events", &event(number, &text(number))));
        send(&self.connection, &records.collect::<Vec<_>>());
        read_until(&self.connection, "moderation.review", "review requests", |records| {
            records.len() >= count
        });
    }

    /// Waits until the ledger has labels with these ids of their events.
    fn await_labels(&self, ids: &[&str]) -> Vec<Record> {
        let has = |records: &[Record], id: &&str| {
            records.iter().any(|record| matches!(record, Record::Label(label) if label.label.id == **id))
        };
        let records = read_until(&self.connection, "aegis.rounds", "labels in the ledger", |records| {
            let records = ledger(records);
            ids.iter().all(|id| has(&records, id))
        });
        ledger(&records)
    }

    /// Sends a label of another event and waits for it: labels before it have reached the ledger, or changed nothing.
    fn marker(&self, id: &str) -> Vec<Record> {
        let events = ["e00000", "e00001", "e00002", "e00003"];
        // One for each partition that an event may have.
        let label = |event: &&str| Label {
            annotator: None,
            ..label(&format!("{id}/{event}"), event, Finding::Unsafe)
        };
        let retraction = |event: &&str| Label { retracts: Some("none".into()), ..label(event) };
        let records: Vec<_> =
            events.iter().map(|event| label_record("moderation.labels", &retraction(event))).collect();
        send(&self.connection, &records);
        let ids: Vec<_> = events.iter().map(|event| format!("{id}/{event}")).collect();
        self.await_labels(&ids.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn command(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(arguments).arg("--config").arg(folder.path().join("aegis.toml")).env_remove("AEGIS_CONFIG");
    command
}

fn text(number: usize) -> String {
    format!("I will kill you, number {number}")
}

/// The labels of a ledger that are not markers, by event and id.
fn labels(records: &[Record]) -> Vec<Label> {
    let labels = records.iter().filter_map(|record| match record {
        Record::Label(record) => {
            assert_eq!(record.status, LabelStatus::Accepted, "{record:?}");
            Some(record.label.clone())
        }
        _ => None,
    });
    let mut labels: Vec<_> = labels.filter(|label| label.retracts.as_deref() != Some("none")).collect();
    labels.sort_by(|one, other| (&one.event, &one.id).cmp(&(&other.event, &other.id)));
    labels
}

/// The fields that Label Studio adds: annotations of two people, one of whom changed her mind, and a cancelled one of a third.
fn annotated(tasks: &[Value]) -> String {
    let annotation = |id: usize, by: &str, cancelled: bool, choice: &str| {
        json!({"id": id, "completed_by": {"id": id, "email": by}, "was_cancelled": cancelled, "ground_truth": false,
            "updated_at": "2026-03-01T09:30:00.000000Z", "lead_time": 4.2, "result": [{"id": "r", "from_name": "verdict",
            "to_name": "text", "type": "choices", "value": {"choices": [choice]}}]})
    };
    let tasks = tasks.iter().enumerate().map(|(place, task)| {
        let mut task = task.clone();
        let id = 10 * (place + 1);
        task["id"] = id.into();
        task["annotations"] = json!([
            annotation(id, "ann@x.org", false, "unsafe"),
            annotation(id + 1, "bob@x.org", false, if place == 0 { "safe" } else { "unsafe" }),
            annotation(id + 2, "cy@x.org", true, "safe"),
        ]);
        task
    });
    Value::Array(tasks.collect()).to_string()
}

#[test]
fn tasks_come_back_from_label_studio_as_labels_with_their_decisions() {
    let desk = Desk::open();
    desk.events(0..4);
    let requests = reviews(&read_all(&desk.connection, "moderation.review"));
    let out = desk.path("tasks.json").to_str().unwrap().to_owned();
    let said = desk.says(0, &["review", "export", "--with-text", "--out", &out]);
    assert!(said.contains("4 open review requests written, 0 answered already"), "{said}");
    let tasks: Vec<Value> = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(tasks.len(), 4);
    for task in &tasks {
        let data = &task["data"];
        let request = requests.iter().find(|request| data["event_id"] == request.id.event.as_str()).unwrap();
        let number: usize = request.id.event.trim_start_matches('e').parse().unwrap();
        assert_eq!((&data["text"], &data["judged"]), (&json!(text(number)), &json!(0)));
        assert_eq!(data["turns"], json!([{"author": "user", "text": text(number)}]));
        let at = request.decision;
        assert_eq!(data["decision"], json!({"partition": at.partition, "offset": at.offset}));
        let prediction = &task["predictions"][0];
        assert_eq!(prediction["score"].as_f64(), request.probability);
        assert_eq!(prediction["result"][0]["value"]["choices"], json!(["unsafe"]));
    }
    let export = desk.file("annotated.json", &annotated(&tasks));
    let dry = desk.json(0, &["labels", "import", &export, "--dry-run"]);
    assert_eq!((&dry["labels"], &dry["left_out"], &dry["sent"]), (&json!(8), &json!(4), &json!(0)));
    assert_eq!(dry["verdicts"], json!({"safe": 1, "unsafe": 7}));
    assert_eq!(dry["annotators"], json!({"ann@x.org": 4, "bob@x.org": 4}));
    assert_eq!(dry["files"][0]["layout"], "label-studio");
    assert!(read_all(&desk.connection, "moderation.labels").is_empty());
    let text = desk.says(0, &["labels", "import", &export]);
    assert!(text.contains("8 labels to moderation.labels, all acknowledged"), "{text}");
    let first = labels(&desk.marker("first"));
    assert_eq!(first.len(), 8);
    for label in &first {
        let request = requests.iter().find(|request| request.id == label.round()).unwrap();
        assert_eq!(label.decision, Some(request.decision));
        assert_eq!(label.inclusion_probability, Some(request.inclusion_probability));
        assert_eq!((label.source, label.time), (Source::Review, 1_772_357_400_000));
    }
    // The same file again changes nothing in the ledger.
    desk.json(0, &["labels", "import", &export]);
    assert_eq!(labels(&desk.marker("second")), first);
    let said = desk.says(0, &["review", "export", "--format", "jsonl"]);
    assert!(said.contains("0 open review requests written, 4 answered already"), "{said}");
    let stats = desk.json(0, &["labels", "stats"]);
    let ann = &stats["all"]["annotators"][1];
    assert_eq!(
        (&ann["annotator"], &ann["shared"], &ann["agreement"]),
        (&json!("ann@x.org"), &json!(4), &json!(0.75))
    );
}

#[test]
fn exports_are_chosen_and_hold_no_text_unless_it_is_asked_for() {
    let desk = Desk::open();
    desk.events(0..3);
    for format in ["label-studio", "argilla", "jsonl"] {
        let output =
            desk.run(0, &["review", "export", "--format", format, "--without-predictions", "--limit", "2"]);
        let written = String::from_utf8(output.stdout).unwrap();
        assert!(!written.contains("kill") && !written.contains("0.55"), "{written}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("2 open review requests written") && said.contains("1 more are open"),
            "{said}"
        );
        let count = match format {
            "label-studio" => serde_json::from_str::<Vec<Value>>(&written).unwrap().len(),
            _ => written
                .lines()
                .filter(|line| serde_json::from_str::<Value>(line).unwrap().is_object())
                .count(),
        };
        assert_eq!(count, 2, "{written}");
    }
    let said = desk.says(0, &["review", "export", "--since", "2100-01-01T00:00:00Z"]);
    assert!(said.starts_with("[]\n0 open"), "{said}");
    let said = desk.says(0, &["review", "export", "--policy", "other"]);
    assert!(said.starts_with("[]\n0 open"), "{said}");
    // Argilla's records come back, too.
    let records = desk.run(0, &["review", "export", "--format", "argilla"]).stdout;
    let answered: String = String::from_utf8(records)
        .unwrap()
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            record["responses"] = json!([
                {"user_id": "u1", "status": "submitted", "values": {"verdict": {"value": "safe"}}},
                {"user_id": "u2", "status": "discarded", "values": {"verdict": {"value": "unsafe"}}}]);
            format!("{record}\n")
        })
        .collect();
    let file = desk.file("answered.jsonl", &answered);
    let told = desk.json(0, &["labels", "import", &file]);
    assert_eq!(
        (&told["sent"], &told["left_out"], &told["files"][0]["layout"]),
        (&json!(3), &json!(3), &json!("argilla"))
    );
    let ids = ["e00000/u1", "e00001/u1", "e00002/u1"];
    let known = labels(&desk.await_labels(&ids));
    assert!(
        known.iter().all(|label| label.decision.is_some() && label.inclusion_probability == Some(1.0)),
        "{known:?}"
    );
}

#[test]
fn bad_rows_are_told_and_kept_and_the_others_are_sent() {
    let desk = Desk::open();
    let huge = "x".repeat(5 << 20);
    let rows = format!(
        "event_id,annotator,verdict,text\ne1,ann,safe,fine\ne2,ann,odd,SECRET\ne3,ann,unsafe,\"{huge}\"\ne4,ann,safe,fine\n"
    );
    let file = desk.file("labels.csv", &rows);
    let said = desk.says(65, &["labels", "import", &file, "--dry-run"]);
    assert!(said.contains("labels      2, 0 left out, 2 refused"), "{said}");
    assert!(said.contains("labels.csv:3: row 2: BadValue: the verdict is none of safe"), "{said}");
    assert!(said.contains("labels.csv:4: row 3: TooLarge"), "{said}");
    assert!(said.contains("2 labels would go to moderation.labels") && !said.contains("SECRET"), "{said}");
    let rejected = desk.path("rejected.jsonl").to_str().unwrap().to_owned();
    let said = desk.says(65, &["labels", "import", &file, "--rejected", &rejected]);
    assert!(said.contains("sent        2 labels"), "{said}");
    let lines: Vec<Value> = fs::read_to_string(&rejected)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[0]["value"]["verdict"]), (2, &json!("odd")));
    assert_eq!(read_all(&desk.connection, "moderation.labels").len(), 2);
    // Files that cannot be read do not stop the others.
    let good = desk.file("good.jsonl", "{\"event_id\":\"e9\",\"verdict\":\"safe\"}\n");
    let said = desk.says(69, &["labels", "import", "/no/such/file", &good]);
    assert!(said.contains("/no/such/file") && said.contains("sent        1 labels"), "{said}");
    let said = desk.says(64, &["labels", "import", &good, "--rejected", &good]);
    assert!(said.contains("would be lost"), "{said}");
    let said = desk.says(69, &["labels", "import", &good, "--set", "topics.labels=absent"]);
    assert!(said.contains("absent"), "{said}");
    let said = desk.says(64, &["labels", "import", &good, "--format", "fields"]);
    assert!(said.contains("[label_fields]"), "{said}");
}

/// Returns the target of an event that the ledger topic gives.
fn target(records: &[Record], event: &str) -> Option<f64> {
    let mut state = LedgerState::new();
    for record in records {
        state.apply(record, &mut Vec::new()).unwrap();
    }
    let id = RoundId { tenant: "t".into(), policy: "default".into(), event: event.into() };
    let (rounds, row) = state.row(&id)?;
    rounds.target(row, &Mapping::default(), state.edits())
}

#[test]
fn an_upheld_appeal_moves_the_target_and_a_rejected_one_leaves_it() {
    let desk = Desk::open();
    desk.events(0..4);
    let unsafe_of = |annotator: &str, event: &str| Label {
        annotator: Some(annotator.into()),
        ..label(&format!("{event}/{annotator}"), event, Finding::Unsafe)
    };
    let before = [unsafe_of("ann", "e00000"), unsafe_of("bob", "e00000"), unsafe_of("ann", "e00001")];
    send(&desk.connection, &before.each_ref().map(|label| label_record("moderation.labels", label)));
    let records = desk.marker("before");
    assert_eq!(
        [target(&records, "e00000"), target(&records, "e00001"), target(&records, "e00002")],
        [Some(1.0), Some(1.0), None]
    );
    let appeal = |code: i32, event: &str, outcome: &str| {
        desk.says(code, &["labels", "appeal", "--event", event, "--annotator", "judge", outcome])
    };
    let said = appeal(0, "e00000", "--upheld");
    assert!(said.contains("label appeal/decision: source review, safe, corrects e00000/bob"), "{said}");
    assert!(said.contains("label appeal/retracts/e00000/ann: source appeal, retracts e00000/ann"), "{said}");
    let said = appeal(0, "e00001", "--rejected");
    assert!(said.contains("label appeal/decision: source appeal, retracts appeal"), "{said}");
    // This event has no label: the upheld appeal is its review.
    appeal(0, "e00002", "--upheld");
    let records = desk.marker("after");
    assert_eq!(
        [target(&records, "e00000"), target(&records, "e00001"), target(&records, "e00002")],
        [Some(0.0), Some(1.0), Some(0.0)]
    );
    // Decided again, nothing is sent; decided otherwise, the labels are back.
    assert!(appeal(0, "e00000", "--upheld").contains("has this decision already"));
    assert!(appeal(0, "e00001", "--rejected").contains("has this decision already"));
    let sent = read_all(&desk.connection, "moderation.labels").len();
    appeal(0, "e00000", "--rejected");
    assert!(read_all(&desk.connection, "moderation.labels").len() > sent);
    let records = desk.marker("back");
    assert_eq!(target(&records, "e00000"), Some(1.0));
    let said = desk.says(64, &["labels", "appeal", "--event", "e", "--annotator", "judge"]);
    assert!(said.contains("--upheld") && said.contains("--rejected"), "{said}");
}

#[test]
fn an_annotator_below_the_floor_is_proposed_and_nothing_is_done() {
    let desk = Desk::open();
    desk.events(0..4);
    let rows: String = (0..4)
        .flat_map(|number| {
            let of = |by: &str, verdict: &str, source: &str| {
                format!("{{\"event_id\":\"e{number:05}\",\"annotator\":\"{by}\",\"verdict\":\"{verdict}\",\"source\":\"{source}\"}}\n")
            };
            [of("lead", "unsafe", "gold"), of("o'b", "safe", "calibration"), of("ann", "unsafe", "review")]
        })
        .collect();
    let file = desk.file("gold.jsonl", &rows);
    assert_eq!(desk.json(0, &["labels", "import", &file])["sent"], 12);
    desk.marker("gold");
    let before = read_all(&desk.connection, "aegis.rounds").len();
    let said = desk.says(0, &["labels", "stats", "--tenant", "t"]);
    let config = desk.path("aegis.toml").display().to_string();
    let command = format!("aegis ledger quarantine --config {config} --tenant t -- 'o'\\''b'");
    assert!(said.contains(&command), "{said}");
    assert!(said.contains("below the floor") && said.contains("0 to 60 %"), "{said}");
    let stats = desk.json(0, &["labels", "stats"]);
    assert_eq!(stats["proposals"].as_array().unwrap().len(), 1, "{stats}");
    assert_eq!(desk.json(0, &["labels", "stats", "--floor", "0.5"])["proposals"], json!([]));
    assert_eq!(read_all(&desk.connection, "aegis.rounds").len(), before);
    // The command that was printed is one, and after it there is nothing to propose.
    let shell = command.replace("aegis ledger", &format!("'{}' ledger", env!("CARGO_BIN_EXE_aegis")));
    assert!(Command::new("sh").args(["-c", &shell]).output().unwrap().status.success());
    let until = Instant::now() + WAIT;
    loop {
        let said = desk.says(0, &["labels", "stats", "--tenant", "t"]);
        if said.contains("in quarantine") && !said.contains("below the floor of") {
            break;
        }
        assert!(Instant::now() < until, "{said}");
    }
    // A ledger in a file has the same figures.
    let savepoint = desk.file(
        "stream.jsonl",
        "{\"event_id\":1,\"votes\":{\"a\":0.9},\"unsafe\":true,\"annotator\":\"ann\"}\n{\"event_id\":1,\"unsafe\":false,\"annotator\":\"bob\"}\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(["labels", "stats", &savepoint, "--output", "json"])
        .env_remove("AEGIS_CONFIG")
        .output()
        .unwrap();
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&stats["all"]["shared_events"], &stats["all"]["annotators"][0]["agreement"]),
        (&json!(1), &json!(0.0))
    );
}
