//! Disks that are full, or fill up while a store is written.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use aegis::store::{Opened, Store};

use crate::disk::Disk;
use crate::writer::{CHILD, CHILD_ARGUMENTS, check, child, fill};

/// A limit on the size of the child's files replaces a full disk.
#[test]
fn a_full_disk_is_an_error_and_what_was_committed_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let this = std::env::current_exe().expect("this program");
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""; // blocks of 512 bytes
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(this)
        .args(CHILD_ARGUMENTS)
        .env(CHILD, folder.path())
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let last =
        text.lines().filter_map(|line| line.strip_prefix("committed ")).next_back().expect("some commits");
    let last: i64 = last.parse().expect("a number");
    println!(
        "failed after {last}: {}",
        text.lines().filter(|line| line.starts_with("failed")).collect::<String>()
    );
    assert!(
        text.lines().any(|line| line.starts_with("failed ")),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (store, opened) = Store::open(folder.path()).expect("a store");
    if opened == Opened::Found {
        let offset = store.ledger_offset().expect("an offset");
        assert!(offset >= last, "{offset} after {last} had been acknowledged");
        check(&store, offset).expect("a whole store");
    } else {
        println!("{opened:?}");
        assert!(matches!(opened, Opened::Rebuilt { .. }));
    }
}

/// Runs a child that writes to this disk until it ends. Returns its output.
fn output_on(disk: &Disk) -> String {
    let mut child = disk.limit(&child(&disk.store()));
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child");
    let mut output = child.stdout.take().expect("its output");
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).expect("text");
        done.send(text)
    });
    let result = result.recv_timeout(Duration::from_secs(30));
    child.kill().expect("killed, or ended");
    child.wait().expect("gone");
    result.expect("the child has ended")
}

/// Returns `true` if a line of the output starts with `beginning`.
fn has_line(output: &str, beginning: &str) -> bool {
    output.lines().any(|line| line.starts_with(beginning))
}

/// sled waited forever in its flush or in its drop in most of these runs.
#[test]
fn on_a_disk_that_fills_up_neither_a_write_nor_a_drop_hangs() {
    for _ in 0..10 {
        let disk = Disk::new();
        let output = output_on(&disk);
        assert!(
            has_line(&output, "committed 1")
                && has_line(&output, "failed Io: ")
                && has_line(&output, "dropped"),
            "{output}"
        );
        assert!(output.contains(&disk.store().display().to_string()), "{output}");
        // sled may have damaged its own file, which is detected when the store is opened.
        disk.grow();
        let last = output.lines().filter_map(|line| line.strip_prefix("committed ")).next_back();
        let last: i64 = last.expect("a commit").parse().expect("a number");
        let (store, opened) = Store::open(&disk.store()).expect("a store");
        println!("{opened:?} after {last}");
        match opened {
            Opened::Found => assert!(store.ledger_offset().is_some_and(|offset| offset >= last)),
            Opened::Rebuilt { .. } => assert_eq!(store.ledger_offset(), None),
            Opened::Fresh => panic!("the loss was not detected"),
        }
    }
}

/// A store on a disk that is full from the start must not be taken for a damaged one, which would be removed.
#[test]
fn a_store_on_a_full_disk_is_not_removed() {
    let disk = Disk::new();
    let (mut store, _) = Store::open(&disk.store()).expect("a store");
    fill(&mut store, 20);
    drop(store);
    disk.fill();
    let output = output_on(&disk);
    let last = output.lines().filter_map(|line| line.strip_prefix("committed ")).next_back();
    let last = last.map_or(20, |last| last.parse().expect("a number"));
    println!("to {last}: {}", output.lines().find(|line| line.starts_with("failed")).unwrap_or("not opened"));
    disk.grow();
    let (store, opened) = Store::open(&disk.store()).expect("a store");
    assert_eq!(opened, Opened::Found);
    assert!(store.ledger_offset().is_some_and(|offset| offset >= last), "{:?}", store.ledger_offset());
}
