//! `aegis labels` and `aegis review export` on the embedded broker, with both roles running: what goes out to a labelling
//! tool comes back as labels, and the ledger is as expected.

mod disputes;
mod memory;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use aegis::config::{Config, topic_specs};
use aegis::core::label::{Finding, Label};
use aegis::core::ledger::{LabelStatus, Record};
use aegis::kafka::Connection;
use aegis::kafka::embedded::Embedded;
use serde_json::{Value, json};

use crate::support::flow::{
    event, event_record, experts, label, label_record, ledger, read_all, read_until, send,
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
