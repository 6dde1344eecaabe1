//! The topics of Aegis, with the settings that its guarantees need.

use std::time::Duration;

use crate::config::Config;
use crate::kafka::topics::{Cleanup, Clock, TopicSpec};

/// Returns the topics of a configuration. New topics have `partitions` partitions, except the internal ones, which have
/// one. Decisions and review requests need as many partitions as events.
#[must_use]
pub fn table(config: &Config, partitions: i32) -> Vec<TopicSpec> {
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
        // Events and labels belong to their producers. Only the clock of their timestamps matters.
        stamped(&topics.events),
        deleted(&topics.decisions, Some(horizon)),
        deleted(&topics.review, None),
        stamped(&topics.labels),
        // A dead letter has the timestamp of its original.
        TopicSpec { clock: Some(Clock::Writer), safe: true, ..spec(&topics.dlq, partitions) },
        compacted(&topics.rounds),
        compacted(&topics.weights),
        TopicSpec { exactly: true, ..spec(&topics.election, 1) },
    ]
}
