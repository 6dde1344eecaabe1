//! Records as they come and as they go.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The most bytes of a length in a record.
const LENGTH: usize = 5;
/// The most bytes of a batch with one record, without the record's key, value and headers: the batch's own fields, the
/// record's length, attributes, two deltas and three lengths.
const BATCH: usize = 61 + LENGTH + 1 + 2 * 10 + 3 * LENGTH;
use crate::panics;

/// A topic's name and a partition's number.
pub type TopicPartition = (Arc<str>, i32);

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Where it came from.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order. One whose name is not UTF-8 is named `\u{fffd}`, without its value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp, in milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// Where it goes.
    pub topic: Arc<str>,
    /// Its partition; none: by the key's hash.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp, in milliseconds since the Unix epoch; none: now. A LogAppendTime topic sets its own.
    pub timestamp: Option<i64>,
}

/// How far partitions are consumed: the offset of the next record to read, one past the last one done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(pub BTreeMap<TopicPartition, i64>);

impl Offsets {
    /// Notes that everything before `next` is done; an earlier offset changes nothing.
    pub fn advance(&mut self, partition: TopicPartition, next: i64) {
        let offset = self.0.entry(partition).or_insert(next);
        *offset = next.max(*offset);
    }

    /// Whether no partition is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.0.len());
        for ((topic, partition), next) in &self.0 {
            // Only offsets that do not exist are refused, and those are not negative here.
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
    /// Copies what librdkafka read; `topics` are the names that share one allocation.
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
            // The client panics on a name that is not UTF-8; such a record must not stop a partition.
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

    /// The most bytes that the record takes in a batch of its own, without compression.
    #[must_use]
    pub fn wire_size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| Self::header_wire_size(name, value.as_ref()));
        BATCH + of(&self.key) + of(&self.payload) + headers.sum::<usize>()
    }

    /// The most bytes that a header takes in a batch.
    #[must_use]
    pub fn header_wire_size(name: &str, value: Option<&Vec<u8>>) -> usize {
        2 * LENGTH + name.len() + value.map_or(0, Vec::len)
    }

    /// Key, value and headers together, in bytes.
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
    fn offsets_only_grow() {
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
