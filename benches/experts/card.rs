//! Compares the whole panel on a GPU with the same panel on the CPU, on the demo's real texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use aegis::experts::{Panel, PanelConfig};

use crate::device::{CARD, Device, PROCESSOR};
use crate::{models, ours, spread};

/// The number of measurements of each device.
const ROUNDS: usize = 5;

/// Prints both speeds, and the differences between the votes.
pub fn compare() {
    let texts = texts();
    // A process can load one library. That of the GPU also runs graphs on the CPU, with a session for each core.
    let processor = Device { library: CARD.library, ..PROCESSOR };
    let config = PanelConfig { sessions: None, cache: 0, ..processor.config(None) };
    let processor = Arc::new(Panel::open(config).unwrap());
    let card = Arc::new(Panel::open(PanelConfig { cache: 0, ..CARD.config(None) }).unwrap());
    println!("{} texts of the demo, {} experts, {ROUNDS} rounds", texts.len(), card.experts().len());
    let (mut fast, mut slow, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (on_processor, _) = ours(&processor, PROCESSOR.room, &texts);
        let (on_card, _) = ours(&card, CARD.room, &texts);
        slow.push(on_processor);
        fast.push(on_card);
        ratios.push(on_card / on_processor);
    }
    println!("CPU {} texts/s, GPU {}, GPU to CPU {}", spread(slow), spread(fast), spread(ratios));
    distance(&processor, &card, &texts);
}

/// Prints the greatest differences between votes and between features.
fn distance(processor: &Arc<Panel>, card: &Arc<Panel>, texts: &[String]) {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (there, here) = (card.ask(&texts), processor.ask(&texts));
    let mut votes = vec![0.0_f64; card.experts().len()];
    let (mut differ, mut most, mut all) = (0, 0, 0);
    for (there, here) in there.iter().zip(&here) {
        for ((a, b), most) in there.votes.iter().zip(&here.votes).zip(&mut votes) {
            *most = most.max((a.score().unwrap() - b.score().unwrap()).abs());
        }
        if let (Some(a), Some(b)) = (&there.reading, &here.reading) {
            for (a, b) in a.features.iter().zip(b.features.iter()) {
                let apart = (i32::from(*a) - i32::from(*b)).abs();
                all += 1;
                differ += usize::from(apart > 0);
                most = most.max(apart);
            }
        }
    }
    for (expert, most) in card.experts().iter().zip(votes) {
        println!("{}: votes at most {most:.1e} apart", expert.id);
    }
    println!("features: {differ} of {all} differ, by at most {most}");
}

/// Returns the demo's texts without duplicates.
fn texts() -> Vec<String> {
    let mut texts = BTreeSet::new();
    for set in ["injection", "everyday", "jailbreaks"] {
        let lines = std::fs::read_to_string(models().join(format!("demo/{set}.jsonl"))).unwrap();
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            texts.extend(line["text"].as_str().map(str::to_owned));
        }
    }
    texts.into_iter().filter(|text| !text.trim().is_empty()).collect()
}
