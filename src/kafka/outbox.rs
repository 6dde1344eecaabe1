//! The seam of delivery: the outputs of a unit and the offsets that it consumed count together.
//!
//! | step | retriable | asks for an abort | producer spent | fenced |
//! |---|---|---|---|---|
//! | make the producer | `Unavailable` | – | `Unavailable` | `Fenced` |
//! | begin, send, offsets | the same call again | abort: `Aborted`, `Stale` and others | made anew: `Aborted` | `Fenced` |
//! | commit | the same call again | abort: `Aborted` | made anew: `Indefinite` | `Fenced` |
//! | commit, out of time | made anew: `Indefinite` | | | |
//! | abort, out of time or failed | made anew | | | `Fenced` |
//!
//! A producer made anew takes the same transactional id, which ends whatever the old one left open. A unit
//! whose commit was never asked for is therefore certainly void; one whose answer is missing is not, and
//! the committed offsets, which wait for open transactions, say which. Errors are judged in
//! [`failure`](super::failure).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::connection::Connection;
use super::failure::{Class, CommitError, class, stale};
use super::record::{Offsets, Produced};
pub use super::reports::Place;
use super::reports::{Report, Reports, Slot};
use super::source::Source;

/// How long at-least-once outputs are tried before the unit is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a new producer waits for the brokers.
const OPENING: Duration = Duration::from_secs(10);
/// Beyond the time-out of a transaction, how long its end is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What a unit is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Outputs first, then offsets: nothing is lost, a crash between the two repeats outputs.
    AtLeastOnce,
    /// One Kafka transaction: outputs and offsets count together or not at all.
    ExactlyOnce {
        /// This instance's own, the same after a restart: a new holder fences the old one.
        transactional_id: String,
        /// After this the brokers give an open transaction up. Shorter than the session's time-out, or a
        /// killed member's partitions stay dark after another has taken them.
        timeout: Duration,
    },
}

/// Where outputs go and consumed offsets are committed, one unit after the other. Of one thread.
pub struct Outbox {
    connection: Connection,
    delivery: Delivery,
    producer: Option<BaseProducer<Reports>>,
    /// Why this outbox never works again.
    fenced: Option<String>,
}

/// A unit of work. Dropped without a commit it is aborted.
pub struct Unit<'a> {
    outbox: &'a mut Outbox,
    begun: bool,
}

impl Outbox {
    /// Connects; with a transactional id also takes it over from whoever held it.
    ///
    /// # Errors
    /// [`CommitError::Unavailable`] where settings are refused or the brokers do not answer.
    pub fn open(connection: &Connection, delivery: Delivery) -> Result<Self, CommitError> {
        let refused = |reason: String| CommitError::Unavailable { reason };
        connection.check().map_err(|error| refused(error.to_string()))?;
        if let Delivery::ExactlyOnce { timeout, .. } = &delivery
            && *timeout >= connection.session_timeout()
        {
            return Err(refused(format!(
                "a transaction's time-out of {timeout:?} is not shorter than the session's of {:?}",
                connection.session_timeout()
            )));
        }
        let mut outbox = Self { connection: connection.clone(), delivery, producer: None, fenced: None };
        outbox.ready()?;
        Ok(outbox)
    }

    /// Begins a unit. Nothing is asked of the brokers before its first record.
    pub fn unit(&mut self) -> Unit<'_> {
        Unit { outbox: self, begun: false }
    }

    /// One unit in one call: sends `records`, then commits them with what was `consumed`. Returns where each
    /// record went, in order. Without records and offsets it does nothing.
    ///
    /// # Errors
    /// See [`CommitError`]: the unit does not count, or nobody knows.
    pub fn commit(
        &mut self,
        records: &[Produced],
        consumed: Option<(&Source, &Offsets)>,
    ) -> Result<Vec<Place>, CommitError> {
        let mut unit = self.unit();
        let places = unit.send(records)?;
        unit.commit(consumed)?;
        Ok(places)
    }

    /// The producer, made anew where the last one is spent.
    fn ready(&mut self) -> Result<(), CommitError> {
        if let Some(reason) = &self.fenced {
            return Err(CommitError::Fenced { reason: reason.clone() });
        }
        if self.producer.is_some() {
            return Ok(());
        }
        let unavailable = |error: KafkaError| CommitError::Unavailable { reason: error.to_string() };
        let mut config = self.connection.producer();
        let patience = self.patience().as_millis().to_string();
        match &self.delivery {
            Delivery::AtLeastOnce => config.set("message.timeout.ms", &patience),
            Delivery::ExactlyOnce { transactional_id, .. } => config
                .set("transactional.id", transactional_id)
                .set("transaction.timeout.ms", &patience)
                .set("message.timeout.ms", &patience),
        };
        let producer: BaseProducer<Reports> =
            config.create_with_context(Reports::default()).map_err(unavailable)?;
        if matches!(self.delivery, Delivery::ExactlyOnce { .. }) {
            let until = Instant::now() + OPENING;
            match again(until, || producer.init_transactions(until - Instant::now())) {
                Ok(()) => {}
                Err(error) if class(&error) == Class::Fenced => return Err(self.fence(&error)),
                Err(error) => return Err(unavailable(error)),
            }
        }
        self.producer = Some(producer);
        Ok(())
    }

    fn producer(&self) -> Result<&BaseProducer<Reports>, CommitError> {
        self.producer
            .as_ref()
            .ok_or_else(|| CommitError::Unavailable { reason: "the producer is gone".into() })
    }

    /// How long one unit may take.
    fn patience(&self) -> Duration {
        match &self.delivery {
            Delivery::AtLeastOnce => PATIENCE,
            Delivery::ExactlyOnce { timeout, .. } => *timeout,
        }
    }

    fn fence(&mut self, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        self.producer = None;
        self.fenced = Some(reason.clone());
        CommitError::Fenced { reason }
    }

    /// Lets the producer go with all that it holds; the next unit makes another.
    fn renew(&mut self) {
        self.producer = None;
        if let Err(error) = self.ready() {
            tracing::warn!(target: "kafka", %error, "no new producer yet; the next unit tries again");
        }
    }
}

impl Unit<'_> {
    /// Sends records and waits until all are acknowledged: they are in their topics, and within a
    /// transaction invisible until the commit. Returns where each went, in order.
    ///
    /// # Errors
    /// See [`CommitError`]. The unit is over then: drop it.
    pub fn send(&mut self, records: &[Produced]) -> Result<Vec<Place>, CommitError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.begin()?;
        let until = Instant::now() + self.outbox.patience() + GRACE;
        let producer = self.outbox.producer()?;
        let sending = producer.context().expect(records.len());
        let mut refused = None;
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = enqueue(producer, record, Slot { sending, index }, until) {
                refused = Some((index, error));
                break;
            }
        }
        let drained = refused.is_some() || drain(producer, until);
        let reports = producer.context().take();
        if let Some((index, code)) = refused {
            return Err(self.undelivered(records, index, code));
        }
        if !drained {
            self.begun = false;
            self.outbox.renew();
            return Err(CommitError::Aborted { stage: "send", reason: "records are still on their way".into() });
        }
        let mut places = Vec::with_capacity(reports.len());
        for (index, report) in reports.into_iter().enumerate() {
            match settled(report) {
                Ok(place) => places.push(place),
                Err(code) => return Err(self.undelivered(records, index, code)),
            }
        }
        Ok(places)
    }

    /// Ends the unit: with the offsets that `consumed` names it counts, all of it.
    ///
    /// # Errors
    /// See [`CommitError`]: the unit does not count, or nobody knows.
    pub fn commit(mut self, consumed: Option<(&Source, &Offsets)>) -> Result<(), CommitError> {
        let consumed = consumed.filter(|(_, offsets)| !offsets.is_empty());
        if consumed.is_none() && !self.begun {
            return Ok(());
        }
        if consumed.is_some_and(|(source, offsets)| source.membership(offsets).is_none()) {
            self.abort()?;
            return Err(CommitError::Stale {
                stage: "offsets",
                reason: "a partition is no longer this member's".into(),
            });
        }
        match self.outbox.delivery {
            Delivery::AtLeastOnce => self.commit_offsets(consumed),
            Delivery::ExactlyOnce { .. } => self.commit_transaction(consumed),
        }
    }

    fn begin(&mut self) -> Result<(), CommitError> {
        if self.begun {
            return Ok(());
        }
        self.outbox.ready()?;
        if matches!(self.outbox.delivery, Delivery::ExactlyOnce { .. }) {
            let begun = self.outbox.producer()?.begin_transaction();
            begun.map_err(|error| self.failed("begin", &error))?;
        }
        self.begun = true;
        Ok(())
    }

    fn commit_offsets(&mut self, consumed: Option<(&Source, &Offsets)>) -> Result<(), CommitError> {
        self.begun = false;
        let Some((source, offsets)) = consumed else { return Ok(()) };
        let list = offsets.to_list();
        let until = Instant::now() + self.outbox.patience();
        again(until, || source.consumer().commit(&list, CommitMode::Sync)).map_err(|error| {
            let (stage, reason) = ("offsets", error.to_string());
            if stale(&error) {
                CommitError::Stale { stage, reason }
            } else {
                CommitError::Aborted { stage, reason }
            }
        })
    }

    fn commit_transaction(&mut self, consumed: Option<(&Source, &Offsets)>) -> Result<(), CommitError> {
        self.begin()?;
        let until = Instant::now() + self.outbox.patience() + GRACE;
        if let Some((source, offsets)) = consumed {
            let list = offsets.to_list();
            let producer = self.outbox.producer()?;
            // The proof of membership is taken afresh: an old generation's would be refused, or worse.
            let sent = again(until, || match source.membership(offsets) {
                Some(proof) => producer.send_offsets_to_transaction(&list, &proof, left(until)),
                None => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost)),
            });
            sent.map_err(|error| self.failed("offsets", &error))?;
        }
        let producer = self.outbox.producer()?;
        let committed = again(until, || producer.commit_transaction(left(until)));
        let Err(error) = committed else {
            self.begun = false;
            return Ok(());
        };
        match class(&error) {
            Class::Fenced | Class::Abort => Err(self.failed("commit", &error)),
            Class::Retry | Class::Spent => {
                self.begun = false;
                self.outbox.renew();
                Err(CommitError::Indefinite { reason: error.to_string() })
            }
        }
    }

    /// Does what the error of a step before the commit asks for.
    fn failed(&mut self, stage: &'static str, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        let aborted = match class(error) {
            Class::Fenced => {
                self.begun = false;
                return self.outbox.fence(error);
            }
            Class::Abort => self.abort(),
            Class::Retry | Class::Spent => {
                self.begun = false;
                self.outbox.renew();
                Ok(())
            }
        };
        match aborted {
            Err(fenced) => fenced,
            Ok(()) if stale(error) => CommitError::Stale { stage, reason },
            Ok(()) => CommitError::Aborted { stage, reason },
        }
    }

    /// Gives the unit up because one of its records was not delivered.
    fn undelivered(&mut self, records: &[Produced], index: usize, code: RDKafkaErrorCode) -> CommitError {
        use RDKafkaErrorCode as Code;
        if let Err(fenced) = self.abort() {
            return fenced;
        }
        let topic = records.get(index).map_or_else(|| "".into(), |record| Arc::clone(&record.topic));
        let stage = "send";
        match code {
            Code::MessageSizeTooLarge => {
                CommitError::TooLarge { index, bytes: records.get(index).map_or(0, Produced::size), topic }
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                CommitError::MissingTopic { topic }
            }
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => {
                CommitError::Denied { stage, reason: format!("{topic}: {code}") }
            }
            _ => CommitError::Aborted { stage, reason: format!("{topic}: {code}") },
        }
    }

    /// Aborts what is open. Where that fails the producer is made anew, which has the same effect.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] only.
    fn abort(&mut self) -> Result<(), CommitError> {
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        let Some(producer) = &self.outbox.producer else { return Ok(()) };
        if self.outbox.delivery == Delivery::AtLeastOnce {
            // What is still queued must not follow a unit that was given up.
            self.outbox.producer = None;
            return Ok(());
        }
        let until = Instant::now() + self.outbox.patience();
        match again(until, || producer.abort_transaction(left(until))) {
            Ok(()) => Ok(()),
            Err(error) if class(&error) == Class::Fenced => Err(self.outbox.fence(&error)),
            Err(_) => {
                self.outbox.renew();
                Ok(())
            }
        }
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.abort() {
            tracing::warn!(target: "kafka", %error, "a unit was left while another instance took over");
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Calls until it succeeds, fails for good, or the time is over.
fn again<F: FnMut() -> Result<(), KafkaError>>(until: Instant, mut step: F) -> Result<(), KafkaError> {
    loop {
        match step() {
            Err(error) if class(&error) == Class::Retry && Instant::now() < until => {
                // Nothing tells when the brokers are ready; the client itself backs off as well.
                thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn enqueue(
    producer: &BaseProducer<Reports>,
    record: &Produced,
    slot: Slot,
    until: Instant,
) -> Result<(), RDKafkaErrorCode> {
    let mut waiting = BaseRecord {
        topic: &record.topic,
        partition: record.partition,
        payload: record.payload.as_ref(),
        key: record.key.as_ref(),
        timestamp: record.timestamp,
        headers: record.owned_headers(),
        delivery_opaque: Box::new(slot),
    };
    loop {
        match producer.send(waiting) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < until => {
                waiting = back;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        }
    }
}

/// Waits until every record is acknowledged or given up. Without this the flush inside the commit waits in
/// slices of 100 ms.
fn drain(producer: &BaseProducer<Reports>, until: Instant) -> bool {
    while producer.in_flight_count() > 0 {
        if Instant::now() > until {
            return false;
        }
        producer.poll(Duration::from_millis(1));
    }
    true
}

fn settled(report: Report) -> Result<Place, RDKafkaErrorCode> {
    report.unwrap_or(Err(RDKafkaErrorCode::Fail))
}
