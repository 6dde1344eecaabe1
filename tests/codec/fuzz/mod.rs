//! Fuzz tests of every decoder: mutations of a committed corpus, with limits of CPU time and memory.
//!
//! By default each target gets a fixed number of executions from a fixed seed. `FUZZ_SECONDS=60` sets the time of each
//! target instead, `FUZZ_SEED` selects other mutations, and `FUZZ_TARGET` one target: docs/fuzzing.md.
#![allow(unsafe_code)] // required by a counting allocator

mod corpus;
mod mutate;
mod records;
mod rows;
mod targets;
mod texts;
mod weigh;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mutate::Mutator;
use targets::{TARGETS, Target};

/// The number of executions of a target without `FUZZ_SECONDS`.
const BOUNDED: u64 = 10_000;
/// The maximum CPU time of an execution.
const SLOW: Duration = Duration::from_secs(1);
/// The maximum memory of an execution beyond its input, in bytes.
const HEAVY: i64 = 64 << 20;
/// The maximum number of inputs with new outcomes that are kept for further mutations.
const KEPT: usize = 512;
/// The stack size of a decoder, which is that of the program's threads.
const STACK: usize = 2 << 20;

/// The end of a target's run.
#[derive(Clone, Copy)]
enum Until {
    Executions(u64),
    Time(Instant),
}

/// Returns the CPU time that this thread has used. Other processes do not change it.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Runs one input and checks its CPU time and memory.
fn execute(target: &Target, input: &[u8]) -> u64 {
    let run = || {
        let weight = weigh::begin();
        let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        (ran, weigh::peak(weight))
    };
    let began = Instant::now();
    let (ran, peak) = run();
    let mut time = Duration::ZERO;
    // The clock only selects the inputs to measure: reading the CPU time takes longer than most executions.
    if began.elapsed() > SLOW {
        let before = cpu_time();
        let _ = run();
        time = cpu_time() - before;
    }
    let wrong = match &ran {
        Err(_) => "panics".to_owned(),
        Ok(_) if time > SLOW => format!("takes {time:?} of CPU time"),
        Ok(_) if peak > HEAVY => format!("holds {peak} bytes"),
        Ok(outcome) => return *outcome,
    };
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
    fs::write(&kept, input).unwrap();
    panic!("{} {wrong} on {} bytes, kept in {}", target.name, input.len(), kept.display());
}

/// Mutates a target's corpus until the end. Returns the number of executions and of different outcomes.
fn fuzz(target: &Target, seed: u64, until: Until) -> (u64, usize) {
    let mut pool = corpus::of(target);
    let mut outcomes: HashSet<u64> = HashSet::new();
    for input in &pool {
        outcomes.insert(execute(target, input));
    }
    let given = pool.len();
    let mut mutator = Mutator::new(seed ^ corpus::hash(target.name));
    let (mut executions, mut input) = (given as u64, Vec::new());
    loop {
        match until {
            Until::Executions(count) if executions >= count => break,
            Until::Time(end) if executions.is_multiple_of(64) && Instant::now() >= end => break,
            _ => {}
        }
        mutator.next(&pool, &mut input);
        executions += 1;
        if outcomes.insert(execute(target, &input)) {
            // An input with a new outcome is mutated further.
            if pool.len() < given + KEPT {
                pool.push(input.clone());
            } else {
                let place = mutator.below(KEPT);
                pool[given + place].clone_from(&input);
            }
        }
    }
    (executions, outcomes.len())
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a whole number")))
}

#[test]
fn decoders_refuse_and_never_break() {
    let only = env::var("FUZZ_TARGET").ok().filter(|name| !name.is_empty());
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let seconds = number("FUZZ_SECONDS").map(Duration::from_secs);
    let wanted = |target: &&Target| only.as_ref().is_none_or(|only| *only == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    assert!(!targets.is_empty(), "FUZZ_TARGET names no target");
    let mut all = 0;
    for target in targets {
        let run = move || {
            let began = Instant::now();
            let until = seconds.map_or(Until::Executions(BOUNDED), |seconds| Until::Time(began + seconds));
            (fuzz(target, seed, until), began.elapsed())
        };
        let thread = thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
        let ((executions, outcomes), time) = thread.join().unwrap();
        let speed = executions as f64 / time.as_secs_f64();
        println!("{:<10} {executions:>12} executions {speed:>10.0}/s {outcomes:>6} outcomes", target.name);
        all += executions;
    }
    texts::clean();
    println!("{:<10} {all:>12} executions, seed {seed}", "all");
}

/// JSON that is short and large as a tree. The limits of the target also hold at the maximum size of a record and the
/// maximum number of values.
#[test]
fn trees_are_bounded() {
    let mapped = TARGETS.iter().find(|target| target.name == "mapped").unwrap();
    for part in [r#"{"":0}"#, r#"{"":{"":0}}"#, "[]", "0", r#""""#] {
        for count in [(4 << 20) / (part.len() + 1) - 2, 49_900, 33_200] {
            let record = format!(r#"{{"x":[{}]}}"#, vec![part; count].join(","));
            execute(mapped, record.as_bytes());
        }
    }
}
