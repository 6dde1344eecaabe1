//! The lag of the roles' groups, and the age of the oldest event without an outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::core::event::Millis;
use crate::kafka::{Connection, Lookup, SourceError, bounds, committed};

/// The time within which the brokers answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The lag of a group on a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GroupLag {
    /// The role.
    pub role: &'static str,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The records without a committed outcome, or `None` if the group has committed nothing yet. Markers of transactions
    /// count too.
    pub messages: Option<i64>,
    /// The number of partitions.
    pub partitions: usize,
}

/// The lags of both roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lags {
    /// The groups.
    pub groups: Vec<GroupLag>,
    /// The broker timestamp of the oldest event without an outcome; `None` if all have one.
    pub oldest: Option<Millis>,
}

/// Asks the brokers for the lags.
pub struct Watcher {
    connection: Connection,
    groups: [(&'static str, String, String); 2],
    /// Reads the first events without an outcome. It is opened when it is needed.
    lookup: Option<Lookup>,
}

impl Watcher {
    /// Creates a watcher of both roles' groups.
    #[must_use]
    pub fn new(config: &Config, connection: &Connection) -> Self {
        let (score, learn, topics) = (&config.score.group, &config.learn.group, &config.topics);
        let groups = [
            ("score", score.clone(), topics.events.clone()),
            ("learn", learn.clone(), topics.labels.clone()),
        ];
        Self { connection: connection.clone(), groups, lookup: None }
    }

    /// Asks the brokers.
    ///
    /// # Errors
    /// Returns an error if a topic is missing or the brokers do not answer.
    pub fn ask(&mut self) -> Result<Lags, SourceError> {
        let mut lags = Lags::default();
        for (role, group, topic) in self.groups.clone() {
            let bounds = bounds(&self.connection, &topic, TIMEOUT)?;
            let done = committed(&self.connection, &group, &topic, TIMEOUT)?;
            let lag = |(partition, (low, high)): (&i32, &(i64, i64))| {
                (high - done.get(partition).copied().unwrap_or(*low).max(*low)).max(0)
            };
            let messages = (!done.is_empty()).then(|| bounds.iter().map(lag).sum());
            if role == "score" {
                lags.oldest = self.oldest(&topic, &bounds, &done)?;
            }
            lags.groups.push(GroupLag { role, group, topic, messages, partitions: bounds.len() });
        }
        Ok(lags)
    }

    /// Returns the timestamp of the oldest record that is not committed. Its value is dropped unread.
    fn oldest(
        &mut self,
        topic: &str,
        bounds: &BTreeMap<i32, (i64, i64)>,
        done: &BTreeMap<i32, i64>,
    ) -> Result<Option<Millis>, SourceError> {
        let first = |(partition, (low, high)): (&i32, &(i64, i64))| {
            let next = done.get(partition).copied().unwrap_or(*low).max(*low);
            (next < *high).then_some((*partition, next))
        };
        let wanted: Vec<(i32, i64)> = bounds.iter().filter_map(first).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let lookup = match &mut self.lookup {
            Some(lookup) => lookup,
            none => none.insert(Lookup::open(&self.connection, topic, TIMEOUT)?),
        };
        let found = lookup.fetch(&wanted, TIMEOUT);
        if found.is_err() {
            self.lookup = None;
        }
        Ok(found?.into_iter().flatten().filter_map(|record| record.timestamp).min())
    }
}
