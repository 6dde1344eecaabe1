//! A Bloom filter for one block: says for certain that a round is not in it (Bloom 1970).

use super::entry::{Placed, RoundHash};

/// 12 bits for each entry of a full block, eight probes: one block in 300 is read in vain.
const WORDS: usize = 48;
const BITS: u32 = 48 * 64;
const PROBES: u32 = 8;

/// What may be in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter([u64; WORDS]);

/// The probes of a round: a + i b. The leading bits of a hash are alike within a block and are left out.
fn probes(hash: RoundHash) -> impl Iterator<Item = (usize, u64)> {
    let [_, _, _, _, a @ .., b0, b1, b2, b3] = hash.0;
    let (a, b) = (u32::from_be_bytes(a), u32::from_be_bytes([b0, b1, b2, b3]) | 1);
    (0..PROBES).map(move |i| {
        let bit = a.wrapping_add(b.wrapping_mul(i)) % BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

impl Filter {
    /// Bytes that it takes.
    pub(super) const SIZE: usize = WORDS * 8;

    pub(super) fn of(entries: &[Placed]) -> Self {
        let mut words = [0; WORDS];
        for (word, bit) in entries.iter().flat_map(|entry| probes(entry.hash)) {
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
        Self(words)
    }

    /// False: it is not there.
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

    fn placed(event: usize) -> Placed {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: event.to_string() };
        Placed { hash: RoundHash::of(&id), round_time: 0, at: DecisionRef { partition: 0, offset: 0 } }
    }

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_nearly_always() {
        // A block of a large run: hashes whose leading bits are alike.
        let alike = |event: usize| {
            let mut placed = placed(event);
            placed.hash.0[0] = 7;
            placed.hash.0[1] = 7;
            placed
        };
        let block: Vec<_> = (0..256).map(alike).collect();
        let filter = Filter::of(&block);
        assert!(block.iter().all(|entry| filter.may_hold(entry.hash)));
        let wrong = (256..100_256).filter(|event| filter.may_hold(alike(*event).hash)).count();
        assert!(wrong < 600, "{wrong} of 100000");
    }

    #[test]
    fn it_comes_back() {
        let filter = Filter::of(&[placed(1), placed(2)]);
        let mut bytes = Vec::new();
        filter.put(&mut bytes);
        assert_eq!(Filter::read(*bytes.first_chunk().unwrap()), filter);
    }
}
