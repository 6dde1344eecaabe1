//! Faults of the store's folder: killed writers, truncated and changed files, other formats, full disks.

#[allow(dead_code, reason = "each test binary uses what it needs")]
use crate::disk;
use crate::store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use aegis::core::label::DecisionRef;
use aegis::core::ledger::RoundId;
use aegis::store::{DAY, IndexEntry, Opened, Store, StoreError, WriteBatch};
use disk::Disk;
use store_support::{KeyValue, read};

const CHILD: &str = "AEGIS_TEST_STORE_CHILD";

fn id(event: i64) -> RoundId {
    RoundId { tenant: "t".into(), policy: "p".into(), event: event.to_string() }
}

/// Returns the n-th batch: changes, deletions and entries that depend on n. Some batches have enough records that they
/// are written to chunks, at once or soon.
fn batch(n: i64) -> WriteBatch {
    let more = match n % 40 {
        7 => 1_100,
        3 | 13 | 23 => 600,
        _ => 0,
    };
    let more =
        (0..more).map(|at| ((1_000 + n * 2_000 + at).to_be_bytes().to_vec(), Some(n.to_be_bytes().into())));
    let key = |k: i64| (k.rem_euclid(97)).to_be_bytes().to_vec();
    let value =
        vec![u8::try_from(n.rem_euclid(251)).unwrap(); 100 + usize::try_from(n.rem_euclid(400)).unwrap()];
    WriteBatch {
        ledger: [(key(n), Some(value)), (key(n * 7 + 3), None)].into_iter().chain(more).collect(),
        ledger_offset: Some(n + 1),
        decisions: vec![(0, (n + 1) * 40)],
        indexed: (n * 40..(n + 1) * 40)
            .map(|offset| {
                IndexEntry::new(&id(offset), offset, DecisionRef { partition: 0, offset }, DAY * (n / 50))
            })
            .collect(),
        ..WriteBatch::default()
    }
}

fn ledger_after(batches: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut ledger = BTreeMap::new();
    for (key, value) in (0..batches).flat_map(|n| batch(n).ledger) {
        match value {
            Some(value) => ledger.insert(key, value),
            None => ledger.remove(&key),
        };
    }
    ledger.into_iter().collect()
}

/// Commits the batches up to `batches` that are missing.
fn fill(store: &mut Store, batches: i64) {
    for n in store.ledger_offset().unwrap_or(0)..batches {
        store.commit(batch(n)).expect("a commit");
    }
}

/// Checks that the store has the contents of `batches` batches.
fn check(store: &Store, batches: i64) -> Result<(), StoreError> {
    // Older versions of a record that was written again may be read as well.
    let (ledger, after): (BTreeSet<_>, BTreeSet<_>) =
        (read(store)?.into_iter().collect(), ledger_after(batches).into_iter().collect());
    assert!(after.is_subset(&ledger), "records are lost after {batches} batches");
    let keys =
        |ledger: &BTreeSet<KeyValue>| ledger.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
    assert_eq!(keys(&ledger), keys(&after), "after {batches} batches");
    let events = usize::try_from(batches * 40).unwrap_or(0);
    for event in (0..batches * 40).step_by(events / 300 + 1) {
        let found = store.find(&id(event))?;
        assert_eq!(found, [(event, DecisionRef { partition: 0, offset: event })]);
    }
    assert!(store.find(&id(batches * 40))?.is_empty());
    Ok(())
}

fn child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "faults::child_writes_until_it_is_stopped", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Not a test, but the program that the tests start and kill.
#[test]
fn child_writes_until_it_is_stopped() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let (mut store, _) = Store::open(Path::new(&folder)).expect("a store");
    println!("\nopened");
    for n in store.ledger_offset().unwrap_or(0).. {
        if let Err(error) = store.commit(batch(n)) {
            println!("failed {}: {error}", error.name());
            drop(store);
            println!("dropped");
            return;
        }
        println!("committed {}", n + 1);
    }
}

#[test]
fn nothing_that_was_committed_is_lost_to_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut found = 0;
    for round in 0..12 {
        let mut child = child(folder.path()).spawn().expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        // The child is killed during a later commit, a little later in each round.
        let committed: Vec<i64> = lines
            .map(|line| line.expect("a line"))
            .filter_map(|line| line.strip_prefix("committed ").map(|n| n.parse().expect("a number")))
            .take(3 + round * 5)
            .collect();
        child.kill().expect("killed");
        child.wait().expect("ended");
        let last = committed.last().copied().expect("it has committed something");
        let (store, opened) = Store::open(folder.path()).expect("a store");
        match opened {
            Opened::Found => {
                found += 1;
                let offset = store.ledger_offset().expect("an offset");
                assert!(offset >= last, "{offset} after {last} had been acknowledged");
                check(&store, offset).expect("a whole store");
            }
            Opened::Rebuilt { why } => {
                // sled has lost records, and the store has detected it, as it guarantees.
                println!("rebuilt: {why}");
                assert_eq!(store.ledger_offset(), None);
            }
            Opened::Fresh => panic!("the loss was not detected"),
        }
    }
    assert!(found > 0, "rebuilt every time");
}

/// Returns all files of sled, with their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("sled")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("its size");
            if meta.is_dir() { folders.push(entry.path()) } else { found.push((entry.path(), meta.len())) }
        }
    }
    found.sort();
    found
}

fn filled() -> (tempfile::TempDir, i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(folder.path()).expect("a store");
    fill(&mut store, 120);
    (folder, 120)
}

/// Opens sled. Its threads release the lock of a closed store a moment later, without a notice.
fn sled(folder: &Path) -> sled::Db {
    let open = || sled::open(folder.join("sled"));
    for _ in 0..250 {
        match open() {
            Err(sled::Error::Io(_)) => std::thread::sleep(Duration::from_millis(20)),
            other => return other.expect("sled"),
        }
    }
    open().expect("sled")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).map(drop).expect("copied")
        }
    }
}

/// Checks that the damage of a store is detected when it is opened or read, or changed nothing, or that the store is
/// consistent as of an earlier commit. Then commits everything that is missing. Returns the outcome.
fn outcome_of(folder: &Path, batches: i64) -> &'static str {
    let (store, opened) = Store::open(folder).expect("a store");
    let outcome = match opened {
        Opened::Fresh => panic!("the loss was not detected"),
        Opened::Rebuilt { .. } => {
            check(&store, 0).expect("an empty store");
            "rebuilt"
        }
        Opened::Found => match check(&store, store.ledger_offset().unwrap_or(0)) {
            Ok(()) if store.ledger_offset() == Some(batches) => "unharmed",
            Ok(()) => "earlier",
            Err(StoreError::Corrupt { why }) => {
                let (mut store, opened) = store.rebuild(&why).expect("a fresh store");
                assert_eq!(opened, Opened::Rebuilt { why });
                fill(&mut store, batches);
                check(&store, batches).expect("a whole store");
                return "found when read";
            }
            Err(other) => panic!("{other}"),
        },
    };
    let mut store = store;
    fill(&mut store, batches);
    check(&store, batches).expect("a whole store");
    outcome
}

#[test]
fn flipped_bytes_are_found() {
    let (filled, batches) = filled();
    let mut outcomes = BTreeMap::<_, u32>::new();
    for (path, size) in files(filled.path()).into_iter().filter(|(_, size)| *size > 0) {
        let inside = path.strip_prefix(filled.path()).expect("inside").to_owned();
        for part in 0..14 {
            let folder = tempfile::tempdir().expect("a folder");
            copy(filled.path(), folder.path());
            let mut bytes = fs::read(&path).expect("a file");
            let at = usize::try_from(size * part / 14 + part * 13).unwrap() % bytes.len();
            bytes[at] ^= 0x40;
            fs::write(folder.path().join(&inside), bytes).expect("written");
            *outcomes.entry(outcome_of(folder.path(), batches)).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.keys().any(|outcome| *outcome != "unharmed"), "{outcomes:?}");
}

#[test]
fn cut_files_are_found() {
    let (filled, batches) = filled();
    let mut outcomes = BTreeMap::<_, u32>::new();
    for (path, size) in files(filled.path()).into_iter().filter(|(_, size)| *size > 0) {
        let inside = path.strip_prefix(filled.path()).expect("inside").to_owned();
        for part in [0, 1, 4, 7, 9] {
            let folder = tempfile::tempdir().expect("a folder");
            copy(filled.path(), folder.path());
            let file = fs::OpenOptions::new().write(true).open(folder.path().join(&inside)).expect("a file");
            file.set_len(size * part / 10).expect("cut");
            *outcomes.entry(outcome_of(folder.path(), batches)).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.contains_key("rebuilt"), "{outcomes:?}");
}

/// Damage that sled does not detect is found by checksums and tallies.
#[test]
fn what_sled_lost_or_mixed_up_is_found() {
    let trees = ["ledger", "shelves", "catalogue", "blocks", "meta"];
    let flip: fn(&sled::Tree) = |tree| {
        let (key, value) = tree.first().unwrap().expect("a record");
        let mut value = value.to_vec();
        *value.last_mut().expect("a byte") ^= 1;
        tree.insert(key, value).unwrap();
    };
    let lose: fn(&sled::Tree) = |tree| drop(tree.pop_max().unwrap().expect("a record"));
    let mix: fn(&sled::Tree) = |tree| {
        let (first, value) = tree.first().unwrap().expect("a record");
        let (last, other) = tree.last().unwrap().expect("a record");
        tree.insert(first, other).unwrap();
        tree.insert(last, value).unwrap();
    };
    let double: fn(&sled::Tree) = |tree| {
        let (_, value) = tree.first().unwrap().expect("a record");
        tree.insert(b"\xff\xff", value).unwrap();
    };
    let damages = [("flip", flip), ("lose", lose), ("mix", mix), ("double", double)];
    for (tree, (name, damage)) in trees.iter().flat_map(|tree| damages.map(|damage| (*tree, damage))) {
        // A single record cannot be exchanged with another. An additional block, chunk or meta record has no effect.
        if matches!((tree, name), ("meta", "mix" | "double") | ("blocks" | "shelves", "double")) {
            continue;
        }
        let (filled, batches) = filled();
        let db = sled(filled.path());
        damage(&db.open_tree(tree).expect("a tree"));
        drop(db);
        let found = match Store::open(filled.path()).expect("a store") {
            (_, Opened::Rebuilt { .. }) => true,
            (store, _) => {
                // All events are looked up, so that every block is read.
                let index = (0..batches * 40).try_for_each(|event| store.find(&id(event)).map(drop));
                let corrupt = |read| matches!(read, Err(StoreError::Corrupt { .. }));
                let ledger = ["ledger", "shelves"].contains(&tree);
                assert_eq!(corrupt(read(&store).map(drop)), ledger, "{name} in {tree}");
                ledger || corrupt(index)
            }
        };
        assert!(found, "{name} in {tree}");
    }
}

/// A stale ledger record with a valid checksum is detected by the tally.
#[test]
fn a_stale_record_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(folder.path()).expect("a store");
    let put = |value: &[u8]| WriteBatch {
        ledger: vec![(b"key".to_vec(), Some(value.to_vec()))],
        ..WriteBatch::default()
    };
    let raw = || sled(folder.path()).open_tree("ledger").expect("a tree");
    store.commit(put(b"old")).expect("a commit");
    drop(store);
    let old = raw().get(b"key").unwrap().expect("a record");
    let (mut store, _) = Store::open(folder.path()).expect("a store");
    store.commit(put(b"new")).expect("a commit");
    drop(store);
    raw().insert(b"key", old).unwrap();
    let (store, opened) = Store::open(folder.path()).expect("a store");
    assert_eq!(opened, Opened::Found);
    assert!(matches!(read(&store), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_deleted_database_is_noticed() {
    let (filled, batches) = filled();
    fs::remove_dir_all(filled.path().join("sled")).expect("removed");
    assert_eq!(outcome_of(filled.path(), batches), "rebuilt");
}

#[test]
fn another_format_is_rebuilt_and_says_so() {
    let (filled, _) = filled();
    fs::write(filled.path().join("format"), "aegis store, format 250\n").expect("written");
    let (store, opened) = Store::open(filled.path()).expect("a store");
    assert!(matches!(opened, Opened::Rebuilt { why } if why.contains("format 250")));
    check(&store, 0).expect("an empty store");
}

#[test]
fn a_folder_has_one_store_at_a_time_and_is_not_touched_by_a_second() {
    let (filled, batches) = filled();
    let (store, opened) = Store::open(filled.path()).expect("a store");
    assert_eq!(opened, Opened::Found);
    let second = Store::open(filled.path()).expect_err("two stores");
    assert_eq!(second.name(), "Locked");
    check(&store, batches).expect("a whole store");
}

#[test]
fn what_else_is_in_the_folder_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), "years of work").expect("written");
    let (store, _) = Store::open(folder.path()).expect("a store");
    store.rebuild("a test").expect("a fresh store");
    assert_eq!(fs::read(folder.path().join("thesis.txt")).expect("still there"), b"years of work");
}

/// A limit on the size of the child's files replaces a full disk.
#[test]
fn a_full_disk_is_an_error_and_what_was_committed_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let this = std::env::current_exe().expect("this program");
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""; // blocks of 512 bytes
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(this)
        .args(["--exact", "faults::child_writes_until_it_is_stopped", "--nocapture", "--test-threads=1"])
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
