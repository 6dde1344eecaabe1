//! How soon a learner has its ledger again: `cargo bench --bench restore [-- ROUNDS]`.
//!
//! The store is filled as the learner fills it from the ledger topic, with a round's votes and its label, then
//! opened and read as at a start, without brokers: `cargo bench --bench flow -- restart` is the whole, on Kafka.

#[path = "flow/rounds.rs"]
mod rounds;

use std::time::Instant;

use aegis::codec::{self, Encoding};
use aegis::config::Policies;
use aegis::core::fold::{Fold, Settings};
use aegis::learn::load_ledger;
use aegis::store::{Store, WriteBatch};

/// Records a commit, as the learner takes while it restores.
const CHUNK: usize = 10_000;

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Not in the process that is measured: its memory would count.
fn fill(folder: &std::path::Path, rounds: usize) {
    let (mut store, _) = Store::open(folder).expect("a store");
    let began = Instant::now();
    let mut records = (0..rounds).flat_map(rounds::round);
    let mut offset = 0;
    loop {
        let ledger: Vec<_> = records
            .by_ref()
            .take(CHUNK)
            .map(|record| {
                let value = codec::encode_record(&record, Encoding::Avro).expect("a record");
                (codec::encode_key(&record.key()), Some(value))
            })
            .collect();
        if ledger.is_empty() {
            break;
        }
        offset += i64::try_from(ledger.len()).expect("few");
        store
            .commit(WriteBatch { ledger, ledger_offset: Some(offset), ..WriteBatch::default() })
            .expect("a commit");
    }
    println!("filled in {:.1?}: {:?}", began.elapsed(), store.sizes());
}

fn read(folder: &std::path::Path) {
    let began = Instant::now();
    let (store, opened) = Store::open(folder).expect("a store");
    let open = began.elapsed();
    let book = load_ledger(&store).expect("a whole ledger");
    let read = began.elapsed();
    let policies = Policies::default();
    let policy = policies.get("default").expect("the default policy");
    let mut fold = Fold::new(Settings::new("default", policy.learner.clone(), policy.mapping.clone()));
    fold.all(&book);
    let touched = began.elapsed();
    fold.settle(&book).expect("a fold");
    let settled = began.elapsed();
    println!(
        "{opened:?}: open {open:.2?}, read {:.2?}, in all {read:.2?}; {} MiB at most",
        read.saturating_sub(open),
        peak_mib()
    );
    println!(
        "told to the fold {:.2?}, put in order {:.2?}",
        touched.saturating_sub(read),
        settled.saturating_sub(touched)
    );
    fold.catch_up(&book).expect("a fold");
    println!("folded {:.2?}", began.elapsed().saturating_sub(settled));
    let hash: String = fold.state_hash(&book).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    println!("state {hash}");
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let [_, what, folder, ..] = words.as_slice()
        && what == "read"
    {
        return read(folder.as_ref());
    }
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let folder = words.iter().find_map(|word| word.strip_prefix("in=")).map(std::path::PathBuf::from);
    let made = tempfile::tempdir().expect("a folder");
    let folder = folder.unwrap_or_else(|| made.path().to_owned());
    fill(&folder, rounds);
    for _ in 0..3 {
        let program = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(program).arg("read").arg(&folder).status().expect("it runs");
        assert!(status.success());
    }
}
