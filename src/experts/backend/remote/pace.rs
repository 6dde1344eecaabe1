//! The times at which requests may be sent: at the configured rate, and not while the server asks for a pause.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout_at;

/// The pace of an expert's requests.
pub(super) struct Pace {
    /// The time between two requests; zero without a rate.
    interval: Duration,
    times: Mutex<Times>,
    /// Notified at the start of a pause.
    held: Notify,
}

/// The times of turns; `None` before the first.
#[derive(Default)]
struct Times {
    /// The time from which the next request may be sent.
    next: Option<Instant>,
    /// The end of the longest pause.
    held_until: Option<Instant>,
}

impl Pace {
    /// A pace of at most `rate` requests a second.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, times: Mutex::default(), held: Notify::new() }
    }

    /// Waits until a request may be sent. Returns `false` if that is not before the deadline.
    pub(super) async fn pass(&self, deadline: Instant) -> bool {
        let mut turn = None;
        loop {
            let mut held = pin!(self.held.notified());
            // No pause is missed that begins from here on.
            held.as_mut().enable();
            let now = Instant::now();
            let Some(at) = self.turn(turn, now, deadline) else {
                return false;
            };
            if at <= now || timeout_at(at.into(), held).await.is_err() {
                return true;
            }
            turn = Some(at);
        }
    }

    /// Takes the next turn, or keeps the one that was taken before unless it is in a pause. Returns `None` if the next
    /// turn is not before the deadline.
    fn turn(&self, taken: Option<Instant>, now: Instant, deadline: Instant) -> Option<Instant> {
        let mut times = self.times();
        let is_held = |turn: &Instant| times.held_until.is_some_and(|until| *turn < until);
        if let Some(turn) = taken.filter(|turn| !is_held(turn)) {
            return Some(turn);
        }
        let turn = times.next.map_or(now, |next| next.max(now));
        if turn >= deadline {
            return None;
        }
        times.next = Some(turn + self.interval);
        Some(turn)
    }

    /// No request may be sent before this time. Requests with an earlier turn take another one.
    pub(super) fn hold(&self, until: Instant) {
        let mut times = self.times();
        times.next = Some(times.next.map_or(until, |next| next.max(until)));
        times.held_until = Some(times.held_until.map_or(until, |held| held.max(until)));
        drop(times);
        self.held.notify_waiters();
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_spread_and_end_at_the_deadline() {
        let (pace, start) = (Pace::new(Some(2.0)), Instant::now());
        let turn = |at| pace.turn(None, at, start + SECOND);
        assert_eq!((turn(start), turn(start)), (Some(start), Some(start + SECOND / 2)));
        assert_eq!(turn(start), None, "a turn at the deadline is none");
        assert_eq!(turn(start + SECOND / 4), None);
        let later = start + 9 * SECOND;
        assert_eq!(pace.turn(None, later, start + 10 * SECOND), Some(later));
    }

    #[test]
    fn a_pause_holds_up_all_requests() {
        let (pace, start) = (Pace::new(None), Instant::now());
        assert_eq!(pace.turn(None, start, start + SECOND), Some(start));
        pace.hold(start + 2 * SECOND);
        pace.hold(start + SECOND);
        assert_eq!(pace.turn(None, start, start + SECOND), None);
        let deadline = start + 9 * SECOND;
        assert_eq!(pace.turn(None, start + SECOND, deadline), Some(start + 2 * SECOND));
        assert_eq!(pace.turn(None, start + 3 * SECOND, deadline), Some(start + 3 * SECOND));
    }

    #[test]
    fn a_turn_in_a_pause_is_taken_again_behind_it() {
        let (pace, start) = (Pace::new(Some(1.0)), Instant::now());
        let deadline = start + 99 * SECOND;
        let turns: Vec<_> = (0..4).map(|_| pace.turn(None, start, deadline)).collect();
        pace.hold(start + 2 * SECOND);
        assert_eq!(pace.turn(turns[1], start, deadline), Some(start + 4 * SECOND));
        // It is at the end of the pause.
        assert_eq!(pace.turn(turns[2], start, deadline), Some(start + 2 * SECOND));
        assert_eq!(pace.turn(turns[3], start, deadline), Some(start + 3 * SECOND));
        pace.hold(start + 99 * SECOND);
        assert_eq!(pace.turn(turns[3], start, deadline), None);
    }
}
