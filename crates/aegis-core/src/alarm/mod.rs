//! Alarms that can be watched continuously: under the [assumptions](#assumptions) below, the probability of a false alarm
//! over the whole life of one watch is at most [`FALSE_ALARM`], however often it is looked at. Several watches together have
//! at most the sum of their probabilities.
//!
//! # Construction
//!
//! A watch compares, at each time, two accounts of all values after a short burn-in: that their mean is some constant μ,
//! and that it changed at one of a list of times. For a value x in \[0,1\], a mean μ and a bet q,
//!
//! ```text
//! L_q(x) / L_μ(x) = (q/μ)^x ((1-q)/(1-μ))^(1-x)
//! ```
//!
//! has an expectation of at most 1 if x has the mean μ, because it is convex in x and therefore below its chord, whose
//! expectation is 1 (Hoeffding 1963, proof of theorem 1). For a binary x it is the likelihood ratio.
//! The bets are mixed with beta priors, as in Robbins (1970) and Waudby-Smith and Ramdas (2024, "Estimating means of
//! bounded random variables by betting"): from the values before a change at time c, with the prior that the
//! burn-in gives, comes M_0(c); from those after it, with priors around the mean before c, comes M_1(c). All priors are
//! known before the values that they are multiplied with. So for the true μ the product M_0(c) M_1(c) / L_μ is a
//! non-negative supermartingale that starts at 1, and so is its average over c with weights w_c whose sum is at most 1.
//! The watched number
//!
//! ```text
//! E = Σ_c w_c M_0(c) M_1(c) / sup_μ L_μ
//! ```
//!
//! is not greater, whatever the true μ is: an e-process for "the mean is constant" (Ramdas, Ruf, Larsson and Koolen 2022,
//! "Testing exchangeability: fork-convexity, supermartingales and e-processes"; universal inference, Wasserman, Ramdas and Balakrishnan 2020). By Ville's
//! inequality (1939), the probability that it ever reaches 1/0.05 is at most 0.05. The mean of the reference needs no
//! confidence interval of its own: the supremum over μ accounts for its error. A change in either direction raises E.
//!
//! The times c are spread evenly over the logarithm of the number of values (as the restarts of Shin, Ramdas and Rinaldo
//! 2024, "E-detectors"), so that their number stays small and a late change costs little more than an early
//! one.
//!
//! # Assumptions
//!
//! The conditional expectation of each value, given all values before, is the same μ. Values need not be independent, nor
//! have the same distribution. It does not hold for a figure that follows the time of day or the day of the week, or comes
//! in bursts (one account that sends the same message a thousand times): a watch raises an alarm there, because the mean
//! does change. Watch the difference to the same hour before, or values that are means of whole days, where that is not
//! wanted.
//!
//! A weighted value counts with its weight: 1 - w + w·L_q/L_μ has an expectation of at most 1 if E\[w (x - μ)\] = 0, and
//! (L_q/L_μ)^w is not greater (Jensen).

mod evidence;

use crate::math::{exp, ln};
use evidence::{Change, Count, LN_REFUTED};

/// The bound on the false-alarm probability of a [`Watch`] over its whole life.
pub const FALSE_ALARM: f64 = 0.05;

/// The number of times of change in each doubling of the number of values.
const CHANGES_PER_EPOCH: u64 = 32;
/// A watch is evaluated when the number of values has grown by one part in this number.
const EVALUATIONS: u64 = 512;
/// The burn-in is one part in this number of the reference.
const BURN_IN: u64 = 8;

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
    /// The number of values.
    values: u64,
    /// All values, and those of the burn-in.
    all: Count,
    burn_in: Count,
    /// The times at which the mean may have changed, in ascending order.
    changes: Vec<Change>,
    /// The numbers of values at which the next time of change and the next evaluation are due.
    next_change: u64,
    next_evaluation: u64,
    alarm: Option<Alarm>,
}

impl Watch {
    /// A watch whose first `reference` values serve as reference. An alarm is not possible before. The more values, the
    /// smaller and the earlier are the changes that can be found.
    ///
    /// # Panics
    /// Panics if `reference` is 0.
    #[must_use]
    pub fn new(reference: u64) -> Self {
        assert!(reference > 0, "the reference of a watch needs at least one value");
        Self {
            reference,
            values: 0,
            all: Count::default(),
            burn_in: Count::default(),
            changes: Vec::new(),
            next_change: reference,
            next_evaluation: reference + 1,
            alarm: None,
        }
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
        assert!((0.0..=1.0).contains(&value), "the watched value {value} is not in [0,1]");
        assert!(weight > 0.0 && weight <= 1.0, "the weight {weight} of a watched value is not in (0,1]");
        if self.alarm.is_some() {
            return None;
        }
        self.all.add(value, weight);
        self.values += 1;
        if self.values <= self.reference / BURN_IN {
            self.burn_in = self.all;
        }
        if self.values == self.next_evaluation {
            self.next_evaluation += (self.values / EVALUATIONS).max(1);
            self.alarm = self.evaluate();
        }
        if self.values == self.next_change {
            self.begin_change();
        }
        self.alarm
    }

    /// The alarm, if it was raised.
    #[must_use]
    pub fn alarm(&self) -> Option<&Alarm> {
        self.alarm.as_ref()
    }

    /// The number of values.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.values
    }

    /// The mean of all values; `None` without values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.values > 0).then(|| self.all.mean())
    }

    /// Adds the present as a time at which the mean may have changed.
    fn begin_change(&mut self) {
        let epoch = (self.values / self.reference).ilog2();
        // The sum of 1/(1·2) + 1/(2·3) + … is 1, and each epoch has at most CHANGES_PER_EPOCH changes.
        let e = f64::from(epoch);
        let weight = 1.0 / ((e + 1.0) * (e + 2.0) * CHANGES_PER_EPOCH as f64);
        self.changes.push(Change::new(self.values, weight, self.burn_in, self.all));
        self.next_change += (self.reference << epoch).div_ceil(CHANGES_PER_EPOCH);
    }

    /// Returns the alarm if the values refute that the mean is constant.
    fn evaluate(&self) -> Option<Alarm> {
        let (evidence, change) = self.evidence();
        let change = change.filter(|_| evidence >= 1.0 / FALSE_ALARM)?;
        Some(Alarm {
            before: change.before.mean(),
            after: self.all.minus(change.before).mean(),
            since: self.values - change.values,
            values: self.values,
        })
    }

    /// The e-value E, and the time of change that contributes most to it.
    fn evidence(&self) -> (f64, Option<&Change>) {
        let constant = self.all.minus(self.burn_in).greatest_likelihood();
        // Changes below it contribute less than an eighth of what is needed, all together.
        let least = LN_REFUTED - ln(8.0 * self.changes.len().max(1) as f64);
        let (mut sum, mut greatest, mut best) = (0.0, f64::NEG_INFINITY, None);
        for change in &self.changes {
            let evidence = change.evidence(self.all, constant, least);
            sum += exp(evidence);
            if evidence > greatest {
                (greatest, best) = (evidence, Some(change));
            }
        }
        (sum, best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expectation of E over all binary sequences of 12 values with the mean `mean`.
    fn expectation(mean: f64, reference: u64) -> f64 {
        const LENGTH: u32 = 12;
        (0..1_u32 << LENGTH)
            .map(|bits| {
                let mut watch = Watch::new(reference);
                for place in 0..LENGTH {
                    watch.observe(f64::from((bits >> place) & 1));
                    assert!(watch.alarm().is_none(), "the sequences are too short for an alarm");
                }
                let ones = bits.count_ones();
                mean.powi(ones as i32) * (1.0 - mean).powi((LENGTH - ones) as i32) * watch.evidence().0
            })
            .sum()
    }

    #[test]
    fn the_evidence_is_an_e_value() {
        for reference in [1, 3, 9] {
            for mean in [0.01, 0.1, 0.3, 0.5, 0.8] {
                let found = expectation(mean, reference);
                assert!(found > 0.0 && found <= 1.0, "{found} at {mean} after {reference}");
            }
        }
    }

    #[test]
    fn the_number_of_times_is_logarithmic() {
        let mut watch = Watch::new(100);
        for number in 0..1_000_000_u32 {
            watch.observe(f64::from(number % 2));
        }
        // Fourteen doublings.
        assert!(watch.changes.len() <= 14 * CHANGES_PER_EPOCH as usize, "{}", watch.changes.len());
    }
}
