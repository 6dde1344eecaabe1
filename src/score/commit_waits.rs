//! The time since which each partition waits for a commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time after which a partition with nothing to read and nothing to commit stops waiting, although its last batch
/// failed: its records have been deleted.
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait of one partition.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// When the first waiting record was read, or the last commit ended.
    since: Instant,
    /// The time since which there is nothing to commit or to read.
    quiet: Option<Instant>,
}

/// The partitions whose records wait for a commit. A failed batch changes nothing: its records are read again and
/// continue to wait.
#[derive(Debug, Default)]
pub struct CommitWaits(BTreeMap<i32, Wait>);

impl CommitWaits {
    /// Notes that a record was read.
    pub fn read(&mut self, partition: i32, now: Instant) {
        self.0.entry(partition).or_insert(Wait { since: now, quiet: None });
    }

    /// Notes that records of a partition were committed. `more` says that others were read and are not committed.
    pub fn committed(&mut self, partition: i32, more: bool, now: Instant) {
        if more {
            self.0.insert(partition, Wait { since: now, quiet: None });
        } else {
            self.0.remove(&partition);
        }
    }

    /// Removes a partition that was revoked.
    pub fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Notes whether a partition is quiet: it has nothing to commit and nothing to read.
    pub fn observe(&mut self, partition: i32, quiet: bool, now: Instant) {
        let Some(wait) = self.0.get_mut(&partition) else { return };
        if !quiet {
            wait.quiet = None;
        } else if now.duration_since(*wait.quiet.get_or_insert(now)) > QUIET_TIMEOUT {
            self.0.remove(&partition);
        }
    }

    /// Returns the earliest time since which a partition waits, or `None` if none does.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.0.values().map(|wait| wait.since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_waits_from_its_first_record_until_a_commit_that_leaves_none() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut waits = CommitWaits::default();
        assert_eq!(waits.since(), None);
        waits.read(0, start);
        waits.read(1, start + second);
        waits.read(0, start + 2 * second);
        assert_eq!(waits.since(), Some(start));
        // A commit of one partition does not end the wait of another.
        waits.committed(1, true, start + 3 * second);
        assert_eq!(waits.since(), Some(start));
        waits.committed(0, false, start + 3 * second);
        assert_eq!(waits.since(), Some(start + 3 * second));
        waits.forget(1);
        assert_eq!(waits.since(), None);
    }

    #[test]
    fn a_partition_whose_records_were_deleted_stops_waiting() {
        let start = Instant::now();
        let mut waits = CommitWaits::default();
        waits.read(0, start);
        waits.observe(0, true, start);
        waits.observe(0, false, start + QUIET_TIMEOUT);
        waits.observe(0, true, start + 2 * QUIET_TIMEOUT);
        waits.observe(0, true, start + 3 * QUIET_TIMEOUT);
        assert_eq!(waits.since(), Some(start));
        waits.observe(0, true, start + 4 * QUIET_TIMEOUT);
        assert_eq!(waits.since(), None);
    }
}
