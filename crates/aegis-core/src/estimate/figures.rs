//! The figures that the estimates consist of.

use super::interval::{Part, ratio};
use super::total::Set;

/// The range of a figure over all possible answers to the requests that have no label.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// The least value.
    pub low: f64,
    /// The greatest value.
    pub high: f64,
}

/// An estimated figure in \[0,1\].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate. It assumes that unanswered requests are like the answered ones with a similar inclusion probability.
    pub value: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval.
    pub high: f64,
    /// The number of labels behind the estimate.
    pub labels: u64,
    /// The effective sample size: the number of labels of a simple random sample with the same variance. Infinite if
    /// every decision has a label; the number of labels if the estimate is 0 or 1.
    pub effective: f64,
    /// The estimate if all requests without a label had the answers that move it most in either direction. Equal to
    /// `value` if all requests are answered.
    pub unanswered: Bounds,
}

impl Estimate {
    fn new(part: Part, labels: u64, unanswered: Bounds) -> Self {
        let value = part.value.clamp(0.0, 1.0);
        let (low, high) = (part.low(), part.high());
        let effective = match (part.variance > 0.0, value * (1.0 - value)) {
            (true, binomial) if binomial > 0.0 => binomial / part.variance,
            _ if high - low > 1e-9 => labels as f64,
            _ => f64::INFINITY,
        };
        let unanswered =
            Bounds { low: unanswered.low.clamp(0.0, value), high: unanswered.high.clamp(value, 1.0) };
        Self {
            value,
            low: low.clamp(0.0, value),
            high: high.clamp(value, 1.0),
            labels,
            effective,
            unanswered,
        }
    }
}

/// The estimates for a group of decisions at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimates {
    /// The number of decisions.
    pub decisions: u64,
    /// The number of flagged decisions.
    pub flagged: u64,
    /// The number of review requests.
    pub requests: u64,
    /// The number of requests that have a label.
    pub labels: u64,
    /// The number of decisions with inclusion probability 0. Nothing is known about them: the intervals extend to both
    /// cases, all of them safe and all of them unsafe.
    pub uncovered: u64,
    /// The share of unsafe events.
    pub prevalence: Option<Estimate>,
    /// The share of unsafe events among the flagged ones.
    pub precision: Option<Estimate>,
    /// The share of flagged events among the unsafe ones.
    pub recall: Option<Estimate>,
    /// The share of flagged events among the safe ones.
    pub false_positive_rate: Option<Estimate>,
    /// The share of events that are flagged and safe, or unsafe and not flagged.
    pub error_rate: Option<Estimate>,
}

impl Estimates {
    /// The estimates from those of the flagged decisions and of the others.
    pub(super) fn new(flagged: &Set, passed: &Set) -> Self {
        let (found, missed) = (flagged.unsafe_events, passed.unsafe_events);
        let (caught, through) = (flagged.decisions as f64, passed.decisions as f64);
        let (false_alarms, cleared) = (Part::exact(caught).minus(found), Part::exact(through).minus(missed));
        let all = caught + through;
        let labels = flagged.labels + passed.labels;
        let (f, m) = (flagged.unanswered, passed.unanswered);
        let estimate = |part: Option<Part>, labels: u64, low: f64, high: f64| {
            part.filter(|_| labels > 0).map(|part| Estimate::new(part, labels, Bounds { low, high }))
        };
        // A share of the two parts that is certain if one of them is 0, whatever the other.
        let over = |a: f64, b: f64| if a + b > 0.0 { a / (a + b) } else { 0.0 };
        Self {
            decisions: flagged.decisions + passed.decisions,
            flagged: flagged.decisions,
            requests: flagged.requests + passed.requests,
            labels,
            uncovered: flagged.uncovered + passed.uncovered,
            prevalence: estimate(
                Some(found.plus(missed).per(all)),
                labels,
                (f.low + m.low) / all,
                (f.high + m.high) / all,
            ),
            precision: estimate(Some(found.per(caught)), flagged.labels, f.low / caught, f.high / caught),
            recall: estimate(ratio(found, missed), labels, over(f.low, m.high), over(f.high, m.low)),
            false_positive_rate: estimate(
                ratio(false_alarms, cleared),
                labels,
                over(caught - f.high, through - m.low),
                over(caught - f.low, through - m.high),
            ),
            error_rate: estimate(
                Some(false_alarms.plus(missed).per(all)),
                labels,
                (caught - f.high + m.low) / all,
                (caught - f.low + m.high) / all,
            ),
        }
    }

    /// The share of requests that have a label; `None` if there are no requests. Unanswered requests are not missing at
    /// random: report this with [`Estimate::unanswered`].
    #[must_use]
    pub fn response_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.labels as f64 / self.requests as f64)
    }
}
