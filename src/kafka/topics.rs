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
use calls::{create, describe, grow, led, metadata_consumer, replicas};
use faults::{wrong_partitions, wrong_replicas, wrong_settings};
pub use identity::id;
pub use spec::{Cleanup, Clock, TopicSpec, in_sync};

/// What was found, or done, about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it must be.
    Fine,
    /// It does not exist.
    Missing,
    /// It was made.
    Made,
    /// It had only so many partitions and got the missing ones.
    Grown(i32),
    /// It is otherwise than it must be; one sentence each, with what to do.
    Wrong(Vec<String>),
}

/// The number of partitions of `topic`, as the brokers have it now.
///
/// # Errors
/// [`SourceError::MissingTopic`] where there is none; else where the brokers do not answer.
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
    let told = config.get("max.message.bytes").and_then(|entry| entry.value.as_deref()?.parse().ok());
    let doing = "read the topic's settings";
    told.ok_or_else(|| SourceError::Client { doing, reason: format!("{topic} has no max.message.bytes") })
}

/// The same as [`partitions`] for several topics, over one connection, in their order.
///
/// # Errors
/// As [`partitions`].
pub fn partitions_of(
    connection: &Connection,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<i32>, SourceError> {
    let consumer = metadata_consumer(connection)?;
    topics.iter().map(|topic| count(consumer.client(), topic, timeout)).collect()
}

/// How a topic forgets, as the brokers have it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whether all but the newest record of each key goes.
    pub compacts: bool,
    /// After this a record may go; none: never by age.
    pub after: Option<Duration>,
}

/// How `topic` forgets.
///
/// # Errors
/// Where it is missing, access is denied or the brokers do not answer within `timeout`.
pub fn retention(connection: &Connection, topic: &str, timeout: Duration) -> Result<Retention, SourceError> {
    let config = describe(connection, topic, timeout)?;
    let value = |key: &str| config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let policy = value("cleanup.policy");
    let deletes = policy.contains(Cleanup::Delete.word());
    // -1: for ever.
    let after = value("retention.ms").parse::<u64>().ok().filter(|_| deletes).map(Duration::from_millis);
    Ok(Retention { compacts: policy.contains(Cleanup::Compact.word()), after })
}

/// Compares topics with what they must be like. The embedded broker cannot say more than partitions, and
/// is not asked for more with `settings` false.
///
/// # Errors
/// Where the brokers do not answer within `timeout` or deny access.
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

/// Makes the topics that are missing, adds partitions to those that must have more, and checks the others;
/// nothing else that exists is changed. What was made can be used when this returns.
///
/// # Errors
/// Where the brokers do not answer within `timeout` or deny access.
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
        led(connection, spec, timeout)?;
    }
    for (spec, finding) in specs.iter().zip(&mut findings) {
        // The brokers may not have said how many replicas they make.
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
