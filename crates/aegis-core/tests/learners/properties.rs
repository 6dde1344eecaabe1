//! What must be true of every learner.

use super::streams::{
    Chance, IDS, Round, SPECS, bits, build, play, round, shifting, sleeping, spec, state, stochastic,
    with_features,
};
use aegis_core::learners::{BadState, LearnerSpec, Name, RoundInput};
use proptest::prelude::*;

fn mixed(rounds: usize) -> Vec<Round> {
    with_features(sleeping(11, 8, rounds), 3)
}

#[test]
fn predictions_are_probabilities_and_step_gives_what_predict_gave() {
    for spec in SPECS {
        let mut learner = build(spec, 8);
        for round in mixed(300).iter().chain(&shifting(4, 8, 300, false)) {
            let before = state(learner.as_ref());
            let p = learner.predict(&round.sight());
            assert_eq!(bits(&before), bits(&state(learner.as_ref())), "{spec}: predict learned");
            assert!((0.0..=1.0).contains(&p), "{spec}: p = {p}");
            assert_eq!(p.to_bits(), learner.step(&round.sight(), round.target).to_bits(), "{spec}");
        }
    }
}

#[test]
fn weights_are_over_those_awake_and_sum_to_one() {
    for spec in SPECS {
        let mut learner = build(spec, 8);
        let mut weights = [0.0; 8];
        for round in mixed(200) {
            if learner.weights(&round.sight(), &mut weights) {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{spec}: {weights:?}");
                for (weight, vote) in weights.iter().zip(&round.votes) {
                    assert!(*weight >= 0.0 && (!vote.is_nan() || *weight == 0.0), "{spec}: {weights:?}");
                }
                // A weighing learner plays the mean vote (Weighted Majority and plain majority count sides).
                let mean: f64 =
                    weights.iter().zip(&round.votes).filter(|(w, _)| **w > 0.0).map(|(w, v)| w * v).sum();
                let counts = spec.contains("majority");
                let clipped = spec == "log-loss";
                let p = learner.predict(&round.sight());
                assert!(counts || clipped || (p - mean).abs() < 1e-12, "{spec}: {p} for {mean}");
            }
            learner.step(&round.sight(), round.target);
            let total: f64 = learner.masses().iter().map(|mass| mass.mass).sum();
            assert!((total - 1.0).abs() < 1e-9, "{spec}: masses sum to {total}");
        }
    }
}

#[test]
fn first_weights_are_the_prior() {
    let prior: Vec<(String, f64)> =
        [0.5, 0.25, 0.125, 0.125].iter().zip(IDS).map(|(p, id)| (id.to_owned(), *p)).collect();
    let awake = round(0, vec![0.1, 0.9, 0.4, 0.6], 0.0);
    for name in Name::ALL {
        let mut weights = [0.0; 4];
        let uniform = spec(name).build(&IDS[..4], "p").unwrap();
        if name != Name::Fpl && uniform.weights(&awake.sight(), &mut weights) {
            assert!(weights.iter().all(|w| (w - 0.25).abs() < 1e-15), "{name}: {weights:?}");
        }
        let mut with_prior = LearnerSpec { prior: Some(prior.clone()), ..spec(name) };
        if name == Name::Hedge {
            with_prior.eta = Some(0.5);
        }
        match with_prior.build(&IDS[..4], "p") {
            Ok(learner) => {
                let masses: Vec<f64> = learner.masses().iter().map(|mass| mass.mass).collect();
                for (mass, wanted) in masses.iter().zip([0.5, 0.25, 0.125, 0.125]) {
                    assert!((mass - wanted).abs() < 1e-14, "{name}: {masses:?}");
                }
            }
            Err(error) => assert!(error.to_string().contains("takes no prior"), "{error}"),
        }
    }
}

/// Only differences of losses count: a state with a constant added to all losses plays the same.
#[test]
fn a_constant_on_all_losses_changes_nothing() {
    for (spec, skip) in [("hedge eta=0.5", 1), ("adahedge", 1), ("log-loss", 0), ("brier", 0), ("hedge", 1)] {
        let (mut one, mut other) = (build(spec, 6), build(spec, 6));
        let stream = stochastic(9, 6, 100, true);
        play(one.as_mut(), &stream[..50]);
        let mut shifted = state(one.as_ref());
        shifted.iter_mut().skip(skip).for_each(|loss| *loss += 1000.0);
        other.load(&shifted).unwrap();
        for round in &stream[50..] {
            let (p, q) = (one.step(&round.sight(), round.target), other.step(&round.sight(), round.target));
            assert!((p - q).abs() < 1e-11, "{spec}: {p} and {q}");
        }
    }
}

#[test]
fn permuting_experts_permutes_weights() {
    let order = [3, 1, 5, 0, 4, 2];
    for spec in SPECS.into_iter().filter(|spec| !spec.starts_with("fpl")) {
        let (mut one, mut other) = (build(spec, 6), build(spec, 6));
        let (mut w, mut v) = ([0.0; 6], [0.0; 6]);
        for round in with_features(sleeping(21, 6, 300), 8) {
            let mut permuted = round.clone();
            permuted.votes = order.iter().map(|at| round.votes[*at]).collect();
            if one.weights(&round.sight(), &mut w) && other.weights(&permuted.sight(), &mut v) {
                for (to, from) in order.iter().enumerate() {
                    assert!((v[to] - w[*from]).abs() < 1e-9, "{spec}: {w:?} {v:?}");
                }
            }
            let p = one.step(&round.sight(), round.target);
            let q = other.step(&permuted.sight(), round.target);
            // Which direction of its prior a forgetful stacking refreshes goes by the order of experts.
            let tolerance = if ["stacking", "default"].contains(&spec) { 1e-3 } else { 1e-9 };
            assert!((p - q).abs() < tolerance, "{spec}: {p} and {q}");
        }
    }
}

#[test]
fn a_duplicate_shares_its_twins_mass() {
    let names = [Name::Hedge, Name::LogLoss, Name::Brier, Name::AdaNormalHedge, Name::Squint];
    for name in names {
        let eta = (name == Name::Hedge).then_some(0.7);
        let prior =
            |masses: &[f64]| Some(IDS.iter().zip(masses).map(|(id, m)| ((*id).to_owned(), *m)).collect());
        let twins = LearnerSpec { eta, prior: prior(&[0.25, 0.25, 0.5]), ..spec(name) };
        let alone = LearnerSpec { eta, prior: prior(&[0.5, 0.5]), ..spec(name) };
        let mut twins = twins.build(&IDS[..3], "p").unwrap();
        let mut alone = alone.build(&IDS[..2], "p").unwrap();
        for round in stochastic(31, 2, 200, true) {
            let mut doubled = round.clone();
            doubled.votes.insert(0, round.votes[0]);
            let p = alone.step(&round.sight(), round.target);
            let q = twins.step(&doubled.sight(), round.target);
            assert!((p - q).abs() < 1e-10, "{name}: {p} and {q}");
        }
        let masses = twins.masses();
        assert_eq!(masses[0].mass.to_bits(), masses[1].mass.to_bits(), "{name}");
        assert!((masses[0].mass + masses[1].mass - alone.masses()[0].mass).abs() < 1e-10, "{name}");
    }
}

#[test]
fn one_expert_has_weight_one() {
    for spec in SPECS {
        let mut learner = build(spec, 1);
        for round in stochastic(1, 1, 200, true) {
            let mut weight = [0.0];
            if learner.weights(&round.sight(), &mut weight) {
                assert_eq!(weight, [1.0], "{spec}");
            }
            assert!(learner.step(&round.sight(), round.target).is_finite(), "{spec}");
        }
        assert!(state(learner.as_ref()).iter().all(|x| x.is_finite()), "{spec}");
    }
}

#[test]
fn resume_at_every_prefix_is_no_interruption() {
    let stream = mixed(60);
    for spec in SPECS {
        let mut whole = build(spec, 8);
        let (predictions, _) = play(whole.as_mut(), &stream);
        let wanted = bits(&state(whole.as_ref()));
        let mut before = build(spec, 8);
        for cut in 0..stream.len() {
            let mut after = build(spec, 8);
            // A used learner takes a state as well as a new one does.
            play(after.as_mut(), &stream[..5]);
            after.load(&state(before.as_ref())).unwrap();
            let (rest, _) = play(after.as_mut(), &stream[cut..]);
            assert_eq!(bits(&rest), bits(&predictions[cut..]), "{spec} at {cut}");
            assert_eq!(bits(&state(after.as_ref())), wanted, "{spec} at {cut}");
            before.step(&stream[cut].sight(), stream[cut].target);
        }
    }
}

#[test]
fn a_hostile_state_is_refused_and_changes_nothing() {
    for spec in SPECS {
        let mut learner = build(spec, 8);
        play(learner.as_mut(), &mixed(40));
        let good = state(learner.as_ref());
        let mut longer = good.clone();
        longer.push(0.0);
        assert_eq!(
            learner.load(&longer),
            Err(BadState::Length { expected: good.len(), found: good.len() + 1 }),
            "{spec}"
        );
        if let Some(last) = good.len().checked_sub(1) {
            for shorter in [0, 1, last] {
                let found = learner.load(&good[..shorter]);
                assert_eq!(found, Err(BadState::Length { expected: good.len(), found: shorter }), "{spec}");
            }
            for at in [0, good.len() / 2, last] {
                for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let mut bad = good.clone();
                    bad[at] = x;
                    assert_eq!(learner.load(&bad), Err(BadState::NotFinite), "{spec}");
                }
                let mut bad = good.clone();
                bad[at] = 1e300;
                assert_eq!(learner.load(&bad), Err(BadState::OutOfRange), "{spec}");
            }
        }
        assert_eq!(bits(&state(learner.as_ref())), bits(&good), "{spec}: a refused state left its mark");
    }
}

#[test]
fn a_predictor_of_eight_experts_is_small() {
    let default = state(build("default", 8).as_ref());
    assert!(default.len() * 8 < 64 * 1024, "{} bytes", default.len() * 8);
}

#[test]
fn draws_hang_on_everything_that_keys_them_and_on_nothing_else() {
    use aegis_core::draw::Draws;
    let of = |secret: &str, policy: &str, event: &str, expert: &str, purpose: &str| {
        Draws::new(secret.as_bytes(), policy).uniform(event, expert, purpose)
    };
    let one = of("s", "p", "e", "x", "fpl");
    assert_eq!(one.to_bits(), of("s", "p", "e", "x", "fpl").to_bits());
    // Not even where the same letters are cut otherwise.
    for other in [of("sp", "", "e", "x", "fpl"), of("s", "pe", "", "x", "fpl"), of("s", "p", "ex", "", "fpl")]
    {
        assert_ne!(one.to_bits(), other.to_bits());
    }
    for other in
        [of("t", "p", "e", "x", "fpl"), of("s", "q", "e", "x", "fpl"), of("s", "p", "e", "x", "review")]
    {
        assert_ne!(one.to_bits(), other.to_bits());
    }
}

#[test]
fn exp_and_ln_are_right_to_the_last_digits() {
    use aegis_core::math::{exp, ln};
    let mut chance = Chance::new(1);
    for _ in 0..200_000 {
        let x = chance.next() * 1400.0 - 700.0;
        assert!((exp(x) / x.exp() - 1.0).abs() < 5e-16, "exp {x}");
        let y = x.exp();
        assert!((ln(y) - y.ln()).abs() <= 4e-16 * y.ln().abs(), "ln {y}");
        let z = 1.0 + (chance.next() - 0.5) * 0.01;
        assert!((ln(z) - z.ln()).abs() <= 4e-16 * z.ln().abs(), "ln {z}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-1e9), 0.0);
    assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    assert!(exp(1e9).is_finite() && exp(f64::NAN).is_nan());
    assert_eq!(ln(1.0), 0.0);
    assert_eq!(ln(0.0), f64::NEG_INFINITY);
    assert!(ln(-1.0).is_nan());
    assert!((ln(5e-324) - 5e-324f64.ln()).abs() < 1e-12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is let in at the door leaves every learner with finite numbers.
    #[test]
    fn no_round_poisons(rounds in prop::collection::vec(
        (prop::collection::vec(prop::option::weighted(0.7, 0.0f64..=1.0), 3), 0.0f64..=1.0, any::<bool>(), any::<i8>()),
        1..40,
    )) {
        for spec in SPECS {
            let mut learner = build(spec, 3);
            for (votes, target, read, byte) in &rounds {
                let votes: Vec<f64> = votes.iter().map(|vote| vote.unwrap_or(f64::NAN)).collect();
                if votes.iter().all(|vote| vote.is_nan()) {
                    continue;
                }
                let features = [*byte; 384];
                let sight = RoundInput { votes: &votes, features: read.then_some(&features), event: "e" };
                let p = learner.step(&sight, *target);
                prop_assert!((0.0..=1.0).contains(&p), "{}: {}", spec, p);
            }
            prop_assert!(state(learner.as_ref()).iter().all(|x| x.is_finite()), "{}", spec);
        }
    }
}

/// The same bits in debug, release and on any machine: all learners' states after one stream, hashed.
/// Where a learner's arithmetic is changed on purpose, so is this number, and the state's format version.
#[test]
fn states_are_the_same_bits_in_every_build() {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for spec in SPECS {
        let mut learner = build(spec, 8);
        let (predictions, _) = play(learner.as_mut(), &mixed(500));
        for x in predictions.iter().chain(&state(learner.as_ref())) {
            hash.update(x.to_le_bytes());
        }
    }
    let found: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, "a393246d607c0db9");
}
