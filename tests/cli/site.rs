//! A configuration in its own folder, and the processes that use it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use aegis::codec;
use aegis::core::predictor::Published;
use aegis::kafka::{Connection, Consumed};

use crate::support::flow::{event, event_record, experts, read_until, send};
use crate::support::kafka;

/// Two rule experts, a set of topics, and the files that configure them.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub connection: Connection,
    prefix: &'static str,
}

impl Site {
    /// Creates a site whose configuration ends with `more`.
    pub fn new(prefix: &'static str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let names = ["events", "decisions", "review", "labels", "dlq", "rounds", "weights", "election"];
        let topics: String = names.iter().map(|name| format!("{name} = \"{prefix}.{name}\"\n")).collect();
        let config = format!(
            "policies = \"policies.toml\"\n[kafka]\nbrokers = \"{}\"\n[topics]\n{topics}\
             [defaults]\ntenant = \"t\"\n[score]\ngroup = \"{prefix}.score\"\n\
             [learn]\ngroup = \"{prefix}.learn\"\nstore = \"store\"\npublish_interval_ms = 100\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[experts]\nfolder = \"models\"\n{more}",
            kafka().bootstrap()
        );
        fs::write(folder.path().join("aegis.toml"), config).unwrap();
        fs::write(folder.path().join("policies.toml"), "[policies.default]\n").unwrap();
        let site = Self { folder, connection: kafka().connection(), prefix };
        site.says(0, &["topics", "--create", "--partitions", "2"]);
        site
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).arg("--config").arg(self.path("aegis.toml")).env_remove("AEGIS_CONFIG");
        command
    }

    pub fn aegis(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command and checks its exit code. Returns the output of both streams.
    pub fn says(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.aegis(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }

    /// Runs a command with `--output json`.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.aegis(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a role that logs to a file with the name of the role.
    pub fn start(&self, role: &str) -> Process {
        let log = fs::File::create(self.path(&format!("{role}.log"))).unwrap();
        let mut command = self.command(&["run", "--role", role]);
        Process(command.stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub fn log(&self, role: &str) -> String {
        fs::read_to_string(self.path(&format!("{role}.log"))).unwrap_or_default()
    }

    /// Sends the events with these numbers. Every third event has a threat.
    pub fn send_events(&self, numbers: std::ops::Range<usize>) {
        let text = |number: usize| if number.is_multiple_of(3) { "I will kill you" } else { "hello there" };
        let record = |number| event_record(&self.topic("events"), &event(number, text(number)));
        send(&self.connection, &numbers.map(record).collect::<Vec<_>>());
    }

    pub fn await_records(&self, topic: &str, count: usize) -> Vec<Consumed> {
        read_until(&self.connection, &self.topic(topic), "records", |records| records.len() >= count)
    }

    /// Waits until `enough` accepts the newest predictor of the default policy, and returns it.
    pub fn published(&self, what: &str, enough: impl Fn(&Published) -> bool) -> Published {
        let last = |records: &[Consumed]| {
            let mut of_policy = records.iter().filter(|record| record.key.as_deref() == Some(b"default"));
            codec::decode_published(of_policy.next_back()?.payload.as_deref()?).ok()
        };
        let records = read_until(&self.connection, &self.topic("weights"), what, |records| {
            last(records).is_some_and(|published| enough(&published))
        });
        last(&records).unwrap()
    }
}

/// A process that ends with its test.
pub struct Process(Child);

impl Process {
    pub fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
