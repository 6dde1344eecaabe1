//! A small disk that can be filled.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Bytes that it holds. sled writes in segments of 512 KiB.
const SIZE: u64 = 3 << 20;
/// The largest file, in blocks of 512 bytes, where nothing can be mounted: one segment of sled's.
const LIMIT: u64 = 1_024;

/// A file system of its own in memory. Where this process may mount none, a limit on the size of files stands for it.
pub struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            println!("nothing can be mounted: the size of files is limited instead");
        }
        Self { folder, mounted }
    }

    /// A folder on it.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The command, run by a shell that limits its files from the start where nothing is mounted.
    pub fn limit(&self, command: &Command) -> Command {
        let limit = if self.mounted { String::new() } else { format!("ulimit -f {LIMIT};") };
        Self::shell(&limit, command)
    }

    /// The command, run by a shell so that it can be limited later: a file that is too large is an error then, and
    /// does not kill the process.
    pub fn limit_later(command: &Command) -> Command {
        Self::shell("", command)
    }

    fn shell(limit: &str, command: &Command) -> Command {
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" \"$@\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited
    }

    /// Leaves no space on it.
    pub fn fill(&self) {
        if self.mounted {
            let mut file = File::create(self.folder.path().join("full")).unwrap();
            let block = [1; 4_096];
            let error = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        }
    }

    /// The same for a process that was to be limited later.
    pub fn fill_for(&self, process: u32) {
        self.fill();
        if !self.mounted {
            // Its log is shorter, and what sled writes to is longer.
            let limit = ["--pid", &process.to_string(), "--fsize=65536:65536"];
            assert!(Command::new("prlimit").args(limit).status().unwrap().success());
        }
    }

    /// Makes it larger.
    pub fn grow(&self) {
        if self.mounted {
            let size = format!("remount,size={}", 8 * SIZE);
            let grown = Command::new("mount").args(["-o", &size]).arg(self.folder.path()).status();
            assert!(grown.unwrap().success());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process that was just killed may still have it.
            let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        }
    }
}
