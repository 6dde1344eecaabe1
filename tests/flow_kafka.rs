//! score and learn as two processes on a real Apache Kafka, killed with -9 in mid-stream: nothing is lost,
//! nothing twice, and the state is that of an offline replay of the ledger topic.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use aegis::codec;
use aegis::core::label::Finding;
use aegis::core::ledger::Record;
use aegis::core::predictor::Published;
use aegis::kafka::{Connection, Consumed};
use support::flow::{
    decisions, event, event_record, experts, label, label_record, ledger, raw, read_all, read_until, reasons,
    send,
};
use support::kafka;

const EVENTS: usize = 2_000;

/// A configuration in a folder of its own, and the processes that run on it.
struct Site {
    folder: tempfile::TempDir,
    connection: Connection,
    prefix: &'static str,
}

impl Site {
    fn new(prefix: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let topics: String =
            ["events", "decisions", "review", "labels", "dlq", "rounds", "weights", "election"]
                .iter()
                .map(|name| format!("{name} = \"{prefix}.{name}\"\n"))
                .collect();
        let brokers = kafka().bootstrap();
        let config = format!(
            "[kafka]\nbrokers = \"{brokers}\"\n[topics]\n{topics}[experts]\nfolder = \"models\"\n\
             [score]\ngroup = \"{prefix}.score\"\n[learn]\ngroup = \"{prefix}.learn\"\nstore = \"store\"\n\
             publish_interval_ms = 100\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n"
        );
        fs::write(folder.path().join("aegis.toml"), config).unwrap();
        let site = Self { folder, connection: kafka().connection(), prefix };
        let made = site.aegis(&["topics", "--create", "--partitions", "3"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        site
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("aegis.toml")
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).arg("--config").arg(self.config()).env_remove("AEGIS_CONFIG");
        command
    }

    /// Runs a command to its end.
    fn aegis(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn start(&self, role: &str) -> Process {
        let child = self.command(&["run", "--role", role]).stdin(Stdio::null()).spawn().unwrap();
        Process(child)
    }

    /// The hash that an offline replay of the ledger topic gives.
    fn replayed(&self) -> String {
        let json = self.folder.path().join("replay.json");
        let topic = format!("topic:{}", self.topic("rounds"));
        let output = self.aegis(&["replay", &topic, "--json", json.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        summary["state_hash"].as_str().unwrap().to_owned()
    }

    /// Waits for a predictor of so many rounds that reflects more of the ledger than `after`.
    fn published(&self, rounds: u64, after: i64) -> Published {
        let last = |records: &[Consumed]| {
            let payload = records.last()?.payload.as_deref()?;
            Some(codec::decode_published(payload).unwrap())
        };
        let records = read_until(&self.connection, &self.topic("weights"), "the last predictor", |records| {
            last(records)
                .is_some_and(|published| published.rounds == rounds && published.ledger_offset > after)
        });
        last(&records).unwrap()
    }
}

/// A process that ends with its test.
struct Process(Child);

impl Process {
    /// kill -9.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and a clean end.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn kill_9_of_each_role_loses_nothing_and_doubles_nothing() {
    let site = Site::new("kill");
    let connection = &site.connection;
    let score = site.start("score");
    let learn = site.start("learn");

    let text = |number: usize| if number.is_multiple_of(3) { "I will kill you" } else { "hello" };
    let events: Vec<_> = (0..EVENTS).map(|number| event(number, text(number))).collect();
    let mut bad = 0;
    for (part, chunk) in events.chunks(EVENTS / 4).enumerate() {
        let mut records: Vec<_> =
            chunk.iter().map(|event| event_record(&site.topic("events"), event)).collect();
        // A poison record in the middle of the partitions.
        records.insert(records.len() / 2, raw(&site.topic("events"), &format!("bad{part}"), "poison"));
        bad += 1;
        send(connection, &records);
        let labels: Vec<_> = chunk
            .iter()
            .step_by(5)
            .map(|event| {
                let finding =
                    if event.judged_text().contains("kill") { Finding::Unsafe } else { Finding::Safe };
                label_record(&site.topic("labels"), &label(&format!("l-{}", event.id), &event.id, finding))
            })
            .collect();
        send(connection, &labels);
        // Twice: a duplicate is one label.
        send(connection, &labels[..10]);
    }

    // Each role is killed while it works, and started again on what is left.
    let some = |topic: &str, count: usize| {
        read_until(connection, &site.topic(topic), "progress", |records| records.len() >= count);
    };
    some("decisions", 200);
    score.kill();
    some("rounds", 50);
    learn.kill();
    let learn = site.start("learn");
    let score = site.start("score");
    some("decisions", EVENTS);
    some("dlq", bad);

    let decided = read_all(connection, &site.topic("decisions"));
    let made = decisions(&decided);
    assert_eq!(made.len(), EVENTS, "each event has exactly one decision");
    let ids: BTreeSet<_> = made.iter().map(|decision| decision.id.event.clone()).collect();
    assert_eq!(ids, events.iter().map(|event| event.id.clone()).collect());
    assert_eq!(reasons(&read_all(connection, &site.topic("dlq"))), BTreeMap::from([("NotAvro".into(), bad)]));
    let mut last: HashMap<i32, i64> = HashMap::new();
    for (record, decision) in decided.iter().zip(&made) {
        assert_eq!(record.partition, decision.origin.partition);
        let before = last.insert(record.partition, decision.origin.offset).unwrap_or(-1);
        assert!(before < decision.origin.offset, "order within a partition is kept");
    }

    let labels = EVENTS / 5;
    let published = site.published(labels as u64, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());
    let records = ledger(&read_all(connection, &site.topic("rounds")));
    let filed: BTreeSet<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Filed(filed) if filed.standing.counts() => Some(filed.label.id.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(filed.len(), labels, "each label has its ledger record");

    // SIGTERM ends both cleanly; with sled deleted the learner comes to the same state.
    score.stop();
    learn.stop();
    fs::remove_dir_all(site.folder.path().join("store")).unwrap();
    let learn = site.start("learn");
    let one_more = label("more", "e00001", Finding::Safe);
    send(connection, &[label_record(&site.topic("labels"), &one_more)]);
    let published = site.published(labels as u64 + 1, 0);
    assert_eq!(hex(&published.state_hash), site.replayed(), "losing sled loses nothing");
    learn.stop();
}

#[test]
fn a_standby_takes_over_and_an_operator_edits_the_ledger() {
    let site = Site::new("standby");
    let connection = &site.connection;
    let score = site.start("score");
    let first = site.start("learn");
    let events: Vec<_> = (0..60).map(|number| event(number, "hello")).collect();
    send(
        connection,
        &events.iter().map(|event| event_record(&site.topic("events"), event)).collect::<Vec<_>>(),
    );
    read_until(connection, &site.topic("decisions"), "60 decisions", |records| records.len() >= 60);
    let labels = |numbers: std::ops::Range<usize>| {
        let labels = numbers.map(|number| {
            let mut label = label(&format!("l{number}"), &events[number].id, Finding::Safe);
            label.annotator = Some(format!("r{}", number % 2));
            label_record(&site.topic("labels"), &label)
        });
        send(connection, &labels.collect::<Vec<_>>());
    };
    labels(0..20);
    site.published(20, 0);
    // The standby has a store of its own: sled is no shared thing.
    let store = site.folder.path().join("store2");
    let second = site
        .command(&["run", "--role", "learn", "--set", &format!("learn.store={}", store.display())])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let second = Process(second);
    first.kill();
    labels(20..40);
    let published = site.published(40, 0);
    assert_eq!(hex(&published.state_hash), site.replayed());

    let edited = site.aegis(&["ledger", "quarantine", "r1"]);
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let published = site.published(20, published.ledger_offset);
    assert_eq!(hex(&published.state_hash), site.replayed());
    second.stop();
    score.stop();
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let site = Site::new("start");
    let refused = |arguments: &[&str]| {
        let output = site.aegis(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = refused(&["check", "--set", "score.windwo=3"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("did you mean `window`?"), "{text}");
    let (code, text) = refused(&["run", "--set", "kafka.settings.enable.auto.commit=true"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("enable.auto.commit"), "{text}");
    let (code, text) = refused(&["run", "--role", "score", "--set", "topics.events=absent"]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("aegis topics --create"), "{text}");
    fs::write(site.folder.path().join("models/strict/rules.toml"), "base = 0.2\n").unwrap();
    let (code, text) = refused(&["check"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("rules.sha256"), "{text}");
    assert_eq!(refused(&["run"]).0, Some(78));
    let usage = Command::new(env!("CARGO_BIN_EXE_aegis")).arg("dance").output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
    assert!(Path::new(&site.config()).exists());
}
