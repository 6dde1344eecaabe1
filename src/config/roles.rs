//! `[score]` and `[learn]`: what is set of a role.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[score]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Score {
    /// Consumer group of the scorers.
    pub group: String,
    /// Name of this member, unique and stable; part of its transactional id. Empty: the host's name, which
    /// [`load`] fills in.
    pub member: String,
    /// Encoding of decisions and review requests: `avro`, `json` or `confluent`.
    pub encoding: Encoding,
    /// Events that the panel has at a time: batches are formed of those that wait.
    pub window: usize,
    /// A unit is committed at this many records, or after `commit_interval_ms`.
    pub commit_records: usize,
    /// A unit is committed after this long, in milliseconds, or at `commit_records`; while more lies there
    /// than can be read, after five times this, or after a quarter of what its events have waited, up to a second.
    pub commit_interval_ms: u64,
    /// The service stops if there are more dead letters than this within a minute, and they are also more than
    /// `max_dead_letter_share` of the records read. What was read before is committed first.
    pub max_dead_letters_per_minute: u64,
    /// Share of the records of a minute that may become dead letters whatever their number; 1: the service never stops
    /// because of them.
    pub max_dead_letter_share: f64,
    /// What becomes of records with a null value: `skip` (committed and counted, without an output) or `dead-letter`.
    pub tombstones: Tombstones,
    /// The panel shrinks to its cheap experts at more messages not yet consumed than this; 0: never,
    pub shed_lag: i64,
    /// or where an event being asked about is older than this, in milliseconds; 0: never.
    pub shed_age_ms: u64,
    /// It grows back after both have been below half for this long, in milliseconds.
    pub shed_calm_ms: u64,
}

impl Default for Score {
    fn default() -> Self {
        Self {
            group: "aegis-score".into(),
            member: String::new(),
            encoding: Encoding::Avro,
            window: 256,
            commit_records: 500,
            commit_interval_ms: 20,
            max_dead_letters_per_minute: 1_000,
            max_dead_letter_share: 0.5,
            tombstones: Tombstones::Skip,
            shed_lag: 0,
            shed_age_ms: 0,
            shed_calm_ms: 10_000,
        }
    }
}

impl Score {
    /// The commit interval.
    #[must_use]
    pub fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }
}

/// Encoding of written decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Avro single-object encoding.
    Avro,
    /// JSON.
    Json,
    /// Confluent's framing, with the schema registry's id.
    Confluent,
}

/// What becomes of records with a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tombstones {
    /// They are committed and counted, without an output.
    Skip,
    /// Each becomes a dead letter.
    DeadLetter,
}

/// `[learn]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Learn {
    /// Consumer group of the learners; the election's has `-election` appended.
    pub group: String,
    /// sled's folder, relative to the configuration's folder.
    pub store: PathBuf,
    /// A label is accepted this long after its round, in days.
    pub horizon_days: u32,
    /// Memory for the fold's checkpoints, in MiB.
    pub checkpoint_mib: usize,
    /// A unit is committed at this many labels, or after `commit_interval_ms`.
    pub commit_records: usize,
    /// A unit is committed after this long, in milliseconds, or at `commit_records`.
    pub commit_interval_ms: u64,
    /// A predictor is published at most this often, in milliseconds.
    pub publish_interval_ms: u64,
    /// The service stops if there are more dead letters than this within a minute, and they are also more than
    /// `max_dead_letter_share` of the records read. What was read before is committed first.
    pub max_dead_letters_per_minute: u64,
    /// Share of the records of a minute that may become dead letters whatever their number; 1: the service never stops
    /// because of them.
    pub max_dead_letter_share: f64,
    /// What becomes of records with a null value: `skip` (committed and counted, without an output) or `dead-letter`.
    pub tombstones: Tombstones,
}

impl Default for Learn {
    fn default() -> Self {
        Self {
            group: "aegis-learn".into(),
            store: "aegis-data".into(),
            horizon_days: 30,
            checkpoint_mib: 64,
            commit_records: 500,
            commit_interval_ms: 100,
            publish_interval_ms: 1_000,
            max_dead_letters_per_minute: 1_000,
            max_dead_letter_share: 0.5,
            tombstones: Tombstones::Skip,
        }
    }
}

impl Learn {
    /// The horizon in milliseconds.
    #[must_use]
    pub fn horizon(&self) -> i64 {
        i64::from(self.horizon_days) * 86_400_000
    }
}
