//! `[topics]`: the names of the topics, and the properties that each one needs for the guarantees to hold.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::kafka::topics::{Cleanup, Clock, TopicSpec};

/// `[topics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// The topic of conversation events.
    pub events: String,
    /// The topic of decisions. It needs as many partitions as `events`.
    pub decisions: String,
    /// The topic of review requests. It needs as many partitions as `events`.
    pub review: String,
    /// The topic of human labels.
    pub labels: String,
    /// The topic of dead letters.
    pub dlq: String,
    /// The topic of the ledger. It is compacted and has one partition.
    pub rounds: String,
    /// The topic of predictors. It is compacted and has one partition.
    pub weights: String,
    /// The topic of the election of the active learner. It has one partition.
    pub election: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            events: "moderation.events".into(),
            decisions: "moderation.decisions".into(),
            review: "moderation.review".into(),
            labels: "moderation.labels".into(),
            dlq: "moderation.dlq".into(),
            rounds: "aegis.rounds".into(),
            weights: "aegis.weights".into(),
            election: "aegis.election".into(),
        }
    }
}

impl Topics {
    /// Returns the same names with a prefix: `prefix.name`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for name in [
            &mut self.events,
            &mut self.decisions,
            &mut self.review,
            &mut self.labels,
            &mut self.dlq,
            &mut self.rounds,
            &mut self.weights,
            &mut self.election,
        ] {
            *name = format!("{prefix}.{name}");
        }
        self
    }
}

/// Returns the specification of each topic of a configuration. New topics get `partitions` partitions, except the internal
/// ones, which have one. Decisions and review requests need as many partitions as events have.
#[must_use]
pub fn topic_specs(config: &Config, partitions: i32) -> Vec<TopicSpec> {
    let topics = &config.topics;
    let horizon = Duration::from_secs(u64::from(config.learn.horizon_days) * 86_400);
    let spec = |name: &str, partitions| TopicSpec::new(name, partitions);
    let compacted = |name: &str| TopicSpec {
        exactly: true,
        cleanup: Some(Cleanup::Compact),
        safe: true,
        ..spec(name, 1)
    };
    let stamped = |name: &str| TopicSpec { clock: Some(Clock::Broker), ..spec(name, partitions) };
    let deleted = |name: &str, keeps| TopicSpec {
        exactly: true,
        cleanup: Some(Cleanup::Delete),
        safe: true,
        keeps,
        ..spec(name, partitions)
    };
    vec![
        // Events and labels belong to their producers; only the clock that stamps them matters.
        stamped(&topics.events),
        deleted(&topics.decisions, Some(horizon)),
        deleted(&topics.review, None),
        stamped(&topics.labels),
        // A dead letter keeps the timestamp of its original.
        TopicSpec { clock: Some(Clock::Writer), safe: true, ..spec(&topics.dlq, partitions) },
        compacted(&topics.rounds),
        compacted(&topics.weights),
        TopicSpec { exactly: true, ..spec(&topics.election, 1) },
    ]
}
