//! `[score]` and `[learn]`: the settings of the roles.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[score]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Score {
    /// The consumer group of the scorers.
    pub group: String,
    /// The unique and stable name of this member, which is part of its transactional id. If empty, it is the host's
    /// name.
    pub member: String,
    /// The encoding of decisions and review requests.
    pub encoding: Encoding,
    /// The number of events that the panel holds at a time. Batches are formed from those that wait.
    pub window: usize,
    /// The number of records at which a batch is committed, unless `commit_interval_ms` has passed before.
    pub commit_records: usize,
    /// The time after which a batch is committed, in milliseconds, unless it has `commit_records` records before. Under
    /// backlog it is five times this, or half of the time that the batch's events have waited, up to a second.
    pub commit_interval_ms: u64,
    /// The role stops if more dead letters than this occur within a minute, and they are also more than
    /// `max_dead_letter_share` of the records read. The records read before are committed first.
    pub max_dead_letters_per_minute: u64,
    /// The share of the records of a minute that may become dead letters, regardless of their number. If 1, the role
    /// never stops because of dead letters.
    pub max_dead_letter_share: f64,
    /// The treatment of records with a null value.
    pub tombstones: Tombstones,
    /// The panel shrinks to its cheap experts if more messages than this are not yet consumed. 0 turns this off.
    pub shed_lag: i64,
    /// The panel shrinks to its cheap experts if an event that experts are asked about is older than this, in
    /// milliseconds. 0 turns this off.
    pub shed_age_ms: u64,
    /// A shrunk panel is restored after lag and age have both been below half of their limits for this long, in
    /// milliseconds.
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
    /// Returns the commit interval.
    #[must_use]
    pub fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }
}

/// The encoding of written decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Avro's single-object encoding.
    Avro,
    /// JSON.
    Json,
    /// Avro with Confluent's framing and a schema id of the registry.
    Confluent,
}

/// The treatment of records with a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tombstones {
    /// They are committed and counted, and produce no output.
    Skip,
    /// Each becomes a dead letter.
    DeadLetter,
}

/// `[learn]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Learn {
    /// The consumer group of the learners. The group of their election has `-election` appended.
    pub group: String,
    /// The folder of the store (sled), relative to the configuration's folder.
    pub store: PathBuf,
    /// The time after its round during which a label is accepted, in days.
    pub horizon_days: u32,
    /// The memory for the checkpoints of the fold, in MiB.
    pub checkpoint_mib: usize,
    /// The number of labels at which a batch is committed, unless `commit_interval_ms` has passed before.
    pub commit_records: usize,
    /// The time after which a batch is committed, in milliseconds, unless it has `commit_records` labels before.
    pub commit_interval_ms: u64,
    /// The least time between two published predictors, in milliseconds.
    pub publish_interval_ms: u64,
    /// The role stops if more dead letters than this occur within a minute, and they are also more than
    /// `max_dead_letter_share` of the records read. The records read before are committed first.
    pub max_dead_letters_per_minute: u64,
    /// The share of the records of a minute that may become dead letters, regardless of their number. If 1, the role
    /// never stops because of dead letters.
    pub max_dead_letter_share: f64,
    /// The treatment of records with a null value.
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
    /// Returns the horizon in milliseconds.
    #[must_use]
    pub fn horizon(&self) -> i64 {
        i64::from(self.horizon_days) * 86_400_000
    }
}
