//! Commits of the fourth stage: begins them, waits for them, and returns to the committed offsets after one has failed.

use std::time::Duration;

use super::ScorePipeline;
use crate::ops::metrics;
use crate::score::committer::FinishedBatch;
use crate::score::oversized::OUTPUT_TOO_LARGE;
use crate::score::{ROLE, ScoreError, now};

/// The time-out for the committed offsets. Reading them is repeated after it.
const REWIND_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval at which a wait for a commit checks whether batches are aborted.
const COMMIT_CHECK_INTERVAL: Duration = Duration::from_millis(200);

impl ScorePipeline<'_> {
    /// Hands the outcomes that are ready to the committer, unless it is busy.
    pub(super) fn begin_commit(&mut self) {
        if !self.committer.is_busy()
            && let Some(batch) = self.batch.take()
        {
            self.committer.begin(batch);
        }
    }

    /// Reports a batch that was committed. If its commit failed, its records and all records after them are void, and are
    /// read again from the committed offsets.
    ///
    /// # Errors
    /// Returns the batch's error if committing again cannot succeed.
    pub fn on_commit(&mut self, finished: FinishedBatch) -> Result<(), ScoreError> {
        let FinishedBatch { result, batch, started, took } = finished;
        match result {
            Ok(records) => {
                metrics::commit(ROLE, records, took);
                self.scorer.decider.traces().committed(&batch.spans, started, records);
                metrics::outcomes(&batch.counted);
                metrics::skipped("event", batch.skipped);
                metrics::end_to_end(now(), &batch.timestamps);
                self.batch.on_committed(&batch.offsets, took);
                if batch.oversized > 0 {
                    self.count_dead_letters(batch.oversized, OUTPUT_TOO_LARGE);
                }
                Ok(())
            }
            Err(ScoreError::Commit(error)) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "a batch is repeated");
                metrics::aborted(ROLE, error.name());
                self.batch.on_failed();
                self.rewind_if_failed().map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// After a failed batch, discards everything uncommitted and seeks to the committed offsets. Returns `false` if the
    /// brokers did not answer: the next call repeats it, and nothing may be read before.
    pub(super) fn rewind_if_failed(&mut self) -> Result<bool, ScoreError> {
        if !self.batch.has_failed() {
            return Ok(true);
        }
        self.batch.restart(&self.reader.source().assigned());
        match self.reader.rewind(REWIND_TIMEOUT) {
            Ok(()) => self.batch.on_rewound(),
            Err(error) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "the committed offsets are requested again");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(!self.batch.has_failed())
    }

    /// Waits for the batch being committed, unless batches are aborted.
    pub(super) fn await_commit(&mut self) -> Result<(), ScoreError> {
        while self.committer.is_busy() && !self.committer.is_aborting() {
            if let Some(finished) = self.committer.finished(COMMIT_CHECK_INTERVAL) {
                self.on_commit(finished)?;
            }
        }
        Ok(())
    }

    /// Commits all outcomes that are ready, unless a batch fails or batches are aborted.
    pub(super) fn commit_all(&mut self) -> Result<(), ScoreError> {
        self.await_commit()?;
        while !self.batch.has_failed() && !self.committer.is_aborting() && self.batch.is_ready() {
            self.begin_commit();
            self.await_commit()?;
        }
        Ok(())
    }
}
