//! Partitions that the group assigns to this member and takes from it.

use std::time::Instant;

use super::ScorePipeline;
use crate::kafka::TopicPartition;
use crate::score::ScoreError;

impl ScorePipeline<'_> {
    /// Begins a tenure of partitions that the group assigned to this member. Their records follow.
    ///
    /// # Errors
    /// Returns [`ScoreError::Partitions`] if a topic of outputs lacks one of them.
    pub fn on_assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), ScoreError> {
        tracing::info!(partitions = partitions.len(), "partitions assigned");
        self.reader.check_output_partitions(partitions)?;
        self.batch.on_assigned(partitions);
        self.reader.count_partitions();
        self.share_budgets();
        self.health.set("partitions assigned", true);
        Ok(())
    }

    /// Uses the part of the review budgets that the assigned partitions have in the topic of events.
    pub(super) fn share_budgets(&mut self) {
        let (assigned, partitions) = self.reader.partitions();
        if let Some(budgets) = self.scorer.decider.budgets() {
            budgets.set_share(assigned, partitions, Instant::now());
        }
    }

    /// Ends the tenure of partitions that go to another member at the next poll.
    ///
    /// Outcomes that are ready are committed first, while the partitions still belong to this member. If the partitions
    /// are `lost`, the session has ended and nothing of them can be committed. The batch being committed ends first in
    /// both cases: it may contain these partitions, and must not be committed in a later tenure of them.
    ///
    /// Events of these partitions that are still in flight stay with the panel. Their outcomes are discarded when they are
    /// answered, because their tickets belong to the ended tenure, and the next owner of the partitions reads their
    /// records again from the committed offsets. Records that wait for their schemas are discarded at once.
    ///
    /// # Errors
    /// Returns the errors of [`on_commit`](Self::on_commit).
    pub fn on_revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), ScoreError> {
        tracing::info!(partitions = partitions.len(), lost, "partitions revoked");
        if lost {
            self.await_commit()?;
        } else {
            self.commit_all()?;
        }
        self.batch.on_revoked(partitions);
        self.reader.on_revoked(partitions);
        Ok(())
    }
}
