//! `[report]`: the settings of the watch that keeps the report's figures in the metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[report]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// The figures in the metrics are about decisions of this many days. 0 turns figures and alarms off.
    pub window_days: u32,
    /// The time between two updates of the figures, in milliseconds.
    pub interval_ms: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self { window_days: 30, interval_ms: 60_000 }
    }
}
