//! Counters by minute, over the last hours.

use std::collections::BTreeMap;

use crate::core::event::Millis;
use crate::core::policy::Action;

/// A minute, in milliseconds.
pub const MINUTE: Millis = 60_000;
/// The number of points of a chart. Longer histories have points of several minutes.
const POINTS: usize = 180;
/// The number of seconds over which a rate is measured.
const RATE_SECONDS: usize = 30;

/// The counts of one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    /// The decisions, by action in the order of [`Action::ALL`].
    pub actions: [u64; 3],
    /// The dead letters.
    pub letters: u64,
    /// The labels.
    pub labels: u64,
}

impl Minute {
    fn add(&mut self, other: &Self) {
        for (sum, count) in self.actions.iter_mut().zip(other.actions) {
            *sum += count;
        }
        self.letters += other.letters;
        self.labels += other.labels;
    }
}

/// The counts of the last hours. Records that are older, or of the future, are not counted.
#[derive(Debug)]
pub struct Minutes {
    kept: usize,
    counts: BTreeMap<i64, Minute>,
    /// The decisions of the last seconds by action, with their second.
    seconds: [(i64, [u64; 3]); RATE_SECONDS + 1],
}

/// The index of an action in [`Action::ALL`].
fn index(action: Action) -> usize {
    Action::ALL.iter().position(|known| *known == action).unwrap_or_default()
}

/// The counts as series of points, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The time of the first point.
    pub from: Millis,
    /// The time between two points.
    pub step: Millis,
    /// The points.
    pub points: Vec<Minute>,
}

impl Minutes {
    /// Creates counters of this many hours.
    #[must_use]
    pub fn new(hours: u32) -> Self {
        let kept = usize::try_from(hours).unwrap_or(1) * 60;
        Self { kept, counts: BTreeMap::new(), seconds: [(0, [0; 3]); RATE_SECONDS + 1] }
    }

    fn first(&self, now: Millis) -> i64 {
        now.div_euclid(MINUTE) + 1 - i64::try_from(self.kept).unwrap_or(i64::MAX)
    }

    /// Returns the minute of a time, if it is kept.
    pub fn at(&mut self, time: Millis, now: Millis) -> Option<&mut Minute> {
        let (first, minute) = (self.first(now), time.div_euclid(MINUTE));
        if minute < first || minute > now.div_euclid(MINUTE) + 1 {
            return None;
        }
        while self.counts.first_key_value().is_some_and(|(oldest, _)| *oldest < first) {
            self.counts.pop_first();
        }
        Some(self.counts.entry(minute).or_default())
    }

    /// Counts a decision.
    pub fn decision(&mut self, action: Action, time: Millis, now: Millis) {
        if let Some(minute) = self.at(time, now) {
            minute.actions[index(action)] += 1;
        }
        let second = time.div_euclid(1_000);
        let slot =
            &mut self.seconds[usize::try_from(second.rem_euclid(RATE_SECONDS as i64 + 1)).unwrap_or(0)];
        if slot.0 < second {
            *slot = (second, [0; 3]);
        }
        if slot.0 == second {
            slot.1[index(action)] += 1;
        }
    }

    /// Returns the decisions a second by action, over the last complete seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn rates(&self, now: Millis) -> [f64; 3] {
        let second = now.div_euclid(1_000);
        let recent =
            self.seconds.iter().filter(|(at, _)| (second - RATE_SECONDS as i64..second).contains(at));
        let sums = recent.fold([0; 3], |sums: [u64; 3], (_, counts)| {
            std::array::from_fn(|action| sums[action] + counts[action])
        });
        sums.map(|sum| sum as f64 / RATE_SECONDS as f64)
    }

    /// Returns the sum of all minutes.
    #[must_use]
    pub fn total(&self, now: Millis) -> Minute {
        let mut total = Minute::default();
        self.counts.range(self.first(now)..).for_each(|(_, minute)| total.add(minute));
        total
    }

    /// Returns the counts for charts.
    #[must_use]
    pub fn series(&self, now: Millis) -> Series {
        let step = self.kept.div_ceil(POINTS);
        let wide = i64::try_from(step).unwrap_or(1);
        let first = self.first(now);
        let mut points = vec![Minute::default(); self.kept.div_ceil(step)];
        for (minute, counts) in self.counts.range(first..) {
            let point = usize::try_from((minute - first) / wide).ok().and_then(|at| points.get_mut(at));
            if let Some(point) = point {
                point.add(counts);
            }
        }
        Series { from: first * MINUTE, step: wide * MINUTE, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_for_their_hours_and_points_are_bounded() {
        let (mut minutes, start) = (Minutes::new(6), 1_000 * MINUTE);
        minutes.decision(Action::Block, start, start);
        minutes.decision(Action::Allow, start + MINUTE, start + MINUTE);
        minutes.decision(Action::Allow, 0, start);
        minutes.decision(Action::Allow, start + 10 * MINUTE, start);
        assert_eq!(
            minutes.total(start + MINUTE).actions,
            [1, 1, 0],
            "neither the old one nor that of the future"
        );
        let series = minutes.series(start + MINUTE);
        assert_eq!((series.points.len(), series.step), (180, 2 * MINUTE));
        assert_eq!(series.points.iter().map(|point| point.actions[1]).sum::<u64>(), 1);
        assert_eq!(minutes.total(start + 360 * MINUTE).actions, [1, 0, 0], "the first is over");
        for minute in 0..10_000 {
            let time = start + minute * MINUTE;
            minutes.decision(Action::Review, time, time);
        }
        assert!(minutes.counts.len() <= 361);
        assert!(Minutes::new(48).series(start).points.len() <= 180);
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut minutes = Minutes::new(1);
        for millis in 0..60_000 {
            minutes.decision(Action::Allow, millis, millis);
        }
        assert_eq!(minutes.rates(60_000), [1_000.0, 0.0, 0.0]);
        assert_eq!(minutes.rates(75_000), [500.0, 0.0, 0.0]);
        assert_eq!(minutes.rates(200_000), [0.0; 3]);
    }
}
