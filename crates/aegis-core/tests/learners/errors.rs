//! Errors of others, a test each.

use super::streams::{IDS, bits, build, play, round, sleeping, state};
use aegis_core::learners::{LossKind, RoundInput, Tally};

/// opera's BOA hands weights to the wrong experts when some sleep.
#[test]
fn a_sleepers_weight_goes_to_nobody_else() {
    for spec in
        ["hedge eta=1", "adahedge", "squint", "adanormalhedge", "fixed-share", "fixed-share-grid", "log-loss"]
    {
        let mut learner = build(spec, 3);
        // The middle one is best; then it sleeps, and the first is right.
        let stream: Vec<_> = (0..50).map(|at| round(at, vec![1.0, 0.0, 1.0], 0.0)).collect();
        play(learner.as_mut(), &stream);
        let mut weights = [9.0; 3];
        learner.weights(&round(0, vec![0.3, f64::NAN, 0.3], 0.0).sight(), &mut weights);
        assert_eq!(weights[1], 0.0, "{spec}");
        assert!((weights[0] - weights[2]).abs() < 1e-12, "{spec}: {weights:?}");
        let asleep: Vec<_> = (0..30).map(|at| round(at, vec![0.0, f64::NAN, 1.0], 0.0)).collect();
        play(learner.as_mut(), &asleep);
        learner.weights(&round(0, vec![0.3, 0.3, 0.3], 0.0).sight(), &mut weights);
        // AdaNormalHedge gives those far behind nothing at all.
        assert!(weights[1] > 0.4 && weights[0] >= weights[2], "{spec}: {weights:?}");
        assert!(weights[0] > weights[2] || spec == "adanormalhedge", "{spec}: {weights:?}");
    }
}

/// Sleeping leaves the shares of those that sleep together as they are, to the last digits.
#[test]
fn sleepers_keep_their_ratio_and_their_share() {
    for spec in ["hedge eta=1", "log-loss", "brier", "fixed-share alpha=0", "default"] {
        let mut learner = build(spec, 4);
        play(learner.as_mut(), &sleeping(3, 4, 40));
        let before: Vec<f64> = learner.masses().iter().map(|mass| mass.mass).collect();
        learner.step(&round(0, vec![0.2, f64::NAN, 0.9, f64::NAN], 1.0).sight(), 1.0);
        let after: Vec<f64> = learner.masses().iter().map(|mass| mass.mass).collect();
        for sleeper in [1, 3] {
            assert!((after[sleeper] - before[sleeper]).abs() < 1e-12, "{spec}: {before:?} {after:?}");
        }
        assert_ne!(before[0].to_bits(), after[0].to_bits(), "{spec}");
    }
}

/// A newcomer is asleep before it comes: it enters with the mix loss so far, and the others are as if
/// it had never been there.
#[test]
fn a_newcomer_leaves_the_others_as_they_were() {
    for spec in ["hedge eta=1", "log-loss", "brier"] {
        let (mut without, mut with) = (build(spec, 3), build(spec, 4));
        for round in super::streams::stochastic(8, 3, 200, true) {
            let mut wider = round.clone();
            wider.votes.push(f64::NAN);
            let p = without.step(&round.sight(), round.target);
            let q = with.step(&wider.sight(), round.target);
            assert!((p - q).abs() < 1e-12, "{spec}: {p} and {q}");
        }
        let (a, b) = (without.masses(), with.masses());
        assert!((b[3].mass - 0.25).abs() < 1e-9, "{spec}: it keeps its prior share");
        for at in 0..3 {
            assert!((a[at].mass * 0.75 - b[at].mass).abs() < 1e-9, "{spec}");
        }
    }
}

/// river's EWARegressor starts with weights 1.0 instead of 1/N.
#[test]
fn the_first_prediction_is_a_mean_and_not_a_sum() {
    let votes = [0.9, 0.8, 0.7, 0.6];
    for spec in
        ["hedge eta=1", "adahedge", "squint", "adanormalhedge", "fixed-share", "fixed-share-grid", "log-loss"]
    {
        let p = build(spec, 4).predict(&RoundInput { votes: &votes, features: None, event: "e" });
        assert!((p - 0.75).abs() < 1e-15, "{spec}: {p}");
    }
}

/// PoolD counts a duplicate label twice: a learner learns a round exactly as often as it is folded,
/// and the figures count it once (that a duplicate is folded once is the ledger's to see to).
#[test]
fn a_round_counts_once() {
    let mut learner = build("hedge eta=0.5", 2);
    let mut tally = Tally::new(2, LossKind::Absolute, None);
    let round = round(0, vec![0.2, 0.7], 1.0);
    for _ in 0..3 {
        learner.predict(&round.sight());
    }
    let p = learner.step(&round.sight(), 1.0);
    tally.add(&round.votes, None, p, 1.0);
    assert_eq!(state(learner.as_ref()), [1.0, 0.8, 1.0 - 0.7]);
    assert_eq!((tally.rounds, tally.experts[0].awake), (1, 1));
}

/// Vowpal Wabbit's resumed state differs from the uninterrupted one.
#[test]
fn a_state_is_all_there_is() {
    for spec in super::streams::SPECS {
        let stream = super::streams::with_features(sleeping(7, 5, 80), 1);
        let mut one = build(spec, 5);
        play(one.as_mut(), &stream[..40]);
        let saved = state(one.as_ref());
        let mut other = build(spec, 5);
        other.load(&saved).unwrap();
        assert_eq!(bits(&saved), bits(&state(other.as_ref())), "{spec}");
        play(one.as_mut(), &stream[40..]);
        play(other.as_mut(), &stream[40..]);
        assert_eq!(bits(&state(one.as_ref())), bits(&state(other.as_ref())), "{spec}");
    }
}

/// A NaN poisons a learner for good: here it is a sleeper, and the door refuses infinities.
#[test]
fn a_nan_is_a_sleeper() {
    for spec in super::streams::SPECS {
        let mut learner = build(spec, 2);
        for at in 0..50 {
            let votes = if at % 2 == 0 { vec![f64::NAN, 0.3] } else { vec![0.8, f64::NAN] };
            let p = learner.step(&round(at, votes, 1.0).sight(), 1.0);
            assert!(p.is_finite(), "{spec}");
        }
        assert!(state(learner.as_ref()).iter().all(|x| x.is_finite()), "{spec}");
    }
}

/// The best of all sleeps and the others have next to no weight: no division by nothing.
#[test]
fn those_awake_may_all_be_hopeless() {
    for spec in super::streams::SPECS {
        let mut learner = build(spec, 3);
        for at in 0..5000 {
            learner.step(&round(at, vec![1.0, 0.0, 1.0], 0.0).sight(), 0.0);
        }
        let p = learner.predict(&round(0, vec![0.9, f64::NAN, 0.7], 0.0).sight());
        assert!((0.0..=1.0).contains(&p), "{spec}: {p}");
        let mut weights = [0.0; 3];
        if learner.weights(&round(0, vec![0.9, f64::NAN, 0.7], 0.0).sight(), &mut weights) {
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{spec}: {weights:?}");
        }
        for at in 0..10 {
            learner.step(&round(at, vec![0.9, f64::NAN, 0.7], 0.0).sight(), 0.0);
        }
        assert!(state(learner.as_ref()).iter().all(|x| x.is_finite()), "{spec}");
    }
}

/// Weights multiplied in doubles lose ties. In whole counts a heavier side loses only where it must:
/// one expert with k mistakes against two with k + 1 is a tie for β = ½, for every k.
#[test]
fn weighted_majority_never_loses_a_tie() {
    use aegis_core::learners::{Learner, weighted_majority::WeightedMajority};
    let mut learner = WeightedMajority::new(&IDS[..3], 0.5);
    for k in [0.0, 1.0, 40.0, 1074.0, 5000.0] {
        learner.load(&[k, k + 1.0, k + 1.0]).unwrap();
        for votes in [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]] {
            assert!(learner.predict(&round(0, votes.to_vec(), 0.0).sight()) >= 0.5, "{k}");
        }
    }
    // 1 against 1 and the smallest trifle: the trifle decides.
    let mut learner = WeightedMajority::new(&IDS[..3], 0.5);
    learner.load(&[3.0, 3.0, 900.0]).unwrap();
    assert!(learner.predict(&round(0, vec![1.0, 0.0, 0.0], 0.0).sight()) < 0.5);
    assert!(learner.predict(&round(0, vec![0.0, 1.0, 1.0], 0.0).sight()) >= 0.5);
}

/// Costs set a threshold and touch no learner: the state is the same, and `mistakes` stays at .5.
#[test]
fn costs_touch_no_loss() {
    use aegis_core::learners::tally::Costs;
    let costs = Costs { miss: 9.0, false_alarm: 1.0 };
    assert!((costs.threshold() - 0.1).abs() < 1e-15);
    let mut plain = Tally::new(2, LossKind::Brier, None);
    let mut dear = Tally::new(2, LossKind::Brier, Some(costs));
    for (p, y) in [(0.2, 0.0), (0.05, 1.0), (0.3, 1.0), (0.6, 0.0), (0.01, 0.0)] {
        plain.add(&[0.4, 0.6], None, p, y);
        dear.add(&[0.4, 0.6], None, p, y);
    }
    assert_eq!(dear.cost, 1.0 + 9.0 + 1.0);
    assert_eq!((plain.mistakes, plain.loss, plain.square), (dear.mistakes, dear.loss, dear.square));
    assert_eq!(plain.mistakes, 3);
}
