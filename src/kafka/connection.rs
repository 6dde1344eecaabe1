//! The addresses of the brokers, and the settings of all clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::group_protocol::GroupProtocol;
use super::refused_setting::{self, RefusedSetting};
use super::round_trip::RoundTrip;

/// The session time-out, unless `session.timeout.ms` is set or the brokers are far away.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest interval of heartbeats. They show a member that reads nothing whether its brokers are reachable.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// The setting for the longest time for which the brokers hold a request for records that are not there yet.
const FETCH_WAIT: &str = "fetch.wait.max.ms";
/// That time for consumers whose partitions change, in milliseconds. A new partition waits for the end of the request.
const FETCH_WAIT_MS: &str = "100";
/// That time for consumers whose partitions stay, in milliseconds.
const FOLLOWER_FETCH_WAIT_MS: &str = "500";

/// The size of the largest record that the client sends, in bytes, unless `message.max.bytes` is set.
const MAX_RECORD_SIZE: usize = 8 << 20;
/// librdkafka's maximum size of a batch, in bytes, unless `batch.size` is set.
const BATCH_SIZE: usize = 1_000_000;

/// The brokers and librdkafka's settings for all clients of this process.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port[,host:port]`.
    pub brokers: String,
    /// librdkafka settings, passed on as they are (TLS, SASL, sizes, time-outs).
    pub settings: BTreeMap<String, String>,
    /// The protocol of the groups that members join.
    pub group_protocol: GroupProtocol,
    /// The measured round trip, which time-outs follow.
    pub round_trip: RoundTrip,
}

impl Connection {
    /// Creates a connection to `brokers` with librdkafka's own settings.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            settings: BTreeMap::new(),
            group_protocol: GroupProtocol::default(),
            round_trip: RoundTrip::default(),
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Returns the first setting that would break a guarantee, or that librdkafka does not know.
    pub fn check(&self) -> Result<(), RefusedSetting> {
        if self.brokers.trim().is_empty() {
            return Err(RefusedSetting::NoBrokers);
        }
        for (key, value) in &self.settings {
            refused_setting::check(key, value, self.group_protocol)?;
        }
        Ok(())
    }

    /// Returns the session time-out: the configured one, or six seconds, or longer if the brokers are far away. Under
    /// [`GroupProtocol::Consumer`] the brokers set the session time-out, and this is only the time that the time-out of
    /// transactions follows.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        let set = self.settings.get("session.timeout.ms").and_then(|value| value.parse().ok());
        match set {
            Some(set) => Duration::from_millis(set),
            None => self.round_trip.session(SESSION_TIMEOUT),
        }
    }

    /// Returns the time-out of a transaction: half of the session time-out, or what the round trip requires, and always less
    /// than the session time-out.
    #[must_use]
    pub fn transaction_timeout(&self) -> Duration {
        self.transaction_within(self.session_timeout() / 2)
    }

    /// Returns the time-out of a transaction: `least`, or what the round trip requires, and then less than the session
    /// time-out.
    pub(super) fn transaction_within(&self, least: Duration) -> Duration {
        let most = self.session_timeout() * 9 / 10;
        self.round_trip.transaction(least).min(most.max(least))
    }

    /// Returns the session time-out that the round trip requires, if the configured one is too short.
    #[must_use]
    pub fn session_too_short(&self) -> Option<Duration> {
        let wanted = self.round_trip.transaction(Duration::ZERO);
        (wanted > self.transaction_timeout()).then(|| self.round_trip.session(Duration::ZERO))
    }

    /// Returns the time-out of a request: `least`, or longer if the brokers are far away.
    #[must_use]
    pub fn request_timeout(&self, least: Duration) -> Duration {
        self.round_trip.request_timeout(least)
    }

    fn heartbeat_millis(session: u128) -> String {
        (session / 3).min(HEARTBEAT_INTERVAL.as_millis()).max(1).to_string()
    }

    /// Returns the size of the largest record that the client sends, in bytes.
    #[must_use]
    pub fn max_record_size(&self) -> usize {
        self.number("message.max.bytes").unwrap_or(MAX_RECORD_SIZE)
    }

    /// Returns the maximum size of a batch of records, in bytes.
    pub(super) fn batch_size(&self) -> usize {
        self.number("batch.size").unwrap_or(BATCH_SIZE)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.settings.get(key).and_then(|value| value.parse().ok())
    }

    /// The settings of all clients, then `defaults`, then the configured settings.
    fn client(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Notice);
        config
            .set("client.id", "aegis")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // New partitions of a topic are noticed after this time, not after five minutes.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("enable.metrics.push", "false");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// The settings of a client for administration.
    pub(super) fn plain(&self) -> ClientConfig {
        self.client(&[])
    }

    /// The settings of a consumer that is used only for metadata and offset queries. It is in no group, but configured
    /// settings of group members must not contradict its own.
    pub(super) fn metadata_consumer(&self) -> ClientConfig {
        let session = self.session_timeout().as_millis();
        self.client(&[
            ("heartbeat.interval.ms", &Self::heartbeat_millis(session)),
            ("session.timeout.ms", &session.to_string()),
        ])
    }

    /// The settings of a consumer that is a member of `group`, in the configured protocol.
    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        match self.group_protocol {
            GroupProtocol::Classic => {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
            // The client refuses settings that the brokers have under this protocol.
            GroupProtocol::Consumer => {
                config.remove("heartbeat.interval.ms");
                config.remove("session.timeout.ms");
                config.set("group.protocol", self.group_protocol.name());
            }
        }
        config
    }

    /// The settings of a consumer that keeps its partitions. Its requests without an answer may wait at the brokers for long,
    /// because no new partition waits for their end. A new record ends them at once.
    pub(super) fn follower(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        if !self.settings.contains_key(FETCH_WAIT) {
            config.set(FETCH_WAIT, FOLLOWER_FETCH_WAIT_MS);
        }
        config
    }

    /// The settings of a consumer that joins no group. Prefetch is bounded, and a full queue is fetched again soon.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let session = self.session_timeout().as_millis();
        let mut config = self.client(&[
            ("heartbeat.interval.ms", &Self::heartbeat_millis(session)),
            ("session.timeout.ms", &session.to_string()),
            ("queued.max.messages.kbytes", "16384"),
            ("queued.min.messages", "10000"),
            ("fetch.queue.backoff.ms", "10"),
            (FETCH_WAIT, FETCH_WAIT_MS),
        ]);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed");
        config
    }

    /// The settings of a producer whose records are written once and in order, and acknowledged by all replicas.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client(&[
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("message.max.bytes", &MAX_RECORD_SIZE.to_string()),
            ("queue.buffering.max.kbytes", "65536"),
            // The wait between two transactions that follow each other at once. The default is 100 ms.
            ("retry.backoff.ms", "5"),
            // A missing topic is an error after this time, not after 30 seconds.
            ("topic.metadata.propagation.max.ms", "2000"),
        ]);
        config
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            .set("enable.idempotence", "true")
            // Kafka's own clients choose the same partition for a key.
            .set("partitioner", "murmur2_random");
        config
    }
}

impl fmt::Debug for Connection {
    /// Shows the names of settings without values, which may be secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        out.debug_struct("Connection").field("brokers", &self.brokers).field("settings", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    fn with(key: &str, value: &str) -> Connection {
        let mut connection = Connection::new("localhost:9092");
        connection.settings.insert(key.into(), value.into());
        connection
    }

    #[test]
    fn transport_and_size_settings_are_accepted() {
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
    fn a_follower_waits_for_longer_unless_it_is_configured() {
        let wait = |connection: &Connection| connection.follower("g").get(FETCH_WAIT).map(str::to_owned);
        assert_eq!(wait(&Connection::new("localhost:9092")).as_deref(), Some(FOLLOWER_FETCH_WAIT_MS));
        assert_eq!(wait(&with(FETCH_WAIT, "70")).as_deref(), Some("70"));
        assert_eq!(Connection::new("localhost:9092").member("g").get(FETCH_WAIT), Some(FETCH_WAIT_MS));
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
            connection.member("g"),
            connection.follower("g"),
            connection.producer(),
        ];
        for config in all {
            config.create_native_config().unwrap();
        }
        let mut connection = Connection::new("localhost:9092");
        connection.group_protocol = GroupProtocol::Consumer;
        // The client checks settings against each other only when it is created.
        let member: BaseConsumer = connection.member("g").create().unwrap();
        drop(member);
        let connection = with("session.timeout.ms", "9000");
        assert_eq!(connection.consumer("g").get("heartbeat.interval.ms"), Some("3000"));
    }
}
