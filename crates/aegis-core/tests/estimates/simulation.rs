//! Generated streams. The seeds are fixed.

use super::sampling::{Stream, simulate};
use fastrand::Rng;

/// A stream of `count` events. `target` draws the target of an event with the probability p.
fn stream(
    threshold: f64,
    count: usize,
    uncertainty: fn(f64) -> f64,
    p: fn(&mut Rng) -> f64,
    target: fn(&mut Rng, f64) -> f64,
) -> Stream {
    let mut random = Rng::with_seed(1);
    let rows = (0..count).map(|_| {
        let p = p(&mut random);
        (p, target(&mut random, p))
    });
    Stream { threshold, rows: rows.collect(), uncertainty, response: |_| 1.0 }
}

fn margin(distance: f64) -> f64 {
    if distance < 0.1 { 1.0 } else { 0.0 }
}

fn falling(distance: f64) -> f64 {
    (0.5 * (1.0 - distance / 0.2)).max(0.0)
}

fn binary(random: &mut Rng, p: f64) -> f64 {
    f64::from(u8::from(random.f64() < p))
}

// The control variate removes the part of an error's variance that p foresees. Where p is right, an error with the
// probability e leaves e(1 - e) of the e that Horvitz-Thompson has. Beyond an uncertainty draw that reaches from 0.4 to 0.6,
// around a threshold of 0.5, e is at most 0.4: no control variate of p alone narrows the interval by more than
// 1 - sqrt(0.6), 22 %. Around a low threshold, e is nearly 1 for flagged events, and it narrows by much more.

#[test]
fn an_even_threshold_is_estimated_without_bias() {
    let stream = stream(0.5, 20_000, margin, |random| random.f64().powi(2), binary);
    assert!(simulate(&stream, 1) <= 1.0);
}

#[test]
fn a_low_threshold_narrows_by_a_quarter() {
    // A miss costs nine times a false positive: most errors are flagged events with a low p, which p foresees.
    let narrow = |distance| if distance < 0.05 { 1.0 } else { 0.0 };
    let stream = stream(0.1, 20_000, narrow, |random| random.f64().powi(3), binary);
    assert!(simulate(&stream, 2) <= 0.75);
}

#[test]
fn an_overconfident_ensemble_biases_nothing() {
    let target = |random: &mut Rng, p: f64| binary(random, 0.1 + 0.6 * p);
    let stream = stream(0.5, 20_000, margin, |random| random.f64().powi(2), target);
    assert!(simulate(&stream, 3) <= 1.0);
}

#[test]
fn the_mean_of_three_annotators_is_estimated_without_bias() {
    let target = |random: &mut Rng, p: f64| (0..3).map(|_| binary(random, p)).sum::<f64>() / 3.0;
    let stream = stream(0.35, 20_000, falling, |random| random.f64().powi(2), target);
    assert!(simulate(&stream, 4) <= 0.9);
}

#[test]
fn few_unsafe_events_have_intervals_that_hold() {
    // About 20 errors lie beyond the reach of the uncertainty draw: most samples have none of them or one. The interval
    // is that of a binomial count there, and wider than the normal one, which does not hold.
    let stream = stream(0.5, 20_000, margin, |random| random.f64().powi(30), binary);
    simulate(&stream, 5);
}

#[test]
fn requests_that_are_not_answered_bias_nothing_if_it_depends_on_the_inclusion_alone() {
    let mut stream = stream(0.5, 20_000, falling, |random| random.f64().powi(2), binary);
    stream.response = |inclusion| if inclusion > 0.125 { 0.9 } else { 0.5 };
    simulate(&stream, 6);
}
