//! What an outbox needs of a member of a group: proof that it may commit. It can be had on another thread than the one
//! that polls, so that one unit commits while the next is read.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Member;
use super::record::{Offsets, TopicPartition};

/// A member of a group, as those see it who commit for it. While a unit commits, its [`Source`](super::Source) may be
/// polled, but what is told there as revoked must stay until the unit has ended. The group is left when the last
/// of these goes.
#[derive(Clone)]
pub struct Membership {
    consumer: Arc<BaseConsumer<Member>>,
    topics: Arc<[Arc<str>]>,
}

impl Membership {
    pub(super) fn new(consumer: BaseConsumer<Member>, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        Self { consumer: Arc::new(consumer), topics }
    }

    pub(super) fn consumer(&self) -> &BaseConsumer<Member> {
        &self.consumer
    }

    /// The names of the topics, each of which all records share.
    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// What proves to the group that this member may commit `offsets`; none where it may not.
    ///
    /// The brokers check the generation only, and not even that where the member has lost its membership
    /// (the proof is then empty, and they take an empty one in a transaction). So: the proof first, then
    /// whether the assignment was lost, which the client knows before it hands out an empty proof; and the
    /// partitions must be this member's in this generation, not in the one that `offsets` come from.
    pub(super) fn proof(&self, offsets: &Offsets) -> Option<ConsumerGroupMetadata> {
        let proof = self.consumer.group_metadata()?;
        let assigned = self.assigned();
        let owned = offsets.0.keys().all(|partition| assigned.contains(partition));
        (owned && !self.consumer.assignment_lost()).then_some(proof)
    }

    /// Commits `offsets` outside any transaction.
    pub(super) fn commit(&self, offsets: &Offsets) -> KafkaResult<()> {
        self.consumer.commit(&offsets.to_list(), CommitMode::Sync)
    }

    /// The partitions that are this member's, those about to go among them.
    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.consumer.assignment().map(|list| self.named(&list)).unwrap_or_default()
    }

    pub(super) fn name(&self, topic: &str, partition: i32) -> TopicPartition {
        let known = self.topics.iter().find(|name| &***name == topic);
        (known.map_or_else(|| topic.into(), Arc::clone), partition)
    }

    pub(super) fn named(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        list.elements().iter().map(|one| self.name(one.topic(), one.partition())).collect()
    }
}
