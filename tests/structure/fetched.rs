//! Tests fetch what they need at the same time, and each of them finds it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::root;

/// The processes that start at once.
const PROCESSES: usize = 8;

/// Fetches slowly, and counts how often.
const MAVEN: &str = "#!/bin/sh
echo called >> calls
for argument in \"$@\"; do case $argument in -DoutputDirectory=*) folder=${argument#*=};; esac; done
for file in 1 2 3 4 5 6 7 8; do echo jar > \"$folder/$file.jar\"; sleep 0.02; done
tar -czf \"$folder/all.tar.gz\" -C \"$folder\" 1.jar
";

fn scripts() -> Vec<PathBuf> {
    let folders = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        folders.map(|folder| folder.join("fetch.sh")).filter(|script| script.is_file()).collect();
    found.sort();
    found
}

#[test]
fn every_script_that_fetches_waits_for_another() {
    let found = scripts();
    assert!(found.len() >= 6, "{found:?}");
    for script in found {
        let text = fs::read_to_string(&script).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&"source tests/once.sh"), "{}", script.display());
        assert!(lines.iter().any(|line| line.contains("alone ")), "{}", script.display());
    }
}

/// Returns a folder with a script, what it reads, and a Maven that needs no network.
fn folder(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tests = folder.path().join("tests").join(name);
    fs::create_dir_all(&tests).unwrap();
    for file in ["once.sh", &format!("{name}/fetch.sh"), &format!("{name}/pom.xml")] {
        fs::copy(root().join("tests").join(file), folder.path().join("tests").join(file)).unwrap();
    }
    let maven = folder.path().join("bin/mvn");
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::write(&maven, MAVEN).unwrap();
    fs::set_permissions(&maven, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn fetch(folder: &Path, name: &str) -> Command {
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .arg(folder.join("tests").join(name).join("fetch.sh"))
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

#[test]
#[cfg(target_os = "linux")]
fn processes_that_fetch_at_once_fetch_once() {
    for name in ["kafka", "registry"] {
        let folder = folder(name);
        let started: Vec<_> = (0..PROCESSES).map(|_| fetch(folder.path(), name).spawn().unwrap()).collect();
        for process in started {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{name}: {:?}", output.status);
            let place = String::from_utf8(output.stdout).unwrap();
            assert!(Path::new(place.trim()).join("8.jar").is_file(), "{name}: {place}");
        }
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        assert_eq!(calls.lines().count(), 1, "{name}");
    }
}
