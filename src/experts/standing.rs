//! Whether a lane is asked: one that hangs or keeps failing is left alone for a while, then tried with one text,
//! and for twice as long each time that fails. One that was never loaded is left alone until it is. Pure: times are
//! passed in.

use std::time::{Duration, Instant};

use crate::core::vote::Abstention;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// Failed batches in a row after which a lane is down.
const FAILURES: u32 = 8;

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
}

impl Standing {
    pub(super) fn new(shortest: Duration) -> Self {
        Self { shortest, failures: 0, down: None, absent: false }
    }

    /// Whether a text may go there.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Abstention> {
        match &mut self.down {
            _ if self.absent => Err(Abstention::NotLoaded),
            Some(down) if now < down.next => Err(down.reason),
            Some(down) => {
                // Another is tried even where nothing comes of this one.
                down.next = now + down.pause;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A batch gave votes. True where it was down.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.down.take().is_some()
    }

    /// A batch gave none. How long it is left alone, where it is down now.
    pub(super) fn failed(&mut self, reason: Abstention, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.down {
            Some(down) => longer(down.pause),
            None if at_once(reason) || self.failures >= FAILURES => self.shortest,
            None => return None,
        };
        self.down = Some(Down { reason, pause, next: now + pause });
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
        assert_eq!(lane.failed(Abstention::TimedOut, start), Some(SECOND));
        assert_eq!(lane.admit(start), Err(Abstention::TimedOut));
        // One text is tried, and no second with it.
        assert_eq!(lane.admit(start + SECOND), Ok(()));
        assert_eq!(lane.admit(start + SECOND), Err(Abstention::TimedOut));
        assert!(lane.succeeded() && !lane.succeeded());
        assert_eq!((lane.admit(start + SECOND), lane.down()), (Ok(()), None));
    }

    #[test]
    fn a_trial_of_which_nothing_comes_is_followed_by_another() {
        let (mut lane, start) = (Standing::new(SECOND), Instant::now());
        lane.failed(Abstention::TimedOut, start);
        assert_eq!(lane.admit(start + SECOND), Ok(()));
        assert_eq!(lane.admit(start + SECOND * 2), Ok(()));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let (mut lane, mut now, mut pauses) = (Standing::new(SECOND), Instant::now(), Vec::new());
        for _ in 0..9 {
            let pause = lane.failed(Abstention::TimedOut, now).unwrap();
            pauses.push(pause.as_secs());
            assert!(lane.admit(now + pause - Duration::from_millis(1)).is_err());
            now += pause;
            assert!(lane.admit(now).is_ok());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_that_is_not_loaded_is_not_asked_until_it_is() {
        let (mut lane, now) = (Standing::new(SECOND), Instant::now());
        lane.set_absent(true);
        assert_eq!(lane.admit(now + LONGEST * 9), Err(Abstention::NotLoaded));
        assert_eq!(lane.down(), Some(Abstention::NotLoaded));
        lane.set_absent(false);
        assert_eq!((lane.admit(now), lane.down()), (Ok(()), None));
    }

    #[test]
    fn failures_count_in_a_row() {
        let (mut lane, now) = (Standing::new(SECOND), Instant::now());
        for _ in 0..7 {
            assert_eq!(lane.failed(Abstention::Failed, now), None);
        }
        assert!(!lane.succeeded());
        for _ in 0..7 {
            assert_eq!(lane.failed(Abstention::WrongShape, now), None);
        }
        assert_eq!(lane.failed(Abstention::WrongShape, now), Some(SECOND));
        assert_eq!(lane.down(), Some(Abstention::WrongShape));
    }
}
