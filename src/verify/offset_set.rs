//! A set of offsets with one bit each, so that hundreds of millions of offsets fit into memory.

use std::collections::BTreeMap;
use std::ops::Range;

/// The number of words of a chunk.
const WORDS: usize = 512;
/// The number of offsets of a chunk.
const CHUNK_OFFSETS: i64 = 64 * WORDS as i64;

type Chunk = [u64; WORDS];

/// A set of offsets that are not negative.
#[derive(Debug, Default)]
pub struct OffsetSet(BTreeMap<i64, Box<Chunk>>);

/// The number of the chunk, the index of the word in it, and the bit in the word.
fn place(offset: i64) -> (i64, usize, u64) {
    let inside = usize::try_from(offset.rem_euclid(CHUNK_OFFSETS)).expect("a remainder is not negative");
    (offset.div_euclid(CHUNK_OFFSETS), inside / 64, 1 << (inside % 64))
}

impl OffsetSet {
    /// Adds an offset. Returns `false` if the set has it already.
    pub fn add(&mut self, offset: i64) -> bool {
        let (chunk, word, bit) = place(offset);
        let chunk = self.0.entry(chunk).or_insert_with(|| Box::new([0; WORDS]));
        let word = chunk.get_mut(word).expect("a word is within its chunk");
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Returns `true` if the set has the offset.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let (chunk, word, bit) = place(offset);
        self.0.get(&chunk).and_then(|chunk| chunk.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// The runs of offsets within `range` that are not in the set, in order.
    pub fn gaps(&self, range: Range<i64>) -> impl Iterator<Item = Range<i64>> + '_ {
        let here = self.0.range(range.start.div_euclid(CHUNK_OFFSETS)..).flat_map(|(number, chunk)| {
            (0_i64..).zip(chunk.iter()).flat_map(move |(at, word)| {
                let first = number * CHUNK_OFFSETS + at * 64;
                (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
            })
        });
        let within = range.clone();
        let here = here.skip_while(move |offset| *offset < within.start);
        let here = here.take_while(move |offset| *offset < within.end).chain([range.end]);
        let runs = here.scan(range.start, |next, offset| {
            let run = *next..offset;
            *next = offset + 1;
            Some(run)
        });
        runs.filter(|run| !run.is_empty())
    }

    /// The least offset in the set.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        let (number, chunk) = self.0.first_key_value()?;
        let (at, word) = (0_i64..).zip(chunk.iter()).find(|(_, word)| **word != 0)?;
        Some(number * CHUNK_OFFSETS + at * 64 + i64::from(word.trailing_zeros()))
    }

    /// The offsets of the set that are not in `others`, in order.
    pub fn without<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = i64> + 'a {
        self.0.iter().flat_map(move |(number, chunk)| {
            let other = others.0.get(number);
            (0_i64..).zip(chunk.iter().enumerate()).flat_map(move |(at, (index, word))| {
                let taken = other.and_then(|other| other.get(index)).copied().unwrap_or(0);
                let left = word & !taken;
                let first = number * CHUNK_OFFSETS + at * 64;
                (0..64).filter(move |bit| left >> bit & 1 == 1).map(move |bit| first + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_btree_set(
            here in proptest::collection::vec(0_i64..200_000, 0..300),
            there in proptest::collection::vec(0_i64..200_000, 0..300),
        ) {
            let (mut set, mut model) = (OffsetSet::default(), BTreeSet::new());
            for offset in &here {
                prop_assert_eq!(set.add(*offset), model.insert(*offset));
            }
            let (mut others, mut taken) = (OffsetSet::default(), BTreeSet::new());
            for offset in there.iter().chain(here.iter().step_by(2)) {
                others.add(*offset);
                taken.insert(*offset);
            }
            prop_assert!(here.iter().all(|offset| set.contains(*offset)));
            prop_assert!(!set.contains(200_001));
            let left: Vec<i64> = set.without(&others).collect();
            let expected: Vec<i64> = model.difference(&taken).copied().collect();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(set.first(), model.first().copied());
            let range = 30_000_i64..40_000;
            let absent: BTreeSet<i64> = range.clone().filter(|offset| !model.contains(offset)).collect();
            let runs: Vec<Range<i64>> = set.gaps(range).collect();
            prop_assert!(runs.is_sorted_by(|a, b| a.end < b.start), "each run is as long as it can be");
            prop_assert_eq!(runs.into_iter().flatten().collect::<BTreeSet<i64>>(), absent);
        }
    }
}
