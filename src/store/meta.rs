//! The one record that says what the rest reflects.

use std::collections::BTreeMap;

use super::bytes::{Reader, put_signed, put_varint};
use super::error::{StoreError, corrupt};
use super::record::Tally;

/// The id that the brokers gave a topic when it was made.
pub type TopicId = [u8; 16];

/// The topics that the store was filled from. One that is deleted and made again has another id. `None`: the brokers
/// tell no ids, or the store is older than these.
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

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut next = || {
            let known = reader.byte()? == 1;
            let id = reader.array()?;
            Some(known.then_some(id))
        };
        Some(Self { ledger: next()?, decisions: next()?, labels: next()? })
    }
}

/// What the store reflects, changed in the same transaction as what it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Meta {
    /// The ledger topic up to and without this offset.
    pub(super) ledger_offset: Option<i64>,
    /// The decisions topic up to and without these offsets, by partition.
    pub(super) decisions: BTreeMap<i32, i64>,
    /// The next number of a chunk or run.
    pub(super) next: u64,
    /// Ledger records that are on no shelf.
    pub(super) ledger: Tally,
    /// All records of the catalogue.
    pub(super) catalogue: Tally,
    /// All shelves.
    pub(super) shelves: Tally,
    /// Records on them.
    pub(super) shelved: u64,
    /// The number of the next one.
    pub(super) next_shelf: u64,
    /// The reader of the decisions that the index has passed; zero before the first.
    pub(super) reader: u64,
    /// The first decision of each partition that this reader could not read and the index has passed.
    pub(super) skipped: BTreeMap<i32, i64>,
    /// Whether the store comes from a version that did not note what it passed.
    pub(super) unsure: bool,
    /// The topics that all this comes from.
    pub(super) origins: TopicIds,
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
        put_varint(&mut bytes, self.shelves.count);
        bytes.extend_from_slice(&self.shelves.sum.to_le_bytes());
        put_varint(&mut bytes, self.shelved);
        put_varint(&mut bytes, self.next_shelf);
        bytes.extend_from_slice(&self.reader.to_le_bytes());
        bytes.push(u8::from(self.unsure));
        put_varint(&mut bytes, self.skipped.len() as u64);
        for (partition, offset) in &self.skipped {
            put_signed(&mut bytes, i64::from(*partition));
            put_signed(&mut bytes, *offset);
        }
        self.origins.pack(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let known = reader.byte()? == 1;
        let offset = reader.signed()?;
        let next = reader.varint()?;
        let tally = |reader: &mut Reader<'_>| {
            Some(Tally { count: reader.varint()?, sum: u64::from_le_bytes(reader.array()?) })
        };
        let (ledger, catalogue) = (tally(&mut reader)?, tally(&mut reader)?);
        let places = |reader: &mut Reader<'_>| {
            let count = reader.count(2)?;
            let place = |_| Some((i32::try_from(reader.signed()?).ok()?, reader.signed()?));
            (0..count).map(place).collect::<Option<BTreeMap<i32, i64>>>()
        };
        let decisions = places(&mut reader)?;
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
        // The first stores knew no shelves.
        if reader.is_empty() {
            return Some(before);
        }
        let shelves = tally(&mut reader)?;
        let (shelved, next_shelf) = (reader.varint()?, reader.varint()?);
        let before = Self { shelves, shelved, next_shelf, ..before };
        // The next ones did not note which decisions they had passed, nor which topics they came from.
        if reader.is_empty() {
            return Some(before);
        }
        let (by, unsure) = (u64::from_le_bytes(reader.array()?), reader.byte()? == 1);
        let (skipped, origins) = (places(&mut reader)?, TopicIds::read(&mut reader)?);
        reader.is_empty().then_some(Self { reader: by, unsure, skipped, origins, ..before })
    }

    pub(super) fn unpack(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::read(bytes).ok_or_else(|| corrupt("the meta record cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back() {
        for ledger_offset in [None, Some(0), Some(i64::MAX)] {
            let meta = Meta {
                ledger_offset,
                decisions: BTreeMap::from([(0, 5), (7, i64::MAX)]),
                next: 3,
                ledger: Tally { count: 1, sum: u64::MAX },
                catalogue: Tally { count: 2, sum: 9 },
                shelves: Tally { count: 3, sum: 10 },
                shelved: 300,
                next_shelf: 4,
                reader: u64::MAX,
                skipped: BTreeMap::from([(2, 17)]),
                unsure: true,
                origins: TopicIds { ledger: Some([7; 16]), decisions: None, labels: Some([9; 16]) },
            };
            assert_eq!(Meta::unpack(&meta.pack()).ok(), Some(meta));
        }
        assert!(Meta::unpack(b"").is_err());
        // As it was written before what was skipped was noted, and topics had ids.
        let meta = Meta { shelved: 3, next_shelf: 1, ..Meta::default() };
        let packed = meta.pack();
        let earlier = packed.strip_suffix(&[0; 61]).unwrap();
        assert_eq!(Meta::unpack(earlier).ok(), Some(meta));
    }
}
