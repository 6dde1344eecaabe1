//! A Bloom filter for one block (Bloom 1970). A negative answer is certain.

use super::entry::{BlockEntry, RoundHash};

/// The number of 64-bit words: 12 bits for each entry of a full block. With eight probes one block in 300 is read for
/// nothing.
const WORDS: usize = 48;
/// The number of bits.
const BITS: u32 = 48 * 64;
/// The number of bits that an entry sets.
const PROBES: u32 = 8;

/// The filter of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter([u64; WORDS]);

/// The probes of a round, a + i b, as (word, bit). The leading bits of a hash are the same within a block and are not
/// used.
fn probes(hash: RoundHash) -> impl Iterator<Item = (usize, u64)> {
    let [_, _, _, _, a @ .., b0, b1, b2, b3] = hash.0;
    let (a, b) = (u32::from_be_bytes(a), u32::from_be_bytes([b0, b1, b2, b3]) | 1);
    (0..PROBES).map(move |i| {
        let bit = a.wrapping_add(b.wrapping_mul(i)) % BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

impl Filter {
    /// The size of an encoded filter in bytes.
    pub(super) const SIZE: usize = WORDS * 8;

    pub(super) fn of(entries: &[BlockEntry]) -> Self {
        let mut words = [0; WORDS];
        for (word, bit) in entries.iter().flat_map(|entry| probes(entry.hash)) {
            *words.get_mut(word).expect("a probe is below BITS") |= bit;
        }
        Self(words)
    }

    /// Returns `false` if the round is not in the block.
    pub(super) fn may_hold(&self, hash: RoundHash) -> bool {
        probes(hash).all(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    pub(super) fn put(&self, to: &mut Vec<u8>) {
        self.0.iter().for_each(|word| to.extend_from_slice(&word.to_le_bytes()));
    }

    pub(super) fn read(bytes: [u8; Self::SIZE]) -> Self {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::label::DecisionRef;
    use crate::core::ledger::RoundId;

    fn entry(event: usize) -> BlockEntry {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: event.to_string() };
        BlockEntry { hash: RoundHash::of(&id), round_time: 0, at: DecisionRef { partition: 0, offset: 0 } }
    }

    #[test]
    fn there_are_no_false_negatives_and_few_false_positives() {
        // In a block of a large run the leading bits of all hashes are the same.
        let in_block = |event: usize| {
            let mut entry = entry(event);
            entry.hash.0[0] = 7;
            entry.hash.0[1] = 7;
            entry
        };
        let block: Vec<_> = (0..256).map(in_block).collect();
        let filter = Filter::of(&block);
        assert!(block.iter().all(|entry| filter.may_hold(entry.hash)));
        let wrong = (256..100_256).filter(|event| filter.may_hold(in_block(*event).hash)).count();
        assert!(wrong < 600, "{wrong} of 100000");
    }

    #[test]
    fn it_round_trips() {
        let filter = Filter::of(&[entry(1), entry(2)]);
        let mut bytes = Vec::new();
        filter.put(&mut bytes);
        assert_eq!(Filter::read(*bytes.first_chunk().unwrap()), filter);
    }
}
