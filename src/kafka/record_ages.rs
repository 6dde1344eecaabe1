//! The broker timestamps of records that were read and are not committed.

use std::collections::{BTreeMap, VecDeque};

/// The offset and broker timestamp of each uncommitted record, by partition and in the order of offsets.
#[derive(Debug, Default)]
pub struct RecordAges(BTreeMap<i32, VecDeque<(i64, i64)>>);

impl RecordAges {
    /// Adds a record that was read, with its broker timestamp in milliseconds since the Unix epoch.
    pub fn read(&mut self, partition: i32, offset: i64, timestamp: i64) {
        self.0.entry(partition).or_default().push_back((offset, timestamp));
    }

    /// Removes the partition's records before `next`: they are committed.
    pub fn committed(&mut self, partition: i32, next: i64) {
        if let Some(waiting) = self.0.get_mut(&partition) {
            while waiting.pop_front_if(|(offset, _)| *offset < next).is_some() {}
        }
    }

    /// Removes a partition that was revoked, or is read again from its committed offset.
    pub fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Returns the broker timestamp of the partition's first uncommitted record, or `None` if there is none.
    #[must_use]
    pub fn oldest(&self, partition: i32) -> Option<i64> {
        self.0.get(&partition)?.front().map(|(_, timestamp)| *timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_is_the_first_uncommitted_one() {
        let mut ages = RecordAges::default();
        for (offset, timestamp) in [(3, 100), (5, 200), (6, 300)] {
            ages.read(0, offset, timestamp);
            ages.read(1, offset, timestamp + 1);
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
