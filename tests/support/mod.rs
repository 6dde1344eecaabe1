//! A real Apache Kafka for tests: `mod support;` and `support::kafka()`.
//!
//! A test binary shares one broker, on free loopback ports and in its own folder. A pipe connects it to this process,
//! so that the broker ends with the process in any case. Without Maven or Java a test fails with a message of what to
//! install; it is never skipped.

#![allow(missing_docs, dead_code, reason = "each test binary uses what it needs")]

pub mod far;
pub mod flow;
pub mod http;
pub mod identity;
pub mod protocols;
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
use aegis::kafka::{Connection, Consumed, GroupProtocol, Polled, Produced, Source};

/// The time after which a wait of a test fails.
pub const WAIT: Duration = Duration::from_secs(30);

/// Returns the broker that all tests of this binary share.
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    // It is never dropped. It ends when the pipe is closed.
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
    /// The broker ends when this pipe is closed.
    leash: Option<ChildStdin>,
    child: Child,
}

impl Kafka {
    /// Starts a broker and waits until it responds.
    pub fn start() -> Self {
        Self::begin(&[])
    }

    fn begin(more: &[&str]) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = home().join(format!("kafka-{}-{port}", std::process::id()));
        Self::start_in(folder, port, controller, more)
    }

    /// Starts a broker with further settings, which are a function of its two ports, and with users, each as a line
    /// `SCRAM-SHA-512=[name=…,password=…]`.
    pub fn secured(settings: impl FnOnce(u16, u16) -> String, users: &str) -> Self {
        Self::with_options(settings, users, "")
    }

    /// Starts a broker as [`Self::secured`] does, with options of Java, one in a line.
    pub fn with_options(settings: impl FnOnce(u16, u16) -> String, users: &str, options: &str) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = home().join(format!("kafka-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("more.properties"), settings(port, controller)).unwrap();
        fs::write(folder.join("users"), users).unwrap();
        fs::write(folder.join("java.options"), options).unwrap();
        Self::start_in(folder, port, controller, &["remove"])
    }

    /// Starts a broker with features of the cluster, each as `name=level`.
    pub fn with_features(features: &[&str]) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = home().join(format!("kafka-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("features"), features.iter().map(|one| format!("{one}\n")).collect::<String>())
            .unwrap();
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

    /// Returns `host:port` of the broker.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the connection settings of clients.
    pub fn connection(&self) -> Connection {
        Connection::new(self.bootstrap())
    }

    /// Returns the connection settings of clients whose groups have this protocol.
    pub fn connection_in(&self, group_protocol: GroupProtocol) -> Connection {
        Connection { group_protocol, ..self.connection() }
    }

    /// Kills the broker with SIGKILL. It must keep all records that it has acknowledged.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.child.wait().unwrap();
        self.leash = None;
    }

    /// Suspends the broker: it answers no request, and its connections stay open.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes the broker.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Returns the id of the broker's process.
    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.folder.join("broker.pid")).unwrap().trim().parse().unwrap()
    }

    /// Starts the broker again, on the same ports and in the same folder.
    pub fn restart(&mut self) {
        let again = Self::start_in(self.folder.clone(), self.port, self.controller, &[]);
        let mut old = std::mem::replace(self, again);
        // The new broker owns the folder now.
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
            // An open port is not announced by any event.
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

/// Creates topics with these partitions and settings.
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

/// Returns a record for a partition.
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

/// Polls until `count` records are read.
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

/// Returns a free port below the range of client connections, none of which can take it while a broker restarts. Returns
/// each port once.
pub fn free_port() -> u16 {
    static RETURNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = fastrand::u16(10_240..32_768);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && RETURNED.lock().unwrap().insert(port) {
            return port;
        }
    }
}
