//! Counts dead letters and records of the last minute: many dead letters among few records mean that something upstream
//! broke, and continuing would only move the whole stream into the dead-letter topic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which records are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Records are counted in steps of this length.
const STEP: Duration = Duration::from_secs(1);

/// The records of one step.
#[derive(Debug, Clone, Copy)]
struct Step {
    began: Instant,
    records: u64,
    letters: u64,
}

/// The records of the last minute, and how many of them became dead letters.
#[derive(Debug)]
pub struct Surge {
    limit: u64,
    share: f64,
    steps: VecDeque<Step>,
}

impl Surge {
    /// Allows `limit` dead letters within a minute, and any number as long as they are at most `share` of the records.
    #[must_use]
    pub fn new(limit: u64, share: f64) -> Self {
        Self { limit, share, steps: VecDeque::new() }
    }

    /// Counts records that were read.
    pub fn read(&mut self, records: u64, now: Instant) {
        self.at(now, |step| step.records += records);
    }

    /// Counts `letters` of the records that were read as dead letters. Returns `false` if they are too many.
    pub fn count(&mut self, letters: u64, now: Instant) -> bool {
        self.at(now, |step| step.letters += letters);
        let sum = |of: fn(&Step) -> u64| self.steps.iter().map(of).sum::<u64>();
        let (records, letters) = (sum(|step| step.records), sum(|step| step.letters));
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records a minute")]
        let allowed = self.share * records as f64;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records a minute")]
        let exceeds = letters as f64 > allowed;
        letters <= self.limit || !exceeds
    }

    /// Changes the step of `now`, and forgets those that are more than a minute old.
    fn at(&mut self, now: Instant, change: impl FnOnce(&mut Step)) {
        while self.steps.front().is_some_and(|first| now.duration_since(first.began) > WINDOW) {
            self.steps.pop_front();
        }
        if self.steps.back().is_none_or(|last| now.duration_since(last.began) >= STEP) {
            self.steps.push_back(Step { began: now, records: 0, letters: 0 });
        }
        self.steps.back_mut().map(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surge_is_a_minute_long() {
        let mut surge = Surge::new(2, 0.5);
        let start = Instant::now();
        let mut letter = |after| {
            let now = start + Duration::from_secs(after);
            surge.read(1, now);
            surge.count(1, now)
        };
        assert!(letter(0) && letter(0));
        assert!(!letter(30));
        assert!(letter(91));
    }

    #[test]
    fn a_small_share_of_a_busy_stream_is_no_surge() {
        let (mut surge, now) = (Surge::new(1_000, 0.5), Instant::now());
        surge.read(10_000, now);
        assert!(surge.count(5_000, now), "half of what is read");
        assert!(!surge.count(1, now));
        surge.read(10_000, now + Duration::from_secs(59));
        assert!(surge.count(1, now + Duration::from_secs(59)));
        // The good records of the first step no longer count after a minute.
        assert!(surge.count(1, now + Duration::from_secs(61)));
    }

    #[test]
    fn few_dead_letters_are_no_surge_whatever_their_share() {
        let (mut surge, now) = (Surge::new(1_000, 0.5), Instant::now());
        surge.read(1_000, now);
        assert!(surge.count(1_000, now));
        surge.read(1, now);
        assert!(!surge.count(1, now));
    }
}
