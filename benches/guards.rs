//! Compares ways to run a guard on the bundled SmolLM2: `cargo bench --bench guards -- [ROUNDS]`. With `cuda` everything runs
//! on the first NVIDIA GPU, with ONNX Runtime's library from `models/cuda`.
//!
//! 1. A policy of about 900 tokens with a text of 60: the panel, which reads the text behind the cached policy, against
//!    the runtime alone on the whole prompt.
//! 2. Texts of mixed lengths: batches sorted within a token budget, as the panel forms them, against batches of eight in
//!    the order of arrival and against texts one by one, all of them by the same session behind the same cache.
//!
//! All have one session of one thread, and run in turn, so that other work on the machine slows all of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use aegis::core::event::Conversation;
use aegis::core::vote::Outcome;
use aegis::experts::batcher::Limits;
use aegis::experts::{Panel, PanelConfig, Provider, environment};
use aegis::guards::{GuardSpec, GuardTokenizer};
use ort::ep;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::Tensor;
use sha2::{Digest, Sha256};

/// The tokens of the policy with its prompt, about.
const PREFIX: usize = 900;
/// The tokens behind it.
const TEXT: usize = 60;
/// The texts of mixed lengths.
const TEXTS: usize = 48;
/// Rows of a batch in the order of arrival.
const ARRIVAL_ROWS: usize = 8;
/// The greatest number of tokens of a prompt.
const MAX_TOKENS: usize = 2_048;
/// Words of one token each.
const WORDS: &str = "time year people way day man thing woman life child world school state family student group \
    country problem hand part place case week company system program question work government number night";
const SPEC: &str = include_str!("../experts/guards/aegis-small.toml");

/// A device that runs the guard.
struct Device {
    provider: Provider,
    /// The path of ONNX Runtime's library in the models' folder.
    library: &'static str,
    /// The budget of a batch, in padded tokens.
    tokens: usize,
    /// The greatest difference of P(unsafe) between two ways to read a prompt.
    tolerance: f64,
}

const CPU: Device =
    Device { provider: Provider::Cpu, library: "runtime/libonnxruntime.so", tokens: 256, tolerance: 1e-5 };
const GPU: Device = Device {
    provider: Provider::Cuda { device: 0, memory_limit: None },
    library: "cuda/libonnxruntime.so",
    tokens: 16_384,
    tolerance: 1e-4,
};

fn models() -> PathBuf {
    std::env::var_os("AEGIS_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from)
}

fn words(count: usize, rng: &mut fastrand::Rng) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    (0..count).map(|_| words[rng.usize(..words.len())]).collect::<Vec<_>>().join(" ")
}

/// Returns the spec with a policy of about [`PREFIX`] tokens, which votes however likely the verdict's words are.
fn spec() -> (String, String) {
    let spec = SPEC.replace("off_template_limit = 0.5", "off_template_limit = 1.0");
    let own = words(PREFIX - 70, &mut fastrand::Rng::with_seed(4));
    (spec, own)
}

/// Writes the expert's folder.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let guard = folder.path().join("guard");
    std::fs::create_dir(&guard).unwrap();
    let mut files = Vec::new();
    for name in ["model.onnx", "tokenizer.json"] {
        let file = models().join("smollm2").join(name);
        let bytes = std::fs::read(&file).expect("make setup builds models/smollm2");
        let digest = Sha256::digest(&bytes);
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        std::os::unix::fs::symlink(file, guard.join(name)).unwrap();
        files.push(format!("file = \"{name}\"\nsha256 = \"{sha256}\"\n"));
    }
    let (spec, policy) = spec();
    std::fs::write(guard.join("spec.toml"), spec).unwrap();
    std::fs::write(guard.join("policy.txt"), policy).unwrap();
    let manifest = format!(
        "id = \"guard\"\nkind = \"guard\"\ndescription = \"d\"\nlicence = \"Apache-2.0\"\nsource = \"s\"\n\
         [model]\n{}[tokenizer]\n{}max_tokens = {MAX_TOKENS}\n[prompt]\nspec = \"spec.toml\"\npolicy = \"policy.txt\"\n",
        files[0], files[1]
    );
    std::fs::write(guard.join("manifest.toml"), manifest).unwrap();
    folder
}

impl Device {
    /// The limits of batches within the budget.
    fn limits(&self) -> Limits {
        Limits { tokens: self.tokens, rows: 32, overhead: 8 }
    }

    /// The panel of the guard, with these limits of batches.
    fn panel(&self, folder: &Path, limits: Limits) -> Panel {
        let config = PanelConfig {
            runtime: models().join(self.library),
            provider: self.provider.clone(),
            sessions: Some(1),
            batch: limits,
            cache: 0,
            require_all: true,
            ..PanelConfig::new(folder)
        };
        Panel::open(config).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The runtime alone.
struct Whole {
    session: Session,
    guard: GuardTokenizer,
    pasts: Vec<String>,
}

impl Whole {
    fn new(device: &Device) -> Self {
        let environment = environment(&models().join(device.library)).unwrap();
        let mut builder = Session::builder(&environment).unwrap().with_intra_threads(1).unwrap();
        if device.provider.is_card() {
            let cuda = ep::CUDA::default().with_tf32(false).build().error_on_failure();
            builder = builder.with_execution_providers([cuda]).unwrap();
        }
        let session = builder.commit_from_file(models().join("smollm2/model.onnx")).unwrap();
        let tokenizer = std::fs::read(models().join("smollm2/tokenizer.json")).unwrap();
        let (spec, policy) = spec();
        let spec = GuardSpec::parse(&spec).unwrap().with_policy_text(&policy).unwrap();
        let guard = GuardTokenizer::new(spec, &tokenizer).unwrap();
        let names = session.inputs().iter().map(|input| input.name().to_owned());
        let pasts = names.filter(|name| name.starts_with("past")).collect();
        Self { session, guard, pasts }
    }

    /// Reads a whole prompt. Returns P(unsafe), and the tokens of the prompt's prefix and behind it.
    fn read(&mut self, text: &str) -> (f64, usize, usize) {
        let prompt = self.guard.encode(&Conversation::of_text(text), MAX_TOKENS).unwrap();
        let prefix = self.guard.prefix(prompt.role_prefix);
        let ids: Vec<i64> = prefix.iter().chain(&prompt.ids).map(|&id| i64::from(id)).collect();
        let count = i64::try_from(ids.len()).unwrap();
        let row = |values: Vec<i64>| Tensor::from_array(([1, values.len()], values)).unwrap().into();
        let mut inputs: Vec<(String, SessionInputValue<'_>)> = vec![
            ("attention_mask".to_owned(), row(vec![1; ids.len()])),
            ("position_ids".to_owned(), row((0..count).collect())),
            ("input_ids".to_owned(), row(ids)),
        ];
        for name in &self.pasts {
            let empty = Tensor::<f32>::from_array(([1_usize, 3, 0, 64], Vec::new())).unwrap();
            inputs.push((name.clone(), empty.into()));
        }
        let options = RunOptions::new().unwrap().with_outputs(OutputSelector::no_default().with("logits"));
        let outputs = self.session.run_with_options(inputs, &options).unwrap();
        let (_, logits) = outputs["logits"].try_extract_tensor::<f32>().unwrap();
        let mass = |ids: &[u32]| ids.iter().map(|&id| f64::from(logits[id as usize]).exp()).sum::<f64>();
        let verdict = self.guard.verdict();
        let (harmful, safe) = (mass(&verdict.harmful), mass(&verdict.safe));
        (harmful / (harmful + safe), prefix.len(), prompt.ids.len())
    }
}

/// Asks about texts. Returns the scores and the time.
fn ask(panel: &Panel, texts: &[String], at_once: usize) -> (Vec<f64>, f64) {
    let started = Instant::now();
    let answers = texts.chunks(at_once).flat_map(|texts| panel.ask(texts));
    let score = |vote: &aegis::core::vote::Vote| match &vote.outcome {
        Outcome::Voted { score, .. } => *score,
        Outcome::Abstained(reason) => panic!("abstained: {}", reason.word()),
    };
    let scores = answers.map(|answer| score(&answer.votes[0])).collect();
    (scores, started.elapsed().as_secs_f64())
}

/// Returns the median, with the least and the greatest value.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn cached_prefix(device: &Device, folder: &Path, rounds: usize) {
    let panel = device.panel(folder, device.limits());
    let mut whole = Whole::new(device);
    let (mut rng, mut ratios, mut cached, mut full) = (fastrand::Rng::with_seed(5), vec![], vec![], vec![]);
    let (mut prefix, mut behind) = (0, 0);
    for round in 0..=rounds {
        let text = words(TEXT - 12, &mut rng);
        let (scores, behind_cache) = ask(&panel, std::slice::from_ref(&text), 1);
        let started = Instant::now();
        let (p, prefix_tokens, tokens) = whole.read(&text);
        let took = started.elapsed().as_secs_f64();
        let difference = (p - scores[0]).abs();
        assert!(difference < device.tolerance, "{p} whole, {} behind the cached prefix", scores[0]);
        (prefix, behind) = (prefix_tokens, tokens);
        // The first round warms both up.
        if round > 0 {
            ratios.push(took / behind_cache);
            cached.push(behind_cache * 1e3);
            full.push(took * 1e3);
        }
    }
    println!("one text of {behind} tokens behind a prefix of {prefix}, one thread:");
    println!("  whole prompt {} ms, behind the cached prefix {} ms", spread(full), spread(cached));
    println!("  ratio {}", spread(ratios));
}

fn batches(device: &Device, folder: &Path, rounds: usize) {
    let mut rng = fastrand::Rng::with_seed(6);
    // As in a chat: the median is 18 words, and a few texts are much longer.
    let mut length = || {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        ((18.0 * (1.58 * normal).exp()) as usize).clamp(3, 500)
    };
    let lengths: Vec<usize> = (0..TEXTS).map(|_| length()).collect();
    let texts: Vec<String> = lengths.iter().map(|&length| words(length, &mut rng)).collect();
    let sorted = device.panel(folder, device.limits());
    let any = Limits { tokens: usize::MAX / 2, rows: ARRIVAL_ROWS, overhead: usize::MAX / 4_096 };
    let arrival = device.panel(folder, any);
    let (mut speeds, mut to_arrival, mut to_one) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (scores, in_budget) = ask(&sorted, &texts, texts.len());
        let (others, in_order) = ask(&arrival, &texts, ARRIVAL_ROWS);
        let (alone, one_by_one) = ask(&sorted, &texts, 1);
        for ((a, b), c) in scores.iter().zip(&others).zip(&alone) {
            let difference = (a - b).abs().max((a - c).abs());
            assert!(difference < device.tolerance, "{a}, {b} and {c} for one text");
        }
        speeds.push(TEXTS as f64 / in_budget);
        to_arrival.push(in_order / in_budget);
        to_one.push(one_by_one / in_budget);
    }
    let (longest, all) = (lengths.iter().max().unwrap(), lengths.iter().sum::<usize>());
    println!(
        "{TEXTS} texts of {} words on average, at most {longest}, one session of one thread:",
        all / TEXTS
    );
    println!("  sorted, at most {} padded tokens: {} texts/s", device.tokens, spread(speeds));
    println!(
        "  ratio to batches of {ARRIVAL_ROWS} in order of arrival {}, to one by one {}",
        spread(to_arrival),
        spread(to_one)
    );
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let device = if std::env::args().any(|argument| argument == "cuda") { GPU } else { CPU };
    let folder = folder();
    cached_prefix(&device, folder.path(), rounds);
    batches(&device, folder.path(), rounds);
}
