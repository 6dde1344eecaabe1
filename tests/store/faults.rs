//! Faults of the store's folder: killed writers, truncated and changed files, other formats.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis::store::{Opened, Store, StoreError, WriteBatch};

use crate::store_support::read;
use crate::writer::{check, child, fill, id};

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
