//! A real Apache Kafka for tests: `mod support;` and `support::kafka()`.
//!
//! One broker for a test binary, on free loopback ports, in a folder of its own. A pipe ties it to this
//! process: whatever ends the process ends the broker. Without Maven or Java a test fails and says what to
//! install; it never passes by skipping.

#![allow(missing_docs, dead_code, reason = "each test binary uses what it needs")]

pub mod far;
pub mod flow;
pub mod identity;
pub mod site;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use aegis::kafka::topics::{self, Finding, TopicSpec};
use aegis::kafka::{Connection, Consumed, Polled, Produced, Source};

/// How long anything may take before a test fails.
pub const WAIT: Duration = Duration::from_secs(30);

/// The broker shared by all tests of this binary.
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    // It is never dropped: the pipe's end ends it.
    SHARED.get_or_init(|| Kafka::begin(&["remove"]))
}

/// Claims a prefix of topics and groups on a broker. Two tests that share one would read each other's records.
pub fn claim_prefix(brokers: &str, prefix: &str) {
    static CLAIMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = CLAIMED.lock().unwrap().insert(format!("{brokers} {prefix}"));
    assert!(is_new, "another test of this binary uses the prefix {prefix}");
}

/// A running broker.
pub struct Kafka {
    folder: PathBuf,
    port: u16,
    controller: u16,
    /// Ends the broker when it is closed.
    leash: Option<ChildStdin>,
    child: Child,
}

impl Kafka {
    /// Starts a broker and waits until it answers.
    pub fn start() -> Self {
        Self::begin(&[])
    }

    fn begin(more: &[&str]) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = home().join(format!("kafka-{}-{port}", std::process::id()));
        Self::start_in(folder, port, controller, more)
    }

    /// Starts a broker with further settings, to which it gives its two ports, and with users, a line
    /// `SCRAM-SHA-512=[name=…,password=…]` each.
    pub fn secured(settings: impl FnOnce(u16, u16) -> String, users: &str) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = home().join(format!("kafka-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("more.properties"), settings(port, controller)).unwrap();
        fs::write(folder.join("users"), users).unwrap();
        Self::start_in(folder, port, controller, &["remove"])
    }

    fn start_in(folder: PathBuf, port: u16, controller: u16, more: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker.sh");
        fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new("bash")
            .arg(script)
            .arg(&folder)
            .args([port.to_string(), controller.to_string()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("bash starts the broker");
        let leash = child.stdin.take();
        let mut kafka = Self { folder, port, controller, leash, child };
        kafka.await_answer();
        kafka
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For clients.
    pub fn connection(&self) -> Connection {
        Connection::new(self.bootstrap())
    }

    /// Kills the broker with -9: what it has acknowledged it must still have.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.child.wait().unwrap();
        self.leash = None;
    }

    /// Holds the broker still: it answers nobody, and no connection breaks.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.folder.join("broker.pid")).unwrap();
        assert!(Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap().success());
    }

    /// Starts it again, on the same ports and the same folder.
    pub fn restart(&mut self) {
        let again = Self::start_in(self.folder.clone(), self.port, self.controller, &[]);
        let mut old = std::mem::replace(self, again);
        // The folder is the new one's.
        old.folder = PathBuf::new();
    }

    fn stop(&mut self) {
        self.leash = None;
        let _ = self.child.wait();
    }

    fn await_answer(&mut self) {
        let until = Instant::now() + Duration::from_secs(180);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
                panic!("no Apache Kafka ({status}): see above for what to install\n{log}");
            }
            assert!(Instant::now() < until, "Apache Kafka does not answer: {}", self.folder.display());
            // A port that opens tells nobody.
            thread::sleep(Duration::from_millis(50));
        }
        while let Err(error) = topics::partitions(&self.connection(), "absent", Duration::from_secs(5)) {
            if error.name() == "MissingTopic" {
                break;
            }
            assert!(Instant::now() < until, "{error}");
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.stop();
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A topic's name, partitions and settings.
pub type Wanted<'a> = (&'a str, i32, &'a [(&'a str, &'a str)]);

/// Makes topics with these partitions, and further settings.
pub fn make(connection: &Connection, specs: &[Wanted<'_>]) {
    let specs: Vec<_> = specs
        .iter()
        .map(|(name, partitions, config)| {
            let mut spec = TopicSpec::new(*name, *partitions);
            spec.config = config.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            spec
        })
        .collect();
    let findings = topics::ensure(connection, &specs, WAIT).unwrap();
    assert!(findings.iter().all(|finding| *finding == Finding::Made), "{findings:?}");
    for spec in &specs {
        let until = Instant::now() + WAIT;
        while topics::partitions(connection, &spec.name, WAIT) != Ok(spec.partitions) {
            assert!(Instant::now() < until, "{} was made and is not there", spec.name);
        }
    }
}

/// A record for a partition.
pub fn record(topic: &str, partition: i32, payload: impl Into<Vec<u8>>) -> Produced {
    Produced {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(b"key".to_vec()),
        payload: Some(payload.into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Polls until `count` records have come.
pub fn read(source: &mut Source, count: usize) -> Vec<Consumed> {
    let until = Instant::now() + WAIT;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < until, "{} of {count} records came", records.len());
        if let Polled::Record(record) = source.poll(Duration::from_millis(100)).unwrap() {
            records.push(record);
        }
    }
    records
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned()
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
