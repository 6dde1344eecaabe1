//! One transaction, step by step. The table in [`outbox`](super::outbox) says what follows each error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use super::delivery_failure::{delivery_failure, is_consequence, missing_right};
use super::failure::{Class, CommitError, classify, denied, left, retry, stale};
use super::membership::Membership;
use super::outbox::{Delivery, Outbox};
use super::record::{Offsets, Produced};
use super::reports::{RecordPosition, Slot, drain, enqueue, positions};
use super::topics;
use crate::crash;

/// The time for which the end of a transaction is waited for after its time-out.
const END_GRACE: Duration = Duration::from_secs(2);

/// Outputs and consumed offsets that count together. A transaction that is dropped without a commit is aborted. With
/// at-least-once delivery it is not a Kafka transaction: outputs are sent first, then the offsets are committed.
pub struct Transaction<'a> {
    outbox: &'a mut Outbox,
    begun: bool,
    /// When the transaction began, which is before the brokers began to count its time.
    since: Instant,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(outbox: &'a mut Outbox) -> Self {
        Self { outbox, begun: false, since: Instant::now() }
    }

    /// Sends records and waits until all are acknowledged. They are then in their topics, and invisible until the commit
    /// if delivery is exactly once. Returns the partition and offset of every record, in order.
    ///
    /// # Errors
    /// Returns a [`CommitError`] if a record is not acknowledged. The transaction is over then, and must be dropped.
    pub fn send(&mut self, records: &[Produced]) -> Result<Vec<RecordPosition>, CommitError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        crash::point("unit.produce");
        self.begin()?;
        let until = Instant::now() + self.outbox.transaction_timeout() + END_GRACE;
        let producer = self.outbox.producer()?;
        let send = producer.context().expect(records.len());
        let mut refused = None;
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = enqueue(producer, record, Slot { send, index }, until) {
                refused = Some((index, error));
                break;
            }
        }
        // If the transaction has already failed, all reports arrive at once, after the client's log lines about it.
        let is_cause = refused.is_some_and(|(_, code)| !is_consequence(code));
        let drained = is_cause || drain(producer, until);
        let reports = producer.context().take();
        if let Some((index, code)) = refused {
            return Err(self.undelivered(records, index, code));
        }
        if !drained {
            self.begun = false;
            self.outbox.drop_producer();
            return Err(CommitError::Aborted {
                stage: "send",
                reason: "some records are not acknowledged yet".into(),
            });
        }
        let Some(places) = positions(&reports, records.len()) else {
            let (index, code) = delivery_failure(records, &reports);
            return Err(self.undelivered(records, index, code));
        };
        crash::point("unit.sent");
        Ok(places)
    }

    /// Commits all records sent, together with the `consumed` offsets.
    ///
    /// # Errors
    /// Returns a [`CommitError`] if nothing is committed, or if the outcome of the commit is unknown.
    pub fn commit(mut self, consumed: Option<(&Membership, &Offsets)>) -> Result<(), CommitError> {
        let consumed = consumed.filter(|(_, offsets)| !offsets.is_empty());
        if consumed.is_none() && !self.begun {
            return Ok(());
        }
        if consumed.is_some_and(|(member, offsets)| member.proof(offsets).is_none()) {
            self.abort()?;
            return Err(CommitError::Stale {
                stage: "offsets",
                reason: "a partition is no longer assigned to this member".into(),
            });
        }
        match self.outbox.delivery() {
            Delivery::AtLeastOnce => self.commit_offsets(consumed),
            Delivery::ExactlyOnce { .. } => self.commit_transaction(consumed),
        }
    }

    fn begin(&mut self) -> Result<(), CommitError> {
        if self.begun {
            return Ok(());
        }
        self.outbox.ensure_producer()?;
        self.since = Instant::now();
        if matches!(self.outbox.delivery(), Delivery::ExactlyOnce { .. }) {
            let begun = self.outbox.producer()?.begin_transaction();
            begun.map_err(|error| self.failed("begin", &error))?;
        }
        self.begun = true;
        Ok(())
    }

    fn commit_offsets(&mut self, consumed: Option<(&Membership, &Offsets)>) -> Result<(), CommitError> {
        self.begun = false;
        let Some((member, offsets)) = consumed else {
            return Ok(());
        };
        let until = Instant::now() + self.outbox.transaction_timeout();
        retry(until, || member.commit(offsets)).map_err(|error| {
            let (stage, reason) = ("offsets", error.to_string());
            match () {
                () if stale(&error) => CommitError::Stale { stage, reason },
                () if denied(&error) => CommitError::Denied { stage, reason },
                () => CommitError::Aborted { stage, reason },
            }
        })
    }

    fn commit_transaction(&mut self, consumed: Option<(&Membership, &Offsets)>) -> Result<(), CommitError> {
        self.begin()?;
        let until = Instant::now() + self.outbox.transaction_timeout() + END_GRACE;
        if let Some((member, offsets)) = consumed {
            let list = offsets.to_list();
            let producer = self.outbox.producer()?;
            // The proof of membership is taken again for each attempt: one of an old generation would be refused, or worse.
            let sent = retry(until, || match member.proof(offsets) {
                Some(proof) => producer.send_offsets_to_transaction(&list, &proof, left(until)),
                None => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost)),
            });
            sent.map_err(|error| self.failed("offsets", &error))?;
            crash::point("unit.offsets");
        }
        let producer = self.outbox.producer()?;
        let committed =
            crash::during("unit.commit", || retry(until, || producer.commit_transaction(left(until))));
        let Err(error) = committed else {
            self.begun = false;
            crash::point("unit.committed");
            return Ok(());
        };
        match classify(&error) {
            Class::Fenced | Class::Abort => Err(self.failed("commit", &error)),
            Class::Retry | Class::Unusable => {
                self.begun = false;
                self.outbox.drop_producer();
                Err(CommitError::Indefinite { reason: error.to_string() })
            }
        }
    }

    /// Aborts the transaction or drops the producer, as the error of a step before the commit requires.
    fn failed(&mut self, stage: &'static str, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        let aborted = match classify(error) {
            Class::Fenced => return self.fenced(stage, error),
            Class::Abort => self.abort(),
            Class::Retry | Class::Unusable => {
                self.begun = false;
                self.outbox.drop_producer();
                Ok(())
            }
        };
        match aborted {
            Err(fenced) => fenced,
            Ok(()) if stale(error) => CommitError::Stale { stage, reason },
            Ok(()) if denied(error) => CommitError::Denied { stage, reason },
            Ok(()) => CommitError::Aborted { stage, reason },
        }
    }

    /// Handles an error that says the transaction no longer exists. If it was open for longer than its time-out, the
    /// brokers have aborted it; otherwise another instance has taken the transactional id.
    fn fenced(&mut self, stage: &'static str, error: &KafkaError) -> CommitError {
        self.begun = false;
        if self.since.elapsed() < self.outbox.transaction_timeout() {
            return self.outbox.fence(error);
        }
        self.outbox.drop_producer();
        CommitError::Outlived { stage, reason: error.to_string() }
    }

    /// Aborts the transaction because one of its records was not delivered, and returns the cause.
    fn undelivered(&mut self, records: &[Produced], index: usize, code: RDKafkaErrorCode) -> CommitError {
        use RDKafkaErrorCode as Code;
        let cause = if is_consequence(code) { self.pending_error() } else { None };
        let named = self.outbox.producer().map(|producer| producer.context().refused()).unwrap_or_default();
        if let Err(fenced) = self.abort() {
            return fenced;
        }
        let grown = code == RDKafkaErrorCode::UnknownPartition
            && records.get(index).is_some_and(|record| self.has_partition(record));
        // After a refused record the client's sequence numbers have a gap, which makes the next transaction fail.
        self.outbox.drop_producer();
        let topic = records.get(index).map_or_else(|| "".into(), |record| Arc::clone(&record.topic));
        let stage = "send";
        let denial = cause.as_ref().filter(|error| denied(error)).and_then(KafkaError::rdkafka_error_code);
        let reason = cause.map_or_else(|| format!("{topic}: {code}"), |error| error.to_string());
        match denial.unwrap_or(code) {
            Code::MessageSizeTooLarge => {
                CommitError::TooLarge { index, bytes: records.get(index).map_or(0, Produced::size), topic }
            }
            Code::UnknownPartition if grown => {
                let reason = format!("{topic} has new partitions that this producer did not know yet");
                CommitError::Aborted { stage, reason }
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                CommitError::MissingTopic { topic }
            }
            Code::TopicAuthorizationFailed => {
                let one = records.get(index..=index).filter(|_| denial.is_none());
                let right = missing_right(&named, one.unwrap_or(records));
                CommitError::Denied { stage, reason: format!("{reason}; {right}") }
            }
            Code::ClusterAuthorizationFailed | Code::TransactionalIdAuthorizationFailed => {
                CommitError::Denied { stage, reason }
            }
            _ => CommitError::Aborted { stage, reason },
        }
    }

    /// Returns the error for which the open transaction has failed. The client reports it when another transaction is to
    /// begin, and begins none.
    fn pending_error(&self) -> Option<KafkaError> {
        match self.outbox.delivery() {
            Delivery::ExactlyOnce { .. } if self.begun => {
                self.outbox.producer().ok()?.begin_transaction().err()
            }
            _ => None,
        }
    }

    /// Returns `true` if the partition of a record exists by now.
    fn has_partition(&self, record: &Produced) -> bool {
        let Ok(producer) = self.outbox.producer() else { return false };
        let count = topics::count(producer.client(), &record.topic, END_GRACE);
        count.is_ok_and(|count| record.partition.is_some_and(|partition| partition < count))
    }

    /// Aborts the open transaction. If that fails, the producer is dropped, which has the same effect.
    ///
    /// # Errors
    /// Returns [`CommitError::Fenced`] or [`CommitError::Outlived`] only.
    fn abort(&mut self) -> Result<(), CommitError> {
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        let Ok(producer) = self.outbox.producer() else {
            return Ok(());
        };
        if *self.outbox.delivery() == Delivery::AtLeastOnce {
            return Ok(());
        }
        let until = Instant::now() + self.outbox.transaction_timeout();
        match retry(until, || producer.abort_transaction(left(until))) {
            Ok(()) => Ok(()),
            Err(error) if classify(&error) == Class::Fenced => Err(self.fenced("abort", &error)),
            Err(_) => {
                self.outbox.drop_producer();
                Ok(())
            }
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.abort() {
            tracing::warn!(target: "kafka", %error, "a transaction was dropped while another instance took over");
        }
    }
}
