//! How far learning has come, for a driver in the same process.

use std::sync::{Mutex, PoisonError};

use crate::kafka::Offsets;

/// How far this process has come.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// The committed offset of each partition of labels.
    labels: Offsets,
    /// Decisions read, and their units committed.
    decisions: usize,
}

impl Progress {
    pub(super) fn note(&self, offsets: &Offsets) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, next) in &offsets.0 {
            taken.labels.advance(partition.clone(), *next);
        }
    }

    pub(super) fn note_decisions(&self, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).decisions += count;
    }

    /// The sum of the committed offsets over all partitions of labels.
    #[must_use]
    pub fn labels(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).labels.0.values().sum()
    }

    /// Decisions indexed, with what waited for them joined.
    #[must_use]
    pub fn decisions(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).decisions
    }
}
