//! One unit of work, step by step; the table of what follows each error is in [`outbox`](super::outbox).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use super::delivery_failure::{delivery_failure, missing_right, second_hand};
use super::failure::{Class, CommitError, again, class, denied, left, stale};
use super::membership::Membership;
use super::outbox::{Delivery, Outbox};
use super::record::{Offsets, Produced};
use super::reports::{RecordPosition, Slot, drain, enqueue};
use super::topics;
use crate::crash;

/// Beyond the time-out of a transaction, how long its end is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// A unit of work. Dropped without a commit it is aborted.
pub struct Transaction<'a> {
    outbox: &'a mut Outbox,
    begun: bool,
    /// When its transaction began, before the brokers counted its time.
    since: Instant,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(outbox: &'a mut Outbox) -> Self {
        Self { outbox, begun: false, since: Instant::now() }
    }

    /// Sends records and waits until all are acknowledged: they are in their topics, and within a
    /// transaction invisible until the commit. Returns where each went, in order.
    ///
    /// # Errors
    /// See [`CommitError`]. The unit is over then: drop it.
    pub fn send(&mut self, records: &[Produced]) -> Result<Vec<RecordPosition>, CommitError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        crash::point("unit.produce");
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
        // Where the transaction is spoiled all reports come at once, behind what the client's log has to say of it.
        let first_hand = refused.is_some_and(|(_, code)| !second_hand(code));
        let drained = first_hand || drain(producer, until);
        let reports = producer.context().take();
        if let Some((index, code)) = refused {
            return Err(self.undelivered(records, index, code));
        }
        if !drained {
            self.begun = false;
            self.outbox.drop_producer();
            return Err(CommitError::Aborted {
                stage: "send",
                reason: "records are still on their way".into(),
            });
        }
        match reports.iter().copied().map(Option::transpose).collect() {
            Ok(Some(places)) => {
                crash::point("unit.sent");
                Ok(places)
            }
            _ => {
                let (index, code) = delivery_failure(records, &reports);
                Err(self.undelivered(records, index, code))
            }
        }
    }

    /// Ends the unit: with the offsets that `consumed` names it counts, all of it.
    ///
    /// # Errors
    /// See [`CommitError`]: the unit does not count, or nobody knows.
    pub fn commit(mut self, consumed: Option<(&Membership, &Offsets)>) -> Result<(), CommitError> {
        let consumed = consumed.filter(|(_, offsets)| !offsets.is_empty());
        if consumed.is_none() && !self.begun {
            return Ok(());
        }
        if consumed.is_some_and(|(member, offsets)| member.proof(offsets).is_none()) {
            self.abort()?;
            return Err(CommitError::Stale {
                stage: "offsets",
                reason: "a partition is no longer this member's".into(),
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
        self.outbox.ready()?;
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
        let until = Instant::now() + self.outbox.patience();
        again(until, || member.commit(offsets)).map_err(|error| {
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
        let until = Instant::now() + self.outbox.patience() + GRACE;
        if let Some((member, offsets)) = consumed {
            let list = offsets.to_list();
            let producer = self.outbox.producer()?;
            // The proof of membership is taken afresh: an old generation's would be refused, or worse.
            let sent = again(until, || match member.proof(offsets) {
                Some(proof) => producer.send_offsets_to_transaction(&list, &proof, left(until)),
                None => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost)),
            });
            sent.map_err(|error| self.failed("offsets", &error))?;
            crash::point("unit.offsets");
        }
        let producer = self.outbox.producer()?;
        let committed =
            crash::during("unit.commit", || again(until, || producer.commit_transaction(left(until))));
        let Err(error) = committed else {
            self.begun = false;
            crash::point("unit.committed");
            return Ok(());
        };
        match class(&error) {
            Class::Fenced | Class::Abort => Err(self.failed("commit", &error)),
            Class::Retry | Class::Spent => {
                self.begun = false;
                self.outbox.drop_producer();
                Err(CommitError::Indefinite { reason: error.to_string() })
            }
        }
    }

    /// Does what the error of a step before the commit asks for.
    fn failed(&mut self, stage: &'static str, error: &KafkaError) -> CommitError {
        let reason = error.to_string();
        let aborted = match class(error) {
            Class::Fenced => return self.fenced(stage, error),
            Class::Abort => self.abort(),
            Class::Retry | Class::Spent => {
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

    /// The transaction is gone. One that took too long the brokers give up themselves.
    fn fenced(&mut self, stage: &'static str, error: &KafkaError) -> CommitError {
        self.begun = false;
        if self.since.elapsed() < self.outbox.patience() {
            return self.outbox.fence(error);
        }
        self.outbox.drop_producer();
        CommitError::Outlived { stage, reason: error.to_string() }
    }

    /// Gives the unit up because one of its records was not delivered.
    fn undelivered(&mut self, records: &[Produced], index: usize, code: RDKafkaErrorCode) -> CommitError {
        use RDKafkaErrorCode as Code;
        let spoiled = if second_hand(code) { self.spoiled() } else { None };
        let named = self.outbox.producer().map(|producer| producer.context().refused()).unwrap_or_default();
        if let Err(fenced) = self.abort() {
            return fenced;
        }
        let grown = code == RDKafkaErrorCode::UnknownPartition
            && records.get(index).is_some_and(|record| self.has_partition(record));
        // After a refused record the client's sequence numbers have a gap that spoils the next unit.
        self.outbox.drop_producer();
        let topic = records.get(index).map_or_else(|| "".into(), |record| Arc::clone(&record.topic));
        let stage = "send";
        let denial = spoiled.as_ref().filter(|error| denied(error)).and_then(KafkaError::rdkafka_error_code);
        let reason = spoiled.map_or_else(|| format!("{topic}: {code}"), |error| error.to_string());
        match denial.unwrap_or(code) {
            Code::MessageSizeTooLarge => {
                CommitError::TooLarge { index, bytes: records.get(index).map_or(0, Produced::size), topic }
            }
            Code::UnknownPartition if grown => {
                let reason = format!("{topic} has grown, and this producer did not know it yet");
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

    /// What has spoiled the transaction that is open: the client answers with it where another is to be begun, and
    /// begins none.
    fn spoiled(&self) -> Option<KafkaError> {
        match self.outbox.delivery() {
            Delivery::ExactlyOnce { .. } if self.begun => {
                self.outbox.producer().ok()?.begin_transaction().err()
            }
            _ => None,
        }
    }

    /// Whether the partition that a record is for exists by now.
    fn has_partition(&self, record: &Produced) -> bool {
        let Ok(producer) = self.outbox.producer() else { return false };
        let count = topics::count(producer.client(), &record.topic, GRACE);
        count.is_ok_and(|count| record.partition.is_some_and(|partition| partition < count))
    }

    /// Aborts what is open. Where that fails the producer is made anew, which has the same effect.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] or [`CommitError::Outlived`] only.
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
        let until = Instant::now() + self.outbox.patience();
        match again(until, || producer.abort_transaction(left(until))) {
            Ok(()) => Ok(()),
            Err(error) if class(&error) == Class::Fenced => Err(self.fenced("abort", &error)),
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
            tracing::warn!(target: "kafka", %error, "a unit was left while another instance took over");
        }
    }
}
