//! The reader's machine: a clone of the repository, and an Apache Kafka that `make kafka` starts in it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::page::root;
use crate::support::free_port;

/// A folder like a clone, with what was built and set up, and with the broker's address in its configuration.
pub fn clone(folder: &Path, brokers: &str) {
    for name in ["Makefile", "docs", "experts", "models", "schemas", "tests"] {
        symlink(root().join(name), folder.join(name)).unwrap();
    }
    // Downloads are shared; a local Apache Kafka belongs to the clone.
    for script in ["tests/kafka/fetch.sh", "tests/registry/fetch.sh"] {
        assert!(
            Command::new("bash").arg(root().join(script)).stdout(Stdio::null()).status().unwrap().success()
        );
    }
    fs::create_dir(folder.join(".cache")).unwrap();
    for entry in fs::read_dir(root().join(".cache")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "kafka-dev" {
            symlink(entry.path(), folder.join(".cache").join(entry.file_name())).unwrap();
        }
    }
    fs::create_dir_all(folder.join("target/release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_aegis"), folder.join("target/release/aegis")).unwrap();
    fs::create_dir(folder.join("config")).unwrap();
    for name in ["aegis.toml", "policies.toml"] {
        let text = fs::read_to_string(root().join("config").join(name)).unwrap();
        fs::write(folder.join("config").join(name), text.replace("localhost:9092", brokers)).unwrap();
    }
}

/// A port that is free now, and so is the next: a local Apache Kafka takes both.
pub fn free_ports() -> u16 {
    loop {
        let port = free_port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Stops what `make kafka` started in a clone, however this process ends: a pipe tells.
pub struct Leash(Child);

impl Leash {
    /// For the clone in this folder.
    pub fn on(folder: &Path) -> Self {
        let keeper = Command::new("bash")
            .args(["-c", "cat >/dev/null; exec bash tests/kafka/dev.sh stop"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A Ctrl-C is for the tests.
            .process_group(0)
            .spawn();
        Self(keeper.unwrap())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}
