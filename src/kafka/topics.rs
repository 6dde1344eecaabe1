//! Creates and checks topics.

mod calls;
mod faults;
mod identity;
mod spec;

use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::connection::Connection;
use super::failure::SourceError;
pub(super) use calls::count;
use calls::{await_leaders, create, describe, grow, metadata_consumer, replicas};
use faults::{wrong_partitions, wrong_replicas, wrong_settings};
pub use identity::id;
pub use spec::{Cleanup, Clock, TopicSpec, in_sync};

/// The result of checking or changing one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The topic satisfies its specification.
    Fine,
    /// The topic does not exist.
    Missing,
    /// The topic was created.
    Made,
    /// The topic had this number of partitions, and the missing ones were added.
    Grown(i32),
    /// The topic differs from its specification. Each difference is a sentence that says what to do.
    Wrong(Vec<String>),
}

/// Returns the number of partitions of `topic`.
///
/// # Errors
/// Returns [`SourceError::MissingTopic`] if there is no such topic, and another error if the brokers do not answer.
pub fn partitions(connection: &Connection, topic: &str, timeout: Duration) -> Result<i32, SourceError> {
    count(metadata_consumer(connection)?.client(), topic, timeout)
}

/// Returns the size of the largest batch that `topic` accepts (`max.message.bytes`).
///
/// # Errors
/// Returns an error if the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn max_message_bytes(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
) -> Result<usize, SourceError> {
    let config = describe(connection, topic, timeout)?;
    let limit = config.get("max.message.bytes").and_then(|entry| entry.value.as_deref()?.parse().ok());
    let doing = "read the topic's settings";
    limit.ok_or_else(|| SourceError::Client { doing, reason: format!("{topic} has no max.message.bytes") })
}

/// Returns the numbers of partitions of several topics, in their order. They are requested over one connection.
///
/// # Errors
/// Returns the errors of [`partitions`].
pub fn partitions_of(
    connection: &Connection,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<i32>, SourceError> {
    let consumer = metadata_consumer(connection)?;
    topics.iter().map(|topic| count(consumer.client(), topic, timeout)).collect()
}

/// The retention settings of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `true` if the topic is compacted.
    pub compacts: bool,
    /// The age after which records may be deleted, or `None` if they are never deleted by age.
    pub after: Option<Duration>,
}

/// Returns the retention settings of `topic`.
///
/// # Errors
/// Returns an error if the topic is missing, access is denied or the brokers do not answer within `timeout`.
pub fn retention(connection: &Connection, topic: &str, timeout: Duration) -> Result<Retention, SourceError> {
    let config = describe(connection, topic, timeout)?;
    let value = |key: &str| config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let policy = value("cleanup.policy");
    let deletes = policy.contains(Cleanup::Delete.word());
    // A value of -1 means no limit.
    let after = value("retention.ms").parse::<u64>().ok().filter(|_| deletes).map(Duration::from_millis);
    Ok(Retention { compacts: policy.contains(Cleanup::Compact.word()), after })
}

/// Compares topics with their specifications. Without `settings` only the number of partitions is compared: the embedded
/// broker does not report more.
///
/// # Errors
/// Returns an error if the brokers do not answer within `timeout` or deny access.
pub fn check(
    connection: &Connection,
    specs: &[TopicSpec],
    settings: bool,
    timeout: Duration,
) -> Result<Vec<Finding>, SourceError> {
    let consumer = metadata_consumer(connection)?;
    let mut findings = Vec::with_capacity(specs.len());
    for spec in specs {
        let found = match count(consumer.client(), &spec.name, timeout) {
            Err(SourceError::MissingTopic { .. }) => Finding::Missing,
            Err(error) => return Err(error),
            Ok(partitions) => {
                let mut wrong = wrong_partitions(spec, partitions);
                if settings {
                    let config = describe(connection, &spec.name, timeout)?;
                    wrong.extend(wrong_settings(spec, &config));
                    wrong.extend(wrong_replicas(
                        spec,
                        replicas(consumer.client(), &spec.name, timeout)?,
                        &config,
                    ));
                }
                if wrong.is_empty() { Finding::Fine } else { Finding::Wrong(wrong) }
            }
        };
        findings.push(found);
    }
    Ok(findings)
}

/// Creates missing topics, adds partitions to those that must have more, and checks the others. Nothing else that exists is
/// changed. New topics can be used when this returns.
///
/// # Errors
/// Returns an error if the brokers do not answer within `timeout` or deny access.
pub fn ensure(
    connection: &Connection,
    specs: &[TopicSpec],
    timeout: Duration,
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = check(connection, specs, true, timeout)?;
    for (spec, finding) in specs.iter().zip(&mut findings) {
        match finding {
            Finding::Missing => {
                create(connection, spec, timeout)?;
                *finding = Finding::Made;
            }
            Finding::Wrong(reasons) if spec.exactly => {
                let had = partitions(connection, &spec.name, timeout)?;
                let lacking = wrong_partitions(spec, had);
                if had < spec.partitions {
                    grow(connection, spec, timeout)?;
                    reasons.retain(|reason| !lacking.contains(reason));
                    if reasons.is_empty() {
                        *finding = Finding::Grown(had);
                    }
                }
            }
            _ => {}
        }
    }
    let changed =
        |(_, finding): &(&TopicSpec, &Finding)| matches!(finding, Finding::Made | Finding::Grown(_));
    for (spec, _) in specs.iter().zip(&findings).filter(changed) {
        await_leaders(connection, spec, timeout)?;
    }
    for (spec, finding) in specs.iter().zip(&mut findings) {
        // The default number of replicas may have been unknown when the topic was created.
        if *finding == Finding::Made && spec.safe {
            let (consumer, config) =
                (metadata_consumer(connection)?, describe(connection, &spec.name, timeout)?);
            let wrong = wrong_replicas(spec, replicas(consumer.client(), &spec.name, timeout)?, &config);
            if let Some(reason) = wrong {
                *finding = Finding::Wrong(vec![reason]);
            }
        }
    }
    Ok(findings)
}
