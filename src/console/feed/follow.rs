//! Follows the topics of decisions, dead letters, labels and predictors, without a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::recent::{Recent, Version};
use super::{Feed, State, now};
use crate::codec::{self, Received, Schemas};
use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::kafka::{Connection, Consumed, Followed, Follower, From, SourceError, at_time, bounds};
use crate::panics;

/// The time within which the brokers answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The number of records of one topic that are read before the next topic has its turn.
const TURN: usize = 500;
/// The number of records of a topic that are read at the start at most, over all partitions.
const MAX_BACKLOG: i64 = 200_000;
/// The number of records of a topic that are read at the start at least, also if they are older than the charts.
const MIN_BACKLOG: i64 = 2_000;

/// The topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Decisions,
    Letters,
    Labels,
    Weights,
}

/// A topic with the position at which reading continues after an error.
struct Topic {
    kind: Kind,
    name: String,
    follower: Option<Follower>,
    next: BTreeMap<i32, i64>,
}

/// Reads the topics in turn.
pub struct Reader {
    connection: Connection,
    topics: Vec<Topic>,
    defaults: codec::Defaults,
    policies: Live,
    history: Millis,
}

impl Reader {
    /// Creates a reader of the topics of a configuration.
    #[must_use]
    pub fn new(config: &Config, policies: &Live, connection: &Connection) -> Self {
        let names = &config.topics;
        let topic = |(kind, name): (Kind, &String)| Topic {
            kind,
            name: name.clone(),
            follower: None,
            next: BTreeMap::new(),
        };
        let topics = [
            (Kind::Decisions, &names.decisions),
            (Kind::Letters, &names.dlq),
            (Kind::Labels, &names.labels),
            (Kind::Weights, &names.weights),
        ];
        Self {
            connection: connection.clone(),
            topics: topics.into_iter().map(topic).collect(),
            defaults: config.record_defaults(),
            policies: policies.clone(),
            history: i64::from(config.console.history_hours) * 3_600_000,
        }
    }

    /// Opens the topics that are not open. Each continues where it was.
    ///
    /// # Errors
    /// Returns an error if a topic is missing or the brokers do not answer.
    pub fn open(&mut self) -> Result<(), SourceError> {
        for topic in self.topics.iter_mut().filter(|topic| topic.follower.is_none()) {
            let from = if topic.next.is_empty() && topic.kind != Kind::Weights {
                From::Offsets(start(&self.connection, &topic.name, now().saturating_sub(self.history))?)
            } else {
                From::Offsets(topic.next.clone())
            };
            let opened = Follower::open(&self.connection, &topic.name, &from, TIMEOUT);
            if matches!(opened, Err(SourceError::Truncated { .. })) {
                topic.next.clear(); // the topic was created again: what it has now is read
            }
            topic.follower = Some(opened?);
        }
        Ok(())
    }

    /// Reads what each topic has now, up to a number of records. Returns `true` if there was any.
    ///
    /// # Errors
    /// Returns an error if a topic cannot be read. [`open`](Self::open) continues.
    pub fn turn(&mut self, feed: &Feed, schemas: Option<&dyn Schemas>) -> Result<bool, SourceError> {
        let mut any = false;
        for topic in &mut self.topics {
            let Some(follower) = &mut topic.follower else { continue };
            let mut records = Vec::new();
            let outcome = loop {
                match follower.poll(Duration::ZERO) {
                    Ok(Followed::Record(record)) => records.push(record),
                    Ok(Followed::Idle) => break Ok(()),
                    Ok(Followed::End | Followed::Skipped { .. }) => {}
                    Err(error) => break Err(error),
                }
                if records.len() >= TURN {
                    break Ok(());
                }
            };
            topic.next = follower.positions();
            if outcome.is_err() {
                topic.follower = None;
            }
            any |= !records.is_empty();
            for record in records {
                let at = (record.partition, record.offset);
                let taken = panics::survive(|| {
                    if let Some(taken) = take(topic.kind, record, &self.defaults, &self.policies, schemas) {
                        taken(&mut feed.state());
                    }
                });
                if taken.is_err() {
                    let (partition, offset) = at;
                    tracing::error!(topic = topic.name, partition, offset, "the console skips this record");
                    feed.state().unreadable += 1;
                }
            }
            outcome?;
        }
        Ok(any)
    }

    /// Takes partitions that the topics have gained.
    ///
    /// # Errors
    /// Returns an error if a topic was deleted or the brokers do not answer.
    pub fn grow(&mut self) -> Result<(), SourceError> {
        for follower in self.topics.iter_mut().filter_map(|topic| topic.follower.as_mut()) {
            follower.grow(TIMEOUT)?;
        }
        Ok(())
    }
}

/// Returns the positions at which a topic is first read.
fn start(connection: &Connection, topic: &str, since: Millis) -> Result<BTreeMap<i32, i64>, SourceError> {
    let bounds = bounds(connection, topic, TIMEOUT)?;
    let at = at_time(connection, topic, since, TIMEOUT)?;
    let partitions = i64::try_from(bounds.len()).unwrap_or(1).max(1);
    let of = |(partition, (low, high)): (i32, (i64, i64))| {
        let timed = at.get(&partition).copied().unwrap_or(high);
        let most = (high - MAX_BACKLOG / partitions).max(low);
        let least = (high - MIN_BACKLOG / partitions).max(low);
        (partition, timed.min(least).max(most))
    };
    Ok(bounds.into_iter().map(of).collect())
}

/// The change of the state by a record.
type Change = Box<dyn FnOnce(&mut State)>;

/// Decodes a record before the state is locked. A record that cannot be decoded is counted.
fn take(
    kind: Kind,
    record: Consumed,
    defaults: &codec::Defaults,
    policies: &Live,
    schemas: Option<&dyn Schemas>,
) -> Option<Change> {
    let broken = |state: &mut State| state.unreadable += 1;
    match kind {
        Kind::Letters => Some(Box::new(move |state| state.letter(&record, now()))),
        Kind::Decisions => {
            let payload = record.payload.as_deref()?;
            let decoded = Received::new(Some(payload), &record.headers, schemas).decision();
            let Ok(decision) = decoded else { return Some(Box::new(broken)) };
            let (partition, offset, time) = (record.partition, record.offset, record.timestamp);
            let recent = Recent { partition, offset, time, decision };
            Some(Box::new(move |state| state.decision(recent, now())))
        }
        Kind::Labels => {
            let payload = record.payload.as_deref()?;
            let received = Received::new(Some(payload), &record.headers, schemas);
            let decoded = received.at(&record.topic, record.partition, record.offset).labels(defaults);
            let Ok(labels) = decoded else { return None }; // learn makes a dead letter of it
            let policies = policies.now();
            // Reports and appeals are no answers unless the policy learns from them.
            let value = |label: &crate::core::label::Label| {
                let mapping = &policies.get(&label.policy)?.mapping;
                mapping.teaches.contains(&label.source).then(|| mapping.value(label)).flatten()
            };
            let valued: Vec<_> = labels.into_iter().map(|label| (value(&label), label)).collect();
            Some(Box::new(move |state| state.labels(&valued, record.timestamp, now())))
        }
        Kind::Weights => {
            if codec::pin_policy(record.key.as_deref().unwrap_or_default()).is_some() {
                return None;
            }
            let policy = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let Some(payload) = record.payload.as_deref() else {
                return Some(Box::new(move |state| state.predictors.withdraw(&policy)));
            };
            let Ok(published) = codec::decode_published(payload) else { return Some(Box::new(broken)) };
            let (offset, time, published) = (record.offset, record.timestamp, Arc::new(published));
            Some(Box::new(move |state| state.predictors.add(Version { offset, time, published })))
        }
    }
}
