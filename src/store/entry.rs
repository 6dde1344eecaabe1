//! The entries of the index of decisions, and blocks of sorted entries.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::bytes::{ByteReader, put_signed, put_varint};
use super::error::{StoreError, corrupt};
use crate::core::event::Millis;
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundId;

/// The number of milliseconds of a day.
pub const DAY: Millis = 86_400_000;
/// The greatest number of decisions of one round in the index: the lowest by (round time, partition, offset), the
/// first of which gives the round its votes. An event that is sent a million times does not fill the index.
pub const MAX_PER_ROUND: usize = 16;

const HASH_BYTES: usize = 12;
/// The least number of bytes that an entry takes in a block.
const MIN_ENTRY_BYTES: usize = HASH_BYTES + 3;

/// The first 96 bits of SHA-256 over (tenant, policy, event id). The probability that two of 10^7 events have the same
/// hash is 10^-15, so that callers must compare the ids of the decisions that they find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RoundHash(pub(super) [u8; HASH_BYTES]);

impl std::fmt::Debug for RoundHash {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

impl RoundHash {
    pub(super) fn of(id: &RoundId) -> Self {
        let mut sha = Sha256::new();
        for part in [&id.tenant, &id.policy, &id.event] {
            sha.update((part.len() as u64).to_le_bytes());
            sha.update(part);
        }
        let digest: [u8; 32] = sha.finalize().into();
        Self(*digest.first_chunk().expect("a digest has 32 bytes"))
    }

    /// The leading 64 bits, which order as the hash does.
    pub(super) fn lead(self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("a hash has 12 bytes"))
    }
}

/// The place of a decision, for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    pub(super) hash: RoundHash,
    /// The decision's round time, in milliseconds since the epoch.
    pub round_time: Millis,
    /// The partition and offset of the decision.
    pub at: DecisionRef,
    /// The decision's broker timestamp, by which old entries are removed: producers cannot set it.
    pub written: Millis,
}

impl IndexEntry {
    /// The entry of the decision about `id` at `at`, written at `written` by the broker's clock.
    #[must_use]
    pub fn new(id: &RoundId, round_time: Millis, at: DecisionRef, written: Millis) -> Self {
        Self { hash: RoundHash::of(id), round_time, at, written }
    }

    pub(super) fn day(&self) -> Day {
        day_of(self.written)
    }

    pub(super) fn block_entry(&self) -> BlockEntry {
        BlockEntry { hash: self.hash, round_time: self.round_time, at: self.at }
    }
}

/// A number of days since the epoch.
pub(super) type Day = u32;

/// The day of a time; times before the epoch belong to its first day.
pub(super) fn day_of(time: Millis) -> Day {
    u32::try_from(time.max(0) / DAY).unwrap_or(u32::MAX)
}

/// An entry within its day. The order is that of blocks: by hash, then as a round selects its votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockEntry {
    pub(super) hash: RoundHash,
    pub(super) round_time: Millis,
    pub(super) at: DecisionRef,
}

impl BlockEntry {
    fn order(&self) -> (RoundHash, Millis, DecisionRef) {
        (self.hash, self.round_time, self.at)
    }
}

impl PartialOrd for BlockEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BlockEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// Sorts the entries, removes duplicates, and keeps [`MAX_PER_ROUND`] of each round.
pub(super) fn normalize(entries: &mut Vec<BlockEntry>) {
    entries.sort(); // stable, and linear for concatenated sorted runs
    entries.dedup();
    let mut last: Option<(RoundHash, usize)> = None;
    entries.retain(|entry| {
        let seen = match last {
            Some((hash, seen)) if hash == entry.hash => seen + 1,
            _ => 1,
        };
        last = Some((entry.hash, seen));
        seen <= MAX_PER_ROUND
    });
}

/// Packs entries: their number, the least time and offset, then hash, time, partition and offset of each. Times and
/// offsets are differences to the least ones, and have variable length.
pub(super) fn pack(entries: &[BlockEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + entries.len() * (MIN_ENTRY_BYTES + 6));
    put_varint(&mut bytes, entries.len() as u64);
    let time = entries.iter().map(|entry| entry.round_time).min().unwrap_or(0);
    let offset = entries.iter().map(|entry| entry.at.offset).min().unwrap_or(0);
    put_signed(&mut bytes, time);
    put_signed(&mut bytes, offset);
    for entry in entries {
        bytes.extend_from_slice(&entry.hash.0);
        // Wrapping, since the difference of any two i64 fits into u64.
        put_varint(&mut bytes, entry.round_time.wrapping_sub(time).cast_unsigned());
        put_signed(&mut bytes, i64::from(entry.at.partition));
        put_varint(&mut bytes, entry.at.offset.wrapping_sub(offset).cast_unsigned());
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<Vec<BlockEntry>> {
    let mut reader = ByteReader(bytes);
    let count = reader.count(MIN_ENTRY_BYTES)?;
    let time = reader.signed()?;
    let offset = reader.signed()?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let hash = RoundHash(reader.array()?);
        let round_time = time.wrapping_add(reader.varint()?.cast_signed());
        let partition = i32::try_from(reader.signed()?).ok()?;
        let offset = offset.wrapping_add(reader.varint()?.cast_signed());
        entries.push(BlockEntry { hash, round_time, at: DecisionRef { partition, offset } });
    }
    reader.is_empty().then_some(entries)
}

/// Unpacks the entries of a block that [`pack`] has made.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<BlockEntry>, StoreError> {
    read(bytes).ok_or_else(|| corrupt("a block of the index cannot be decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn placed()(hash in 0u8..6, round_time in prop_oneof![any::<i64>(), 0i64..9], partition in any::<i32>(),
                    offset in prop_oneof![any::<i64>(), 0i64..9]) -> BlockEntry {
            BlockEntry { hash: RoundHash([hash; HASH_BYTES]), round_time, at: DecisionRef { partition, offset } }
        }
    }

    proptest! {
        #[test]
        fn blocks_round_trip(entries in proptest::collection::vec(placed(), 0..60)) {
            prop_assert_eq!(unpack(&pack(&entries)).ok(), Some(entries));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = unpack(&bytes);
        }

        #[test]
        fn normalize_is_idempotent(mut entries in proptest::collection::vec(placed(), 0..200)) {
            normalize(&mut entries);
            prop_assert!(entries.is_sorted());
            let once = entries.clone();
            entries.extend_from_slice(&once);
            normalize(&mut entries);
            prop_assert_eq!(entries, once);
        }
    }

    #[test]
    fn the_parts_of_a_round_are_hashed_apart() {
        let id = |tenant: &str, policy: &str, event: &str| {
            RoundHash::of(&RoundId { tenant: tenant.into(), policy: policy.into(), event: event.into() })
        };
        assert_ne!(id("a", "bc", "d"), id("ab", "c", "d"));
        assert_eq!(id("a", "b", "c").lead(), u64::from_be_bytes(*id("a", "b", "c").0.first_chunk().unwrap()));
    }

    #[test]
    fn days() {
        assert_eq!([-1, 0, DAY - 1, DAY, i64::MIN, i64::MAX].map(day_of), [0, 0, 0, 1, 0, u32::MAX]);
    }
}
