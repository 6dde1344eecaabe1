//! The interval of a prediction contains the prediction for every vote in the box, and is the prediction itself if no
//! vote moves.

use super::streams::{Chance, SPECS, build, play, shifting, sleeping, state, with_features};
use aegis_core::decisive::SLACK;
use aegis_core::learners::{Interval, Learner, RoundInput};
use proptest::prelude::*;

/// A learner that has learned a stream with sleepers, or one in which the best expert changes.
fn trained(spec: &str, seed: u64, n: usize, rounds: usize) -> Box<dyn Learner> {
    let stream = if seed.is_multiple_of(2) {
        sleeping(seed, n, rounds)
    } else {
        shifting(seed, n, rounds, seed.is_multiple_of(3))
    };
    let mut learner = build(spec, n);
    if rounds > 0 {
        play(learner.as_mut(), &with_features(stream, seed + 1));
    }
    learner
}

/// A vote that is often an extreme.
fn extreme(chance: &mut Chance) -> f64 {
    match chance.below(5) {
        0 => 0.0,
        1 => 1.0,
        _ => chance.next(),
    }
}

/// The least and the greatest votes of a box with `moving` unknown votes, of which some are known to be in a part of
/// \[0,1\], and their indices.
fn random_box(chance: &mut Chance, n: usize, moving: usize) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
    let mut least: Vec<f64> =
        (0..n).map(|_| if chance.next() < 0.2 { f64::NAN } else { extreme(chance) }).collect();
    let mut greatest = least.clone();
    let mut indices: Vec<usize> = (0..moving).map(|_| chance.below(n)).collect();
    indices.sort_unstable();
    indices.dedup();
    for at in &indices {
        let (a, b) = (extreme(chance), extreme(chance));
        (least[*at], greatest[*at]) = if chance.next() < 0.5 { (0.0, 1.0) } else { (a.min(b), a.max(b)) };
    }
    (least, greatest, indices)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_vote_of_the_box_leaves_the_interval(
        seed in 0_u64..10_000, n in 1_usize..9, rounds in 0_usize..250, moving in 1_usize..4,
    ) {
        for spec in SPECS {
            let mut learner = trained(spec, seed, n, rounds);
            let mut chance = Chance::new(seed + 7);
            let before = state(learner.as_ref());
            for _ in 0..12 {
                let (least, greatest, indices) = random_box(&mut chance, n, moving);
                let features = (chance.next() < 0.7).then(|| chance.features());
                let round = RoundInput { votes: &least, features: features.as_deref(), event: "e" };
                let range = learner.range(&round, &greatest);
                prop_assert!(range.low <= range.high + SLACK, "{spec}: {range:?}");
                let within = range.widened(SLACK);
                for sample in 0..24 {
                    let mut votes = least.clone();
                    for at in &indices {
                        let share = match sample { 0 => 0.0, 1 => 1.0, _ => extreme(&mut chance) };
                        votes[*at] = (least[*at] + share * (greatest[*at] - least[*at])).clamp(0.0, 1.0);
                    }
                    let p = learner.predict(&RoundInput { votes: &votes, ..round });
                    prop_assert!(within.low <= p && p <= within.high, "{spec}: {p} outside {range:?}");
                }
            }
            prop_assert_eq!(before, state(learner.as_ref()), "{} learned", spec);
        }
    }

    #[test]
    fn without_an_unknown_vote_the_interval_is_the_prediction(
        seed in 0_u64..10_000, n in 1_usize..9, rounds in 0_usize..120,
    ) {
        for spec in SPECS {
            let mut learner = trained(spec, seed, n, rounds);
            let mut chance = Chance::new(seed + 3);
            let mut votes: Vec<f64> = (0..n).map(|_| extreme(&mut chance)).collect();
            if n > 2 {
                votes[chance.below(n)] = f64::NAN;
            }
            let features = chance.features();
            let round = RoundInput { votes: &votes, features: Some(&features), event: "e" };
            let (p, range) = (learner.predict(&round), learner.range(&round, &votes));
            prop_assert!((range.low - p).abs() < SLACK && (range.high - p).abs() < SLACK, "{spec}: {range:?}");
        }
    }
}

/// The union of the intervals of `cells` parts of one vote.
fn united(learner: &mut dyn Learner, round: &RoundInput<'_>, at: usize, cells: usize) -> Interval {
    let (mut least, mut greatest) = (round.votes.to_vec(), round.votes.to_vec());
    let parts = (0..cells).map(|cell| {
        (least[at], greatest[at]) = (cell as f64 / cells as f64, (cell + 1) as f64 / cells as f64);
        learner.range(&RoundInput { votes: &least, ..*round }, &greatest)
    });
    parts.reduce(Interval::hull).expect("there are cells")
}

/// An interval that is too wide is a proof too, but of nothing. The default learner's is at most .05 wider than the true
/// range if the vote is cut into 16 parts, and .05 on average at once.
#[test]
fn intervals_of_the_default_learner_are_tight() {
    let (mut whole, mut cut, mut rounds) = (0.0_f64, 0.0_f64, 0);
    for seed in 0..6 {
        let mut learner = trained("default", seed, 8, 300);
        let mut chance = Chance::new(seed + 70);
        for _ in 0..20 {
            let mut votes: Vec<f64> = (0..8).map(|_| extreme(&mut chance)).collect();
            let features = chance.features();
            let at = chance.below(8);
            let mut true_range = Interval { low: f64::INFINITY, high: f64::NEG_INFINITY };
            for step in 0..=256 {
                votes[at] = f64::from(step) / 256.0;
                let p = learner.predict(&RoundInput { votes: &votes, features: Some(&features), event: "e" });
                true_range = true_range.hull(Interval::of(p, p));
            }
            let round = RoundInput { votes: &votes, features: Some(&features), event: "e" };
            whole += united(learner.as_mut(), &round, at, 1).width() - true_range.width();
            cut = cut.max(united(learner.as_mut(), &round, at, 16).width() - true_range.width());
            rounds += 1;
        }
    }
    let whole = whole / f64::from(rounds);
    assert!(
        whole < 0.05 && cut < 0.05,
        "too wide by {whole} on average at once, and by up to {cut} in 16 parts"
    );
}
