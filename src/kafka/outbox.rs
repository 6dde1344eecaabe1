//! Commits outputs together with the offsets of the records they were made from.
//!
//! # Errors
//!
//! The client's errors have four classes (`failure::Class`), one for each column. A cell says what is done after such an
//! error in a step, and which [`CommitError`] is returned. *New producer* means that the producer is dropped, and that the
//! next transaction creates another.
//!
//! | step | retriable | requires an abort | producer unusable | fenced |
//! |---|---|---|---|---|
//! | create the producer | `Unavailable` | – | `Unavailable`; `Denied` | `Fenced` |
//! | begin, offsets | repeat the call | abort: `Aborted`, `Stale` or `Denied` | new producer: `Aborted` | `Fenced` |
//! | send | – | abort, new producer: the error of the delivery report or of the transaction | new producer: `Aborted` | `Fenced` |
//! | commit | repeat the call | abort: `Aborted` | new producer: `Indefinite` | `Fenced` |
//! | commit, timed out | new producer: `Indefinite` | | | |
//! | abort, timed out or failed | new producer | | | `Fenced` |
//!
//! If a transaction was open for longer than its time-out, `Outlived` is returned instead of `Fenced`, with a new producer:
//! the brokers have probably aborted the transaction while they could not be reached. But another instance may have taken
//! the transactional id, and the new producer would take it back. The learner therefore stands for election again before it
//! creates one.
//!
//! # Transactions without an answer
//!
//! A new producer takes the same transactional id, which aborts a transaction that the old one left open. A transaction
//! whose commit was never requested is therefore certainly void. If only the answer to the commit is missing, the outcome
//! is unknown, and is found by re-reading the committed offsets, which wait for open transactions. The new producer is
//! created by the next transaction or by [`Outbox::reopen`], not at once: a learner that hung must first check that it is
//! still elected, or it would take the id from its successor.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};

use super::connection::Connection;
use super::failure::{Class, CommitError, classify, denied, left, retry};
use super::membership::Membership;
use super::record::{Offsets, Produced};
use super::reports::{RecordPosition, Reports};
use super::topics;
use super::transaction::Transaction;

/// The time-out for outputs that are delivered at least once.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The time-out for the size limit of a topic, if the brokers are near.
const TOPIC_LIMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time-out for a new producer to take its transactional id, if the brokers are near.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of one request by which the round trip is measured.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The delivery guarantee of outputs and consumed offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs are sent first, then offsets are committed. Nothing is lost; a crash between the two repeats outputs.
    AtLeastOnce,
    /// Outputs and offsets are committed in one Kafka transaction.
    ExactlyOnce {
        /// The transactional id, which is unique to this instance and the same after a restart: a producer that takes it
        /// fences the one that had it.
        transactional_id: String,
        /// The time after which the brokers abort an open transaction. It is longer if the measured round trip requires
        /// it. It must be shorter than the session time-out: otherwise the partitions of a killed member cannot be read
        /// for a while after another member has taken them.
        timeout: Duration,
    },
}

/// Sends outputs and commits consumed offsets, one transaction after the other. It is used by one thread.
pub struct Outbox {
    connection: Connection,
    delivery: Delivery,
    producer: Option<BaseProducer<Reports>>,
    /// The time-out of the producer's transactions. It is known once there is a producer.
    timeout: Duration,
    /// The reason if this outbox is fenced. It never works again then.
    fenced: Option<String>,
    /// The maximum size of a batch of records, in bytes.
    batch_size: usize,
}

impl Outbox {
    /// Connects, and takes the transactional id over if there is one.
    ///
    /// # Errors
    /// Returns [`CommitError::Settings`] if settings are refused, [`CommitError::Denied`] if the brokers refuse this client,
    /// and [`CommitError::Unavailable`] if they do not answer.
    pub fn open(connection: &Connection, delivery: Delivery) -> Result<Self, CommitError> {
        let refused = |reason: String| CommitError::Settings { reason };
        connection.check().map_err(|error| refused(error.to_string()))?;
        if let Delivery::ExactlyOnce { timeout, .. } = &delivery
            && *timeout >= connection.session_timeout()
        {
            return Err(refused(format!(
                "a transaction's time-out of {timeout:?} is not shorter than the session's of {:?}",
                connection.session_timeout()
            )));
        }
        let timeout = Duration::ZERO;
        let batch_size = connection.batch_size();
        let (connection, producer, fenced) = (connection.clone(), None, None);
        let mut outbox = Self { connection, delivery, producer, timeout, fenced, batch_size };
        outbox.ensure_producer()?;
        Ok(outbox)
    }

    /// Begins a transaction. The brokers get no request before its first record.
    pub fn transaction(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// Sends `records` and commits them with the `consumed` offsets, in one transaction. Returns the partition and offset of
    /// each record, in order. Does nothing without records and offsets.
    ///
    /// # Errors
    /// Returns a [`CommitError`] if nothing is committed, or if the outcome of the commit is unknown.
    pub fn commit(
        &mut self,
        records: &[Produced],
        consumed: Option<(&Membership, &Offsets)>,
    ) -> Result<Vec<RecordPosition>, CommitError> {
        let mut transaction = self.transaction();
        let places = transaction.send(records)?;
        transaction.commit(consumed)?;
        Ok(places)
    }

    /// The size of the largest record that the client sends, in bytes.
    #[must_use]
    pub fn max_record_size(&self) -> usize {
        self.connection.max_record_size()
    }

    /// The maximum size of a batch of records, in bytes. A larger record is alone in its batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Limits the batches of the next producer to `bytes`. A topic refuses a batch that exceeds its limit, however small
    /// the records in it.
    pub fn limit_batch_size(&mut self, bytes: usize) {
        self.batch_size = self.batch_size.min(bytes.max(1));
    }

    /// Returns the size of the largest batch that `topic` accepts, in bytes, or `None` if it cannot be determined.
    #[must_use]
    pub fn max_batch_size_of(&self, topic: &str) -> Option<usize> {
        match topics::max_message_bytes(
            &self.connection,
            topic,
            self.connection.request_timeout(TOPIC_LIMIT_TIMEOUT),
        ) {
            Ok(limit) => Some(limit),
            Err(error) => {
                tracing::debug!(target: "kafka", topic, %error, "the topic's size limit is not known");
                None
            }
        }
    }

    /// Creates the producer if there is none.
    pub(super) fn ensure_producer(&mut self) -> Result<(), CommitError> {
        if let Some(reason) = &self.fenced {
            return Err(CommitError::Fenced { reason: reason.clone() });
        }
        if self.producer.is_some() {
            return Ok(());
        }
        let producer = self.create_producer()?;
        // If the brokers are farther away than before, the transaction time-out must follow.
        let trip = &self.connection.round_trip;
        let ping = || producer.client().fetch_metadata(Some("aegis"), PING_TIMEOUT).is_ok();
        self.producer = match &self.delivery {
            Delivery::ExactlyOnce { timeout, .. }
                if trip.is_known()
                    && trip.measure(ping)
                    && self.connection.transaction_within(*timeout) > self.timeout =>
            {
                drop(producer);
                Some(self.create_producer()?)
            }
            _ => Some(producer),
        };
        Ok(())
    }

    /// Creates a producer with the transaction time-out that the round trip requires.
    fn create_producer(&mut self) -> Result<BaseProducer<Reports>, CommitError> {
        self.timeout = match &self.delivery {
            Delivery::AtLeastOnce => SEND_TIMEOUT,
            Delivery::ExactlyOnce { timeout, .. } => self.connection.transaction_within(*timeout),
        };
        let mut config = self.connection.producer();
        config.set("batch.size", self.batch_size.to_string());
        let timeout_ms = self.timeout.as_millis().to_string();
        match &self.delivery {
            Delivery::AtLeastOnce => config.set("message.timeout.ms", &timeout_ms),
            Delivery::ExactlyOnce { transactional_id, .. } => config
                .set("transactional.id", transactional_id)
                .set("transaction.timeout.ms", &timeout_ms)
                .set("message.timeout.ms", &timeout_ms),
        };
        let producer: BaseProducer<Reports> = config
            .create_with_context(Reports::default())
            .map_err(|error| CommitError::Settings { reason: error.to_string() })?;
        if matches!(self.delivery, Delivery::ExactlyOnce { .. }) {
            let until = Instant::now() + self.connection.request_timeout(INIT_TIMEOUT);
            match retry(until, || producer.init_transactions(left(until))) {
                Ok(()) => {}
                Err(error) if classify(&error) == Class::Fenced => return Err(self.fence(&error)),
                Err(error) if denied(&error) => return Err(self.refused(&error)),
                Err(error) => return Err(CommitError::Unavailable { reason: error.to_string() }),
            }
        }
        Ok(producer)
    }

    /// Returns the error for brokers that do not let this client begin transactions.
    fn refused(&self, error: &KafkaError) -> CommitError {
        let reason = match &self.delivery {
            Delivery::AtLeastOnce => error.to_string(),
            Delivery::ExactlyOnce { transactional_id, .. } => {
                format!("{error}; Write on transactional id {transactional_id} is missing")
            }
        };
        CommitError::Denied { stage: "the start of transactions", reason }
    }

    pub(super) fn producer(&self) -> Result<&BaseProducer<Reports>, CommitError> {
        self.producer
            .as_ref()
            .ok_or_else(|| CommitError::Unavailable { reason: "there is no producer".into() })
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Drops the producer with its open transaction. The next transaction creates another.
    pub(super) fn drop_producer(&mut self) {
        self.producer = None;
    }

    /// The time-out of one transaction.
    pub(super) fn transaction_timeout(&self) -> Duration {
        self.timeout
    }

    /// Marks the outbox as fenced, drops the producer, and returns the error for that.
    pub(super) fn fence(&mut self, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        self.producer = None;
        self.fenced = Some(reason.clone());
        CommitError::Fenced { reason }
    }

    /// Creates a producer now if the last one was dropped. Call this before requesting committed offsets: they wait for a
    /// transaction that the last producer left open, at worst until the brokers abort it.
    pub fn reopen(&mut self) {
        if let Err(error) = self.ensure_producer() {
            tracing::warn!(target: "kafka", %error, "no new producer yet; the next transaction tries again");
        }
    }
}
