//! A configuration in its own folder with its own topics on the shared broker, and the processes that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use aegis::codec;
use aegis::core::ledger::{LabelStatus, Record};
use aegis::core::predictor::Published;
use aegis::kafka::{Connection, Consumed, committed, topics};

use super::flow::{experts, ledger, read_all, read_until};
use super::{Kafka, WAIT, claim_prefix, kafka};

/// The number of partitions of events, decisions and labels.
pub const PARTITIONS: i32 = 3;

const TOPICS: [&str; 8] = ["events", "decisions", "review", "labels", "dlq", "rounds", "weights", "election"];

/// A configuration in its own folder, and the processes that use it.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub connection: Connection,
    prefix: String,
    sets: Vec<(String, String)>,
    started: AtomicUsize,
}

impl Site {
    pub fn new(prefix: &str) -> Self {
        Self::with(prefix, &[])
    }

    /// Creates a site with settings for all its commands.
    pub fn with(prefix: &str, sets: &[(&str, &str)]) -> Self {
        Self::on(kafka(), prefix, PARTITIONS, sets)
    }

    /// Creates a site on this broker, with this number of partitions of events, decisions and labels.
    pub fn on(kafka: &Kafka, prefix: &str, partitions: i32, sets: &[(&str, &str)]) -> Self {
        claim_prefix(&kafka.bootstrap(), prefix);
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let topics: String = TOPICS.iter().map(|name| format!("{name} = \"{prefix}.{name}\"\n")).collect();
        let brokers = kafka.bootstrap();
        let config = format!(
            "[kafka]\nbrokers = \"{brokers}\"\n[topics]\n{topics}[experts]\nfolder = \"models\"\n\
             [score]\ngroup = \"{prefix}.score\"\n[learn]\ngroup = \"{prefix}.learn\"\nstore = \"store\"\n\
             publish_interval_ms = 100\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n"
        );
        fs::write(folder.path().join("aegis.toml"), config).unwrap();
        let sets = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (connection, started) = (kafka.connection(), AtomicUsize::new(0));
        let site = Self { folder, connection, prefix: prefix.to_owned(), sets, started };
        let made = site.aegis(&["topics", "--create", "--partitions", &partitions.to_string()]);
        assert!(made.status.success(), "{made:?}");
        let until = Instant::now() + WAIT;
        for name in TOPICS {
            // Clients see a new topic only some time after it was created.
            while topics::partitions(&site.connection, &site.topic(name), WAIT).is_err() {
                assert!(Instant::now() < until, "{name} was made and is not there");
            }
        }
        site
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("aegis.toml")
    }

    /// Returns the folder of sled.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).arg("--config").arg(self.config()).env_remove("AEGIS_CONFIG");
        for (key, value) in &self.sets {
            command.env(format!("AEGIS__{}", key.to_uppercase().replace('.', "__")), value);
        }
        command
    }

    /// Runs a command and waits for its end.
    pub fn aegis(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts a role that logs to the standard error of this test.
    pub fn start(&self, role: &str) -> Process {
        let child = self.command(&["run", "--role", role]).stdin(Stdio::null()).spawn().unwrap();
        Process { child, log: PathBuf::new() }
    }

    /// Starts a role with more arguments and environment variables. It logs to a file.
    pub fn start_with(&self, role: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = self.command(&["run", "--role", role]);
        command.args(arguments).envs(variables.iter().copied());
        self.start_command(role, command)
    }

    /// Starts a command that runs a role. It logs to a file.
    pub fn start_command(&self, role: &str, mut command: Command) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("{role}-{number}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Process { child, log }
    }

    /// Starts a role with a limit on its open file descriptors. It logs to a file.
    pub fn start_within(&self, role: &str, descriptors: usize) -> Process {
        let log = self.folder.path().join(format!("{role}-{descriptors}.log"));
        let command = self.command(&["run", "--role", role]);
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env_remove("AEGIS_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Process { child, log }
    }

    /// Returns the state hash of an offline replay of the ledger topic.
    pub fn replayed(&self) -> String {
        let json = self.folder.path().join("replay.json");
        let topic = format!("topic:{}", self.topic("rounds"));
        let output = self.aegis(&["replay", &topic, "--json", json.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        summary["state_hash"].as_str().unwrap().to_owned()
    }

    /// Checks that `aegis verify` finds no violation.
    pub fn verified(&self) {
        let output = self.aegis(&["verify"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits for a predictor of this number of rounds that reflects the ledger beyond the offset `after`.
    pub fn published(&self, rounds: u64, after: i64) -> Published {
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

    /// Returns the number of records of a topic before the group's committed offsets.
    pub fn committed(&self, group: &str, topic: &str) -> i64 {
        let (group, topic) = (self.topic(group), self.topic(topic));
        let until = Instant::now() + WAIT;
        loop {
            match committed(&self.connection, &group, &topic, WAIT) {
                Ok(known) => return known.values().sum(),
                // The coordinator of the first group of a broker may still be starting.
                Err(error) if error.is_retryable() && Instant::now() < until => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Returns the ledger: the newest record of each key.
    pub fn ledger(&self) -> BTreeMap<String, Record> {
        let records = ledger(&read_all(&self.connection, &self.topic("rounds")));
        records.into_iter().map(|record| (format!("{:?}", record.key()), record)).collect()
    }

    /// Returns the labels that wait for their events.
    pub fn waiting(&self) -> BTreeSet<String> {
        let waits = |record| match record {
            Record::Label(filed) if filed.status == LabelStatus::Waiting => Some(filed.label.id),
            _ => None,
        };
        self.ledger().into_values().filter_map(waits).collect()
    }

    /// Returns the state hash of the last published predictor.
    pub fn hash(&self) -> String {
        let last = read_all(&self.connection, &self.topic("weights")).pop().unwrap();
        hex(&codec::decode_published(&last.payload.unwrap()).unwrap().state_hash)
    }
}

/// A process that ends with its test.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Kills the process with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and checks that the process ends without an error.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}{}", self.log(), kernel_log(status));
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Returns the exit status, or `None` while the process runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of the process.
    pub fn end(&mut self) -> ExitStatus {
        self.until("its end", Self::ended)
    }

    /// Checks that the process killed itself with SIGKILL at this crash point.
    pub fn died_at(&self, status: ExitStatus, point: &str) {
        let log = self.log();
        assert_eq!(status.signal(), Some(9), "{status}\n{log}");
        assert!(log.contains(&format!("dying at {point}")), "{log}");
    }

    /// Returns the log of the process.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a GET request for a path. Returns the status and the page.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        (page.split(' ').nth(1).unwrap().parse().unwrap(), page)
    }

    /// Returns the address of the health and metrics endpoint.
    pub fn address(&self) -> String {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("health and metrics")).unwrap();
        line.split("address=").nth(1).unwrap().trim().to_owned()
    }

    /// Waits until the process is stopped at this point, and until the shell that stopped it has ended. If the process
    /// continued earlier, that shell and the process would wait for each other forever.
    pub fn holds_still_at(&mut self, point: &str) {
        self.says(&format!("holding still at {point}"));
        let own = self.child.id().to_string();
        // State and parent follow the name in brackets.
        let state = |process: &str| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            let mut words = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next()?))
        };
        self.until("its standing still", |_| {
            let stands = state(&own).is_some_and(|(state, _)| state == "T");
            let others = fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
            let mut shells = others.filter_map(|other| state(&other)).filter(|(_, parent)| *parent == own);
            (stands && shells.all(|(state, _)| state == "Z")).then_some(())
        });
    }

    /// Waits until the log contains these words.
    pub fn says(&mut self, words: &str) {
        self.says_one_of(&[words]);
    }

    /// Waits until the log contains one of these messages.
    pub fn says_one_of(&mut self, messages: &[&str]) {
        let what = messages.join(", or ");
        self.until(&what, |process| {
            let log = process.log();
            messages.iter().any(|message| log.contains(message)).then_some(())
        });
    }

    /// Waits until `/readyz` answers 200. The log must contain the address, which is logged at level `info`.
    pub fn ready(&mut self) {
        self.says("health and metrics");
        self.until("readiness", |process| (process.get("/readyz").0 == 200).then_some(()));
    }

    fn until<T>(&mut self, what: &str, look: impl Fn(&mut Self) -> Option<T>) -> T {
        poll(|| look(self).ok_or_else(|| format!("{what} did not come:\n{}", self.log())))
    }
}

/// Returns what the kernel logged last about invalid accesses to memory if a signal ended the process, e.g. the thread, the
/// address and the library. It is empty where that log cannot be read.
fn kernel_log(status: ExitStatus) -> String {
    let Some(output) = status.signal().and_then(|_| Command::new("dmesg").output().ok()) else {
        return String::new();
    };
    let log = String::from_utf8_lossy(&output.stdout);
    let faults: Vec<_> =
        log.lines().filter(|line| line.contains("segfault") || line.contains("traps:")).collect();
    faults[faults.len().saturating_sub(5)..].join("\n")
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time after which a wait of a test fails. It only keeps a test from hanging, and asserts nothing about speed.
pub const FAIL_SAFE: Duration = Duration::from_secs(90);
/// The pause between two polls of a state that no event announces.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `look` until it returns a value, for states that no event announces: of a process, a file, committed offsets,
/// a compacted topic. Panics with the last error at the [`FAIL_SAFE`].
pub fn poll<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + FAIL_SAFE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(Instant::now() < until, "{missing}"),
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Polls until `left` returns `None`, for work whose duration depends on the machine. Panics if what it returns has not
/// changed for the [`FAIL_SAFE`]. What it returns must not come back to an earlier value.
pub fn wait_while_it_changes<T: PartialEq + Debug>(what: &str, mut left: impl FnMut() -> Option<T>) {
    let mut seen = left();
    while seen.is_some() {
        seen = poll(|| {
            let now = left();
            if now == seen { Err(format!("{what}: still {now:?}")) } else { Ok(now) }
        });
    }
}

/// Polls until `done` returns `true`: see [`poll`].
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    poll(|| if done() { Ok(()) } else { Err(format!("{what}: not done")) });
}

/// Runs `call` on another thread and waits for its result. Panics at the [`FAIL_SAFE`] if it does not return.
pub fn returns<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = mpsc::channel();
    let thread = thread::spawn(move || drop(sender.send(call())));
    match result.recv_timeout(FAIL_SAFE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{what} does not return"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
