//! A million rounds: all awake, and one expert absent for half of them.

use super::streams::{Chance, SPECS, build, state, vote};
use aegis_core::learners::{RoundInput, Tally};

/// Beyond the 19,000 after which a stacking without its prior's refreshment dies; a million where the
/// code is optimised and without checks.
const ROUNDS: usize = if cfg!(debug_assertions) { 25_000 } else { 1_000_000 };

fn run(spec: &str, absent: bool) {
    let n = 4;
    let mut chance = Chance::new(99);
    let mut learner = build(spec, n);
    let mut tally = Tally::new(n, learner.loss_kind(), None);
    let mut votes = [0.0; 4];
    let mut features = chance.features();
    let reads = spec.starts_with("reading") || spec == "default";
    for at in 0..ROUNDS {
        let target = f64::from(u8::from(chance.next() < 0.45));
        for (vote_to, rate) in votes.iter_mut().zip([0.6, 0.7, 0.72, 0.75]) {
            *vote_to = vote(&mut chance, target, rate, false);
        }
        if absent && (ROUNDS / 4..3 * ROUNDS / 4).contains(&at) {
            votes[1] = f64::NAN;
        }
        let at_byte = at % features.len();
        features[at_byte] = (chance.next() * 255.0 - 127.0) as i8;
        // Features in one round of eight: the checks of a million rounds should not take minutes.
        let sight =
            RoundInput { votes: &votes, features: (reads && at % 8 == 0).then_some(&features), event: "e" };
        let p = learner.step(&sight, target);
        assert!((0.0..=1.0).contains(&p), "{spec}: p = {p} in round {at}");
        tally.add(&votes, None, p, target);
    }
    let state = state(learner.as_ref());
    assert!(state.iter().all(|x| x.is_finite()), "{spec}");
    let best = tally.best_expert().unwrap();
    let least = tally.experts[best].mistakes;
    assert_eq!(best, 3);
    if spec == "default" || spec.starts_with("stacking") {
        assert!(tally.mistakes < least, "{spec}: {} for the best expert's {least}", tally.mistakes);
    }
    if spec.starts_with("stacking") {
        let inputs = 2 * n + 1;
        let variances = state.iter().skip(1 + inputs);
        let greatest = variances.fold(0.0, |top: f64, x| top.max(x.abs()));
        assert!(greatest <= 0.11, "{spec}: P up to {greatest}");
    }
}

macro_rules! long {
    ($($name:ident: $specs:expr;)*) => {$(
        #[test]
        fn $name() {
            for spec in SPECS.into_iter().chain(["stacking gamma=0.998"]).filter($specs) {
                run(spec, false);
                run(spec, true);
            }
        }
    )*};
}

// Several tests, so that they run side by side.
long! {
    the_default_lives_long: |spec| *spec == "default";
    stackings_live_long: |spec| spec.starts_with("stacking");
    readers_live_long: |spec| spec.starts_with("reading");
    the_others_live_long: |spec| !spec.starts_with("stacking") && !spec.starts_with("reading") && *spec != "default";
}
