//! A writer of batches that depend on their number, so that the contents of its store are known. It also runs as a
//! process that tests start and kill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use aegis::core::label::DecisionRef;
use aegis::core::ledger::RoundId;
use aegis::store::{DAY, IndexEntry, Store, StoreError, WriteBatch};

use crate::store_support::{KeyValue, read};

/// The variable that makes this test binary a writer, with the folder of its store.
pub const CHILD: &str = "AEGIS_TEST_STORE_CHILD";
/// The arguments with which this test binary only writes.
pub const CHILD_ARGUMENTS: [&str; 4] =
    ["--exact", "writer::child_writes_until_it_is_stopped", "--nocapture", "--test-threads=1"];

pub fn id(event: i64) -> RoundId {
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
pub fn fill(store: &mut Store, batches: i64) {
    for n in store.ledger_offset().unwrap_or(0)..batches {
        store.commit(batch(n)).expect("a commit");
    }
}

/// Checks that the store has the contents of `batches` batches.
pub fn check(store: &Store, batches: i64) -> Result<(), StoreError> {
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

pub fn child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(CHILD_ARGUMENTS).env(CHILD, folder).stdout(Stdio::piped()).stderr(Stdio::piped());
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
