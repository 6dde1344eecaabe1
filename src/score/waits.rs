//! The time since which the records of each partition wait for a commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A partition of which nothing is read and nothing is left to read for this long waits for nothing, although its last
/// unit was given up: its records have been deleted.
const QUIET: Duration = Duration::from_secs(30);

/// One partition's wait.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// The first record that waits was read, or the last commit ended.
    since: Instant,
    /// The time since which there is nothing to commit or to read.
    quiet: Option<Instant>,
}

/// The partitions of which records wait. A unit that is given up changes nothing: its records are read again and go on
/// waiting.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<i32, Wait>);

impl Waits {
    /// A record was read.
    pub fn read(&mut self, partition: i32, now: Instant) {
        self.0.entry(partition).or_insert(Wait { since: now, quiet: None });
    }

    /// Records of a partition were committed; `more`: others have been read and are not.
    pub fn committed(&mut self, partition: i32, more: bool, now: Instant) {
        if more {
            self.0.insert(partition, Wait { since: now, quiet: None });
        } else {
            self.0.remove(&partition);
        }
    }

    /// A partition is another member's now.
    pub fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Notes of a partition whether there is nothing of it to commit and nothing to read.
    pub fn observe(&mut self, partition: i32, quiet: bool, now: Instant) {
        let Some(wait) = self.0.get_mut(&partition) else { return };
        if !quiet {
            wait.quiet = None;
        } else if now.duration_since(*wait.quiet.get_or_insert(now)) > QUIET {
            self.0.remove(&partition);
        }
    }

    /// The time since which the partition waits that has waited longest; `None`: nothing waits.
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
        let mut waits = Waits::default();
        assert_eq!(waits.since(), None);
        waits.read(0, start);
        waits.read(1, start + second);
        waits.read(0, start + 2 * second);
        assert_eq!(waits.since(), Some(start));
        // One partition's progress is not the other's.
        waits.committed(1, true, start + 3 * second);
        assert_eq!(waits.since(), Some(start));
        waits.committed(0, false, start + 3 * second);
        assert_eq!(waits.since(), Some(start + 3 * second));
        waits.forget(1);
        assert_eq!(waits.since(), None);
    }

    #[test]
    fn what_was_deleted_is_not_waited_for_for_ever() {
        let start = Instant::now();
        let mut waits = Waits::default();
        waits.read(0, start);
        waits.observe(0, true, start);
        waits.observe(0, false, start + QUIET);
        waits.observe(0, true, start + 2 * QUIET);
        waits.observe(0, true, start + 3 * QUIET);
        assert_eq!(waits.since(), Some(start));
        waits.observe(0, true, start + 4 * QUIET);
        assert_eq!(waits.since(), None);
    }
}
