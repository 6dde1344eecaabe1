//! Processes events on a real Apache Kafka, exactly once, with the experts on an NVIDIA GPU and on the CPU, and
//! compares them with the Python consumers on the same GPU.

use std::path::Path;

use crate::inference::{HEAD, HEADS, Runner, peers};
use crate::shown;
use crate::texts::{Mix, texts};
use crate::throughput::Passage;

/// The factor by which the GPU gets more texts than the CPU, because it is much faster.
const MORE: usize = 10;

/// Runs one head, six heads, and the whole panel on both devices, interleaved.
pub fn run(rounds: usize, count: usize) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let library = format!("experts.runtime={}", models.join("cuda/libonnxruntime.so").display());
    let python = peers("requirements-cuda.txt");
    let runner = Runner { models: &models, mix: Mix::Chat, python: &python, card: true };
    let all = texts(&models, Mix::Chat, count * MORE, 1);
    println!("\nOn a GPU: chat mix, {} texts, a tenth of them on the CPU; {rounds} rounds", all.len());
    for (word, heads) in [("one", format!("\"{HEAD}\"")), ("six", HEADS.to_owned()), ("panel", String::new())]
    {
        let (mut on_card, mut on_processor) = (Vec::new(), Vec::new());
        let mut peers: Vec<(&str, Vec<Passage>)> = Vec::new();
        if word == "one" {
            peers.extend(["sorted", "queue", "plain"].map(|rule| (rule, Vec::new())));
        }
        for round in 0..rounds {
            let settings = [library.as_str(), "experts.provider=cuda", "score.window=4096"];
            on_card.push(runner.ours_with(&format!("card.{word}"), round, &all, &heads, &settings));
            let (some, cores) = (&all[..count], format!("cores.{word}"));
            on_processor.push(runner.ours_with(&cores, round, some, &heads, &settings[..1]));
            for (rule, passages) in &mut peers {
                passages.push(runner.peer(rule, round, &all));
            }
        }
        let ours = rates(&on_card);
        println!(
            "{word:<6} GPU {} texts/s, {} us CPU a message; CPU {} texts/s; GPU to CPU {}",
            shown(ours.clone(), 0),
            shown(on_card.iter().map(|passage| passage.micros).collect(), 0),
            shown(rates(&on_processor), 0),
            shown(ratio(&ours, &rates(&on_processor)), 2)
        );
        for (rule, passages) in &peers {
            println!(
                "peer on the GPU: {rule:<6} {} texts/s, {} us CPU a message; aegis to it: {}",
                shown(rates(passages), 0),
                shown(passages.iter().map(|passage| passage.micros).collect(), 0),
                shown(ratio(&ours, &rates(passages)), 2)
            );
        }
    }
}

fn rates(passages: &[Passage]) -> Vec<f64> {
    passages.iter().map(|passage| passage.rate).collect()
}

/// Returns the ratios, round by round.
fn ratio(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}
