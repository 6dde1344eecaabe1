//! The part of a consumer that an outbox needs: the proof that this member may commit. It can be used on another thread
//! than the one that polls, so that one transaction commits while the next records are read.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Member;
use super::group_protocol::GroupProtocol;
use super::leave::leave;
use super::record::{Offsets, TopicPartition};

/// A membership of a consumer group. While a transaction commits for it, its [`Source`](super::Source) may be polled, but
/// partitions reported as revoked must not be released before the transaction has ended. The member leaves the group when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Membership {
    member: Arc<GroupMember>,
    topics: Arc<[Arc<str>]>,
}

/// A consumer that leaves its group before it is closed.
struct GroupMember {
    consumer: BaseConsumer<Member>,
    protocol: GroupProtocol,
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        match self.protocol {
            GroupProtocol::Classic => leave(&self.consumer),
            // The close is enough.
            GroupProtocol::Consumer => self.consumer.context().close(),
        }
    }
}

impl Membership {
    pub(super) fn new(consumer: BaseConsumer<Member>, protocol: GroupProtocol, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        Self { member: Arc::new(GroupMember { consumer, protocol }), topics }
    }

    pub(super) fn consumer(&self) -> &BaseConsumer<Member> {
        &self.member.consumer
    }

    /// The names of the subscribed topics. All records of a topic share its name.
    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Returns the proof that this member may commit `offsets`, or `None` if it may not.
    ///
    /// The brokers check only the generation, and not even that if the membership is lost: the proof is then empty, and
    /// they accept an empty proof in a transaction. The proof is therefore taken first, and then checked against the lost
    /// assignment, which the client knows before it returns an empty proof. The partitions must be assigned in the current
    /// generation, not in the one in which `offsets` were consumed.
    pub(super) fn proof(&self, offsets: &Offsets) -> Option<ConsumerGroupMetadata> {
        let proof = self.consumer().group_metadata()?;
        let assigned = self.assigned();
        let owned = offsets.0.keys().all(|partition| assigned.contains(partition));
        (owned && !self.consumer().assignment_lost()).then_some(proof)
    }

    /// Commits `offsets` outside any transaction.
    pub(super) fn commit(&self, offsets: &Offsets) -> KafkaResult<()> {
        self.consumer().commit(&offsets.to_list(), CommitMode::Sync)
    }

    /// The assigned partitions, including those that are about to be released.
    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.consumer().assignment().map(|list| self.named(&list)).unwrap_or_default()
    }

    pub(super) fn name(&self, topic: &str, partition: i32) -> TopicPartition {
        let known = self.topics.iter().find(|name| &***name == topic);
        (known.map_or_else(|| topic.into(), Arc::clone), partition)
    }

    pub(super) fn named(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        list.elements().iter().map(|one| self.name(one.topic(), one.partition())).collect()
    }
}
