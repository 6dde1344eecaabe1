//! The broker of the tests, with topics and events for a benchmark.

#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::fs;
use std::time::{Duration, Instant};

use aegis::codec::{self, Encoding};
use aegis::core::event::Event;
use aegis::kafka::{Connection, Delivery, Followed, Follower, From, Outbox, Produced};
pub use support::flow::{event, experts};
pub use support::kafka;

/// Returns the CPU time that the broker has used so far, in seconds.
pub fn broker_cpu() -> f64 {
    cpu_of(kafka().pid())
}

use crate::process::{Process, cpu_of};

/// The number of partitions of events and decisions.
pub const PARTITIONS: usize = 4;
/// The approximate size of an event's record, in bytes.
const BYTES: usize = 1_024;

/// The settings of one expert that answers at once.
const RULES: &str = "folder = \"models\"\nonly = [\"lenient\"]";

/// A folder with a configuration, whose topics share a prefix.
pub struct Site {
    folder: tempfile::TempDir,
    prefix: String,
    events: String,
}

impl Site {
    /// Creates a site with topics under `prefix`. Its events are in the topic `events`.
    pub fn new(prefix: &str, events: &str, delivery: &str, experts: &str) -> Self {
        Self::on(&kafka().bootstrap(), PARTITIONS, prefix, events, delivery, experts)
    }

    fn on(
        brokers: &str,
        partitions: usize,
        prefix: &str,
        events: &str,
        delivery: &str,
        experts: &str,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = |topic: &str| format!("{topic} = \"{prefix}.{topic}\"\n");
        let topics: String = ["decisions", "review", "labels", "dlq", "rounds", "weights", "election"]
            .iter()
            .map(|topic| name(topic))
            .collect();
        let config = format!(
            "[kafka]\nbrokers = \"{brokers}\"\ndelivery = \"{delivery}\"\n[topics]\nevents = \"{events}\"\n{topics}\
             [experts]\n{experts}\n[score]\ngroup = \"{prefix}\"\n[learn]\ngroup = \"{prefix}.learn\"\n\
             store = \"store\"\n[log]\nlevel = \"warn\"\n"
        );
        fs::write(folder.path().join("aegis.toml"), config).expect("a configuration");
        let site = Self { folder, prefix: prefix.into(), events: events.into() };
        let made =
            site.aegis().args(["topics", "--create", "--partitions", &partitions.to_string()]).output();
        let made = made.expect("aegis runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        site
    }

    /// Creates a site with one expert that answers at once: rules with a single word.
    pub fn without_models(prefix: &str, events: &str, delivery: &str) -> Self {
        let site = Self::new(prefix, events, delivery, RULES);
        experts(&site.folder.path().join("models"));
        site
    }

    /// As [`without_models`](Self::without_models), exactly once, on this broker and with this number of partitions.
    pub fn without_models_on(brokers: &str, partitions: usize, prefix: &str) -> Self {
        let site = Self::on(brokers, partitions, prefix, &format!("{prefix}.events"), "exactly-once", RULES);
        experts(&site.folder.path().join("models"));
        site
    }

    /// Returns the full name of a topic.
    pub fn topic(&self, name: &str) -> String {
        if name == "events" { self.events.clone() } else { format!("{}.{name}", self.prefix) }
    }

    fn aegis(&self) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.env("AEGIS_CONFIG", self.folder.path().join("aegis.toml"));
        command
    }

    /// Starts a role with its own port.
    pub fn start(&self, role: &str) -> Process {
        self.start_with(role, &[])
    }

    /// Starts a role with settings that override the configuration.
    pub fn start_with(&self, role: &str, settings: &[&str]) -> Process {
        let mut command = self.aegis();
        command.args(["run", "--role", role]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        Process::start(command)
    }
}

/// Returns an event in its own conversation, with a record of about [`BYTES`] bytes.
pub fn padded(number: usize) -> Event {
    let mut event = event(number, "");
    event.conversation = number.to_string();
    let bare = codec::encode_event(&event, Encoding::Avro).expect("an event").len();
    let text = "lorem ipsum dolor sit amet ".repeat(BYTES / 27 + 1);
    event.turns[0].text = text[..BYTES.saturating_sub(bare + 2)].to_owned();
    event
}

/// Returns an event as a record. Its key is the conversation.
pub fn record(topic: &str, event: &Event) -> Produced {
    record_of(topic, event, codec::encode_event(event, Encoding::Avro).expect("an event"))
}

/// Returns an event that is already encoded as a record.
pub fn record_of(topic: &str, event: &Event, payload: Vec<u8>) -> Produced {
    Produced {
        topic: topic.into(),
        partition: None,
        key: Some(event.conversation.clone().into_bytes()),
        payload: Some(payload),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Sends records in groups of some thousands.
pub fn send(connection: &Connection, records: impl Iterator<Item = Produced>) {
    let mut outbox = Outbox::open(connection, Delivery::AtLeastOnce).expect("a producer");
    let mut records = records.peekable();
    while records.peek().is_some() {
        let some: Vec<_> = records.by_ref().take(4_000).collect();
        outbox.commit(&some, None).expect("records are taken");
    }
}

/// Reads committed records of a topic until `done` returns `true` for one. Panics after two minutes.
pub fn follow(topic: &str, mut done: impl FnMut(&[u8]) -> bool) {
    let connection = kafka().connection();
    let patience = Duration::from_secs(30);
    let mut follower = Follower::open(&connection, topic, &From::Beginning, patience).expect("a reader");
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(Instant::now() < until, "{topic} stands still");
        if let Followed::Record(record) = follower.poll(Duration::from_millis(500)).expect("a record")
            && done(record.key.as_deref().unwrap_or_default())
        {
            return;
        }
    }
}
