//! Events through a real Apache Kafka, exactly once, with the experts on an NVIDIA card and on the processor.

use std::path::Path;

use crate::inference::{HEAD, HEADS, Runner};
use crate::shown;
use crate::texts::{Mix, texts};
use crate::throughput::Passage;

/// The card gets so many times the processor's texts: it may be through them in a moment.
const MORE: usize = 10;

/// Runs one head, six, and the whole panel on both, interleaved.
pub fn run(rounds: usize, count: usize) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let library = format!("experts.runtime={}", models.join("cuda/libonnxruntime.so").display());
    let runner = Runner { models: &models, mix: Mix::Chat, python: Path::new("") };
    let all = texts(&models, Mix::Chat, count * MORE, 1);
    println!("\nOn a card: chat mix, {} texts, a tenth of them on the processor; {rounds} rounds", all.len());
    for (word, heads) in [("one", format!("\"{HEAD}\"")), ("six", HEADS.to_owned()), ("panel", String::new())]
    {
        let (mut on_card, mut on_processor) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let settings = [library.as_str(), "experts.provider=cuda", "score.window=4096"];
            on_card.push(runner.ours_with(&format!("card.{word}"), round, &all, &heads, &settings));
            let some = &all[..count];
            on_processor.push(runner.ours_with(
                &format!("cores.{word}"),
                round,
                some,
                &heads,
                &settings[..1],
            ));
        }
        let rates = |of: &[Passage]| of.iter().map(|passage| passage.rate).collect::<Vec<_>>();
        let micros = |of: &[Passage]| of.iter().map(|passage| passage.micros).collect::<Vec<_>>();
        let ratio = rates(&on_card).iter().zip(rates(&on_processor)).map(|(a, b)| a / b).collect();
        println!(
            "{word:<6} card {} texts/s, {} us CPU a message; processor {} texts/s; card to processor {}",
            shown(rates(&on_card), 0),
            shown(micros(&on_card), 0),
            shown(rates(&on_processor), 0),
            shown(ratio, 2)
        );
    }
}
