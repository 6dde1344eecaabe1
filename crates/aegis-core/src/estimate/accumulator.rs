//! The accumulation of decisions in bounded memory.

use std::collections::BTreeMap;

use super::thresholds::Thresholds;
use super::total::{Set, SetBuilder};
use super::{Estimates, Method, Observed, Review};

/// The least inclusion probability that a draw can have: it has 52 bits. Smaller ones count as 0, since their inverses
/// would be infinite.
const LEAST_INCLUSION: f64 = 1.2e-16;

/// The control variate of a decision without a probability.
const NO_PROBABILITY: f64 = 0.5;

/// The properties by which decisions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CellKey {
    /// The number of thresholds that flag the decision; `None` if it has no probability.
    reached: Option<usize>,
    flagged: bool,
    fixed: bool,
    /// The class of the inclusion probability.
    class: usize,
}

/// Labels with equal properties. The numbers are the bits of a non-negative `f64`, which are ordered as the `f64` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    inclusion: u64,
    target: u64,
}

/// The decisions with equal properties.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    /// The number of decisions.
    pub decisions: u64,
    /// The number of requests among them.
    pub requests: u64,
    /// The number of requests that have a label.
    pub labels: u64,
    /// The sum of the probabilities.
    probabilities: f64,
    /// The sum of the inclusion probabilities, which is the expected number of requests.
    pub expected: f64,
    /// The sum of their inverses, of those that are not 0.
    pub inverses: f64,
    rows: BTreeMap<RowKey, u64>,
}

impl Cell {
    /// The mean probability: the control variate. It does not depend on the draws.
    pub(super) fn mean(&self) -> f64 {
        self.probabilities / self.decisions as f64
    }

    /// The inclusion probability, target and number of all labels.
    pub(super) fn rows(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        self.rows
            .iter()
            .map(|(row, count)| (f64::from_bits(row.inclusion), f64::from_bits(row.target), *count))
    }

    /// Adds the review of a decision `times` times; a negative number takes it away.
    fn review(&mut self, observed: &Observed, times: i64) {
        if observed.review != Review::NotRequested {
            change(&mut self.requests, times);
        }
        if let Review::Answered(target) = observed.review {
            self.insert(observed.inclusion, target, times);
        }
    }

    fn insert(&mut self, inclusion: f64, target: f64, times: i64) {
        // + 0.0 turns a negative zero into a positive one, whose bits are ordered.
        let row = RowKey { inclusion: (inclusion + 0.0).to_bits(), target: (target + 0.0).to_bits() };
        let count = self.rows.entry(row).or_insert(0);
        change(count, times);
        if *count == 0 {
            self.rows.remove(&row);
        }
        change(&mut self.labels, times);
    }
}

/// Adds `times` to a count.
fn change(count: &mut u64, times: i64) {
    *count = count.checked_add_signed(times).expect("only decisions that were added are revised");
}

/// Panics if a number of a decision is not valid.
fn check(observed: &Observed) {
    let Observed { probability, inclusion, review, .. } = *observed;
    let target = if let Review::Answered(target) = review { Some(target) } else { None };
    let numbers = [Some(inclusion), probability, target];
    let valid = numbers.into_iter().flatten().all(|number| (0.0..=1.0).contains(&number));
    assert!(valid, "{observed:?}: a number is not in [0,1]");
    assert!(
        inclusion > 0.0 || review == Review::NotRequested,
        "{observed:?}: a request has the inclusion probability 0"
    );
}

/// Returns the decision as it counts. If its inclusion probability is below that of any draw, it has the probability 0 and
/// no request.
fn effective(observed: &Observed) -> Observed {
    check(observed);
    if observed.inclusion >= LEAST_INCLUSION {
        return *observed;
    }
    Observed { inclusion: 0.0, review: Review::NotRequested, ..*observed }
}

/// The decisions of one group: counts by probability, and the labels.
///
/// Its memory is bounded by the number of thresholds and the number of labels. Labels with equal properties are counted,
/// not kept, so that usually it stays below a megabyte.
#[derive(Debug, Clone)]
pub struct Accumulator {
    thresholds: Thresholds,
    cells: BTreeMap<CellKey, Cell>,
}

impl Accumulator {
    /// An empty group.
    #[must_use]
    pub fn new(thresholds: &Thresholds) -> Self {
        Self { thresholds: thresholds.clone(), cells: BTreeMap::new() }
    }

    /// Adds a decision.
    ///
    /// # Panics
    /// Panics if a number is not in \[0,1\], or if a review was requested with the inclusion probability 0.
    pub fn observe(&mut self, observed: &Observed) {
        let observed = &effective(observed);
        let cell = self.cells.entry(self.key(observed)).or_default();
        cell.decisions += 1;
        cell.probabilities += observed.probability.unwrap_or(NO_PROBABILITY);
        cell.expected += observed.inclusion;
        cell.inverses += if observed.inclusion > 0.0 { 1.0 / observed.inclusion } else { 0.0 };
        cell.review(observed, 1);
    }

    /// Replaces the review of a decision that was added before as `observed`, for example when its label arrives, or is
    /// corrected or retracted.
    ///
    /// # Panics
    /// Panics if no such decision was added, or as [`observe`](Self::observe) does.
    pub fn revise(&mut self, observed: &Observed, review: Review) {
        let revised = effective(&Observed { review, ..*observed });
        let observed = &effective(observed);
        let cell = self.cells.get_mut(&self.key(observed));
        let cell = cell.unwrap_or_else(|| panic!("{observed:?}: no such decision was added"));
        cell.review(observed, -1);
        cell.review(&revised, 1);
    }

    /// Adds all decisions of another group.
    ///
    /// # Panics
    /// Panics if the groups have different thresholds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.thresholds, other.thresholds, "groups with different thresholds cannot be merged");
        for (key, from) in &other.cells {
            let cell = self.cells.entry(*key).or_default();
            cell.decisions += from.decisions;
            cell.requests += from.requests;
            cell.probabilities += from.probabilities;
            cell.expected += from.expected;
            cell.inverses += from.inverses;
            for (inclusion, target, count) in from.rows() {
                cell.insert(inclusion, target, count as i64);
            }
        }
    }

    /// The number of decisions.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.cells.values().map(|cell| cell.decisions).sum()
    }

    /// The number of labels.
    #[must_use]
    pub fn labels(&self) -> u64 {
        self.cells.values().map(|cell| cell.labels).sum()
    }

    /// The estimates at the thresholds in force.
    #[must_use]
    pub fn in_force(&self, method: Method) -> Estimates {
        self.split(method, |key| key.flagged)
    }

    /// The estimates if `threshold` had been in force for all decisions; `None` if it is not one of the
    /// [`Thresholds`].
    ///
    /// A decision whose flag is [fixed](Observed::fixed) keeps it.
    #[must_use]
    pub fn at(&self, threshold: f64, method: Method) -> Option<Estimates> {
        let place = self.thresholds.all().iter().position(|at| *at == threshold)?;
        let flagged = |key: &CellKey| match key.reached {
            Some(reached) if !key.fixed => reached > place,
            _ => key.flagged,
        };
        Some(self.split(method, flagged))
    }

    /// The estimates for the flags that `flagged` gives.
    fn split(&self, method: Method, flagged: impl Fn(&CellKey) -> bool) -> Estimates {
        let sets = [true, false].map(|side| {
            let mut set = SetBuilder::default();
            for (key, cell) in self.cells.iter().filter(|(key, _)| flagged(key) == side) {
                set.add(key.class, cell);
            }
            set.build(method)
        });
        let [flagged, passed]: [Set; 2] = sets;
        Estimates::new(&flagged, &passed)
    }

    fn key(&self, observed: &Observed) -> CellKey {
        CellKey {
            reached: observed.probability.map(|probability| self.thresholds.reached(probability)),
            flagged: observed.flagged,
            fixed: observed.fixed || observed.probability.is_none(),
            class: class(observed.inclusion),
        }
    }
}

/// The number of classes of inclusion probabilities.
pub(super) const CLASSES: usize = 64;
/// The class of the inclusion probability 0.
pub(super) const UNCOVERED: usize = CLASSES - 1;

/// The class of an inclusion probability: 0 for 1, then one for each factor of two. The inverses of those in a class
/// differ by less than a factor of two, so that a class is nearly a simple random sample.
fn class(inclusion: f64) -> usize {
    if inclusion == 0.0 {
        return UNCOVERED;
    }
    // The binary exponent of a number in (0,1) is -1 or less.
    let exponent = 1_023 - (inclusion.to_bits() >> 52) as usize;
    exponent.min(UNCOVERED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_factors_of_two() {
        assert_eq!([1.0, 0.999, 0.5, 0.499, 0.25, 0.01, 1e-300, 0.0].map(class), [0, 1, 1, 2, 2, 7, 62, 63]);
    }

    #[test]
    fn an_inclusion_probability_below_that_of_any_draw_counts_as_zero() {
        for inclusion in [1e-310, 1e-200, 1e-17] {
            let mut all = Accumulator::new(&Thresholds::new(&[0.5]));
            let observed = |inclusion, review| Observed {
                probability: Some(0.6),
                flagged: true,
                fixed: false,
                inclusion,
                review,
            };
            for _ in 0..10 {
                all.observe(&observed(0.5, Review::Answered(1.0)));
                all.observe(&observed(inclusion, Review::Answered(0.0)));
            }
            all.revise(&observed(inclusion, Review::Answered(0.0)), Review::Unanswered);
            for method in [Method::Assisted, Method::HorvitzThompson] {
                for found in [all.in_force(method), all.at(0.5, method).unwrap()] {
                    assert_eq!(
                        (found.decisions, found.requests, found.labels, found.uncovered),
                        (20, 10, 10, 10)
                    );
                    let prevalence = found.prevalence.unwrap();
                    assert!(prevalence.value.is_finite() && prevalence.low <= prevalence.high);
                }
            }
        }
    }

    /// The estimated number of unsafe events, if the decisions whose bit is set in `drawn` have labels.
    fn total(rows: &[(f64, f64, f64)], drawn: u32, method: Method) -> f64 {
        let mut all = Accumulator::new(&Thresholds::new(&[]));
        for (place, (p, inclusion, target)) in rows.iter().enumerate() {
            let review =
                if drawn >> place & 1 == 1 { Review::Answered(*target) } else { Review::NotRequested };
            let (probability, inclusion) = (Some(*p), *inclusion);
            all.observe(&Observed { probability, flagged: true, fixed: false, inclusion, review });
        }
        let mut set = SetBuilder::default();
        all.cells.iter().for_each(|(key, cell)| set.add(key.class, cell));
        set.build(method).unsafe_events.value
    }

    #[test]
    fn the_expectation_over_all_samples_is_the_number_of_unsafe_events() {
        // The probability, the inclusion probability and the target.
        let rows = [
            (0.9, 0.3, 1.0),
            (0.8, 1.0, 0.0),
            (0.7, 0.9, 1.0),
            (0.7, 0.05, 0.0),
            (0.4, 0.5, 0.5),
            (0.2, 0.2, 1.0),
            (0.2, 0.2, 0.0),
            (0.1, 0.05, 0.0),
            (0.0, 0.6, 1.0),
        ];
        for method in [Method::Assisted, Method::HorvitzThompson] {
            let expectation: f64 = (0..1_u32 << rows.len())
                .map(|drawn| {
                    let chance = rows.iter().enumerate().map(|(place, (_, inclusion, _))| {
                        if drawn >> place & 1 == 1 { *inclusion } else { 1.0 - inclusion }
                    });
                    let chance: f64 = chance.product();
                    if chance > 0.0 { chance * total(&rows, drawn, method) } else { 0.0 }
                })
                .sum();
            assert!((expectation - 4.5).abs() < 1e-9, "{method:?}: {expectation}");
        }
    }
}
