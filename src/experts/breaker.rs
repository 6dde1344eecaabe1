//! Whether a lane is asked: one that hangs or keeps failing is left alone for a while, then tried with one text,
//! and for twice as long each time that fails. One whose runs cannot be stopped costs a worker each time, so it is
//! disabled after a few of them. One that was never loaded is left alone until it is. Pure: times are passed in.

use std::time::{Duration, Instant};

use crate::core::vote::Abstention;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// Failed batches in a row after which a lane is down.
const FAILURES: u32 = 8;
/// Incidents that cost a worker, after which a lane is disabled.
const LOSSES: u32 = 3;

/// Whether one failure is enough: one that hangs costs a worker each time, one that eats memory may cost the process.
fn at_once(reason: Abstention) -> bool {
    matches!(reason, Abstention::TimedOut | Abstention::OutOfMemory)
}

/// How long to wait after another failure.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST)
}

#[derive(Debug, Clone, Copy)]
struct Down {
    reason: Abstention,
    pause: Duration,
    /// Runs that began before say nothing of how it stands now.
    since: Instant,
    /// When one text is let through.
    next: Instant,
}

/// How a lane stands.
#[derive(Debug)]
pub(super) struct Standing {
    /// The first pause; each is twice the last.
    shortest: Duration,
    failures: u32,
    down: Option<Down>,
    absent: bool,
    /// Incidents that cost a worker.
    losses: u32,
    /// When a worker was lost last.
    lost: Option<Instant>,
    /// It is asked no more, for as long as the panel lives.
    disabled: bool,
}

impl Standing {
    pub(super) fn new(shortest: Duration) -> Self {
        Self { shortest, failures: 0, down: None, absent: false, losses: 0, lost: None, disabled: false }
    }

    /// Whether a text may go there. `until`: the time by which it has its answer, whatever happens.
    ///
    /// # Errors
    /// Returns the reason if it may not.
    pub(super) fn admit(&mut self, now: Instant, until: Instant) -> Result<(), Abstention> {
        match &mut self.down {
            _ if self.absent => Err(Abstention::NotLoaded),
            Some(down) if self.disabled || now < down.next => Err(down.reason),
            Some(down) => {
                // One trial at a time: a second one would hang beside it. Another is made even if nothing comes of this.
                down.next = until.max(now + down.pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns `true` if a run that began then was no trial: it was under way as the lane went down.
    fn is_old(&self, began: Instant) -> bool {
        self.down.is_some_and(|down| began < down.since)
    }

    /// A batch that began then gave votes. Returns `true` if the lane was down and is not any more.
    pub(super) fn succeeded(&mut self, began: Instant) -> bool {
        if self.is_old(began) {
            return false;
        }
        self.failures = 0;
        !self.disabled && self.down.take().is_some()
    }

    /// A run that began then did not stop, and its worker is lost. Returns `true` if that disables the lane: the run
    /// was part of the last incident that is tolerated, or none is, because workers are short.
    pub(super) fn lost(&mut self, began: Instant, now: Instant, short: bool) -> bool {
        // Runs that were under way together are one incident: none of them was a trial.
        let together = self.lost.replace(now).is_some_and(|last| began <= last);
        self.losses = self.losses.saturating_add(u32::from(!together));
        if self.disabled || !(short || self.losses >= LOSSES) {
            return false;
        }
        self.disabled = true;
        self.down.get_or_insert(Down { reason: Abstention::TimedOut, pause: LONGEST, since: now, next: now });
        true
    }

    /// Returns `true` if it is asked no more, for as long as the panel lives.
    pub(super) fn disabled(&self) -> bool {
        self.disabled
    }

    /// A batch that began then gave none. Returns how long the lane is left alone if that makes it down, or longer.
    /// Runs that were under way together count as one failure.
    pub(super) fn failed(&mut self, reason: Abstention, began: Instant, now: Instant) -> Option<Duration> {
        if self.is_old(began) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = match self.down {
            Some(_) if self.disabled => return None,
            Some(down) => longer(down.pause),
            None if at_once(reason) || self.failures >= FAILURES => self.shortest,
            None => return None,
        };
        self.down = Some(Down { reason, pause, since: now, next: now + pause });
        Some(pause)
    }

    /// Whether nothing is loaded that could be asked.
    pub(super) fn set_absent(&mut self, absent: bool) {
        self.absent = absent;
    }

    /// Why it is down, where it is.
    pub(super) fn down(&self) -> Option<Abstention> {
        let absent = self.absent.then_some(Abstention::NotLoaded);
        absent.or_else(|| self.down.map(|down| down.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_that_hangs_is_down_at_once_and_comes_back() {
        let (mut lane, start) = (Standing::new(SECOND), Instant::now());
        assert_eq!(lane.failed(Abstention::TimedOut, start, start), Some(SECOND));
        assert_eq!(lane.admit(start, start), Err(Abstention::TimedOut));
        // One text is tried, and no second with it.
        assert_eq!(lane.admit(start + SECOND, start + SECOND), Ok(()));
        assert_eq!(lane.admit(start + SECOND, start + SECOND), Err(Abstention::TimedOut));
        assert!(lane.succeeded(start + SECOND) && !lane.succeeded(start + SECOND));
        assert_eq!((lane.admit(start + SECOND, start + SECOND), lane.down()), (Ok(()), None));
    }

    #[test]
    fn runs_that_were_under_way_as_it_went_down_say_nothing() {
        let (mut lane, start) = (Standing::new(SECOND), Instant::now());
        let down = start + SECOND;
        assert_eq!(lane.failed(Abstention::TimedOut, start, down), Some(SECOND));
        // Its other runs hang as well: one pause for all of them.
        for _ in 0..7 {
            assert_eq!(lane.failed(Abstention::TimedOut, start, down), None);
        }
        // One ends well in spite of all, which is no trial.
        assert!(!lane.succeeded(start));
        assert_eq!(lane.admit(down, down), Err(Abstention::TimedOut));
        let trial = down + SECOND;
        assert_eq!(lane.admit(trial, trial), Ok(()));
        assert_eq!(lane.failed(Abstention::TimedOut, trial, trial + SECOND), Some(2 * SECOND));
        assert!(!lane.succeeded(trial), "a run beside the trial");
        assert!(lane.succeeded(trial + SECOND * 3));
    }

    #[test]
    fn a_trial_of_which_nothing_comes_is_followed_by_another() {
        let (mut lane, start) = (Standing::new(SECOND), Instant::now());
        lane.failed(Abstention::TimedOut, start, start);
        assert_eq!(lane.admit(start + SECOND, start + SECOND), Ok(()));
        assert_eq!(lane.admit(start + SECOND * 2, start + SECOND * 2), Ok(()));
    }

    #[test]
    fn one_trial_is_made_at_a_time() {
        let (mut lane, start) = (Standing::new(SECOND), Instant::now());
        lane.failed(Abstention::TimedOut, start, start);
        let (trial, until) = (start + SECOND, start + SECOND * 60);
        assert_eq!(lane.admit(trial, until), Ok(()));
        assert_eq!(lane.admit(until - SECOND, until), Err(Abstention::TimedOut));
        assert_eq!(lane.admit(until, until), Ok(()));
    }

    #[test]
    fn one_that_costs_a_worker_in_three_trials_is_disabled() {
        let (mut lane, mut now) = (Standing::new(SECOND), Instant::now());
        for trial in 1..=3 {
            now += LONGEST;
            assert_eq!(lane.admit(now, now), Ok(()));
            lane.failed(Abstention::TimedOut, now + SECOND, now + SECOND);
            // The runs that hang together are one incident, however many they are.
            for worker in 0..5 {
                let opens = lane.lost(now, now + SECOND * 2, false);
                assert_eq!(opens, trial == 3 && worker == 0, "trial {trial}, worker {worker}");
            }
            assert_eq!(lane.disabled(), trial == 3);
        }
        assert_eq!(lane.failed(Abstention::TimedOut, now, now), None);
        assert!(!lane.succeeded(now), "a run that was under way changes nothing");
        assert_eq!(lane.admit(now + LONGEST * 9, now), Err(Abstention::TimedOut));
        assert_eq!(lane.down(), Some(Abstention::TimedOut));
    }

    #[test]
    fn where_workers_are_short_the_first_loss_disables() {
        let (mut lane, now) = (Standing::new(SECOND), Instant::now());
        assert!(lane.lost(now, now + SECOND, true) && lane.disabled());
        assert_eq!(lane.admit(now + LONGEST * 9, now), Err(Abstention::TimedOut));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let (mut lane, mut now, mut pauses) = (Standing::new(SECOND), Instant::now(), Vec::new());
        for _ in 0..9 {
            let pause = lane.failed(Abstention::TimedOut, now, now).unwrap();
            pauses.push(pause.as_secs());
            assert!(lane.admit(now + pause - Duration::from_millis(1), now).is_err());
            now += pause;
            assert!(lane.admit(now, now).is_ok());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_that_is_not_loaded_is_not_asked_until_it_is() {
        let (mut lane, now) = (Standing::new(SECOND), Instant::now());
        lane.set_absent(true);
        assert_eq!(lane.admit(now + LONGEST * 9, now + LONGEST * 9), Err(Abstention::NotLoaded));
        assert_eq!(lane.down(), Some(Abstention::NotLoaded));
        lane.set_absent(false);
        assert_eq!((lane.admit(now, now), lane.down()), (Ok(()), None));
    }

    #[test]
    fn failures_count_in_a_row() {
        let (mut lane, now) = (Standing::new(SECOND), Instant::now());
        for _ in 0..7 {
            assert_eq!(lane.failed(Abstention::Failed, now, now), None);
        }
        assert!(!lane.succeeded(now));
        for _ in 0..7 {
            assert_eq!(lane.failed(Abstention::WrongShape, now, now), None);
        }
        assert_eq!(lane.failed(Abstention::WrongShape, now, now), Some(SECOND));
        assert_eq!(lane.down(), Some(Abstention::WrongShape));
    }
}
