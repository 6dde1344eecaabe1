//! Alarms that can be watched continuously: the false-alarm probability over the whole life of a watch is bounded,
//! however often it is looked at.

/// The bound on the false-alarm probability of a [`Watch`] over its whole life.
pub const FALSE_ALARM: f64 = 0.05;

/// A change of the mean of a watched value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// The mean before the most likely time of the change.
    pub before: f64,
    /// The mean after it.
    pub after: f64,
    /// The number of values since the most likely time of the change.
    pub since: u64,
    /// The number of values in all.
    pub values: u64,
}

/// A watch on the mean of values in \[0,1\]: block rate, mean p, disagreement, or the error of an expert.
///
/// The mean is not known in advance. The first values, the reference, only estimate it; later values count for both the
/// estimate and the search for a change, in either direction.
#[derive(Debug, Clone)]
pub struct Watch {
    reference: u64,
}

impl Watch {
    /// A watch whose first `reference` values serve as reference. An alarm is not possible before.
    ///
    /// # Panics
    /// Panics if `reference` is 0.
    #[must_use]
    pub fn new(reference: u64) -> Self {
        assert!(reference > 0, "a watch needs a reference");
        Self { reference }
    }

    /// Adds a value. Returns the alarm with the value that raises it; later values return `None`.
    ///
    /// # Panics
    /// Panics if the value is not in \[0,1\].
    pub fn observe(&mut self, value: f64) -> Option<Alarm> {
        self.observe_weighted(value, 1.0)
    }

    /// Adds a value with a weight in (0,1\]. The watched figure is the weighted mean.
    ///
    /// For the error of an expert on audited events, the weight is the least audit probability of the policy divided by
    /// that of the decision, so that the mean is that over all events. The least probability must not change during the
    /// life of the watch: start another one if it does.
    ///
    /// # Panics
    /// Panics if the value is not in \[0,1\], or the weight not in (0,1\].
    pub fn observe_weighted(&mut self, value: f64, weight: f64) -> Option<Alarm> {
        todo!("{value} {weight} {}", self.reference)
    }

    /// The alarm, if it was raised.
    #[must_use]
    pub fn alarm(&self) -> Option<&Alarm> {
        todo!()
    }
}
