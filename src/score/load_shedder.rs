//! Decides when the panel shrinks to its cheap experts, and when it grows back. Figures and times are parameters.
//!
//! The panel shrinks as soon as a limit is exceeded. It grows back only after all figures have stayed below half of
//! their limits for a while, so that it does not oscillate.

use std::time::{Duration, Instant};

use crate::config;

/// The limits of the load. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of messages not consumed yet, over all assigned partitions.
    pub lag: Option<i64>,
    /// The age of the oldest event in flight.
    pub age: Option<Duration>,
    /// The time for which the load must be low before the panel grows back.
    pub calm: Duration,
}

impl From<&config::Score> for Limits {
    fn from(score: &config::Score) -> Self {
        let age = Duration::from_millis(score.shed_age_ms);
        Self {
            lag: (score.shed_lag > 0).then_some(score.shed_lag),
            age: (!age.is_zero()).then_some(age),
            calm: Duration::from_millis(score.shed_calm_ms),
        }
    }
}

/// Tracks whether the panel is shrunk.
#[derive(Debug)]
pub struct LoadShedder {
    limits: Limits,
    shrunk: bool,
    calm_since: Option<Instant>,
}

impl LoadShedder {
    /// Begins with a whole panel.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, shrunk: false, calm_since: None }
    }

    /// Takes new figures. Returns whether the panel is shrunk, if that changes.
    pub fn update(&mut self, lag: i64, age: Duration, now: Instant) -> Option<bool> {
        let Limits { lag: max_lag, age: max_age, calm } = self.limits;
        let over = max_lag.is_some_and(|max| lag > max) || max_age.is_some_and(|max| age > max);
        let low = max_lag.is_none_or(|max| lag <= max / 2) && max_age.is_none_or(|max| age <= max / 2);
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
        let (mut shed, start) = (LoadShedder::new(LIMITS), Instant::now());
        assert_eq!(shed.update(100, SECOND * 4, start), None);
        assert_eq!(shed.update(101, SECOND, start), Some(true));
        assert_eq!(shed.update(1_000, SECOND, start), None);
        // Below the limits, but not below half of them: the panel stays as it is.
        assert_eq!(shed.update(51, SECOND, start + SECOND * 9), None);
        assert_eq!(shed.update(50, SECOND * 3, start + SECOND * 10), None);
        assert_eq!(shed.update(50, SECOND * 2, start + SECOND * 11), None);
        assert_eq!(shed.update(50, SECOND * 2, start + SECOND * 12), Some(false));
        assert_eq!(shed.update(0, SECOND * 5, start + SECOND * 12), Some(true));
    }

    #[test]
    fn without_limits_it_never_shrinks() {
        let mut shed = LoadShedder::new(Limits { lag: None, age: None, calm: SECOND });
        assert_eq!(shed.update(i64::MAX, Duration::MAX, Instant::now()), None);
    }

    proptest! {
        /// The calm time lies between any high figure and growing back, and shrinking and growing back alternate.
        #[test]
        fn it_does_not_oscillate(steps in prop::collection::vec((0_i64..250, 0_u64..9, 0_u64..2_000), 0..200)) {
            let (mut shed, mut now) = (LoadShedder::new(LIMITS), Instant::now());
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
