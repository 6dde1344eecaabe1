//! The specification of a topic.

use std::collections::BTreeMap;
use std::time::Duration;

/// The cleanup policy of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records are deleted by age or size.
    Delete,
    /// All but the newest record of each key are deleted.
    Compact,
}

impl Cleanup {
    /// Kafka's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// The clock that sets the timestamps of a topic's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The broker's.
    Broker,
    /// The producer's.
    Writer,
}

impl Clock {
    /// Kafka's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "LogAppendTime",
            Self::Writer => "CreateTime",
        }
    }

    pub(super) fn difference(self) -> &'static str {
        match self {
            Self::Broker => "keeps its producers' timestamps",
            Self::Writer => "has its timestamps set by the broker",
        }
    }
}

/// Returns the number of replicas that must have a record before it is acknowledged, for a topic with this number of
/// replicas.
#[must_use]
pub fn in_sync(replicas: usize) -> usize {
    replicas.min(2)
}

/// The specification of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: String,
    /// The number of partitions of a new topic. An existing topic must have the same number if `exactly` is set.
    pub partitions: i32,
    /// `true` if an existing topic must have exactly this number of partitions. Missing ones can be added: the records of such
    /// a topic are not partitioned by key.
    pub exactly: bool,
    /// The required cleanup policy, or `None` if any is allowed.
    pub cleanup: Option<Cleanup>,
    /// The required clock of timestamps, or `None` if either is allowed.
    pub clock: Option<Clock>,
    /// `true` if acknowledged records must be on [two replicas](in_sync), if the topic has more than one.
    pub safe: bool,
    /// The minimum time for which records must be kept.
    pub keeps: Option<Duration>,
    /// Further settings of a new topic.
    pub config: BTreeMap<String, String>,
}

impl TopicSpec {
    /// Creates a specification that requires nothing but this number of partitions.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            exactly: false,
            cleanup: None,
            clock: None,
            safe: false,
            keeps: None,
            config: BTreeMap::new(),
        }
    }

    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.config.clone();
        if let Some(cleanup) = self.cleanup {
            settings.insert("cleanup.policy".into(), cleanup.word().into());
        }
        if let Some(clock) = self.clock {
            settings.insert("message.timestamp.type".into(), clock.word().into());
        }
        if let Some(keeps) = self.keeps {
            settings.insert("retention.ms".into(), keeps.as_millis().to_string());
        }
        settings
    }
}
