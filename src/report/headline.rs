//! The figures of a policy in short, and where the newest are kept.

use std::sync::{Arc, Mutex, PoisonError};

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

/// The newest headlines of a process, one for each policy. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Headlines(Arc<Mutex<Vec<Headline>>>);

impl Headlines {
    /// The newest headlines, by policy. Empty until the first have been computed.
    #[must_use]
    pub fn now(&self) -> Vec<Headline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the headlines.
    pub(super) fn set(&self, headlines: Vec<Headline>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = headlines;
    }
}
