//! Consumed and produced records, and offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::panics;

/// The maximum size of an encoded length, in bytes.
const LENGTH_SIZE: usize = 5;
/// The maximum size of a batch with one record, in bytes, without the record's key, value and headers: the batch's own
/// fields, the record's length, attributes, two deltas and three lengths.
const BATCH_OVERHEAD: usize = 61 + LENGTH_SIZE + 1 + 2 * 10 + 3 * LENGTH_SIZE;

/// The name of a topic and the number of a partition.
pub type TopicPartition = (Arc<str>, i32);

/// A record that was consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value, or `None` for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The headers, in order. A header whose name is not UTF-8 has the name `\u{fffd}` and no value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The timestamp, in milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, or `None` for the partition of the key's hash.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value, or `None` for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The timestamp, in milliseconds since the Unix epoch, or `None` for now. A LogAppendTime topic sets its own.
    pub timestamp: Option<i64>,
}

/// The offset of the next record to read of each partition: one past the last record that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(pub BTreeMap<TopicPartition, i64>);

impl Offsets {
    /// Moves a partition's offset forward to `next`. An earlier offset changes nothing.
    pub fn advance(&mut self, partition: TopicPartition, next: i64) {
        let offset = self.0.entry(partition).or_insert(next);
        *offset = next.max(*offset);
    }

    /// Returns `true` if there is no partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.0.len());
        for ((topic, partition), next) in &self.0 {
            // Only negative offsets are refused.
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset((*next).max(0)));
        }
        list
    }
}

impl FromIterator<(TopicPartition, i64)> for Offsets {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, i64)>>(offsets: I) -> Self {
        let mut all = Self::default();
        for (partition, next) in offsets {
            all.advance(partition, next);
        }
        all
    }
}

impl Consumed {
    /// Copies a record of the client. A topic named in `topics` shares its allocation.
    pub(super) fn copy(message: &BorrowedMessage<'_>, topics: &[Arc<str>]) -> Self {
        let name = message.topic();
        let topic = topics.iter().find(|topic| &***topic == name).map_or_else(|| name.into(), Arc::clone);
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(copy_headers).unwrap_or_default(),
            timestamp: message.timestamp().to_millis(),
        }
    }
}

fn copy_headers<H: Headers>(headers: &H) -> Vec<(String, Option<Vec<u8>>)> {
    (0..headers.count())
        .map(|index| {
            // The client panics if a name is not UTF-8. Such a record must not stop its partition.
            panics::contain(|| headers.try_get(index)).ok().flatten().map_or_else(
                || (char::REPLACEMENT_CHARACTER.to_string(), None),
                |header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)),
            )
        })
        .collect()
}

impl Produced {
    pub(super) fn owned_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        Some(
            self.headers
                .iter()
                .fold(empty, |all, (key, value)| all.insert(Header { key, value: value.as_ref() })),
        )
    }

    /// Returns the maximum size of the record in a batch of its own, in bytes, without compression.
    #[must_use]
    pub fn wire_size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| Self::header_wire_size(name, value.as_ref()));
        BATCH_OVERHEAD + of(&self.key) + of(&self.payload) + headers.sum::<usize>()
    }

    /// Returns the maximum size of a header in a batch, in bytes.
    #[must_use]
    pub fn header_wire_size(name: &str, value: Option<&Vec<u8>>) -> usize {
        2 * LENGTH_SIZE + name.len() + value.map_or(0, Vec::len)
    }

    /// Returns the size of key, value and headers together, in bytes.
    pub(super) fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + of(value)).sum();
        of(&self.key) + of(&self.payload) + headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_only_advance() {
        let events: Arc<str> = "events".into();
        let offsets: Offsets =
            [((Arc::clone(&events), 0), 5), ((Arc::clone(&events), 0), 3), ((events.clone(), 1), 9)]
                .into_iter()
                .collect();
        assert_eq!(offsets.0.values().copied().collect::<Vec<_>>(), [5, 9]);
        assert_eq!(offsets.to_list().count(), 2);
    }

    #[test]
    fn headers_survive_both_ways() {
        let headers = vec![
            ("a".to_owned(), Some(b"1".to_vec())),
            ("a".to_owned(), None),
            ("b".to_owned(), Some(vec![])),
        ];
        let produced = Produced {
            topic: "t".into(),
            partition: None,
            key: None,
            payload: None,
            headers: headers.clone(),
            timestamp: None,
        };
        assert_eq!(copy_headers(produced.owned_headers().unwrap().as_borrowed()), headers);
        assert_eq!(produced.size(), 4);
    }
}
