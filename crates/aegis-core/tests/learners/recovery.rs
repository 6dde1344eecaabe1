//! After a shift of who is right the default is back at the new best within 150 labels.

use super::streams::{Chance, build, round, vote};

const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 200 };
const BEFORE: usize = 600;
const WITHIN: usize = 150;
const AFTER: usize = 300;

/// Excess of the error rate over the new best's in the rounds after the first 150 labels that follow
/// a shift, averaged over seeds.
fn excess(spec: &str, hard: bool) -> f64 {
    let n = 8;
    let mut sum = 0.0;
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed + 1000);
        let mut learner = build(spec, n);
        let (mut ours, mut best) = (0i32, 0i32);
        for at in 0..BEFORE + WITHIN + AFTER {
            let right = if at < BEFORE { 2 } else { 5 };
            let target = f64::from(u8::from(chance.next() < 0.5));
            let rate = |expert| if expert == right { 0.942 } else { 0.6 };
            let votes: Vec<f64> =
                (0..n).map(|expert| vote(&mut chance, target, rate(expert), !hard)).collect();
            let wrong = |p: f64| i32::from((p >= 0.5) != (target >= 0.5));
            best += if at >= BEFORE + WITHIN { wrong(votes[right]) } else { 0 };
            let round = round(at, votes, target);
            let p = learner.step(&round.sight(), target);
            ours += if at >= BEFORE + WITHIN { wrong(p) } else { 0 };
        }
        sum += f64::from(ours - best) / AFTER as f64;
    }
    sum / SEEDS as f64
}

#[test]
fn the_default_recovers_within_150_labels() {
    for hard in [true, false] {
        let excess = excess("default", hard);
        assert!(excess <= 0.02, "hard votes {hard}: {excess}");
    }
}

#[test]
fn so_does_the_grid_and_hedge_does_not() {
    let grid = excess("fixed-share-grid", true);
    assert!(grid <= 0.02, "{grid}");
    let hedge = excess("hedge eta=0.1", true);
    assert!(hedge > 0.1, "{hedge}: the streams are too easy to show anything");
}
