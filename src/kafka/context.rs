//! The callbacks of librdkafka: log lines, statistics and rebalances.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

/// The time without an answer after which a broker counts as unreachable, in microseconds. It is longer than the interval
/// of heartbeats and fetches.
const SILENT_MICROS: i64 = 10_000_000;

/// Locks a mutex, ignoring poison: no holder panics half way through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes librdkafka's log on. It never contains keys or values of records.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        // Consumers and producers share one map of settings, and each warns of the settings of the other.
        _ if facility == "CONFWARN" => {}
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "kafka", facility, "{text}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", facility, "{text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "kafka", facility, "{text}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "kafka", facility, "{text}"),
    }
}

/// Logs an error of the client as a whole, such as unreachable brokers. librdkafka continues automatically.
pub(super) fn client_error(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // The end of a partition is an event for its reader, not an error.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        // This is reported at every attempt, about twelve times a second. The log and readiness report each broker.
        Some(RDKafkaErrorCode::AllBrokersDown) => tracing::debug!(target: "kafka", %error, "{reason}"),
        _ => tracing::warn!(target: "kafka", %error, "{reason}"),
    }
}

/// The callbacks of clients that neither join a group nor produce.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// A rebalance of the group that is not applied yet.
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// The figures that librdkafka's statistics report of a consumer.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    /// The number of connected brokers.
    pub(super) brokers_up: usize,
    /// When a broker was last known to be connected. Statistics arrive with polls only.
    pub(super) seen: Option<Instant>,
    /// The number of unread offsets by topic and partition, for those for which it is known.
    pub(super) lag: BTreeMap<(String, i32), i64>,
}

/// The callbacks of a consumer in a group. Rebalances are kept for the next poll, so that the consumer can end its
/// transaction while the partitions still belong to it.
#[derive(Default)]
pub(super) struct Member {
    rebalances: Mutex<VecDeque<Rebalance>>,
    gauges: Mutex<Gauges>,
    closing: AtomicBool,
    /// `true` if the client has moved a position that no longer existed.
    moved: AtomicBool,
}

impl Member {
    /// Applies later rebalances at once, because there are no more polls.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Returns `true` if the client has moved a position that no longer existed since the last call.
    pub(super) fn moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    /// Returns the oldest rebalance that is not applied yet.
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    pub(super) fn gauges(&self) -> Gauges {
        lock(&self.gauges).clone()
    }
}

/// Assigns partitions to a consumer, in the group's protocol.
pub(super) fn assign(
    consumer: &BaseConsumer<Member>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        _ => consumer.assign(partitions),
    }
}

/// Releases partitions of a consumer, in the group's protocol.
pub(super) fn unassign(
    consumer: &BaseConsumer<Member>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // This line (rd_kafka_offset_reset) is the only report of a moved position. It arrives with a poll, before the
        // first record from the new position.
        if facility == "OFFSET" && matches!(level, RDKafkaLogLevel::Warning) {
            self.moved.store(true, Ordering::Release);
        }
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) {
            let mut held = lock(&self.gauges);
            let seen = held.seen;
            *held = statistics.gauges();
            held.seen = held.seen.or(seen);
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigns = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let applied = if assigns { assign(consumer, partitions) } else { unassign(consumer, partitions) };
            if let Err(error) = applied {
                tracing::warn!(target: "kafka", %error, "a rebalance failed while leaving the group");
            }
            return;
        }
        let partitions = partitions.clone();
        let rebalance = if assigns { Rebalance::Assign(partitions) } else { Rebalance::Revoke(partitions) };
        lock(&self.rebalances).push_back(rebalance);
    }
}

/// The used part of librdkafka's statistics (see its STATISTICS.md).
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i64,
    state: String,
    /// The time since the broker's last answer, in microseconds.
    #[serde(default)]
    rxidle: i64,
}

impl Broker {
    /// Returns `true` if the broker is reachable. A connection over a broken network stays up until a request times out
    /// after a minute; a reachable broker answers heartbeats and fetches every few seconds.
    fn is_up(&self) -> bool {
        self.nodeid >= 0 && self.state == "UP" && self.rxidle < SILENT_MICROS
    }
}

#[derive(Deserialize)]
struct Topic {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    /// Last stable offset, below zero while unknown.
    ls_offset: i64,
    /// The next record that the program will be given, below zero before its first.
    app_offset: i64,
    committed_offset: i64,
}

impl Partition {
    fn lag(&self) -> Option<i64> {
        let position = if self.app_offset >= 0 { self.app_offset } else { self.committed_offset };
        (self.ls_offset >= 0 && position >= 0).then(|| (self.ls_offset - position).max(0))
    }
}

impl Statistics {
    fn gauges(self) -> Gauges {
        let lag = self.topics.into_iter().flat_map(|(name, topic)| {
            topic
                .partitions
                .into_iter()
                .filter(|(number, _)| *number >= 0)
                .filter_map(move |(number, partition)| Some(((name.clone(), number), partition.lag()?)))
        });
        let brokers_up = self.brokers.values().filter(|broker| broker.is_up()).count();
        Gauges { brokers_up, seen: (brokers_up > 0).then(Instant::now), lag: lag.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_give_lag_and_brokers() {
        let member = Member::default();
        member.stats_raw(
            br#"{"brokers":{"a":{"nodeid":1,"state":"UP","rxidle":90000},"b":{"nodeid":-1,"state":"UP"},
            "c":{"nodeid":2,"state":"DOWN"},"d":{"nodeid":3,"state":"UP","rxidle":10000000}},
            "topics":{"t":{"partitions":{
                "0":{"ls_offset":9,"app_offset":2,"committed_offset":-1001},
                "1":{"ls_offset":9,"app_offset":-1001,"committed_offset":4},
                "2":{"ls_offset":-1001,"app_offset":2,"committed_offset":2},
                "-1":{"ls_offset":9,"app_offset":2,"committed_offset":2}}}}}"#,
        );
        let gauges = member.gauges();
        assert_eq!(gauges.brokers_up, 1);
        assert_eq!(
            gauges.lag.into_iter().collect::<Vec<_>>(),
            [(("t".to_owned(), 0), 7), (("t".to_owned(), 1), 5)]
        );
        member.stats_raw(b"{");
        assert_eq!(member.gauges().brokers_up, 1);
    }
}
