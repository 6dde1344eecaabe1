//! The rate of dead letters. Many dead letters among few records mean that a system upstream is broken, and that continuing
//! would move the whole stream into the dead-letter topic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The period over which records are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The length of the steps in which records are counted.
const STEP_LENGTH: Duration = Duration::from_secs(1);

/// The counts of one step.
#[derive(Debug, Clone, Copy)]
struct Step {
    start: Instant,
    records: u64,
    letters: u64,
}

/// The numbers of records and of dead letters in the last minute, with their limits.
#[derive(Debug)]
pub struct DeadLetterRate {
    limit: u64,
    share: f64,
    steps: VecDeque<Step>,
}

impl DeadLetterRate {
    /// Allows `limit` dead letters a minute, and more if they are at most `share` of the records.
    #[must_use]
    pub fn new(limit: u64, share: f64) -> Self {
        Self { limit, share, steps: VecDeque::new() }
    }

    /// Counts records that were read.
    pub fn add_records(&mut self, records: u64, now: Instant) {
        self.update(now, |step| step.records += records);
    }

    /// Counts dead letters among the records that were read. Returns `false` if there are too many.
    pub fn add_dead_letters(&mut self, letters: u64, now: Instant) -> bool {
        self.update(now, |step| step.letters += letters);
        let sum = |of: fn(&Step) -> u64| self.steps.iter().map(of).sum::<u64>();
        let (records, letters) = (sum(|step| step.records), sum(|step| step.letters));
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records a minute")]
        let allowed = self.share * records as f64;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records a minute")]
        let exceeds = letters as f64 > allowed;
        letters <= self.limit || !exceeds
    }

    /// Changes the step of `now`, and removes steps that are more than a minute old.
    fn update(&mut self, now: Instant, change: impl FnOnce(&mut Step)) {
        while self.steps.front().is_some_and(|first| now.duration_since(first.start) > WINDOW) {
            self.steps.pop_front();
        }
        if self.steps.back().is_none_or(|last| now.duration_since(last.start) >= STEP_LENGTH) {
            self.steps.push_back(Step { start: now, records: 0, letters: 0 });
        }
        change(self.steps.back_mut().expect("a step was just added if there was none"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_of_one_minute_are_counted() {
        let mut rate = DeadLetterRate::new(2, 0.5);
        let start = Instant::now();
        let mut letter = |after| {
            let now = start + Duration::from_secs(after);
            rate.add_records(1, now);
            rate.add_dead_letters(1, now)
        };
        assert!(letter(0) && letter(0));
        assert!(!letter(30));
        assert!(letter(91));
    }

    #[test]
    fn a_small_share_of_a_busy_stream_is_allowed() {
        let (mut rate, now) = (DeadLetterRate::new(1_000, 0.5), Instant::now());
        rate.add_records(10_000, now);
        assert!(rate.add_dead_letters(5_000, now), "half of what is read");
        assert!(!rate.add_dead_letters(1, now));
        rate.add_records(10_000, now + Duration::from_secs(59));
        assert!(rate.add_dead_letters(1, now + Duration::from_secs(59)));
        // The records of the first step do not count after a minute.
        assert!(rate.add_dead_letters(1, now + Duration::from_secs(61)));
    }

    #[test]
    fn few_dead_letters_are_allowed_whatever_their_share() {
        let (mut rate, now) = (DeadLetterRate::new(1_000, 0.5), Instant::now());
        rate.add_records(1_000, now);
        assert!(rate.add_dead_letters(1_000, now));
        rate.add_records(1, now);
        assert!(!rate.add_dead_letters(1, now));
    }
}
