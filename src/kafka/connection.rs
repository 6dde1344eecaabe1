//! Where the brokers are, and the settings that hold for every client.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use thiserror::Error;

use super::round_trip::RoundTrip;

/// Time after which a silent member of a group is given up, unless `session.timeout.ms` says otherwise or the brokers are
/// far away.
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// The longest time between two heartbeats: a member that reads nothing hears of its brokers by them.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// The largest record that the client sends, unless `message.max.bytes` says otherwise.
const LARGEST: usize = 8 << 20;
/// librdkafka's size of batches, unless `batch.size` says otherwise.
const BATCH: usize = 1_000_000;

/// Settings that this program decides, each with the reason. Ends in `*`: everything that begins so.
const REFUSED: &[(&str, &str)] = &[
    ("acks", "every output must be acknowledged by all replicas in sync"),
    ("auto.commit.interval.ms", "offsets are committed with the outputs they belong to"),
    ("auto.offset.reset", "where reading begins belongs to each topic's meaning"),
    ("bootstrap.servers", "it has a setting of its own: kafka.brokers"),
    ("delivery.report.only.error", "every output's delivery report is awaited"),
    ("enable.auto.commit", "offsets are committed with the outputs they belong to"),
    ("enable.auto.offset.store", "offsets are committed with the outputs they belong to"),
    ("enable.idempotence", "without it a retry could write an output twice or out of order"),
    ("enable.partition.eof", "the end of a topic is found by it"),
    ("group.id", "each role has its own group"),
    ("group.instance.id", "a static member's partitions stay dark until its session ends"),
    ("group.protocol", "partitions move cooperatively, under the classic protocol"),
    ("isolation.level", "outputs of aborted transactions must stay invisible"),
    ("message.timeout.ms", "it follows from the transaction's time-out"),
    ("metadata.broker.list", "it has a setting of its own: kafka.brokers"),
    ("offset.store.*", "offsets are committed with the outputs they belong to"),
    ("partition.assignment.strategy", "partitions move cooperatively, or every rebalance stops every member"),
    ("partitioner*", "records of one key must share a partition with every other client's"),
    ("plugin.library.paths", "it would load code into this process"),
    ("queuing.strategy", "order per key is kept"),
    ("request.required.acks", "every output must be acknowledged by all replicas in sync"),
    ("test.mock.*", "an embedded broker is chosen by --broker embedded"),
    ("delivery.timeout.ms", "it follows from the transaction's time-out"),
    ("transaction.timeout.ms", "it follows from the delivery"),
    ("transactional.id", "it must be this instance's own: it follows from the delivery"),
];

/// The brokers and librdkafka's settings for all clients of this process.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port[,host:port]`.
    pub brokers: String,
    /// librdkafka settings, passed on as they are (TLS, SASL, sizes, time-outs).
    pub settings: BTreeMap<String, String>,
    /// The measured round trip, which time-outs follow.
    pub round_trip: RoundTrip,
}

/// A setting that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefusedSetting {
    /// It would break a promise.
    #[error("kafka.settings: {key} is refused: {reason}; remove it")]
    Reserved {
        /// The setting.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// librdkafka knows no such name or value. Values are not shown: they may be secrets.
    #[error(
        "kafka.settings: librdkafka refuses {key}: {reason}; its CONFIGURATION.md lists names and values"
    )]
    Unknown {
        /// The setting.
        key: String,
        /// Why.
        reason: String,
    },
    /// No broker is named.
    #[error("kafka.brokers is empty: give host:port of at least one broker")]
    NoBrokers,
}

impl Connection {
    /// The brokers at `brokers` with librdkafka's own settings.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), settings: BTreeMap::new(), round_trip: RoundTrip::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first that would break a promise, or that librdkafka does not know.
    pub fn check(&self) -> Result<(), RefusedSetting> {
        if self.brokers.trim().is_empty() {
            return Err(RefusedSetting::NoBrokers);
        }
        for (key, value) in &self.settings {
            let reserved = |name: &str| match name.strip_suffix('*') {
                Some(beginning) => key.starts_with(beginning),
                None => key == name,
            };
            if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| reserved(name)) {
                return Err(RefusedSetting::Reserved { key: key.clone(), reason });
            }
            let alone = ClientConfig::new().set(key, value).create_native_config();
            if let Err(rdkafka::error::KafkaError::ClientConfig(_, reason, _, _)) = alone {
                return Err(RefusedSetting::Unknown { key: key.clone(), reason });
            }
        }
        Ok(())
    }

    /// Time after which a silent member of a group is given up: as set, or six seconds, or longer if the brokers are far
    /// away.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        let set = self.settings.get("session.timeout.ms").and_then(|value| value.parse().ok());
        match set {
            Some(set) => Duration::from_millis(set),
            None => self.round_trip.session(Duration::from_millis(SESSION_TIMEOUT_MS)),
        }
    }

    /// The time-out of a transaction: half of the session's, or as much as the round trip asks for, and always less than
    /// the session's.
    #[must_use]
    pub fn transaction_timeout(&self) -> Duration {
        self.transaction_within(self.session_timeout() / 2)
    }

    /// The time-out of a transaction: `least`, or as much as the round trip asks for, and then less than the session's.
    pub(super) fn transaction_within(&self, least: Duration) -> Duration {
        let most = self.session_timeout() * 9 / 10;
        self.round_trip.transaction(least).min(most.max(least))
    }

    /// The session time-out that the round trip asks for, if one is set that is too short for it.
    #[must_use]
    pub fn session_too_short(&self) -> Option<Duration> {
        let wanted = self.round_trip.transaction(Duration::ZERO);
        (wanted > self.transaction_timeout()).then(|| self.round_trip.session(Duration::ZERO))
    }

    /// The time-out for an answer: `least`, or longer if the brokers are far away.
    #[must_use]
    pub fn request_timeout(&self, least: Duration) -> Duration {
        self.round_trip.request_timeout(least)
    }

    fn heartbeat_millis(session: u128) -> String {
        (session / 3).min(HEARTBEAT.as_millis()).max(1).to_string()
    }

    /// The largest record that the client sends, in bytes.
    #[must_use]
    pub fn max_record_size(&self) -> usize {
        self.number("message.max.bytes").unwrap_or(LARGEST)
    }

    /// The size of batches of records, in bytes.
    pub(super) fn batch_size(&self) -> usize {
        self.number("batch.size").unwrap_or(BATCH)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.settings.get(key).and_then(|value| value.parse().ok())
    }

    /// Settings common to all clients, then the user's.
    fn client(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Notice);
        config
            .set("client.id", "aegis")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A topic that has grown is noticed after this, not after five minutes.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("enable.metrics.push", "false");
        for (key, value) in ours {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// A client that only administers.
    pub(super) fn plain(&self) -> ClientConfig {
        self.client(&[])
    }

    /// A consumer that only asks. It is in no group; but the user's settings for members must agree with its own.
    pub(super) fn metadata_consumer(&self) -> ClientConfig {
        let session = self.session_timeout().as_millis();
        self.client(&[
            ("heartbeat.interval.ms", &Self::heartbeat_millis(session)),
            ("session.timeout.ms", &session.to_string()),
        ])
    }

    /// A consumer. Prefetch is bounded, and a full queue is asked again soon.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let session = self.session_timeout().as_millis();
        let mut config = self.client(&[
            ("heartbeat.interval.ms", &Self::heartbeat_millis(session)),
            ("session.timeout.ms", &session.to_string()),
            ("queued.max.messages.kbytes", "16384"),
            ("queued.min.messages", "10000"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
        ]);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "cooperative-sticky");
        config
    }

    /// A producer whose records are acknowledged by all replicas, once and in order.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client(&[
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("message.max.bytes", &LARGEST.to_string()),
            ("queue.buffering.max.kbytes", "65536"),
            // The wait before a transaction follows another at once (reference: 100 ms by default).
            ("retry.backoff.ms", "5"),
            // A topic that does not exist is an error after this, not after 30 s.
            ("topic.metadata.propagation.max.ms", "2000"),
        ]);
        config
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            .set("enable.idempotence", "true")
            // The same partition for a key as Kafka's own clients.
            .set("partitioner", "murmur2_random");
        config
    }
}

impl fmt::Debug for Connection {
    /// Names of settings without values: those may be secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        out.debug_struct("Connection").field("brokers", &self.brokers).field("settings", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Connection {
        let mut connection = Connection::new("localhost:9092");
        connection.settings.insert(key.into(), value.into());
        connection
    }

    #[test]
    fn what_breaks_a_promise_is_refused_with_its_reason() {
        for (name, why) in REFUSED {
            let key = name.replace('*', "x");
            assert_eq!(with(&key, "true").check(), Err(RefusedSetting::Reserved { key, reason: why }));
        }
    }

    #[test]
    fn what_librdkafka_does_not_know_is_refused_without_its_value() {
        for (key, value) in [("sasl.pasword", "hunter2"), ("session.timeout.ms", "hunter2")] {
            let refused = with(key, value).check().unwrap_err().to_string();
            assert!(refused.contains(key) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn transport_and_sizes_pass() {
        for (key, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.password", "hunter2"),
            ("session.timeout.ms", "9000"),
            ("linger.ms", "0"),
        ] {
            assert_eq!(with(key, value).check(), Ok(()), "{key}");
        }
        assert_eq!(with("session.timeout.ms", "9000").session_timeout(), Duration::from_secs(9));
        assert_eq!(Connection::new(" ").check(), Err(RefusedSetting::NoBrokers));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", with("sasl.password", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn all_clients_are_accepted_by_librdkafka() {
        let connection = with("session.timeout.ms", "9000");
        let all = [
            connection.plain(),
            connection.metadata_consumer(),
            connection.consumer("g"),
            connection.producer(),
        ];
        for config in all {
            config.create_native_config().unwrap();
        }
        assert_eq!(connection.consumer("g").get("heartbeat.interval.ms"), Some("3000"));
    }
}
