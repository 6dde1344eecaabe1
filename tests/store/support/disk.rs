//! A small disk that can be filled.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// The size of the disk in bytes. sled writes in segments of 512 KiB.
const SIZE: u64 = 3 << 20;
/// The size of the largest file if no disk can be mounted, in blocks of 512 bytes: one segment of sled.
const LIMIT: u64 = 1_024;

/// A file system in memory. If this process may not mount one, a limit on the size of files replaces it.
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
            println!("no disk can be mounted: the size of files is limited instead");
        }
        Self { folder, mounted }
    }

    /// Returns a folder on the disk.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Returns the command in a shell that limits the size of its files from the start if no disk is mounted.
    pub fn limit(&self, command: &Command) -> Command {
        let limit = if self.mounted { String::new() } else { format!("ulimit -f {LIMIT};") };
        Self::shell(&limit, command)
    }

    /// Returns the command in a shell, so that its files can be limited later. A file that is too large is then an
    /// error and does not kill the process.
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

    /// Fills the disk.
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

    /// Fills the disk for a process that was started with [`limit_later`](Self::limit_later).
    pub fn fill_for(&self, process: u32) {
        self.fill();
        if !self.mounted {
            // The limit is larger than the log of the process, and smaller than the file of sled.
            let limit = ["--pid", &process.to_string(), "--fsize=65536:65536"];
            assert!(Command::new("prlimit").args(limit).status().unwrap().success());
        }
    }

    /// Enlarges the disk.
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
            // Lazily, because a process that was just killed may still use it.
            let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        }
    }
}
