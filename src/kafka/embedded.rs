//! A broker inside this process, for demonstrations and for tests of faults: librdkafka's mock cluster.
//!
//! Honest limits. It keeps everything in memory, and **5 MiB or 100,000 batches of each partition: older
//! records vanish without a word** ([`Lookup`](super::Lookup) then finds none, [`Follower`](super::Follower)
//! says that it skipped). It has no transactions: offsets sent to one are dropped, aborted and open records
//! are visible, nobody is fenced. So it is at-least-once, and proves nothing about exactly-once. It knows no
//! Admin API, no compaction and no LogAppendTime, and the second member of a group waits for the session
//! time-out of the first. Any client on this machine can connect to its port.

use std::ffi::c_int;

use rdkafka::bindings;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use thiserror::Error;

/// Kept of one partition, in bytes as batched and compressed by the producer; older records vanish.
pub const KEPT_BYTES: usize = 5 * 1024 * 1024;

/// How long the first member of a group waits for others, in milliseconds.
const JOIN_DELAY_MS: c_int = 50;

/// The embedded broker did not start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmbeddedError {
    /// librdkafka refused.
    #[error("the embedded broker did not start: {reason}")]
    Start {
        /// Its word.
        reason: String,
    },
    /// A topic was not made.
    #[error("the embedded broker made no topic {topic}: {reason}")]
    Topic {
        /// Its name.
        topic: String,
        /// librdkafka's word.
        reason: String,
    },
}

/// A running broker; dropped, it and all that it holds are gone.
pub struct Embedded {
    host: BaseProducer<DefaultProducerContext>,
    bootstrap: String,
}

impl Embedded {
    /// Starts a broker with these topics (name, partitions).
    ///
    /// # Errors
    /// Where librdkafka refuses, as with a topic named twice.
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
                .ok_or_else(|| EmbeddedError::Start { reason: "no cluster was made".into() })?;
            for (topic, partitions) in topics {
                cluster.create_topic(topic, *partitions, 1).map_err(|error| EmbeddedError::Topic {
                    topic: (*topic).to_owned(),
                    reason: error.to_string(),
                })?;
            }
            cluster.bootstrap_servers()
        };
        hasten_joins(&host);
        Ok(Self { host, bootstrap })
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Lets the broker go down or come back, for tests of faults.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn set_up(&self, up: bool) -> Result<(), EmbeddedError> {
        let refused = |error: KafkaError| EmbeddedError::Start { reason: error.to_string() };
        match self.host.client().mock_cluster() {
            Some(cluster) if up => cluster.broker_up(-1).map_err(refused),
            Some(cluster) => cluster.broker_down(-1).map_err(refused),
            None => Ok(()),
        }
    }
}

/// Three seconds otherwise, for every group of a demonstration. The client has no safe call for it.
#[allow(unsafe_code)]
fn hasten_joins(host: &BaseProducer<DefaultProducerContext>) {
    // SAFETY: the client's handle is valid while `host` is borrowed; the cluster belongs to that client and
    // lives as long; both calls only read the handle and set a number that librdkafka itself guards.
    unsafe {
        let cluster = bindings::rd_kafka_handle_mock_cluster(host.client().native_ptr());
        if !cluster.is_null() {
            bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, JOIN_DELAY_MS);
        }
    }
}
