//! The figures that the estimates consist of.

/// The range of a figure over all possible answers to the requests that have no label.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// every decision has a label.
    pub effective: f64,
    /// The estimate if all requests without a label had the answers that move it most in either direction. Equal to
    /// `value` if all requests are answered.
    pub unanswered: Bounds,
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
    /// The share of requests that have a label; `None` if there are no requests. Unanswered requests are not missing at
    /// random: report this with [`Estimate::unanswered`].
    #[must_use]
    pub fn response_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.labels as f64 / self.requests as f64)
    }
}
