//! Groups of decisions with labels of some of them.

use aegis_core::estimate::{Accumulator, Estimate, Estimates, Method, Observed, Review, Thresholds};
use proptest::prelude::*;

fn accumulator(rows: &[Observed]) -> Accumulator {
    let mut accumulator = Accumulator::new(&Thresholds::new(&[]));
    rows.iter().for_each(|observed| accumulator.observe(observed));
    accumulator
}

fn estimates(rows: &[Observed]) -> Estimates {
    accumulator(rows).in_force(Method::Assisted)
}

/// A decision at the threshold 0.5.
fn observed(p: f64, inclusion: f64, review: Review) -> Observed {
    Observed { probability: Some(p), flagged: p >= 0.5, fixed: false, inclusion, review }
}

/// `count` times the same decision.
fn times(count: usize, observed: Observed) -> impl Iterator<Item = Observed> {
    std::iter::repeat_n(observed, count)
}

fn figures(found: &Estimates) -> [Option<Estimate>; 5] {
    [found.prevalence, found.precision, found.recall, found.false_positive_rate, found.error_rate]
}

#[test]
fn labels_of_all_decisions_give_the_exact_figures() {
    let counts = [(0.9, 1.0, 30), (0.9, 0.0, 10), (0.1, 1.0, 5), (0.1, 0.0, 55)];
    let rows: Vec<_> = counts
        .into_iter()
        .flat_map(|(p, target, count)| times(count, observed(p, 1.0, Review::Answered(target))))
        .collect();
    let found = estimates(&rows);
    let expected = [0.35, 0.75, 30.0 / 35.0, 10.0 / 65.0, 0.15];
    for (found, expected) in figures(&found).into_iter().zip(expected) {
        let found = found.unwrap();
        assert!((found.value - expected).abs() < 1e-12, "{found:?} is not {expected}");
        assert!(found.high - found.low < 1e-12, "{found:?}");
        assert_eq!(found.effective, f64::INFINITY);
        assert!(found.unanswered.high - found.unanswered.low < 1e-12, "{found:?}");
    }
    assert_eq!((found.decisions, found.flagged, found.labels), (100, 40, 100));
    assert_eq!(found.response_rate(), Some(1.0));
}

#[test]
fn without_an_unsafe_event_the_interval_reaches_what_a_hundred_labels_leave_open() {
    let rows: Vec<_> = times(9_900, observed(0.1, 0.01, Review::NotRequested))
        .chain(times(100, observed(0.1, 0.01, Review::Answered(0.0))))
        .collect();
    let found = estimates(&rows);
    let prevalence = found.prevalence.unwrap();
    assert!(prevalence.value < 1e-3 && prevalence.low < 1e-4, "{prevalence:?}");
    // The exact binomial bound of 0 of 100 is 3.6 %.
    assert!((0.03..0.04).contains(&prevalence.high), "{prevalence:?}");
    assert_eq!(prevalence.labels, 100);
    assert_eq!(found.precision, None, "no event was flagged");
    // All unsafe events, if there are any, were missed, but whether there are any is open.
    assert!(found.recall.is_none_or(|recall| recall.value == 0.0), "{:?}", found.recall);
}

#[test]
fn a_miss_that_was_found_with_a_low_probability_counts_for_those_that_were_not() {
    // Near the threshold all events have labels, and far below it one in a hundred has.
    let rows: Vec<_> = times(400, observed(0.6, 1.0, Review::Answered(1.0)))
        .chain(times(100, observed(0.4, 1.0, Review::Answered(0.0))))
        .chain(times(9_900, observed(0.1, 0.01, Review::NotRequested)))
        .chain(times(98, observed(0.1, 0.01, Review::Answered(0.0))))
        .chain(times(2, observed(0.1, 0.01, Review::Answered(1.0))))
        .collect();
    let recall = estimates(&rows).recall.unwrap();
    // 2 % of 10,000 are 200 misses beside the 400 that were found. Of the labels, 2 in 402 are misses.
    assert!((0.6..0.75).contains(&recall.value), "{recall:?}");
    assert!(recall.low < 0.45 && recall.high > 0.9, "{recall:?}");
    assert!(recall.effective < 100.0, "{recall:?}");
}

#[test]
fn without_audits_recall_is_open() {
    let rows: Vec<_> = times(300, observed(0.6, 1.0, Review::Answered(1.0)))
        .chain(times(9_700, observed(0.1, 0.0, Review::NotRequested)))
        .collect();
    let found = estimates(&rows);
    assert_eq!(found.uncovered, 9_700);
    let (recall, precision) = (found.recall.unwrap(), found.precision.unwrap());
    assert!(recall.low < 0.04 && recall.high > 0.99, "{recall:?}");
    assert!(precision.low > 0.999, "{precision:?}");
}

#[test]
fn decisions_that_no_review_could_reach_may_all_be_wrong_on_both_sides_at_once() {
    let rows: Vec<_> = times(1_000, observed(0.95, 0.0, Review::NotRequested))
        .chain(times(1_000, observed(0.05, 0.0, Review::NotRequested)))
        .chain(times(10, observed(0.5, 1.0, Review::Answered(0.0))))
        .collect();
    let found = estimates(&rows);
    let (errors, prevalence) = (found.error_rate.unwrap(), found.prevalence.unwrap());
    assert!(errors.low < 0.01 && errors.high > 0.99, "{errors:?}");
    assert!(prevalence.low < 0.01 && prevalence.high > 0.99, "{prevalence:?}");
}

#[test]
fn unanswered_requests_have_bounds_that_hold_whatever_their_answers_are() {
    // Reviewers answer only the unsafe half of the 200 flagged events.
    let rows: Vec<_> = times(100, observed(0.9, 1.0, Review::Answered(1.0)))
        .chain(times(100, observed(0.9, 1.0, Review::Unanswered)))
        .chain(times(800, observed(0.1, 1.0, Review::Answered(0.0))))
        .collect();
    let found = estimates(&rows);
    assert_eq!(found.response_rate(), Some(0.9));
    let precision = found.precision.unwrap();
    assert!(precision.value > 0.9, "{precision:?}");
    assert!(
        (precision.unanswered.low - 0.5).abs() < 1e-3 && precision.unanswered.high > 0.99,
        "{precision:?}"
    );
    let errors = found.error_rate.unwrap().unanswered;
    assert!(errors.low < 0.01 && (errors.high - 0.1).abs() < 0.01, "{errors:?}");
}

#[test]
fn another_threshold_moves_all_decisions_but_the_fixed_ones() {
    let by_category = Observed { flagged: true, fixed: true, ..observed(0.1, 1.0, Review::Answered(1.0)) };
    let asleep = Observed { probability: None, ..by_category };
    let rows: Vec<_> = times(10, observed(0.6, 1.0, Review::Answered(1.0)))
        .chain(times(20, observed(0.3, 1.0, Review::Answered(0.0))))
        .chain([by_category, asleep])
        .collect();
    let found = accumulator(&rows);
    let flagged = |at| found.at(at, Method::Assisted).map(|found: Estimates| found.flagged);
    assert_eq!([0.0, 0.3, 0.301, 0.6, 0.7].map(flagged), [32, 32, 12, 12, 2].map(Some));
    assert_eq!(flagged(1.0 / 3.0), None);
    assert_eq!(found.at(0.5, Method::Assisted), Some(found.in_force(Method::Assisted)));
}

#[test]
#[should_panic(expected = "inclusion probability 0")]
fn a_request_without_an_inclusion_probability_is_refused() {
    estimates(&[observed(0.5, 0.0, Review::Answered(1.0))]);
}

#[test]
#[should_panic(expected = "only decisions that were added are revised")]
fn a_label_that_was_not_added_is_not_revised() {
    let mut found = accumulator(&[observed(0.5, 0.5, Review::NotRequested)]);
    found.revise(&observed(0.5, 0.5, Review::Answered(1.0)), Review::Unanswered);
}

fn any_review() -> impl Strategy<Value = Review> {
    prop_oneof![
        Just(Review::NotRequested),
        Just(Review::Unanswered),
        prop::sample::select(vec![0.0, 0.5, 1.0]).prop_map(Review::Answered),
        (0.0..=1.0_f64).prop_map(Review::Answered),
    ]
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let inclusion = prop_oneof![Just(1.0), Just(0.01), 1e-6..=1.0_f64];
    (prop::option::of(0.0..=1.0_f64), any::<(bool, bool)>(), inclusion, any_review()).prop_map(
        |(probability, (flagged, fixed), inclusion, review)| Observed {
            probability,
            flagged,
            fixed,
            inclusion,
            review,
        },
    )
}

fn near(a: &Estimates, b: &Estimates) -> bool {
    let close = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-6 * (1.0 + a.abs());
    let same = |a: &Option<Estimate>, b: &Option<Estimate>| match (a, b) {
        (Some(a), Some(b)) => close(a.value, b.value) && close(a.low, b.low) && close(a.high, b.high),
        (a, b) => a.is_none() && b.is_none(),
    };
    figures(a).iter().zip(&figures(b)).all(|(a, b)| same(a, b))
}

proptest! {
    #[test]
    fn merged_groups_and_late_labels_give_the_estimates_of_all(
        rows in prop::collection::vec(any_observed(), 1..60),
        split in any::<prop::sample::Index>(),
    ) {
        let all = accumulator(&rows);
        let (a, b) = rows.split_at(split.index(rows.len()));
        let mut merged = accumulator(a);
        merged.merge(&accumulator(b));
        let mut revised = Accumulator::new(&Thresholds::new(&[]));
        let unreviewed = |row: &Observed| Observed { review: Review::NotRequested, ..*row };
        rows.iter().for_each(|row| revised.observe(&unreviewed(row)));
        rows.iter().for_each(|row| revised.revise(&unreviewed(row), row.review));
        for method in [Method::Assisted, Method::HorvitzThompson] {
            let expected = all.in_force(method);
            prop_assert!(near(&merged.in_force(method), &expected));
            prop_assert!(near(&revised.in_force(method), &expected));
        }
        prop_assert_eq!(all.decisions(), rows.len() as u64);
        prop_assert_eq!(merged.labels(), all.labels());
    }

    #[test]
    fn every_figure_is_in_its_interval_and_in_its_bounds(
        rows in prop::collection::vec(any_observed(), 1..60),
        threshold in 0_u32..=1_000,
    ) {
        let all = accumulator(&rows);
        for method in [Method::Assisted, Method::HorvitzThompson] {
            let other = all.at(f64::from(threshold) / 1_000.0, method).unwrap();
            for found in [all.in_force(method), other].iter().flat_map(figures).flatten() {
                prop_assert!(0.0 <= found.low && found.low <= found.value, "{:?}", found);
                prop_assert!(found.value <= found.high && found.high <= 1.0, "{:?}", found);
                prop_assert!(found.unanswered.low <= found.value, "{:?}", found);
                prop_assert!(found.value <= found.unanswered.high, "{:?}", found);
                prop_assert!(found.labels > 0 && found.effective >= 0.0, "{:?}", found);
            }
        }
    }
}
