//! The figures of a policy in short.

use serde::Serialize;

use super::figures::{Counts, Figures};

/// The figures of a policy over the window of the watch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// The policy.
    pub policy: String,
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// The share of requests that were answered.
    pub response_rate: Option<f64>,
    /// The least recall that the policy aims at, if it states one.
    pub recall_target: Option<f64>,
    /// The estimates.
    pub figures: Figures,
    /// The names of the watched values that have raised an alarm.
    pub alarms: Vec<String>,
}
