//! A member of a group: reads what the group gives it, and gives partitions back only when asked between
//! two polls, so that the unit at hand can end first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::Connection;
use super::context::{Change, Member, give, take};
use super::failure::{SourceError, is_retryable};
use super::membership::Membership;
use super::record::{Consumed, TopicPartition};
use super::round_trip::RoundTrip;
use super::topics;

/// How long brokers that are near may take to say where partitions begin.
const LOST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before they are asked again.
const LOST_PAUSE: Duration = Duration::from_secs(10);

/// Where a partition without a committed offset begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record kept.
    Earliest,
    /// At the records to come.
    Latest,
}

/// What a poll met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A record.
    Record(Consumed),
    /// Partitions that are this member's from now on; their records follow.
    Assigned(Vec<TopicPartition>),
    /// Partitions that go at the next poll. Until then they are this member's: end the unit now.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// They are gone already (the session ended): nothing of them can commit any more.
        lost: bool,
    },
    /// Nothing within the time.
    Idle,
}

/// What is known of the brokers and of the way still to go; a second old at most while polled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether any broker is connected, as last heard.
    pub connected: bool,
    /// When one was last known to be. Whoever does not poll hears nothing.
    pub seen: Option<Instant>,
    /// Offsets not yet read, per assigned partition; absent while unknown. Where transactions write, the
    /// marker of the last one counts until a record follows it.
    pub lag: Vec<(TopicPartition, i64)>,
}

/// Records that the brokers deleted before the group had read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Their partition.
    pub partition: TopicPartition,
    /// The offsets from where the group was to where the partition begins now. Markers of transactions are among them.
    pub offsets: Range<i64>,
}

/// A subscribed member of a group. Offsets are committed by an [`Outbox`](super::Outbox) only.
///
/// Poll at least every `max.poll.interval.ms` (five minutes). Waiting a second between polls is fine;
/// before a longer wait [`pause`](Self::pause), and keep polling: a pause drops what was prefetched.
pub struct Source {
    membership: Membership,
    group: String,
    round_trip: RoundTrip,
    start: Start,
    paused: bool,
    /// Told to the caller as revoked; goes at the next poll.
    going: Option<TopicPartitionList>,
    /// The next offset of each assigned partition of which a record was handed out.
    positions: BTreeMap<TopicPartition, i64>,
    /// The client has moved a position, and it is not known yet what was passed over: when the brokers are asked.
    look_at: Option<Instant>,
    /// The positions before that move: records that are read before the brokers answer do not hide what was lost.
    before: BTreeMap<TopicPartition, i64>,
    lost: Vec<Lost>,
    /// Where each partition began when records of it were last found to be lost.
    begins: BTreeMap<TopicPartition, i64>,
}

impl Source {
    /// Joins `group`; the first polls bring the assignment.
    ///
    /// # Errors
    /// Where the settings are refused or the client cannot be made.
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
            .consumer(group)
            .set("auto.offset.reset", reset)
            .set("statistics.interval.ms", "1000")
            .create_with_context(Member::default())
            .map_err(|error| SourceError::of(&error, DOING, &all))?;
        consumer.subscribe(topics).map_err(|error| SourceError::of(&error, DOING, &all))?;
        let membership = Membership::new(consumer, topics);
        Ok(Self {
            membership,
            group: group.to_owned(),
            start,
            paused: false,
            going: None,
            positions: BTreeMap::new(),
            look_at: None,
            before: BTreeMap::new(),
            round_trip: connection.round_trip.clone(),
            lost: Vec::new(),
            begins: BTreeMap::new(),
        })
    }

    /// The next record or rebalance, waiting at most `timeout`. Brokers that are away are no error: the
    /// client connects again by itself and [`health`](Self::health) says so.
    ///
    /// # Errors
    /// Where waiting does not help: a topic is missing, access is denied, the client is broken.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError> {
        self.release()?;
        if let Some(change) = self.consumer().context().change() {
            return self.changed(change);
        }
        let polled = self.consumer().poll(timeout);
        let polled =
            polled.map(|done| done.map(|message| Consumed::copy(&message, self.membership.topics())));
        if self.consumer().context().moved()
            && self.start == Start::Earliest
            && self.look_at.replace(Instant::now()).is_none()
        {
            self.before.clone_from(&self.positions);
        }
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_for_lost();
        }
        match polled {
            Some(Ok(record)) => {
                self.positions.insert((Arc::clone(&record.topic), record.partition), record.offset + 1);
                Ok(Polled::Record(record))
            }
            Some(Err(error)) if ends_by_itself(&error) => Ok(Polled::Idle),
            Some(Err(error)) => {
                let topics = self.membership.topics().join(", ");
                Err(SourceError::in_group(&error, "read", &topics, &self.group))
            }
            None => match self.consumer().context().change() {
                Some(change) => self.changed(change),
                None => Ok(Polled::Idle),
            },
        }
    }

    fn changed(&mut self, change: Change) -> Result<Polled, SourceError> {
        match change {
            Change::Assign(partitions) => {
                take(self.consumer(), &partitions)
                    .map_err(|error| SourceError::of(&error, "take partitions", ""))?;
                // The client remembers of a partition that was here before whether it was paused then.
                self.hold(self.paused)?;
                let partitions = self.membership.named(&partitions);
                self.positions.retain(|known, _| !partitions.contains(known));
                self.before.retain(|known, _| !partitions.contains(known));
                Ok(if partitions.is_empty() { Polled::Idle } else { Polled::Assigned(partitions) })
            }
            Change::Revoke(list) => {
                let partitions = self.membership.named(&list);
                let lost = self.consumer().assignment_lost();
                self.going = Some(list);
                Ok(if partitions.is_empty() { Polled::Idle } else { Polled::Revoked { partitions, lost } })
            }
        }
    }

    /// What the brokers have deleted before the group had read it, since this was last asked.
    #[must_use]
    pub fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// Compares where the group was on each partition with where the partition begins. Tried again after a pause if the
    /// brokers do not answer.
    fn look_for_lost(&mut self) {
        let timeout =
            self.round_trip.request_timeout(LOST_TIMEOUT) + self.round_trip.partitions(self.assigned().len());
        match self.deleted(timeout) {
            Ok(lost) => {
                self.look_at = None;
                for Lost { partition: (topic, partition), offsets } in &lost {
                    tracing::error!(
                        target: "kafka",
                        topic = &**topic,
                        partition,
                        offsets = offsets.end - offsets.start,
                        first = offsets.start,
                        "deleted before the group had read it: keep records longer than the group can be away"
                    );
                    self.begins.insert((Arc::clone(topic), *partition), offsets.end);
                }
                self.lost.extend(lost);
            }
            Err(error) => {
                self.look_at = Some(Instant::now() + LOST_PAUSE);
                tracing::warn!(target: "kafka", %error, "the number of records deleted unread is not known yet");
            }
        }
    }

    fn deleted(&self, timeout: Duration) -> Result<Vec<Lost>, SourceError> {
        const DOING: &str = "ask where a partition begins";
        let until = Instant::now() + timeout;
        let mut lost = Vec::new();
        for (partition, committed) in self.committed(timeout)? {
            let Some(next) = self.before.get(&partition).copied().or(committed) else { continue };
            // What has been found lost already is lost once.
            let next = self.begins.get(&partition).map_or(next, |begins| next.max(*begins));
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let (begins, _) = self
                .consumer()
                .fetch_watermarks(&partition.0, partition.1, left)
                .map_err(|error| SourceError::of(&error, DOING, &partition.0))?;
            if next < begins {
                lost.push(Lost { partition, offsets: next..begins });
            }
        }
        Ok(lost)
    }

    /// Gives back what the last poll told as revoked, without waiting for the next.
    ///
    /// # Errors
    /// Where the client is broken.
    pub fn release(&mut self) -> Result<(), SourceError> {
        match self.going.take() {
            Some(list) => give(self.consumer(), &list)
                .map_err(|error| SourceError::of(&error, "give partitions back", "")),
            None => Ok(()),
        }
    }

    /// The partitions that are this member's, those about to go among them.
    #[must_use]
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.membership.assigned()
    }

    /// How many partitions `topic` has now, whether it is read here or not.
    ///
    /// # Errors
    /// [`SourceError::MissingTopic`] where there is none; else where the brokers do not answer within
    /// `timeout`.
    pub fn partitions_of(&self, topic: &str, timeout: Duration) -> Result<i32, SourceError> {
        topics::count(self.consumer().client(), topic, timeout)
    }

    /// Stops fetching on all partitions, also on those still to come, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// Where the client is broken.
    pub fn pause(&mut self) -> Result<(), SourceError> {
        if self.paused {
            return Ok(());
        }
        self.paused = true;
        self.hold(true)
    }

    /// Fetches again, if it was paused.
    ///
    /// # Errors
    /// Where the client is broken.
    pub fn resume(&mut self) -> Result<(), SourceError> {
        if !self.paused {
            return Ok(());
        }
        self.paused = false;
        self.hold(false)
    }

    fn hold(&self, still: bool) -> Result<(), SourceError> {
        self.consumer()
            .assignment()
            .and_then(|all| if still { self.consumer().pause(&all) } else { self.consumer().resume(&all) })
            .map_err(|error| SourceError::of(&error, "pause or resume", ""))
    }

    /// The committed offsets of this member's partitions; none for those that never committed. Waits for
    /// transactions that are still open on them.
    ///
    /// # Errors
    /// Where the brokers do not answer within `timeout`.
    pub fn committed(&self, timeout: Duration) -> Result<Vec<(TopicPartition, Option<i64>)>, SourceError> {
        let list = self
            .consumer()
            .committed(timeout)
            .map_err(|error| SourceError::of(&error, "ask for committed offsets", ""))?;
        list.elements()
            .iter()
            .map(|one| {
                one.error()
                    .map_err(|error| SourceError::of(&error, "ask for committed offsets", one.topic()))?;
                let offset = match one.offset() {
                    Offset::Offset(next) => Some(next),
                    _ => None,
                };
                Ok((self.membership.name(one.topic(), one.partition()), offset))
            })
            .collect()
    }

    /// Goes back to the committed offsets on every partition: what a unit that failed consumed comes again.
    ///
    /// # Errors
    /// Where the brokers do not answer within `timeout`; the same call can be made again.
    pub fn rewind(&mut self, timeout: Duration) -> Result<(), SourceError> {
        self.release()?;
        let start = match self.start {
            Start::Earliest => Offset::Beginning,
            Start::Latest => Offset::End,
        };
        self.positions.clear();
        let failed = |error: KafkaError| SourceError::of(&error, "go back to committed offsets", "");
        let mut list = TopicPartitionList::new();
        for ((topic, partition), committed) in self.committed(timeout)? {
            let offset = committed.map_or(start, Offset::Offset);
            list.add_partition_offset(&topic, partition, offset).map_err(failed)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        let sought = self.consumer().seek_partitions(list, timeout).map_err(failed)?;
        sought.elements().iter().try_for_each(|one| one.error().map_err(failed))
    }

    /// What is known of the brokers and of the way still to go.
    #[must_use]
    pub fn health(&self) -> Health {
        let gauges = self.consumer().context().gauges();
        let lag = self.assigned().into_iter().filter_map(|partition| {
            let lag = *gauges.lag.get(&(partition.0.to_string(), partition.1))?;
            Some((partition, lag))
        });
        Health { connected: gauges.brokers_up > 0, seen: gauges.seen, lag: lag.collect() }
    }

    /// Leaves the group, so that others get the partitions at once. Waits at most `timeout`: with the
    /// brokers away the client ends on its own thread.
    pub fn close(self, timeout: Duration) {
        let (done, ended) = mpsc::channel();
        let closing = thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(self);
            let _ = done.send(());
        });
        if closing.is_err() || ended.recv_timeout(timeout).is_err() {
            tracing::warn!(target: "kafka", "the group was not left within {timeout:?}: others get the partitions when the session ends");
        }
    }

    /// What an [`Outbox`](super::Outbox) needs to commit for this member.
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
            tracing::warn!(target: "kafka", %error, "partitions were not given back");
        }
    }
}

/// Errors after which the client goes on by itself.
fn ends_by_itself(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded) => {
            tracing::warn!(target: "kafka", "not polled within max.poll.interval.ms: the group has taken the partitions away");
            true
        }
        KafkaError::MessageConsumption(code) => is_retryable(*code),
        _ => false,
    }
}
