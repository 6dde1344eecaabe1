//! Measures the restore of the ledger from the store: `cargo bench --bench restore [-- ROUNDS]`.
//!
//! The store is filled as a learner fills it from the ledger topic, with the votes and the label of each round. Then it
//! is opened and read as at a start, without brokers. `cargo bench --bench flow -- restart` measures a start on Kafka.

#[path = "flow/rounds.rs"]
mod rounds;

use std::time::Instant;

use aegis::codec::{self, Encoding};
use aegis::config::Policies;
use aegis::core::fold::{Fold, Settings};
use aegis::learn::load_ledger;
use aegis::store::{Store, WriteBatch};

/// The number of records of a commit while a learner restores.
const COMMIT_RECORDS: usize = 10_000;

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Fills the store. This runs in another process than the measurement, whose memory it would increase.
fn fill(folder: &std::path::Path, rounds: usize) {
    let (mut store, _) = Store::open(folder).expect("a store");
    let began = Instant::now();
    let mut records = (0..rounds).flat_map(rounds::round);
    let mut offset = 0;
    loop {
        let ledger: Vec<_> = records
            .by_ref()
            .take(COMMIT_RECORDS)
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
    let state = load_ledger(&store).expect("a consistent ledger");
    let read = began.elapsed();
    let policies = Policies::default();
    let policy = policies.get("default").expect("the default policy");
    let mut fold = Fold::new(Settings::new("default", policy.learner.clone(), policy.mapping.clone()));
    fold.mark_all_changed(&state);
    let touched = began.elapsed();
    fold.reorder(&state).expect("a fold");
    let settled = began.elapsed();
    println!(
        "{opened:?}: open {open:.2?}, read {:.2?}, in all {read:.2?}; {} MiB at most",
        read.saturating_sub(open),
        peak_mib()
    );
    println!(
        "passed to the fold {:.2?}, put in order {:.2?}",
        touched.saturating_sub(read),
        settled.saturating_sub(touched)
    );
    fold.catch_up(&state).expect("a fold");
    println!("folded {:.2?}", began.elapsed().saturating_sub(settled));
    let hash: String = fold.state_hash(&state).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
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
