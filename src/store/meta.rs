//! The meta record: the offsets that the store reflects, and the tallies of its records.

use std::collections::BTreeMap;

use super::bytes::{ByteReader, put_signed, put_varint};
use super::error::{StoreError, corrupt};
use super::record::Tally;

/// The id that the brokers gave a topic when it was created.
pub type TopicId = [u8; 16];

/// The ids of the topics that the store was filled from. A topic that is deleted and created again has another id. An id
/// is `None` if the brokers do not provide ids, or if the store was written before they were noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicIds {
    /// The ledger topic.
    pub ledger: Option<TopicId>,
    /// The decisions topic.
    pub decisions: Option<TopicId>,
    /// The labels topic.
    pub labels: Option<TopicId>,
}

impl TopicIds {
    fn pack(&self, bytes: &mut Vec<u8>) {
        for id in [self.ledger, self.decisions, self.labels] {
            bytes.push(u8::from(id.is_some()));
            bytes.extend_from_slice(&id.unwrap_or_default());
        }
    }

    fn read(reader: &mut ByteReader<'_>) -> Option<Self> {
        let mut next = || {
            let known = reader.byte()? == 1;
            let id = reader.array()?;
            Some(known.then_some(id))
        };
        Some(Self { ledger: next()?, decisions: next()?, labels: next()? })
    }
}

/// The meta record. It is changed in the same transaction as the records that it describes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Meta {
    /// The offset of the ledger topic before which the store reflects it.
    pub(super) ledger_offset: Option<i64>,
    /// The offset of each partition of the decisions topic before which the store reflects it.
    pub(super) decisions: BTreeMap<i32, i64>,
    /// The id of the next segment or run.
    pub(super) next: u64,
    /// The tally of the loose ledger records.
    pub(super) ledger: Tally,
    /// The tally of the records of the catalogue.
    pub(super) catalogue: Tally,
    /// The tally of the chunks.
    pub(super) chunks: Tally,
    /// The number of records in chunks.
    pub(super) chunked: u64,
    /// The number of the next chunk.
    pub(super) next_chunk: u64,
    /// The reader of the decisions that the index has passed; zero if there was none.
    pub(super) reader: u64,
    /// The offset of the first decision of each partition that this reader could not decode and the index has passed.
    pub(super) skipped: BTreeMap<i32, i64>,
    /// `true` if the store was written by a version that did not note the decisions that it could not decode.
    pub(super) unsure: bool,
    /// The ids of the topics that the store was filled from.
    pub(super) topic_ids: TopicIds,
}

impl Meta {
    /// The record's key.
    pub(super) const KEY: &'static [u8] = b"meta";

    pub(super) fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.decisions.len() * 8);
        bytes.push(u8::from(self.ledger_offset.is_some()));
        put_signed(&mut bytes, self.ledger_offset.unwrap_or(0));
        put_varint(&mut bytes, self.next);
        for tally in [self.ledger, self.catalogue] {
            put_varint(&mut bytes, tally.count);
            bytes.extend_from_slice(&tally.sum.to_le_bytes());
        }
        put_varint(&mut bytes, self.decisions.len() as u64);
        for (partition, offset) in &self.decisions {
            put_signed(&mut bytes, i64::from(*partition));
            put_signed(&mut bytes, *offset);
        }
        put_varint(&mut bytes, self.chunks.count);
        bytes.extend_from_slice(&self.chunks.sum.to_le_bytes());
        put_varint(&mut bytes, self.chunked);
        put_varint(&mut bytes, self.next_chunk);
        bytes.extend_from_slice(&self.reader.to_le_bytes());
        bytes.push(u8::from(self.unsure));
        put_varint(&mut bytes, self.skipped.len() as u64);
        for (partition, offset) in &self.skipped {
            put_signed(&mut bytes, i64::from(*partition));
            put_signed(&mut bytes, *offset);
        }
        self.topic_ids.pack(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader(bytes);
        let known = reader.byte()? == 1;
        let offset = reader.signed()?;
        let next = reader.varint()?;
        let tally = |reader: &mut ByteReader<'_>| {
            Some(Tally { count: reader.varint()?, sum: u64::from_le_bytes(reader.array()?) })
        };
        let (ledger, catalogue) = (tally(&mut reader)?, tally(&mut reader)?);
        let positions = |reader: &mut ByteReader<'_>| {
            let count = reader.count(2)?;
            let position = |_| Some((i32::try_from(reader.signed()?).ok()?, reader.signed()?));
            (0..count).map(position).collect::<Option<BTreeMap<i32, i64>>>()
        };
        let decisions = positions(&mut reader)?;
        let unsure = !decisions.is_empty();
        let before = Self {
            ledger_offset: known.then_some(offset),
            decisions,
            next,
            ledger,
            catalogue,
            unsure,
            ..Self::default()
        };
        // The first version had no chunks.
        if reader.is_empty() {
            return Some(before);
        }
        let chunks = tally(&mut reader)?;
        let (chunked, next_chunk) = (reader.varint()?, reader.varint()?);
        let before = Self { chunks, chunked, next_chunk, ..before };
        // The second version noted neither the decisions that it could not decode nor the ids of the topics.
        if reader.is_empty() {
            return Some(before);
        }
        let (by, unsure) = (u64::from_le_bytes(reader.array()?), reader.byte()? == 1);
        let (skipped, topic_ids) = (positions(&mut reader)?, TopicIds::read(&mut reader)?);
        reader.is_empty().then_some(Self { reader: by, unsure, skipped, topic_ids, ..before })
    }

    pub(super) fn unpack(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::read(bytes).ok_or_else(|| corrupt("the meta record cannot be decoded"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        for ledger_offset in [None, Some(0), Some(i64::MAX)] {
            let meta = Meta {
                ledger_offset,
                decisions: BTreeMap::from([(0, 5), (7, i64::MAX)]),
                next: 3,
                ledger: Tally { count: 1, sum: u64::MAX },
                catalogue: Tally { count: 2, sum: 9 },
                chunks: Tally { count: 3, sum: 10 },
                chunked: 300,
                next_chunk: 4,
                reader: u64::MAX,
                skipped: BTreeMap::from([(2, 17)]),
                unsure: true,
                topic_ids: TopicIds { ledger: Some([7; 16]), decisions: None, labels: Some([9; 16]) },
            };
            assert_eq!(Meta::unpack(&meta.pack()).ok(), Some(meta));
        }
        assert!(Meta::unpack(b"").is_err());
        // The encoding of the second version.
        let meta = Meta { chunked: 3, next_chunk: 1, ..Meta::default() };
        let packed = meta.pack();
        let earlier = packed.strip_suffix(&[0; 61]).unwrap();
        assert_eq!(Meta::unpack(earlier).ok(), Some(meta));
    }
}
