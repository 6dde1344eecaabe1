//! How long what is read has been waiting for its commit.

use std::collections::{BTreeMap, VecDeque};

/// When the records came that are read and not committed, by partition, in the order of their offsets.
#[derive(Debug, Default)]
pub struct RecordAges(BTreeMap<i32, VecDeque<(i64, i64)>>);

impl RecordAges {
    /// A record was read that came at this broker time, in milliseconds since 1970.
    pub fn read(&mut self, partition: i32, offset: i64, came: i64) {
        self.0.entry(partition).or_default().push_back((offset, came));
    }

    /// The partition's records before `next` are committed.
    pub fn committed(&mut self, partition: i32, next: i64) {
        if let Some(waiting) = self.0.get_mut(&partition) {
            while waiting.pop_front_if(|(offset, _)| *offset < next).is_some() {}
        }
    }

    /// The partition has gone, or is read again from its committed offset.
    pub fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// When the partition's first record came that is not committed; none where nothing waits.
    #[must_use]
    pub fn oldest(&self, partition: i32) -> Option<i64> {
        self.0.get(&partition)?.front().map(|(_, came)| *came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_that_is_not_committed() {
        let mut ages = RecordAges::default();
        for (offset, came) in [(3, 100), (5, 200), (6, 300)] {
            ages.read(0, offset, came);
            ages.read(1, offset, came + 1);
        }
        assert_eq!((ages.oldest(0), ages.oldest(1), ages.oldest(2)), (Some(100), Some(101), None));
        ages.committed(0, 5);
        assert_eq!(ages.oldest(0), Some(200));
        ages.committed(0, 7);
        ages.committed(9, 7);
        ages.forget(1);
        assert_eq!((ages.oldest(0), ages.oldest(1)), (None, None));
    }
}
