//! The seam of delivery: the outputs of a unit and the offsets that it consumed count together.
//!
//! | step | retriable | asks for an abort | producer spent | fenced |
//! |---|---|---|---|---|
//! | make the producer | `Unavailable` | – | `Unavailable`; `Denied` | `Fenced` |
//! | begin, offsets | the same call again | abort: `Aborted`, `Stale` or `Denied` | made anew: `Aborted` | `Fenced` |
//! | send | – | abort, made anew: by the report, or by what spoiled the transaction | made anew: `Aborted` | `Fenced` |
//! | commit | the same call again | abort: `Aborted` | made anew: `Indefinite` | `Fenced` |
//! | commit, out of time | made anew: `Indefinite` | | | |
//! | abort, out of time or failed | made anew | | | `Fenced` |
//!
//! `Fenced` within a unit that was open for longer than its transaction's time-out is `Outlived`, and the producer is
//! made anew: while the brokers were away they gave the transaction up. Had another instance taken over, it would
//! be fenced in its turn; so one whose id belongs to whoever is elected stands for election first.
//!
//! A producer made anew takes the same transactional id, which ends whatever the old one left open. A unit
//! whose commit was never asked for is therefore certainly void; one whose answer is missing is not, and
//! the committed offsets, which wait for open transactions, say which. It is made by the next unit or by
//! [`Outbox::reopen`], not at once: a learner that hung must see first whether it is still elected, or it would
//! take the id from the one that has replaced it. Errors are judged in [`failure`](super::failure).

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};

use super::connection::Connection;
use super::failure::{Class, CommitError, again, class, denied, left};
use super::membership::Membership;
use super::record::{Offsets, Produced};
use super::reports::{RecordPosition, Reports};
use super::topics;
use super::transaction::Transaction;

/// How long at-least-once outputs are tried before the unit is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the brokers may take to tell a topic's limit.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a new producer waits for the brokers.
const OPENING: Duration = Duration::from_secs(10);
/// How long the brokers may take for one of the requests by which the round trip is measured.
const ECHO: Duration = Duration::from_secs(2);

/// What a unit is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs first, then offsets: nothing is lost, a crash between the two repeats outputs.
    AtLeastOnce,
    /// One Kafka transaction: outputs and offsets count together or not at all.
    ExactlyOnce {
        /// This instance's own, the same after a restart: a new holder fences the old one.
        transactional_id: String,
        /// After this the brokers give an open transaction up, or later if the measured round trip asks for it.
        /// Shorter than the session's time-out, or a killed member's partitions stay dark after another has taken
        /// them.
        timeout: Duration,
    },
}

/// Where outputs go and consumed offsets are committed, one unit after the other. Of one thread.
pub struct Outbox {
    connection: Connection,
    delivery: Delivery,
    producer: Option<BaseProducer<Reports>>,
    /// The time-out of the producer's transactions.
    timeout: Duration,
    /// Why this outbox never works again.
    fenced: Option<String>,
    /// The size of batches, in bytes.
    batch: usize,
}

impl Outbox {
    /// Connects; with a transactional id also takes it over from whoever held it.
    ///
    /// # Errors
    /// [`CommitError::Settings`] where settings are refused, [`CommitError::Denied`] where this client is, and
    /// [`CommitError::Unavailable`] where the brokers do not answer.
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
        let timeout = Duration::ZERO; // known when there is a producer
        let batch = connection.batch_size();
        let (connection, producer, fenced) = (connection.clone(), None, None);
        let mut outbox = Self { connection, delivery, producer, timeout, fenced, batch };
        outbox.ready()?;
        Ok(outbox)
    }

    /// Begins a unit. Nothing is asked of the brokers before its first record.
    pub fn transaction(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// One unit in one call: sends `records`, then commits them with what was `consumed`. Returns where each
    /// record went, in order. Without records and offsets it does nothing.
    ///
    /// # Errors
    /// See [`CommitError`]: the unit does not count, or nobody knows.
    pub fn commit(
        &mut self,
        records: &[Produced],
        consumed: Option<(&Membership, &Offsets)>,
    ) -> Result<Vec<RecordPosition>, CommitError> {
        let mut unit = self.transaction();
        let places = unit.send(records)?;
        unit.commit(consumed)?;
        Ok(places)
    }

    /// The largest record that the client sends, in bytes.
    #[must_use]
    pub fn max_record_size(&self) -> usize {
        self.connection.max_record_size()
    }

    /// The size of batches, in bytes: a larger record is alone in its batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Makes batches of the next producer no larger than `bytes`. A topic refuses a batch that exceeds its limit,
    /// however small the records in it.
    pub fn limit_batch_size(&mut self, bytes: usize) {
        self.batch = self.batch.min(bytes.max(1));
    }

    /// Returns the largest batch that `topic` accepts, in bytes, if the brokers tell.
    #[must_use]
    pub fn max_batch_size_of(&self, topic: &str) -> Option<usize> {
        match topics::max_message_bytes(&self.connection, topic, self.connection.request_timeout(ANSWER)) {
            Ok(limit) => Some(limit),
            Err(error) => {
                tracing::debug!(target: "kafka", topic, %error, "the topic's limit is not known");
                None
            }
        }
    }

    /// The producer, made anew where the last one is spent.
    pub(super) fn ready(&mut self) -> Result<(), CommitError> {
        if let Some(reason) = &self.fenced {
            return Err(CommitError::Fenced { reason: reason.clone() });
        }
        if self.producer.is_some() {
            return Ok(());
        }
        let producer = self.make()?;
        // The brokers may be farther away than they were: the next transaction has the time that it takes from here.
        let trip = &self.connection.round_trip;
        let echo = || producer.client().fetch_metadata(Some("aegis"), ECHO).is_ok();
        self.producer = match &self.delivery {
            Delivery::ExactlyOnce { timeout, .. }
                if trip.is_known()
                    && trip.measure(echo)
                    && self.connection.transaction_within(*timeout) > self.timeout =>
            {
                drop(producer);
                Some(self.make()?)
            }
            _ => Some(producer),
        };
        Ok(())
    }

    /// Makes a producer, whose transactions have the time that the round trip asks for.
    fn make(&mut self) -> Result<BaseProducer<Reports>, CommitError> {
        self.timeout = match &self.delivery {
            Delivery::AtLeastOnce => PATIENCE,
            Delivery::ExactlyOnce { timeout, .. } => self.connection.transaction_within(*timeout),
        };
        let mut config = self.connection.producer();
        config.set("batch.size", self.batch.to_string());
        let patience = self.timeout.as_millis().to_string();
        match &self.delivery {
            Delivery::AtLeastOnce => config.set("message.timeout.ms", &patience),
            Delivery::ExactlyOnce { transactional_id, .. } => config
                .set("transactional.id", transactional_id)
                .set("transaction.timeout.ms", &patience)
                .set("message.timeout.ms", &patience),
        };
        let producer: BaseProducer<Reports> = config
            .create_with_context(Reports::default())
            .map_err(|error| CommitError::Settings { reason: error.to_string() })?;
        if matches!(self.delivery, Delivery::ExactlyOnce { .. }) {
            let until = Instant::now() + self.connection.request_timeout(OPENING);
            match again(until, || producer.init_transactions(left(until))) {
                Ok(()) => {}
                Err(error) if class(&error) == Class::Fenced => return Err(self.fence(&error)),
                Err(error) if denied(&error) => return Err(self.refused(&error)),
                Err(error) => return Err(CommitError::Unavailable { reason: error.to_string() }),
            }
        }
        Ok(producer)
    }

    /// The brokers do not let this client begin transactions.
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
            .ok_or_else(|| CommitError::Unavailable { reason: "the producer is gone".into() })
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Lets the producer go with all that it holds; the next unit makes another.
    pub(super) fn drop_producer(&mut self) {
        self.producer = None;
    }

    /// How long one unit may take.
    pub(super) fn patience(&self) -> Duration {
        self.timeout
    }

    pub(super) fn fence(&mut self, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        self.producer = None;
        self.fenced = Some(reason.clone());
        CommitError::Fenced { reason }
    }

    /// Makes the producer now if the last one is spent. To be called before committed offsets are asked for:
    /// they wait for what it may have left open, at the worst until the brokers give that up.
    pub fn reopen(&mut self) {
        if let Err(error) = self.ready() {
            tracing::warn!(target: "kafka", %error, "no new producer yet; the next unit tries again");
        }
    }
}
