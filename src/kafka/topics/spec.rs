//! What a topic must be like.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a topic forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// By age or size.
    Delete,
    /// All but the newest record of each key.
    Compact,
}

impl Cleanup {
    /// Kafka's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// Whose clock stamps a topic's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The broker's.
    Broker,
    /// That of whoever writes them.
    Writer,
}

impl Clock {
    /// Kafka's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "LogAppendTime",
            Self::Writer => "CreateTime",
        }
    }

    pub(super) fn otherwise(self) -> &'static str {
        match self {
            Self::Broker => "keeps its producers' timestamps",
            Self::Writer => "has its records dated anew by the broker",
        }
    }
}

/// Replicas that must have a record before it counts, of a topic that has as many.
#[must_use]
pub fn in_sync(replicas: usize) -> usize {
    replicas.min(2)
}

/// What a topic must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions a new one gets; an existing one must have as many where `exactly`.
    pub partitions: i32,
    /// Whether another number of partitions is wrong. Missing ones can be added: nothing that has such a
    /// topic goes by keys.
    pub exactly: bool,
    /// How it forgets; none: the user's affair.
    pub cleanup: Option<Cleanup>,
    /// Whose clock must stamp its records; none: the user's affair.
    pub clock: Option<Clock>,
    /// Whether what the brokers acknowledge must lie on [two replicas](in_sync), where it has more than one.
    pub safe: bool,
    /// How long it must keep records at least.
    pub keeps: Option<Duration>,
    /// Further settings for a new one.
    pub config: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with this many partitions, and nothing else asked of it.
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
