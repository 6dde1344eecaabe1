//! The thresholds at which groups are evaluated.

use std::sync::Arc;

/// The number of equal steps between the thresholds 0 and 1.
const STEPS: u32 = 1_000;

/// The thresholds at which an [`Accumulator`](super::Accumulator) can be evaluated: 0, 0.001, 0.002, …, 1, and any others
/// that are given.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// The thresholds in ascending order.
    ascending: Arc<[f64]>,
}

impl Thresholds {
    /// The thresholds 0, 0.001, 0.002, …, 1, and `others`, for example that of another pair of costs.
    ///
    /// # Panics
    /// Panics if one of `others` is not in \[0,1\].
    #[must_use]
    pub fn new(others: &[f64]) -> Self {
        assert!(
            others.iter().all(|at| (0.0..=1.0).contains(at)),
            "a threshold of {others:?} is not in [0,1]"
        );
        let even = (0..=STEPS).map(|step| f64::from(step) / f64::from(STEPS));
        let mut ascending: Vec<f64> = even.chain(others.iter().copied()).collect();
        ascending.sort_by(f64::total_cmp);
        ascending.dedup();
        Self { ascending: ascending.into() }
    }

    /// All thresholds in ascending order.
    #[must_use]
    pub fn all(&self) -> &[f64] {
        &self.ascending
    }

    /// The number of thresholds that flag `probability`.
    pub(super) fn reached(&self, probability: f64) -> usize {
        self.ascending.partition_point(|at| *at <= probability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_flags_the_probabilities_that_reach_it() {
        let thresholds = Thresholds::new(&[1.0 / 3.0, 0.5]);
        assert_eq!(thresholds.all().len(), 1_002);
        let place = |at: f64| thresholds.all().iter().position(|found| *found == at).unwrap();
        for at in [0.0, 0.3, 1.0 / 3.0, 0.5, 1.0] {
            assert!(thresholds.reached(at) > place(at), "{at}");
            assert!(at == 0.0 || thresholds.reached(at.next_down()) <= place(at), "{at}");
        }
    }
}
