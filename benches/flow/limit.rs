//! The limit: a bare loop with the same ONNX Runtime and the same tokens, with all texts sorted beforehand and the
//! fastest number of sessions and threads. It reads, decides and writes no records.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;

use crate::process::cpu_of;
use crate::texts::tokenizer;

/// The argument that makes this program the loop: `limit TEXTS MODELS HEAD THREADS`, with as many sessions of `THREADS`
/// threads as the cores allow. It prints the texts per second, and the CPU time per text in microseconds.
pub const WORD: &str = "limit";

/// The maximum number of padded tokens of a batch.
const BUDGET: usize = 256;
const ROWS: usize = 32;

/// Cuts sorted texts into batches whose number of rows times their longest text stays within the budget.
fn cut(rows: &[Vec<i64>]) -> Vec<&[Vec<i64>]> {
    let mut batches = Vec::new();
    let mut from = 0;
    for to in 1..=rows.len() {
        let full = rows.get(to).is_none_or(|next| next.len() * (to - from + 1) > BUDGET) || to - from == ROWS;
        if full {
            batches.push(&rows[from..to]);
            from = to;
        }
    }
    batches
}

fn session(
    environment: &ort::environment::Environment,
    models: &Path,
    name: &str,
    threads: usize,
) -> Session {
    let builder = Session::builder(environment).expect("a builder");
    let builder = builder.with_optimization_level(GraphOptimizationLevel::Level3).expect("a level");
    let builder =
        builder.with_intra_threads(threads).expect("a thread").with_inter_threads(1).expect("a thread");
    let builder = builder.with_intra_op_spinning(false).expect("no spinning");
    let mut builder = builder.with_memory_pattern(false).expect("no patterns");
    let bytes = fs::read(models.join(name).join("model.onnx")).expect("a graph");
    builder.commit_from_memory(&bytes).expect("a session")
}

fn score(encoder: &mut Session, head: &mut Session, batch: &[Vec<i64>]) -> usize {
    let longest = batch.iter().map(Vec::len).max().unwrap_or(0);
    let shape = [batch.len(), longest];
    let filled = |of: fn(i64) -> i64, rest: i64| {
        let padded = batch.iter().flat_map(|row| {
            row.iter().map(move |&id| of(id)).chain(std::iter::repeat_n(rest, longest - row.len()))
        });
        Tensor::from_array((shape, padded.collect::<Vec<i64>>())).expect("a tensor")
    };
    let (ids, mask) = (filled(|id| id, 0), filled(|_| 1, 0));
    let outputs = encoder.run(ort::inputs! { "input_ids" => ids, "attention_mask" => mask }).expect("a run");
    let (shape, embedding) = outputs["embedding"].try_extract_tensor::<f32>().expect("an embedding");
    let embedding = Tensor::from_array((shape.to_vec(), embedding.to_vec())).expect("a tensor");
    let scores = head.run(ort::inputs! { "embedding" => embedding }).expect("a run");
    scores["scores"].try_extract_tensor::<f32>().expect("scores").1.len()
}

/// Runs all texts once and prints the rate.
#[expect(clippy::cast_precision_loss, reason = "texts are few")]
pub fn run(words: &[String]) {
    let [_, texts, models, head, threads, ..] = words else { panic!("limit TEXTS MODELS HEAD THREADS") };
    let threads: usize = threads.parse().expect("threads");
    let models = Path::new(models);
    let texts = fs::read_to_string(texts).expect("texts");
    let tokenizer = tokenizer(models);
    let ids = |text| {
        let encoding = tokenizer.encode(text, true).expect("tokens");
        encoding.get_ids().iter().map(|&id| i64::from(id)).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<i64>> = texts.lines().map(ids).collect();
    rows.sort_by_key(Vec::len);
    let mut batches = cut(&rows);
    // The most expensive batches run first, so that the sessions end at about the same time.
    batches.reverse();
    let environment = ort::init_from(models.join("runtime/libonnxruntime.so")).expect("the runtime");
    let environment = environment.with_telemetry(false).build().expect("an environment");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let load = |name: &str| session(&environment, models, name, threads);
    let mut sessions: Vec<_> = (0..cores / threads).map(|_| (load("minilm"), load(head))).collect();
    for (encoder, head) in &mut sessions {
        score(encoder, head, &rows[..1]);
    }
    let next = AtomicUsize::new(0);
    let before = cpu_of(std::process::id());
    let started = Instant::now();
    thread::scope(|scope| {
        for (encoder, head) in &mut sessions {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    score(encoder, head, batch);
                }
            });
        }
    });
    let rate = rows.len() as f64 / started.elapsed().as_secs_f64();
    println!("{rate} {}", (cpu_of(std::process::id()) - before) / rows.len() as f64 * 1e6);
}
