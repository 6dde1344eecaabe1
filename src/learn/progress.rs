//! The progress of learning, for a driver in the same process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kafka::Offsets;

/// The progress of this process.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The committed offset of each partition of labels.
    labels: Offsets,
    /// The number of decisions that were read and whose batches are committed.
    decisions: usize,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_offsets(&self, offsets: &Offsets) {
        let mut counts = self.lock();
        for (partition, next) in &offsets.0 {
            counts.labels.advance(partition.clone(), *next);
        }
    }

    pub(super) fn add_decisions(&self, count: usize) {
        self.lock().decisions += count;
    }

    /// The sum of the committed offsets over all partitions of labels.
    #[must_use]
    pub fn labels(&self) -> i64 {
        self.lock().labels.0.values().sum()
    }

    /// The number of decisions indexed. Labels that waited for these decisions have been joined.
    #[must_use]
    pub fn decisions(&self) -> usize {
        self.lock().decisions
    }
}
