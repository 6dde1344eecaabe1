//! A broker inside this process, for demonstrations and fault tests: librdkafka's mock cluster.
//!
//! It has these limits:
//!
//! * It keeps everything in memory, at most **5 MiB or 100,000 batches of each partition. Older records are deleted
//!   silently**: [`Lookup`](super::Lookup) does not find them, and [`Follower`](super::Follower) reports that it skipped
//!   them.
//! * It has no transactions. Offsets sent to a transaction are dropped, records of aborted and open transactions are
//!   visible, and no producer is fenced. Delivery is therefore at least once, and tests with it prove nothing about
//!   exactly-once delivery.
//! * It has no Admin API, no compaction and no LogAppendTime.
//! * The second member of a group waits for the session time-out of the first.
//! * Any client on this machine can connect to its port.

use std::ffi::c_int;

use rdkafka::bindings;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use thiserror::Error;

/// The retained size of one partition, in bytes as batched and compressed by the producer. Older records are deleted.
pub const KEPT_BYTES: usize = 5 * 1024 * 1024;

/// The time for which the first member of a group waits for others, in milliseconds.
const JOIN_DELAY_MS: c_int = 50;

/// The embedded broker did not start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmbeddedError {
    /// librdkafka refused.
    #[error("the embedded broker did not start: {reason}")]
    Start {
        /// The reason.
        reason: String,
    },
    /// A topic was not created.
    #[error("the embedded broker did not create topic {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// The reason.
        reason: String,
    },
}

/// A running broker. When it is dropped, it stops and its records are lost.
pub struct Embedded {
    host: BaseProducer<DefaultProducerContext>,
    bootstrap: String,
}

impl Embedded {
    /// Starts a broker with these topics (name, number of partitions).
    ///
    /// # Errors
    /// Returns an error if librdkafka refuses, for example because a topic is named twice.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let refused = |error: KafkaError| EmbeddedError::Start { reason: error.to_string() };
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1").set("client.id", "aegis-embedded");
        config.set_log_level(RDKafkaLogLevel::Warning);
        let host: BaseProducer<DefaultProducerContext> = config.create().map_err(refused)?;
        let bootstrap = {
            let cluster = host
                .client()
                .mock_cluster()
                .ok_or_else(|| EmbeddedError::Start { reason: "no cluster was created".into() })?;
            for (topic, partitions) in topics {
                cluster.create_topic(topic, *partitions, 1).map_err(|error| EmbeddedError::Topic {
                    topic: (*topic).to_owned(),
                    reason: error.to_string(),
                })?;
            }
            cluster.bootstrap_servers()
        };
        shorten_join_delay(&host);
        Ok(Self { host, bootstrap })
    }

    /// The `host:port` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Takes the broker down or up again, for fault tests.
    ///
    /// # Errors
    /// Returns an error if librdkafka refuses.
    pub fn set_up(&self, up: bool) -> Result<(), EmbeddedError> {
        let refused = |error: KafkaError| EmbeddedError::Start { reason: error.to_string() };
        match self.host.client().mock_cluster() {
            Some(cluster) if up => cluster.broker_up(-1).map_err(refused),
            Some(cluster) => cluster.broker_down(-1).map_err(refused),
            None => Ok(()),
        }
    }
}

/// Shortens the wait of a group's first member, which is three seconds by default. The client has no safe call for it.
#[allow(unsafe_code)]
fn shorten_join_delay(host: &BaseProducer<DefaultProducerContext>) {
    // SAFETY: the client's handle is valid while `host` is borrowed. The cluster belongs to that client and lives as long.
    // Both calls only read the handle and set a number that librdkafka guards by a lock.
    unsafe {
        let cluster = bindings::rd_kafka_handle_mock_cluster(host.client().native_ptr());
        if !cluster.is_null() {
            bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, JOIN_DELAY_MS);
        }
    }
}
