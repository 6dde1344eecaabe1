//! Creates and checks topics.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};

use super::connection::Connection;
use super::context::Quiet;
use super::failure::{SourceError, left};

/// Between two questions whether a new topic can be used.
const PAUSE: Duration = Duration::from_millis(50);

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

    fn otherwise(self) -> &'static str {
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

    fn settings(&self) -> BTreeMap<String, String> {
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
    count(asker(connection)?.client(), topic, timeout)
}

/// How a topic forgets, as the brokers have it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgetting {
    /// Whether all but the newest record of each key goes.
    pub compacts: bool,
    /// After this a record may go; none: never by age.
    pub after: Option<Duration>,
}

/// How `topic` forgets.
///
/// # Errors
/// Where it is missing, access is denied or the brokers do not answer within `timeout`.
pub fn forgetting(
    connection: &Connection,
    topic: &str,
    timeout: Duration,
) -> Result<Forgetting, SourceError> {
    let config = describe(connection, topic, timeout)?;
    let value = |key: &str| config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let policy = value("cleanup.policy");
    let deletes = policy.contains(Cleanup::Delete.word());
    // -1: for ever.
    let after = value("retention.ms").parse::<u64>().ok().filter(|_| deletes).map(Duration::from_millis);
    Ok(Forgetting { compacts: policy.contains(Cleanup::Compact.word()), after })
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
    let asker = asker(connection)?;
    let mut findings = Vec::with_capacity(specs.len());
    for spec in specs {
        let found = match count(asker.client(), &spec.name, timeout) {
            Err(SourceError::MissingTopic { .. }) => Finding::Missing,
            Err(error) => return Err(error),
            Ok(partitions) => {
                let mut wrong = wrong_partitions(spec, partitions);
                if settings {
                    let config = describe(connection, &spec.name, timeout)?;
                    wrong.extend(wrong_settings(spec, &config));
                    wrong.extend(wrong_replicas(
                        spec,
                        replicas(asker.client(), &spec.name, timeout)?,
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
            let (asker, config) = (asker(connection)?, describe(connection, &spec.name, timeout)?);
            let wrong = wrong_replicas(spec, replicas(asker.client(), &spec.name, timeout)?, &config);
            if let Some(reason) = wrong {
                *finding = Finding::Wrong(vec![reason]);
            }
        }
    }
    Ok(findings)
}

/// Waits until every partition of a topic has a leader that answers. The brokers say that a topic is made before it
/// can be used, and tell nobody when it can.
fn led(connection: &Connection, spec: &TopicSpec, timeout: Duration) -> Result<(), SourceError> {
    let (asker, until) = (asker(connection)?, Instant::now() + timeout);
    for partition in 0..spec.partitions {
        while let Err(error) = asker.fetch_watermarks(&spec.name, partition, left(until)) {
            let error = SourceError::of(&error, "use the topic that was made", &spec.name);
            let comes = error.passes() || matches!(error, SourceError::MissingTopic { .. });
            if !comes || Instant::now() > until {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn asker(connection: &Connection) -> Result<BaseConsumer<Quiet>, SourceError> {
    connection.check()?;
    connection.asker().create_with_context(Quiet).map_err(|error| SourceError::of(&error, "connect", ""))
}

pub(super) fn count<C: ClientContext>(
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

/// Replicas of the topic's partition that has the fewest.
fn replicas<C: ClientContext>(
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

/// How many replicas the brokers make by default, where they say it.
fn replicas_by_default(connection: &Connection, timeout: Duration) -> Option<usize> {
    let asker = asker(connection).ok()?;
    let metadata = asker.client().fetch_metadata(None, timeout).ok()?;
    let broker = ResourceSpecifier::Broker(metadata.brokers().first()?.id());
    let admin = admin(connection).ok()?;
    let asked = answer("read a broker's settings", "", admin.describe_configs(&[broker], &options(timeout)));
    let config = asked.ok()?.ok()?;
    config.get("default.replication.factor")?.value.as_deref()?.parse().ok()
}

/// The Admin API answers as futures; they are awaited here, and nowhere else is anything async.
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

fn describe(connection: &Connection, topic: &str, timeout: Duration) -> Result<ConfigResource, SourceError> {
    let doing = "read the topic's settings";
    let admin = admin(connection)?;
    let asked = [ResourceSpecifier::Topic(topic)];
    let config = answer(doing, topic, admin.describe_configs(&asked, &options(timeout)))?
        .map_err(|code| SourceError::of(&KafkaError::Global(code), doing, topic))?;
    if config.entries.is_empty() {
        // The client does not pass on why the brokers tell no settings: a topic that is there has some.
        partitions(connection, topic, timeout)?;
        let reason = format!("Topic authorization failed: {topic} needs DescribeConfigs");
        return Err(SourceError::Denied { doing, reason });
    }
    Ok(config)
}

fn create(connection: &Connection, spec: &TopicSpec, timeout: Duration) -> Result<(), SourceError> {
    let doing = "make a topic";
    let mut settings = spec.settings();
    if spec.safe
        && let Some(replicas) = replicas_by_default(connection, timeout)
    {
        settings.insert("min.insync.replicas".into(), in_sync(replicas).to_string());
    }
    // -1: as many replicas as the brokers make by default.
    let mut topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(-1));
    for (key, value) in &settings {
        topic = topic.set(key, value);
    }
    let admin = admin(connection)?;
    match answer(doing, &spec.name, admin.create_topics([&topic], &options(timeout)))? {
        // Another instance was faster.
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((name, code)) => Err(SourceError::of(&KafkaError::Global(code), doing, &name)),
    }
}

fn grow(connection: &Connection, spec: &TopicSpec, timeout: Duration) -> Result<(), SourceError> {
    let doing = "add partitions to a topic";
    let wanted = usize::try_from(spec.partitions).unwrap_or_default();
    let admin = admin(connection)?;
    let asked = [&NewPartitions::new(&spec.name, wanted)];
    match answer(doing, &spec.name, admin.create_partitions(asked, &options(timeout)))? {
        // Another instance was faster.
        Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => Ok(()),
        Err((name, code)) => Err(SourceError::of(&KafkaError::Global(code), doing, &name)),
    }
}

fn wrong_partitions(spec: &TopicSpec, partitions: i32) -> Vec<String> {
    let TopicSpec { name, partitions: wanted, exactly, .. } = spec;
    if *exactly && partitions != *wanted {
        let mend = if partitions < *wanted { "add them with --create" } else { "make it anew" };
        vec![format!("{name} has {partitions} partitions and must have {wanted}: {mend}")]
    } else {
        Vec::new()
    }
}

fn wrong_settings(spec: &TopicSpec, config: &ConfigResource) -> Vec<String> {
    let name = &spec.name;
    let value = |key: &str| config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let mut wrong = Vec::new();
    if let Some(cleanup) = spec.cleanup {
        let (is, must) = (value("cleanup.policy"), cleanup.word());
        if is != must {
            wrong.push(format!(
                "{name} has cleanup.policy={is} and must have {must}: kafka-configs.sh --alter --topic {name} --add-config cleanup.policy={must}"
            ));
        }
    }
    if let Some(clock) = spec.clock
        && value("message.timestamp.type") != clock.word()
    {
        let (otherwise, must) = (clock.otherwise(), clock.word());
        wrong.push(format!(
            "{name} {otherwise}: kafka-configs.sh --alter --topic {name} --add-config message.timestamp.type={must}"
        ));
    }
    if let Some(keeps) = spec.keeps {
        let must = keeps.as_millis();
        // -1: for ever.
        let is = value("retention.ms").parse::<i128>().unwrap_or_default();
        if is >= 0 && is < i128::try_from(must).unwrap_or(i128::MAX) {
            wrong.push(format!(
                "{name} keeps records for {is} ms and must for {must}: kafka-configs.sh --alter --topic {name} --add-config retention.ms={must}"
            ));
        }
    }
    wrong
}

fn wrong_replicas(spec: &TopicSpec, replicas: usize, config: &ConfigResource) -> Option<String> {
    let told = config.get("min.insync.replicas").and_then(|entry| entry.value.as_deref());
    told.filter(|_| spec.safe).and_then(|told| unsafe_with(&spec.name, replicas, told.parse().unwrap_or(0)))
}

/// What is wrong with so many replicas of which so many must be in sync.
fn unsafe_with(name: &str, replicas: usize, is: usize) -> Option<String> {
    let must = in_sync(replicas);
    let why = match () {
        () if is < must => "what it acknowledges can be lost with one broker",
        () if is > replicas => "it takes no records",
        () => return None,
    };
    Some(format!(
        "{name} has min.insync.replicas={is} with {replicas} replicas, so {why}: kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={must}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_replicas_have_what_is_acknowledged_where_there_are_two() {
        let must = |replicas, is| {
            let said = unsafe_with("t", replicas, is)?;
            said.rsplit_once('=').map(|(_, must)| must.to_owned())
        };
        assert_eq!([must(1, 1), must(2, 2), must(3, 2), must(3, 3)], [None, None, None, None]);
        assert_eq!(must(1, 2).as_deref(), Some("1"));
        assert_eq!([must(2, 1), must(3, 1), must(2, 3)], ["2", "2", "2"].map(|must| Some(must.to_owned())));
    }
}
