//! The times at which requests may be sent: at the configured rate, and not while the server asks for a pause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pace of an expert's requests. Times are passed in.
pub(super) struct Pace {
    /// The time between two requests; zero without a rate.
    interval: Duration,
    /// The time from which the next request may be sent; `None` before the first.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A pace of at most `rate` requests a second.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next: Mutex::new(None) }
    }

    /// Takes the next turn. Returns the time until then, or `None` if it is not before the deadline.
    pub(super) fn turn(&self, now: Instant, deadline: Instant) -> Option<Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        if turn >= deadline {
            return None;
        }
        *next = Some(turn + self.interval);
        Some(turn - now)
    }

    /// No request may be sent before this time.
    pub(super) fn hold(&self, until: Instant) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(next.map_or(until, |next| next.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_spread_and_end_at_the_deadline() {
        let (pace, start) = (Pace::new(Some(2.0)), Instant::now());
        let turn = |at| pace.turn(at, start + SECOND);
        assert_eq!((turn(start), turn(start)), (Some(Duration::ZERO), Some(SECOND / 2)));
        assert_eq!(turn(start), None, "a turn at the deadline is none");
        assert_eq!(turn(start + SECOND / 4), None);
        assert_eq!(pace.turn(start + 9 * SECOND, start + 10 * SECOND), Some(Duration::ZERO));
    }

    #[test]
    fn a_pause_holds_up_all_requests() {
        let (pace, start) = (Pace::new(None), Instant::now());
        assert_eq!(pace.turn(start, start + SECOND), Some(Duration::ZERO));
        pace.hold(start + 2 * SECOND);
        pace.hold(start + SECOND);
        assert_eq!(pace.turn(start, start + SECOND), None);
        assert_eq!(pace.turn(start + SECOND, start + 9 * SECOND), Some(SECOND));
        assert_eq!(pace.turn(start + 3 * SECOND, start + 9 * SECOND), Some(Duration::ZERO));
    }
}
