//! The requests about topics.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};

use super::spec::{TopicSpec, in_sync};
use crate::kafka::connection::Connection;
use crate::kafka::context::Quiet;
use crate::kafka::failure::{SourceError, left};

/// The pause between two checks of a new topic.
const LEADER_POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn metadata_consumer(connection: &Connection) -> Result<BaseConsumer<Quiet>, SourceError> {
    connection.check()?;
    connection
        .metadata_consumer()
        .create_with_context(Quiet)
        .map_err(|error| SourceError::of(&error, "connect", ""))
}

pub(in crate::kafka) fn count<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<i32, SourceError> {
    let failed = |error: KafkaError| SourceError::of(&error, "ask for the topic's partitions", topic);
    let missing = || SourceError::MissingTopic { topic: topic.to_owned() };
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or_else(missing)?;
    if let Some(error) = found.error().filter(IsError::is_error) {
        return Err(failed(KafkaError::MetadataFetch(error.into())));
    }
    match i32::try_from(found.partitions().len()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(missing()),
    }
}

/// Returns the number of replicas of the topic's partition with the fewest.
pub(super) fn replicas<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<usize, SourceError> {
    let failed = |error: KafkaError| SourceError::of(&error, "ask for the topic's replicas", topic);
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let counts = found.map(|found| found.partitions().iter().map(|one| one.replicas().len()));
    Ok(counts.and_then(Iterator::min).unwrap_or(0))
}

/// Returns the brokers' default number of replicas, or `None` if it cannot be determined.
fn replicas_by_default(connection: &Connection, timeout: Duration) -> Option<usize> {
    let consumer = metadata_consumer(connection).ok()?;
    let metadata = consumer.client().fetch_metadata(None, timeout).ok()?;
    let broker = ResourceSpecifier::Broker(metadata.brokers().first()?.id());
    let admin = admin(connection).ok()?;
    let asked = answer("read a broker's settings", "", admin.describe_configs(&[broker], &options(timeout)));
    let config = asked.ok()?.ok()?;
    config.get("default.replication.factor")?.value.as_deref()?.parse().ok()
}

/// Awaits a future of the Admin API. Nothing else in the Kafka clients is async.
fn answer<T>(
    doing: &'static str,
    topic: &str,
    ask: impl Future<Output = Result<Vec<T>, KafkaError>>,
) -> Result<T, SourceError> {
    let failed = |reason: String| SourceError::Client { doing, reason };
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(|error| failed(error.to_string()))?;
    let answers = runtime.block_on(ask).map_err(|error| SourceError::of(&error, doing, topic))?;
    answers.into_iter().next().ok_or_else(|| failed("an empty answer".into()))
}

fn admin(connection: &Connection) -> Result<AdminClient<Quiet>, SourceError> {
    connection
        .plain()
        .create_with_context(Quiet)
        .map_err(|error| SourceError::of(&error, "administer topics", ""))
}

fn options(timeout: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout))
}

pub(super) fn describe(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
) -> Result<ConfigResource, SourceError> {
    let doing = "read the topic's settings";
    let admin = admin(connection)?;
    let asked = [ResourceSpecifier::Topic(topic)];
    let config = answer(doing, topic, admin.describe_configs(&asked, &options(timeout)))?
        .map_err(|code| SourceError::of(&KafkaError::Global(code), doing, topic))?;
    if config.entries.is_empty() {
        // The client does not pass on why the brokers tell no settings: a topic that is there has some.
        super::partitions(connection, topic, timeout)?;
        let reason = format!("Topic authorization failed: {topic} needs DescribeConfigs");
        return Err(SourceError::Denied { doing, reason });
    }
    Ok(config)
}

pub(super) fn create(
    connection: &Connection,
    spec: &TopicSpec,
    timeout: Duration,
) -> Result<(), SourceError> {
    let doing = "create a topic";
    let mut settings = spec.settings();
    if spec.safe
        && let Some(replicas) = replicas_by_default(connection, timeout)
    {
        settings.insert("min.insync.replicas".into(), in_sync(replicas).to_string());
    }
    // A value of -1 means the brokers' default.
    let mut topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(-1));
    for (key, value) in &settings {
        topic = topic.set(key, value);
    }
    let admin = admin(connection)?;
    match answer(doing, &spec.name, admin.create_topics([&topic], &options(timeout)))? {
        // Another instance did the same first.
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((name, code)) => Err(SourceError::of(&KafkaError::Global(code), doing, &name)),
    }
}

pub(super) fn grow(connection: &Connection, spec: &TopicSpec, timeout: Duration) -> Result<(), SourceError> {
    let doing = "add partitions to a topic";
    let wanted = usize::try_from(spec.partitions).unwrap_or_default();
    let admin = admin(connection)?;
    let asked = [&NewPartitions::new(&spec.name, wanted)];
    match answer(doing, &spec.name, admin.create_partitions(asked, &options(timeout)))? {
        // Another instance did the same first.
        Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => Ok(()),
        Err((name, code)) => Err(SourceError::of(&KafkaError::Global(code), doing, &name)),
    }
}

/// Waits until every partition of a topic has a leader that answers. The brokers acknowledge a new topic before it can be
/// used, and do not report when it can.
pub(super) fn await_leaders(
    connection: &Connection,
    spec: &TopicSpec,
    timeout: Duration,
) -> Result<(), SourceError> {
    let (consumer, until) = (metadata_consumer(connection)?, Instant::now() + timeout);
    for partition in 0..spec.partitions {
        while let Err(error) = consumer.fetch_watermarks(&spec.name, partition, left(until)) {
            let error = SourceError::of(&error, "use the topic that was created", &spec.name);
            let transient = error.is_retryable() || matches!(error, SourceError::MissingTopic { .. });
            if !transient || Instant::now() > until {
                return Err(error);
            }
            thread::sleep(LEADER_POLL_INTERVAL);
        }
    }
    Ok(())
}
