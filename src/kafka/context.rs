//! What librdkafka calls back: log lines, statistics, rebalances.

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

/// A broker that has not said anything for this long is not there: longer than heartbeats and fetches are apart.
const SILENT_MICROS: i64 = 10_000_000;

/// A lock whose holder cannot leave it half-written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// librdkafka's own log, which never holds keys or values of records.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        // One map of settings serves consumers and producers: each hears of the other's.
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

/// An error of the client as a whole: brokers that are away. librdkafka goes on by itself.
pub(super) fn client_error(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // A partition's end is news for its reader, not an error.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        // Said at every attempt, a dozen times a second; of each broker's connection the log tells, and readiness.
        Some(RDKafkaErrorCode::AllBrokersDown) => tracing::debug!(target: "kafka", %error, "{reason}"),
        _ => tracing::warn!(target: "kafka", %error, "{reason}"),
    }
}

/// Callbacks of clients that neither join a group nor write.
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

/// A rebalance that the group has decided and the member has not yet taken.
pub(super) enum Change {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// What statistics say of a member.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    /// Brokers with a connection.
    pub(super) brokers_up: usize,
    /// When a broker was last known to have one: statistics come with polls, and who waits for brokers does not
    /// poll.
    pub(super) seen: Option<Instant>,
    /// Records not yet read per topic and partition; absent while unknown.
    pub(super) lag: BTreeMap<(String, i32), i64>,
}

/// Callbacks of a member of a group. Rebalances are kept for the poll that meets them, so that the member
/// can end its unit while the partitions are still its own.
#[derive(Default)]
pub(super) struct Member {
    changes: Mutex<VecDeque<Change>>,
    gauges: Mutex<Gauges>,
    closing: AtomicBool,
    /// A position did not exist any more, and the client has moved it.
    moved: AtomicBool,
}

impl Member {
    /// From now on rebalances are taken at once: nobody polls any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether the client has moved a position that did not exist any more, since this was last asked.
    pub(super) fn moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    /// The oldest rebalance that is not taken yet.
    pub(super) fn change(&self) -> Option<Change> {
        lock(&self.changes).pop_front()
    }

    pub(super) fn gauges(&self) -> Gauges {
        lock(&self.gauges).clone()
    }
}

/// Takes partitions, in the group's protocol.
pub(super) fn take(
    consumer: &BaseConsumer<Member>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        _ => consumer.assign(partitions),
    }
}

/// Gives partitions back, in the group's protocol.
pub(super) fn give(
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
        // The client tells of a position that it moved by this line only (rd_kafka_offset_reset); it comes with a poll,
        // before the first record from the new position.
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
            let taken = if assigns { take(consumer, partitions) } else { give(consumer, partitions) };
            if let Err(error) = taken {
                tracing::warn!(target: "kafka", %error, "a rebalance failed while leaving the group");
            }
            return;
        }
        let partitions = partitions.clone();
        let change = if assigns { Change::Assign(partitions) } else { Change::Revoke(partitions) };
        lock(&self.changes).push_back(change);
    }
}

/// The part of librdkafka's statistics that is used (its STATISTICS.md).
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
    /// Microseconds since it last said anything.
    #[serde(default)]
    rxidle: i64,
}

impl Broker {
    /// Whether it is there. A connection that leads nowhere, since a network is cut, stays up until the client gives
    /// a request up after a minute; a broker that is there answers heartbeats and fetches every few seconds.
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
