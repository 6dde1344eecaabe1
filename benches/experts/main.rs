//! Compares the panel with the limit of the machine: `cargo bench --bench experts -- [TEXTS [ROUNDS]]`. With `memory`
//! it prints the memory of the whole panel before and after a burst of long texts. With `cuda` everything runs on the
//! first NVIDIA GPU, with ONNX Runtime's library from `models/cuda`. With `cuda compare` it compares the speed and the
//! votes of the whole panel there with those on the CPU.
//!
//! The limit is a bare loop over the same ONNX Runtime with the same tokens, which are known and sorted beforehand, and
//! with as many sessions of one thread as the panel has. It runs only the encoder: it reads no text, runs no head and
//! answers no caller. The panel gets the texts one by one, as it has room, and votes on each. Both run in turn, so that
//! other work on the machine slows both.

mod card;
mod device;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aegis::core::vote::{Abstention, Vote};
use aegis::experts::Panel;
use aegis::experts::batcher::{Batch, form};
use ort::session::Session;
use ort::value::Tensor;
use tokenizers::Tokenizer;

use crate::device::{CARD, Device, PROCESSOR};

/// Words of one token each.
const WORDS: &str = "time year people way day man thing woman life child world school state family student group \
    country problem hand part place case week company system program question work government number night \
    point home water room mother area money story fact month lot right study book eye job word business issue \
    side kind head house service friend father power hour game line end member law car city community name";
/// The greatest number of tokens of a text that the encoder reads.
const MOST: usize = 256;
/// The time that a text waits for others, the configuration's default.
const DELAY: Duration = Duration::from_millis(2);
const SIX: [&str; 6] = ["abuse", "harmful-request", "hate", "injection", "moderation", "sexism"];

fn models() -> PathBuf {
    std::env::var_os("AEGIS_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from)
}

/// Returns lengths in tokens, including the two special ones.
fn lengths(mix: &str, texts: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let mut normal = || (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    match mix {
        // Median 18, p95 243: log-normal, cut.
        "chat" => (0..texts).map(|_| ((18.0 * (1.582 * normal()).exp()) as usize).clamp(5, MOST)).collect(),
        "long" => (0..texts).map(|_| rng.usize(150..=MOST)).collect(),
        _ => vec![60; texts],
    }
}

/// Returns new texts of these lengths.
fn texts(lengths: &[usize], rng: &mut fastrand::Rng, seen: &mut HashSet<String>) -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    lengths
        .iter()
        .map(|&length| {
            loop {
                let text: Vec<&str> = (2..length).map(|_| words[rng.usize(..words.len())]).collect();
                let text = text.join(" ");
                if seen.insert(text.clone()) {
                    return text;
                }
            }
        })
        .collect()
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<i64> {
    let encoding = tokenizer.encode_fast(text, true).unwrap();
    encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
}

/// Runs the bare loop. Returns the texts per second.
fn limit(sessions: &mut [Session], tokens: &[Vec<i64>], batches: &[Batch]) -> f64 {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let shape = [batch.texts.len(), batch.longest];
                    let (mut ids, mut mask) = (Vec::new(), Vec::new());
                    for &text in &batch.texts {
                        let (row, pad) = (&tokens[text], batch.longest - tokens[text].len());
                        ids.extend(row.iter().copied().chain(std::iter::repeat_n(0, pad)));
                        mask.extend(std::iter::repeat_n(1_i64, row.len()));
                        mask.extend(std::iter::repeat_n(0_i64, pad));
                    }
                    let types = vec![0_i64; ids.len()];
                    let tensor = |values: Vec<i64>| Tensor::from_array((shape, values)).unwrap();
                    let mut inputs = vec![
                        ("input_ids", tensor(ids).into_dyn()),
                        ("attention_mask", tensor(mask).into_dyn()),
                    ];
                    if session.inputs().iter().any(|input| input.name() == "token_type_ids") {
                        inputs.push(("token_type_ids", tensor(types).into_dyn()));
                    }
                    let outputs = session.run(inputs).unwrap();
                    assert!(outputs.len() > 0);
                }
            });
        }
    });
    tokens.len() as f64 / started.elapsed().as_secs_f64()
}

/// Runs the panel's stream. Returns the texts per second, and the padded tokens divided by the real ones.
fn ours(panel: &Arc<Panel>, room: usize, texts: &[String]) -> (f64, f64) {
    let mut stream = panel.stream(room, DELAY).unwrap();
    let started = Instant::now();
    let (mut submitted, mut answered) = (0, 0);
    while answered < texts.len() {
        while submitted < texts.len() && stream.room() > 0 {
            stream.submit(submitted as u64, &texts[submitted]).unwrap();
            submitted += 1;
        }
        if let Some((_, answer)) = stream.next(Duration::from_secs(60)) {
            // An expert that weighs words may know none of a text. Any other abstention would be work that was not done.
            let reasons: Vec<_> = answer.votes.iter().filter_map(Vote::abstention).collect();
            assert!(reasons.iter().all(|reason| *reason == Abstention::NothingRead), "{reasons:?}");
            answered += 1;
        }
    }
    let speed = texts.len() as f64 / started.elapsed().as_secs_f64();
    let (real, padded) =
        stream.runs().iter().fold((0, 0), |(r, p), run| (r + run.real_tokens, p + run.padded_tokens));
    (speed, padded as f64 / real as f64)
}

/// Returns the median, with the least and the greatest value.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.3} ({:.3} to {:.3})", values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Returns a value of /proc/self/status in MiB.
fn resident(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).map_or(0, |kib| kib >> 10)
}

/// Prints the memory of all bundled experts on texts of 512 tokens, of which the encoder reads half.
fn memory(device: &Device) {
    let panel = device.panel(None);
    let before = resident("VmRSS");
    let (mut rng, mut seen) = (fastrand::Rng::with_seed(8), HashSet::new());
    let many = 2 * device.room;
    ours(&panel, device.room, &texts(&vec![512; many], &mut rng, &mut seen));
    println!(
        "resident: {before} MiB loaded, {} MiB after {many} texts of 512 tokens, at most {} MiB",
        resident("VmRSS"),
        resident("VmHWM")
    );
}

fn main() {
    let has_argument = |word: &str| std::env::args().any(|argument| argument == word);
    let device = if has_argument("cuda") { CARD } else { PROCESSOR };
    if has_argument("memory") {
        return memory(&device);
    }
    if has_argument("compare") {
        return card::compare();
    }
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (count, rounds) = (numbers.first().copied().unwrap_or(600), numbers.get(1).copied().unwrap_or(5));
    let (one, six) = (device.panel(Some(&SIX[3..4])), device.panel(Some(&SIX)));
    let mut sessions = device.sessions();
    let mut tokenizer = Tokenizer::from_file(models().join("minilm/tokenizer.json")).unwrap();
    tokenizer.with_padding(None).with_truncation(None).unwrap();

    println!(
        "{}: {count} texts, {rounds} rounds; ratios: median (least to greatest)",
        device.provider.word()
    );
    let mut seen = HashSet::new();
    for mix in ["chat", "chat, 30 % again", "long", "60 tokens"] {
        let mut rng = fastrand::Rng::with_seed(8);
        let kind = mix.split(',').next().unwrap_or(mix);
        let count = if kind == "long" { count.div_ceil(3) } else { count };
        let lengths = lengths(kind, count, &mut rng);
        let (mut ratios, mut sixes, mut speeds, mut padding) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            // Each round has texts of its own, because the panel would have cached those of the previous one.
            let mut texts = texts(&lengths, &mut rng, &mut seen);
            let tokens: Vec<Vec<i64>> = texts.iter().map(|text| tokens(&tokenizer, text)).collect();
            let found: Vec<usize> = tokens.iter().map(Vec::len).collect();
            assert_eq!(found, lengths, "a word is not one token");
            let bare = limit(&mut sessions, &tokens, &form(&found, &device.limits));
            if kind != mix {
                for place in 1..texts.len() {
                    if rng.f64() < 0.3 {
                        texts[place] = texts[rng.usize(..place)].clone();
                    }
                }
            }
            let (speed, padded) = ours(&one, device.room, &texts);
            let (heads, _) = ours(&six, device.room, &texts);
            speeds.push(bare);
            ratios.push(speed / bare);
            sixes.push(heads / speed);
            padding.push(padded);
        }
        println!(
            "{mix}: limit {} texts/s, one head {} of it, six heads {} of one, padding {}",
            spread(speeds),
            spread(ratios),
            spread(sixes),
            spread(padding)
        );
    }
}
