//! A benchmark of the fold in memory: `cargo bench --bench fold [-- ROUNDS]`.
//!
//! It folds ten million rounds with Hedge, applies a label 100,000 rounds late for three learners, and reports the
//! memory of a round and of the checkpoints. Times are CPU times of one core if the system reports them, and the counts
//! are deterministic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aegis::core::features::DIMENSIONS;
use aegis::core::fold::{DEFAULT_MEMORY, Fold, Settings};
use aegis::core::label::{DecisionRef, Finding, Label, Mapping};
use aegis::core::learners::RoundInput;
use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundId};
use aegis::core::ledger_state::{LedgerState, Score, VotesEntry};

/// The CPU time of this thread, so that other programs do not count.
struct Clock(Duration);

impl Clock {
    fn now() -> Duration {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let run = stat.split(' ').next().and_then(|ns| ns.parse().ok());
        run.map_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap(), Duration::from_nanos)
    }

    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }
}

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "counts what the system's allocator is asked for")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        HELD.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        HELD.fetch_add(size, Relaxed);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const EXPERTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn label(event: &str, number: u64) -> Record {
    let round = RoundId { tenant: "t".to_owned(), policy: "p".to_owned(), event: event.to_owned() };
    let verdict = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
    let label = Label::new(&round, event, verdict);
    Record::Label(LabelRecord { label, received: 0, status: LabelStatus::Accepted })
}

/// Returns a ledger of rounds in order. The label number `late` from the end is missing.
fn ledger(rounds: u64, features: bool, late: Option<u64>) -> LedgerState {
    let mut ledger = LedgerState::new();
    let policy = ledger.policy("p");
    let panel = ledger.panel(policy, EXPERTS.iter().copied()).unwrap();
    let mut seed = 1u64;
    let mut bytes = [0i8; DIMENSIONS];
    let mut changes = Vec::new();
    for number in 0..rounds {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let scores = EXPERTS.map(|_| Score::new(Some((next() % 101) as f64 / 100.0), false).unwrap());
        if features {
            bytes.iter_mut().for_each(|byte| *byte = next() as i8);
        }
        let event = format!("event-{number:012}");
        let votes = VotesEntry {
            subject: None,
            round_time: number as i64,
            decision: DecisionRef { partition: 0, offset: number as i64 },
            panel,
            scores: &scores,
            features: features.then_some((&[1; 32], &bytes)),
        };
        let row = ledger.intern(policy, "t", &event).unwrap();
        ledger.insert_votes(policy, row, &votes, &mut changes).unwrap();
        if late != Some(rounds - number) {
            let record = label(&event, number);
            let Record::Label(filed) = &record else { unreachable!() };
            ledger.insert_label(policy, row, &filed.into(), &mut changes).unwrap();
        }
        changes.clear();
    }
    ledger
}

fn settings(learner: &str, tally: bool) -> Settings {
    Settings { tally, ..Settings::new("p", learner.parse().unwrap(), Mapping::default()) }
}

fn main() {
    let given = std::env::args().filter_map(|word| word.parse().ok()).next();
    let rounds: u64 = given.unwrap_or(10_000_000);
    let before = HELD.load(Relaxed);
    let begun = Clock::start();
    let held = ledger(rounds, false, None);
    let bytes = (HELD.load(Relaxed) - before) as f64 / rounds as f64;
    println!(
        "ledger of {rounds} rounds: {:.2?} to fill, {bytes:.0} bytes a round with eight votes",
        begun.elapsed()
    );
    for tally in [false, true] {
        let mut fold = Fold::new(settings("hedge eta=0.5", tally));
        let begun = Clock::start();
        fold.mark_all_changed(&held);
        fold.reorder(&held).unwrap();
        let settled = begun.elapsed();
        let (begun, allocations) = (Clock::start(), ALLOCATIONS.load(Relaxed));
        fold.catch_up(&held).unwrap();
        let took = begun.elapsed();
        println!(
            "hedge, {}: {rounds} rounds folded in {took:.2?} ({:.0} ns each), sorting {settled:.2?}; {} allocations; {:?}",
            if tally { "with figures" } else { "state only" },
            took.as_nanos() as f64 / rounds as f64,
            ALLOCATIONS.load(Relaxed) - allocations,
            fold.progress(),
        );
    }
    plain(rounds);
    drop(held);
    for (learner, features, limit) in
        [("hedge eta=0.5", false, 50), ("default", false, 400), ("default", true, 900)]
    {
        late(learner, features, limit);
    }
}

/// Runs the same learner on one row in cache, without ledger and fold.
fn plain(rounds: u64) {
    let mut learner = settings("hedge eta=0.5", false).learner.build(&EXPERTS, "p").unwrap();
    let votes = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
    let begun = Clock::start();
    let mut sum = 0.0;
    for number in 0..rounds {
        let sight = RoundInput { votes: &votes, features: None, event: "" };
        sum += learner.step(&sight, f64::from(number.is_multiple_of(3)));
    }
    let took = begun.elapsed();
    println!("hedge alone: {:.0} ns a step ({sum:.0})", took.as_nanos() as f64 / rounds as f64);
}

fn late(learner: &str, features: bool, limit: u128) {
    let (rounds, k) = (300_000, 100_000);
    let mut held = ledger(rounds, features, Some(k));
    let mut fold = Fold::new(settings(learner, true));
    fold.mark_all_changed(&held);
    fold.catch_up(&held).unwrap();
    let number = rounds - k;
    let mut changes = Vec::new();
    held.apply(&label(&format!("event-{number:012}"), number), &mut changes).unwrap();
    changes.iter().for_each(|change| fold.mark_changed(change));
    let begun = Clock::start();
    let steps = fold.reorder(&held).unwrap();
    fold.catch_up(&held).unwrap();
    let took = begun.elapsed();
    let hash_begun = std::time::Instant::now();
    let _ = fold.state_hash(&held);
    println!(
        "{learner}{}: a label {k} rounds late: {steps} steps, {:.1} ms (at most {limit}); hash {:.2?}; {} checkpoints, {} kB of {} MB",
        if features { " with features" } else { "" },
        took.as_secs_f64() * 1e3,
        hash_begun.elapsed(),
        fold.progress().checkpoints,
        fold.progress().checkpoint_bytes / 1000,
        DEFAULT_MEMORY >> 20,
    );
}
