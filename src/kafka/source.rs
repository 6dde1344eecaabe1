//! A consumer in a group. It releases revoked partitions only at the next poll, so that the open transaction can end
//! first.

mod committed;
mod lost;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::connection::Connection;
use super::context::{Member, Rebalance, assign, unassign};
use super::failure::{SourceError, is_retryable};
use super::group_protocol::GroupProtocol;
use super::membership::Membership;
use super::record::{Consumed, TopicPartition};
use super::round_trip::RoundTrip;
use super::topics;
use lost::LossSearch;
pub use lost::Lost;

/// The position at which a partition without a committed offset begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record that is kept.
    Earliest,
    /// The first record that is written later.
    Latest,
}

/// The result of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A record.
    Record(Consumed),
    /// Partitions were assigned to this member. Their records follow.
    Assigned(Vec<TopicPartition>),
    /// Partitions were revoked. They belong to this member until the next poll: end the open transaction now.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// `true` if the session has ended. The partitions are released already then, and nothing of them can be committed.
        lost: bool,
    },
    /// There was no record and no rebalance within the time-out.
    Idle,
}

/// The state of the connection, and the lag. It is at most a second old while the source is polled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `true` if a broker was connected at the last report.
    pub connected: bool,
    /// When a broker was last known to be connected. Without polls there are no reports.
    pub seen: Option<Instant>,
    /// The number of unread offsets of each assigned partition for which it is known. If transactions write to the topic,
    /// the marker of the last one counts until a record follows it.
    pub lag: Vec<(TopicPartition, i64)>,
}

/// A subscribed consumer. Its offsets are committed by an [`Outbox`](super::Outbox) only.
///
/// It must be polled at least every `max.poll.interval.ms` (five minutes). Waiting for a second between polls is fine. For
/// a longer wait call [`pause`](Self::pause) and keep polling; a pause discards prefetched records.
pub struct Source {
    membership: Membership,
    group: String,
    round_trip: RoundTrip,
    start: Start,
    paused: bool,
    /// Partitions that were reported as revoked, and are released at the next poll.
    revoked: Option<TopicPartitionList>,
    /// The next offset of each assigned partition of which a record was returned.
    positions: BTreeMap<TopicPartition, i64>,
    losses: LossSearch,
}

impl Source {
    /// Joins `group`. The first polls return the assignment.
    ///
    /// # Errors
    /// Returns an error if the settings are refused or the client cannot be created.
    pub fn subscribe(
        connection: &Connection,
        group: &str,
        topics: &[&str],
        start: Start,
    ) -> Result<Self, SourceError> {
        const DOING: &str = "join the group";
        connection.check()?;
        let reset = match start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
        };
        let all = topics.join(", ");
        let consumer: BaseConsumer<Member> = connection
            .member(group)
            .set("auto.offset.reset", reset)
            .set("statistics.interval.ms", "1000")
            .create_with_context(Member::default())
            .map_err(|error| SourceError::of(&error, DOING, &all))?;
        consumer.subscribe(topics).map_err(|error| SourceError::of(&error, DOING, &all))?;
        let membership = Membership::new(consumer, connection.group_protocol, topics);
        Ok(Self {
            membership,
            group: group.to_owned(),
            start,
            paused: false,
            revoked: None,
            positions: BTreeMap::new(),
            losses: LossSearch::default(),
            round_trip: connection.round_trip.clone(),
        })
    }

    /// Returns the next record or rebalance, waiting at most `timeout`. Unreachable brokers are no error: the client
    /// connects again automatically, and [`health`](Self::health) reports it.
    ///
    /// # Errors
    /// Returns an error if a topic is missing, access is denied or the client is broken.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError> {
        self.release()?;
        if let Some(rebalance) = self.consumer().context().next_rebalance() {
            return self.on_rebalance(rebalance);
        }
        let polled = self.consumer().poll(timeout);
        let polled =
            polled.map(|done| done.map(|message| Consumed::copy(&message, self.membership.topics())));
        if self.consumer().context().moved() && self.start == Start::Earliest {
            self.losses.on_moved(&self.positions, polled.as_ref().and_then(|done| done.as_ref().ok()));
        }
        if self.losses.is_due() {
            self.check_lost();
        }
        match polled {
            Some(Ok(record)) => {
                self.positions.insert((Arc::clone(&record.topic), record.partition), record.offset + 1);
                Ok(Polled::Record(record))
            }
            Some(Err(error)) if is_transient(&error) => Ok(Polled::Idle),
            Some(Err(KafkaError::MessageConsumptionFatal(
                RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature,
            ))) => Err(SourceError::GroupProtocol { protocol: GroupProtocol::Consumer.name() }),
            Some(Err(error)) => {
                let topics = self.membership.topics().join(", ");
                Err(SourceError::in_group(&error, "read", &topics, &self.group))
            }
            None => match self.consumer().context().next_rebalance() {
                Some(rebalance) => self.on_rebalance(rebalance),
                None => Ok(Polled::Idle),
            },
        }
    }

    fn on_rebalance(&mut self, rebalance: Rebalance) -> Result<Polled, SourceError> {
        match rebalance {
            Rebalance::Assign(partitions) => {
                assign(self.consumer(), &partitions)
                    .map_err(|error| SourceError::of(&error, "take partitions", ""))?;
                // If a partition was assigned before, the client remembers whether it was paused then.
                self.set_paused(self.paused)?;
                let partitions = self.membership.named(&partitions);
                self.positions.retain(|known, _| !partitions.contains(known));
                self.losses.on_assigned(&partitions);
                Ok(if partitions.is_empty() { Polled::Idle } else { Polled::Assigned(partitions) })
            }
            Rebalance::Revoke(list) => {
                let partitions = self.membership.named(&list);
                let lost = self.consumer().assignment_lost();
                self.revoked = Some(list);
                Ok(if partitions.is_empty() { Polled::Idle } else { Polled::Revoked { partitions, lost } })
            }
        }
    }

    /// Returns the records that were found to be deleted unread since the last call.
    #[must_use]
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.losses.take()
    }

    /// Releases the partitions that the last poll reported as revoked, without another poll.
    ///
    /// # Errors
    /// Returns an error if the client is broken.
    pub fn release(&mut self) -> Result<(), SourceError> {
        match self.revoked.take() {
            Some(list) => unassign(self.consumer(), &list)
                .map_err(|error| SourceError::of(&error, "give partitions back", "")),
            None => Ok(()),
        }
    }

    /// Returns the assigned partitions, including those that are released at the next poll.
    #[must_use]
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.membership.assigned()
    }

    /// Returns the number of partitions of any `topic`.
    ///
    /// # Errors
    /// Returns [`SourceError::MissingTopic`] if there is no such topic, and another error if the brokers do not answer within
    /// `timeout`.
    pub fn partitions_of(&self, topic: &str, timeout: Duration) -> Result<i32, SourceError> {
        topics::count(self.consumer().client(), topic, timeout)
    }

    /// Stops fetching from all partitions, including those assigned later, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// Returns an error if the client is broken.
    pub fn pause(&mut self) -> Result<(), SourceError> {
        if self.paused {
            return Ok(());
        }
        self.paused = true;
        self.set_paused(true)
    }

    /// Fetches again after a [`pause`](Self::pause).
    ///
    /// # Errors
    /// Returns an error if the client is broken.
    pub fn resume(&mut self) -> Result<(), SourceError> {
        if !self.paused {
            return Ok(());
        }
        self.paused = false;
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Result<(), SourceError> {
        self.consumer()
            .assignment()
            .and_then(|all| if paused { self.consumer().pause(&all) } else { self.consumer().resume(&all) })
            .map_err(|error| SourceError::of(&error, "pause or resume", ""))
    }

    /// Returns the state of the connection, and the lag.
    #[must_use]
    pub fn health(&self) -> Health {
        let gauges = self.consumer().context().gauges();
        let lag = self.assigned().into_iter().filter_map(|partition| {
            let lag = *gauges.lag.get(&(partition.0.to_string(), partition.1))?;
            Some((partition, lag))
        });
        Health { connected: gauges.brokers_up > 0, seen: gauges.seen, lag: lag.collect() }
    }

    /// Leaves the group, so that other members get the partitions at once. Waits at most `timeout`: if the brokers cannot be
    /// reached, the client ends on a thread of its own.
    pub fn close(self, timeout: Duration) {
        let (done, ended) = mpsc::channel();
        let closing = thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(self);
            let _ = done.send(());
        });
        if closing.is_err() || ended.recv_timeout(timeout).is_err() {
            tracing::warn!(target: "kafka", "the group was not left within {timeout:?}: other members get the partitions when the session ends");
        }
    }

    /// The membership, with which an [`Outbox`](super::Outbox) commits offsets.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    fn consumer(&self) -> &BaseConsumer<Member> {
        self.membership.consumer()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.consumer().context().close();
        if let Err(error) = self.release() {
            tracing::warn!(target: "kafka", %error, "partitions were not released");
        }
    }
}

/// Returns `true` for errors after which the client continues automatically.
fn is_transient(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded) => {
            tracing::warn!(target: "kafka", "not polled within max.poll.interval.ms: the group has taken the partitions away");
            true
        }
        // A member of the classic protocol cannot join while its group takes the other protocol. The client joins again.
        KafkaError::MessageConsumption(RDKafkaErrorCode::RebalanceInProgress) => true,
        KafkaError::MessageConsumption(code) => is_retryable(*code),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_after_which_the_client_joins_again_are_transient() {
        use RDKafkaErrorCode as Code;
        let transient = |code| is_transient(&KafkaError::MessageConsumption(code));
        assert!(transient(Code::RebalanceInProgress) && transient(Code::PollExceeded));
        assert!(transient(Code::BrokerTransportFailure));
        assert!(!transient(Code::InconsistentGroupProtocol) && !transient(Code::GroupAuthorizationFailed));
    }
}
