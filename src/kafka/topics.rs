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
    /// Whether the broker's clock must stamp its records.
    pub log_append_time: bool,
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
            log_append_time: false,
            keeps: None,
            config: BTreeMap::new(),
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.config.clone();
        if let Some(cleanup) = self.cleanup {
            settings.insert("cleanup.policy".into(), cleanup.word().into());
        }
        if self.log_append_time {
            settings.insert("message.timestamp.type".into(), "LogAppendTime".into());
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
                    wrong.extend(wrong_settings(spec, &describe(connection, &spec.name, timeout)?));
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
    answer(doing, topic, admin.describe_configs(&asked, &options(timeout)))?
        .map_err(|code| SourceError::of(&KafkaError::Global(code), doing, topic))
}

fn create(connection: &Connection, spec: &TopicSpec, timeout: Duration) -> Result<(), SourceError> {
    let doing = "make a topic";
    let settings = spec.settings();
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
    if spec.log_append_time && value("message.timestamp.type") != "LogAppendTime" {
        wrong.push(format!(
            "{name} keeps its producers' timestamps: kafka-configs.sh --alter --topic {name} --add-config message.timestamp.type=LogAppendTime"
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
