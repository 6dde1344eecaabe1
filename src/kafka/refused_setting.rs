//! The settings of librdkafka that cannot be configured, because a guarantee depends on them.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use thiserror::Error;

use super::group_protocol::GroupProtocol;

/// The settings that cannot be changed, each with the reason. A name that ends in `*` stands for all names that begin with
/// it.
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
    ("group.protocol", "it has a setting of its own: kafka.group_protocol"),
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

/// The settings that only the classic protocol of groups has, with the reason for which the other refuses them.
const REFUSED_BY_CONSUMER: &[(&str, &str)] = &[
    ("group.protocol.type", "kafka.group_protocol = \"consumer\" has no types"),
    (
        "heartbeat.interval.ms",
        "with kafka.group_protocol = \"consumer\" the brokers set it: group.consumer.heartbeat.interval.ms",
    ),
    (
        "session.timeout.ms",
        "with kafka.group_protocol = \"consumer\" the brokers set it: group.consumer.session.timeout.ms",
    ),
];

/// An error of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefusedSetting {
    /// The setting would break a guarantee.
    #[error("kafka.settings: {key} is refused: {reason}; remove it")]
    Reserved {
        /// The setting.
        key: String,
        /// The reason.
        reason: &'static str,
    },
    /// librdkafka has no such setting or value. Values are not shown, because they may be secrets.
    #[error(
        "kafka.settings: librdkafka refuses {key}: {reason}; its CONFIGURATION.md lists names and values"
    )]
    Unknown {
        /// The setting.
        key: String,
        /// The reason.
        reason: String,
    },
    /// librdkafka was built without the setting.
    #[error(
        "kafka.settings: {key} needs tokens of OIDC, which this build of Aegis cannot fetch: use the image, or install CMake and \
         build with --features oidc"
    )]
    NoOidc {
        /// The setting.
        key: String,
    },
    /// No broker is named.
    #[error("kafka.brokers is empty: give host:port of at least one broker")]
    NoBrokers,
}

/// Checks one setting.
///
/// # Errors
/// Returns an error if the setting would break a guarantee, or if librdkafka does not have it.
pub(super) fn check(key: &str, value: &str, protocol: GroupProtocol) -> Result<(), RefusedSetting> {
    let by_protocol = match protocol {
        GroupProtocol::Classic => &[],
        GroupProtocol::Consumer => REFUSED_BY_CONSUMER,
    };
    let is_reserved = |name: &str| match name.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == name,
    };
    if let Some((_, reason)) = REFUSED.iter().chain(by_protocol).find(|(name, _)| is_reserved(name)) {
        return Err(RefusedSetting::Reserved { key: key.to_owned(), reason });
    }
    let alone = ClientConfig::new().set(key, value).create_native_config();
    let Err(KafkaError::ClientConfig(_, reason, _, _)) = alone else { return Ok(()) };
    let fetches = key.starts_with("sasl.oauthbearer.") || key.starts_with("https.ca.");
    if fetches && reason.contains("not supported in this build") {
        return Err(RefusedSetting::NoOidc { key: key.to_owned() });
    }
    Err(RefusedSetting::Unknown { key: key.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_classic(key: &str, value: &str) -> Result<(), RefusedSetting> {
        check(key, value, GroupProtocol::Classic)
    }

    #[test]
    fn settings_that_break_a_guarantee_are_refused_with_the_reason() {
        for (name, why) in REFUSED {
            let key = name.replace('*', "x");
            assert_eq!(in_classic(&key, "true"), Err(RefusedSetting::Reserved { key, reason: why }));
        }
    }

    #[test]
    fn unknown_settings_are_refused_without_their_values() {
        for (key, value) in [("sasl.pasword", "hunter2"), ("session.timeout.ms", "hunter2")] {
            let refused = in_classic(key, value).unwrap_err().to_string();
            assert!(refused.contains(key) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn settings_that_the_brokers_have_under_the_consumer_protocol_are_refused_there() {
        for (name, why) in REFUSED_BY_CONSUMER {
            let key = (*name).to_owned();
            let refused = check(name, "9000", GroupProtocol::Consumer);
            assert_eq!(refused, Err(RefusedSetting::Reserved { key, reason: why }));
        }
        assert_eq!(in_classic("session.timeout.ms", "9000"), Ok(()));
    }
}
