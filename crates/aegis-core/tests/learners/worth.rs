//! What members of the default are there for, each on a stream that the others are slow on.

use super::streams::{Chance, Round, build, play, round};

/// Mistakes of the default over experts that are a toss, on features whose bytes decide the target.
fn reading(unsafe_if: impl Fn(&[i8; 384]) -> bool) -> u64 {
    let mut chance = Chance::new(7);
    let rounds = (0..1500).map(|at| {
        let features = chance.features();
        let target = f64::from(u8::from(unsafe_if(&features)));
        let votes = (0..4).map(|_| f64::from(u8::from(chance.next() < 0.5))).collect();
        Round { features: Some(features), ..round(at, votes, target) }
    });
    play(build("default", 4).as_mut(), &rounds.collect::<Vec<_>>()).1.mistakes
}

/// An expert that ranks well and calls everything unsafe is put right from a handful of labels.
#[test]
fn an_expert_with_a_wrong_threshold_is_put_right() {
    let mut mistakes = 0;
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let rounds = (0..100).map(|at| {
            let target = f64::from(u8::from(chance.next() < 0.2));
            let mut votes = vec![0.55 + 0.35 * target + 0.1 * chance.next()];
            votes.extend((0..7).map(|_| chance.next()));
            round(at, votes, target)
        });
        mistakes += play(build("default", 8).as_mut(), &rounds.collect::<Vec<_>>()).1.mistakes;
    }
    println!("{mistakes} mistakes");
    assert!(mistakes <= 300, "{mistakes} mistakes");
}

/// What texts are about is in the first coordinates, and it is expected there.
#[test]
fn what_the_first_coordinates_tell_is_learned_sooner() {
    let first = reading(|q| i32::from(q[2]) + i32::from(q[5]) > 20);
    let last = reading(|q| i32::from(q[302]) + i32::from(q[305]) > 20);
    println!("{first} mistakes for {last}");
    assert!(10 * first <= 8 * last, "{first} mistakes for {last}");
}

/// No sum of coordinates tells whether two of them agree.
#[test]
fn pairs_of_the_first_coordinates_are_read() {
    let mistakes = reading(|q| (q[1] > 0) == (q[6] > 0));
    println!("{mistakes} mistakes");
    assert!(mistakes <= 450, "{mistakes} mistakes");
}
