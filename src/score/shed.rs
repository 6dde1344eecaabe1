//! When the panel shrinks to its cheap experts, and when it grows back. Pure: figures and times are passed in.
//!
//! It shrinks as soon as a limit is exceeded. It grows back only when all figures have stayed below half of
//! their limits for a while, so that it does not go to and fro.

use std::time::{Duration, Instant};

/// What is too much. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages not yet consumed, over all partitions held.
    pub lag: Option<i64>,
    /// Age of the oldest event being asked about.
    pub age: Option<Duration>,
    /// How long it must be calm before the panel grows back.
    pub calm: Duration,
}

/// Whether the panel is shrunk.
#[derive(Debug)]
pub struct Shed {
    limits: Limits,
    shrunk: bool,
    calm_since: Option<Instant>,
}

impl Shed {
    /// Not shrunk.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, shrunk: false, calm_since: None }
    }

    /// Takes new figures. Some, where that changes whether the panel is shrunk.
    pub fn update(&mut self, lag: i64, age: Duration, now: Instant) -> Option<bool> {
        let Limits { lag: most, age: oldest, calm } = self.limits;
        let over = most.is_some_and(|most| lag > most) || oldest.is_some_and(|oldest| age > oldest);
        let low = most.is_none_or(|most| lag <= most / 2) && oldest.is_none_or(|oldest| age <= oldest / 2);
        if !self.shrunk {
            self.shrunk = over;
            self.calm_since = None;
            return over.then_some(true);
        }
        if !low {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_duration_since(since) < calm {
            return None;
        }
        self.shrunk = false;
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits { lag: Some(100), age: Some(Duration::from_secs(4)), calm: SECOND };

    #[test]
    fn either_limit_shrinks_and_only_calm_grows_back() {
        let (mut shed, start) = (Shed::new(LIMITS), Instant::now());
        assert_eq!(shed.update(100, SECOND * 4, start), None);
        assert_eq!(shed.update(101, SECOND, start), Some(true));
        assert_eq!(shed.update(1_000, SECOND, start), None);
        // Below the limits, but not by half: neither shrunk further nor grown back.
        assert_eq!(shed.update(51, SECOND, start + SECOND * 9), None);
        assert_eq!(shed.update(50, SECOND * 3, start + SECOND * 10), None);
        assert_eq!(shed.update(50, SECOND * 2, start + SECOND * 11), None);
        assert_eq!(shed.update(50, SECOND * 2, start + SECOND * 12), Some(false));
        assert_eq!(shed.update(0, SECOND * 5, start + SECOND * 12), Some(true));
    }

    #[test]
    fn without_limits_it_never_shrinks() {
        let mut shed = Shed::new(Limits { lag: None, age: None, calm: SECOND });
        assert_eq!(shed.update(i64::MAX, Duration::MAX, Instant::now()), None);
    }

    proptest! {
        /// Between growing back and shrinking before it lies the calm time at least; changes take turns.
        #[test]
        fn it_does_not_go_to_and_fro(steps in prop::collection::vec((0_i64..250, 0_u64..9, 0_u64..2_000), 0..200)) {
            let (mut shed, mut now) = (Shed::new(LIMITS), Instant::now());
            let (mut shrunk, mut busy_at) = (false, now);
            for (lag, age, millis) in steps {
                now += Duration::from_millis(millis);
                let age = Duration::from_secs(age);
                let change = shed.update(lag, age, now);
                let (over, low) = (lag > 100 || age > SECOND * 4, lag <= 50 && age <= SECOND * 2);
                if !low {
                    busy_at = now;
                }
                match change {
                    Some(true) => prop_assert!(over && !shrunk),
                    Some(false) => prop_assert!(low && shrunk && now - busy_at >= SECOND),
                    None => prop_assert!(shrunk || !over),
                }
                shrunk = change.unwrap_or(shrunk);
            }
        }
    }
}
