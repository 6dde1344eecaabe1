//! Offline replay from JSON lines, as whole processes: `cargo bench --bench replay [-- LINES [ROUNDS]]`.
//!
//! The file is random: eight experts of different accuracy, which abstain once in fifty rounds, and features of the
//! usual length. The benchmark measures reading and folding, and not the learner's accuracy.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The number of bytes of a text's features.
const FEATURES: usize = 384;
const EXPERTS: [&str; 8] = [
    "judge-small",
    "judge-base",
    "judge-large",
    "judge-huge",
    "instruct-seven",
    "chat-seven",
    "instruct-eight",
    "guard-one",
];

/// Writes a file of this many lines, with or without features, and returns its size in bytes.
fn write(path: &Path, lines: usize, features: bool) -> usize {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::new();
    for line in 0..lines {
        let is_unsafe = random.f64() < 0.4;
        let mut vote = |expert: usize| {
            let right = random.f64() < 0.6 + 0.03 * expert as f64;
            let abstains = random.f64() < 0.02;
            if abstains {
                "null"
            } else if right == is_unsafe {
                "1"
            } else {
                "0"
            }
        };
        let votes: Vec<String> =
            EXPERTS.iter().enumerate().map(|(place, name)| format!("\"{name}\": {}", vote(place))).collect();
        let votes = votes.join(", ");
        write!(text, "{{\"event_id\": \"drawn-{line}\", \"votes\": {{{votes}}}, \"unsafe\": {is_unsafe}")
            .unwrap();
        if features {
            // Whitened coordinates: most are small.
            let bytes: Vec<u8> =
                (0..FEATURES).map(|_| (random.i8(-60..=60) / 2 + random.i8(-60..=60) / 2) as u8).collect();
            let encoder = "00".repeat(32);
            write!(text, ", \"encoder\": \"{encoder}\", \"features\": \"{}\"", BASE64_STANDARD.encode(bytes))
                .unwrap();
        }
        text.push_str("}\n");
    }
    std::fs::write(path, &text).expect("a file");
    text.len()
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (lines, rounds) = (numbers.first().copied().unwrap_or(300_000), numbers.get(1).copied().unwrap_or(5));
    let folder = tempfile::tempdir().expect("a folder");
    println!("{lines} lines, {rounds} rounds; lines a second and MB a second: median (least to greatest)");
    for (what, learner, features) in [
        ("Hedge", "hedge", false),
        ("default by votes alone", "default", false),
        ("default with features", "default", true),
    ] {
        let path = folder.path().join("rounds.jsonl");
        let bytes = write(&path, lines, features);
        let mut speeds: Vec<f64> = Vec::new();
        for _ in 0..rounds {
            let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
            command
                .arg("replay")
                .arg(&path)
                .args(["--learner", learner, "--json"])
                .arg(folder.path().join("out"));
            let started = Instant::now();
            let output = command.output().expect("aegis runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            speeds.push(lines as f64 / started.elapsed().as_secs_f64());
        }
        speeds.sort_by(f64::total_cmp);
        let (least, median, most) = (speeds[0], speeds[speeds.len() / 2], speeds[speeds.len() - 1]);
        let megabytes = median * bytes as f64 / lines as f64 / 1e6;
        println!("{what}: {median:.0} ({least:.0} to {most:.0}) lines/s, {megabytes:.0} MB/s");
    }
}
