//! Measures the store: `cargo bench --bench store [-- ENTRIES [PER_COMMIT]]`.
//!
//! Prints the size on disk of an index of ENTRIES decisions over thirty days, and the times of commits, lookups and
//! opening. Then prints the same for a ledger of a tenth as many records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aegis::core::label::DecisionRef;
use aegis::core::ledger::RoundId;
use aegis::store::{DAY, IndexEntry, Store, StoreError, WriteBatch};

fn id(event: u64) -> RoundId {
    RoundId { tenant: "tenant".into(), policy: "policy".into(), event: format!("event-{event}") }
}

fn print_times(label: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((times.len() - 1) as f64 * share) as usize;
        times[index]
    };
    println!("{label}: median {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let entries = numbers.first().copied().unwrap_or(1_000_000).max(1_000);
    let per_commit = numbers.get(1).copied().unwrap_or(500).max(1);
    let folder = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(folder.path()).expect("a store");
    println!("{entries} decisions over 30 days, {per_commit} a commit");

    let start = Instant::now();
    let mut commits = Vec::new();
    for first in (0..entries).step_by(usize::try_from(per_commit).expect("a size")) {
        let indexed: Vec<_> = (first..entries.min(first + per_commit))
            .map(|event| {
                let written = i64::try_from(event * 30_000 / entries).expect("a time") * DAY / 1_000;
                let offset = i64::try_from(event / 9).expect("an offset");
                let at = DecisionRef { partition: i32::try_from(event % 9).expect("a partition"), offset };
                IndexEntry::new(
                    &id(event),
                    written - i64::try_from(event % 5_000).expect("a delay"),
                    at,
                    written,
                )
            })
            .collect();
        let began = Instant::now();
        store.commit(WriteBatch { indexed, ..WriteBatch::default() }).expect("a commit");
        commits.push(began.elapsed());
    }
    print_times("commit", commits);
    println!("all commits: {:?}", start.elapsed());
    println!("{:?}", store.sizes());
    println!("bytes an entry: {}", store.sizes().disk_bytes / entries);

    let find = |store: &Store, label: &str| {
        let mut finds = Vec::new();
        for n in 0..5_000u64 {
            let id = id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries);
            let began = Instant::now();
            let found = store.find(&id).expect("an answer");
            finds.push(began.elapsed());
            assert_eq!(found.len(), 1);
        }
        print_times(label, finds);
    };
    find(&store, "find");
    drop(store);
    let began = Instant::now();
    let (mut store, _) = Store::open(folder.path()).expect("a store");
    println!("open: {:?}; {} bytes", began.elapsed(), store.sizes().disk_bytes);
    find(&store, "find after opening");

    let records = entries / 10;
    let mut commits = Vec::new();
    for first in (0..records).step_by(500) {
        let ledger = (first..records.min(first + 500))
            .map(|n| {
                let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (format!("tenant/policy/{n:016x}").into_bytes(), Some(n.to_le_bytes().repeat(65)))
            })
            .collect();
        let began = Instant::now();
        store.commit(WriteBatch { ledger, ..WriteBatch::default() }).expect("a commit");
        commits.push(began.elapsed());
    }
    println!("{records} ledger records of 520 bytes, 500 a commit");
    print_times("commit", commits);
    drop(store);
    let began = Instant::now();
    let (store, _) = Store::open(folder.path()).expect("a store");
    let opened = began.elapsed();
    let read = AtomicU64::new(0);
    let count = |records: &[(&[u8], &[u8])]| {
        read.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok::<_, StoreError>(())
    };
    store.read_ledger(|| count).expect("a consistent ledger");
    assert_eq!(read.into_inner(), records);
    println!("open: {opened:?}, with the ledger read: {:?}", began.elapsed());
    println!("{:?}", store.sizes());
}
