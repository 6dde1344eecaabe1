//! The circuit breaker of a model, or of one expert of it: after a hang or repeated failures it admits no text for a pause,
//! then one text as a trial. The pause doubles with each trial that fails. A run that cannot be stopped costs a worker, so
//! a few of them disable the model or expert for as long as the panel lives. Times are passed in.

use std::time::{Duration, Instant};

use crate::core::vote::Abstention;

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Failed runs in a row that open the breaker.
const MAX_FAILURES: u32 = 8;
/// Incidents with a lost worker that disable the model or expert.
const MAX_INCIDENTS: u32 = 3;

/// Returns `true` if one failure opens the breaker: a hang may cost a worker, and too much memory the process.
fn opens_at_once(reason: Abstention) -> bool {
    matches!(reason, Abstention::TimedOut | Abstention::OutOfMemory)
}

/// The pause after another failure.
pub(super) fn next_pause(pause: Duration) -> Duration {
    (pause * 2).min(MAX_PAUSE)
}

#[derive(Debug, Clone, Copy)]
struct Open {
    reason: Abstention,
    pause: Duration,
    /// Runs that began before this time are not trials.
    since: Instant,
    /// The time of the next trial.
    next: Instant,
}

/// Decides if texts may go to a model or to an expert.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    first_pause: Duration,
    /// Failures in a row.
    failures: u32,
    /// A time-out counts like any other failure.
    tolerates_time_outs: bool,
    open: Option<Open>,
    not_loaded: bool,
    /// Incidents with a lost worker.
    incidents: u32,
    /// The time at which a worker was lost last.
    last_lost: Option<Instant>,
    disabled: bool,
}

impl CircuitBreaker {
    pub(super) fn new(first_pause: Duration) -> Self {
        Self {
            first_pause,
            failures: 0,
            tolerates_time_outs: false,
            open: None,
            not_loaded: false,
            incidents: 0,
            last_lost: None,
            disabled: false,
        }
    }

    /// From now on a time-out counts like any other failure, because it costs no worker.
    pub(super) fn tolerate_time_outs(&mut self) {
        self.tolerates_time_outs = true;
    }

    /// Admits a text, as a trial if the breaker is open. `until` is the time by which the text has its answer.
    ///
    /// # Errors
    /// Returns the reason if the text is not admitted.
    pub(super) fn admit(&mut self, now: Instant, until: Instant) -> Result<(), Abstention> {
        match &mut self.open {
            _ if self.not_loaded => Err(Abstention::NotLoaded),
            Some(open) if self.disabled || now < open.next => Err(open.reason),
            Some(open) => {
                // A second trial would hang beside the first. The next one follows even if this one has no result.
                open.next = until.max(now + open.pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns `true` if a run that began at this time was in flight when the breaker opened, and so is no trial.
    fn is_old(&self, began: Instant) -> bool {
        self.open.is_some_and(|open| began < open.since)
    }

    /// A run that began at this time gave votes. Returns `true` if that closes the breaker.
    pub(super) fn on_success(&mut self, began: Instant) -> bool {
        if self.is_old(began) {
            return false;
        }
        self.failures = 0;
        !self.disabled && self.open.take().is_some()
    }

    /// A run that began at this time could not be stopped, and its worker is lost. Returns `true` if that disables the
    /// model or expert: this was the last incident that is tolerated, or workers are `short` and no incident is.
    pub(super) fn on_worker_lost(&mut self, began: Instant, now: Instant, short: bool) -> bool {
        // Runs that were in flight together are one incident, because none of them was a trial.
        let together = self.last_lost.replace(now).is_some_and(|last| began <= last);
        self.incidents = self.incidents.saturating_add(u32::from(!together));
        if self.disabled || !(short || self.incidents >= MAX_INCIDENTS) {
            return false;
        }
        self.disabled = true;
        self.open.get_or_insert(Open {
            reason: Abstention::TimedOut,
            pause: MAX_PAUSE,
            since: now,
            next: now,
        });
        true
    }

    /// Returns `true` if no text is admitted for as long as the panel lives.
    pub(super) fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// A run that began at this time gave no votes. Returns the pause if that opens the breaker, or keeps it open for
    /// longer. Runs that were in flight together count as one failure.
    pub(super) fn on_failure(
        &mut self,
        reason: Abstention,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        if self.is_old(began) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = match self.open {
            Some(_) if self.disabled => return None,
            Some(open) => next_pause(open.pause),
            None if self.failures >= MAX_FAILURES => self.first_pause,
            None if opens_at_once(reason) && !self.tolerates_time_outs => self.first_pause,
            None => return None,
        };
        self.open = Some(Open { reason, pause, since: now, next: now + pause });
        Some(pause)
    }

    /// Sets whether the model could not be loaded.
    pub(super) fn set_not_loaded(&mut self, not_loaded: bool) {
        self.not_loaded = not_loaded;
    }

    /// The reason why texts are not admitted, if they are not. A trial may be due.
    pub(super) fn down(&self) -> Option<Abstention> {
        let not_loaded = self.not_loaded.then_some(Abstention::NotLoaded);
        not_loaded.or_else(|| self.open.map(|open| open.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_hang_opens_at_once_and_a_trial_closes() {
        let (mut breaker, start) = (CircuitBreaker::new(SECOND), Instant::now());
        assert_eq!(breaker.on_failure(Abstention::TimedOut, start, start), Some(SECOND));
        assert_eq!(breaker.admit(start, start), Err(Abstention::TimedOut));
        // One text is admitted as a trial, and no second one.
        assert_eq!(breaker.admit(start + SECOND, start + SECOND), Ok(()));
        assert_eq!(breaker.admit(start + SECOND, start + SECOND), Err(Abstention::TimedOut));
        assert!(breaker.on_success(start + SECOND) && !breaker.on_success(start + SECOND));
        assert_eq!((breaker.admit(start + SECOND, start + SECOND), breaker.down()), (Ok(()), None));
    }

    #[test]
    fn runs_that_began_before_it_opened_do_not_count() {
        let (mut breaker, start) = (CircuitBreaker::new(SECOND), Instant::now());
        let down = start + SECOND;
        assert_eq!(breaker.on_failure(Abstention::TimedOut, start, down), Some(SECOND));
        // The other runs hang as well: there is one pause for all of them.
        for _ in 0..7 {
            assert_eq!(breaker.on_failure(Abstention::TimedOut, start, down), None);
        }
        // One of them succeeds, but it is not a trial.
        assert!(!breaker.on_success(start));
        assert_eq!(breaker.admit(down, down), Err(Abstention::TimedOut));
        let trial = down + SECOND;
        assert_eq!(breaker.admit(trial, trial), Ok(()));
        assert_eq!(breaker.on_failure(Abstention::TimedOut, trial, trial + SECOND), Some(2 * SECOND));
        assert!(!breaker.on_success(trial), "a run beside the trial");
        assert!(breaker.on_success(trial + SECOND * 3));
    }

    #[test]
    fn a_trial_without_a_result_is_followed_by_another() {
        let (mut breaker, start) = (CircuitBreaker::new(SECOND), Instant::now());
        breaker.on_failure(Abstention::TimedOut, start, start);
        assert_eq!(breaker.admit(start + SECOND, start + SECOND), Ok(()));
        assert_eq!(breaker.admit(start + SECOND * 2, start + SECOND * 2), Ok(()));
    }

    #[test]
    fn there_is_one_trial_at_a_time() {
        let (mut breaker, start) = (CircuitBreaker::new(SECOND), Instant::now());
        breaker.on_failure(Abstention::TimedOut, start, start);
        let (trial, until) = (start + SECOND, start + SECOND * 60);
        assert_eq!(breaker.admit(trial, until), Ok(()));
        assert_eq!(breaker.admit(until - SECOND, until), Err(Abstention::TimedOut));
        assert_eq!(breaker.admit(until, until), Ok(()));
    }

    #[test]
    fn three_lost_workers_disable() {
        let (mut breaker, mut now) = (CircuitBreaker::new(SECOND), Instant::now());
        for trial in 1..=3 {
            now += MAX_PAUSE;
            assert_eq!(breaker.admit(now, now), Ok(()));
            breaker.on_failure(Abstention::TimedOut, now + SECOND, now + SECOND);
            // Runs that hang together are one incident.
            for worker in 0..5 {
                let disables = breaker.on_worker_lost(now, now + SECOND * 2, false);
                assert_eq!(disables, trial == 3 && worker == 0, "trial {trial}, worker {worker}");
            }
            assert_eq!(breaker.is_disabled(), trial == 3);
        }
        assert_eq!(breaker.on_failure(Abstention::TimedOut, now, now), None);
        assert!(!breaker.on_success(now), "a run that was in flight changes nothing");
        assert_eq!(breaker.admit(now + MAX_PAUSE * 9, now), Err(Abstention::TimedOut));
        assert_eq!(breaker.down(), Some(Abstention::TimedOut));
    }

    #[test]
    fn the_first_lost_worker_disables_when_workers_are_short() {
        let (mut breaker, now) = (CircuitBreaker::new(SECOND), Instant::now());
        assert!(breaker.on_worker_lost(now, now + SECOND, true) && breaker.is_disabled());
        assert_eq!(breaker.admit(now + MAX_PAUSE * 9, now), Err(Abstention::TimedOut));
    }

    /// One request of many that a slow server does not answer in time says little.
    #[test]
    fn time_outs_that_cost_no_worker_count_in_a_row() {
        let (mut breaker, now) = (CircuitBreaker::new(SECOND), Instant::now());
        breaker.tolerate_time_outs();
        for _ in 0..7 {
            assert_eq!(breaker.on_failure(Abstention::TimedOut, now, now), None);
        }
        assert_eq!(breaker.on_failure(Abstention::TimedOut, now, now), Some(SECOND));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let (mut breaker, mut now, mut pauses) = (CircuitBreaker::new(SECOND), Instant::now(), Vec::new());
        for _ in 0..9 {
            let pause = breaker.on_failure(Abstention::TimedOut, now, now).unwrap();
            pauses.push(pause.as_secs());
            assert!(breaker.admit(now + pause - Duration::from_millis(1), now).is_err());
            now += pause;
            assert!(breaker.admit(now, now).is_ok());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_model_that_is_not_loaded_is_refused_until_it_is() {
        let (mut breaker, now) = (CircuitBreaker::new(SECOND), Instant::now());
        breaker.set_not_loaded(true);
        assert_eq!(breaker.admit(now + MAX_PAUSE * 9, now + MAX_PAUSE * 9), Err(Abstention::NotLoaded));
        assert_eq!(breaker.down(), Some(Abstention::NotLoaded));
        breaker.set_not_loaded(false);
        assert_eq!((breaker.admit(now, now), breaker.down()), (Ok(()), None));
    }

    #[test]
    fn failures_count_in_a_row() {
        let (mut breaker, now) = (CircuitBreaker::new(SECOND), Instant::now());
        for _ in 0..7 {
            assert_eq!(breaker.on_failure(Abstention::Failed, now, now), None);
        }
        assert!(!breaker.on_success(now));
        for _ in 0..7 {
            assert_eq!(breaker.on_failure(Abstention::WrongShape, now, now), None);
        }
        assert_eq!(breaker.on_failure(Abstention::WrongShape, now, now), Some(SECOND));
        assert_eq!(breaker.down(), Some(Abstention::WrongShape));
    }
}
