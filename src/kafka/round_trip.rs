//! The round trip of a request to the brokers, and the time-outs and batch sizes that follow from it.
//!
//! A transaction needs several round trips one after the other: partitions are added to it, records are acknowledged,
//! offsets are added and sent, and it ends. Time-outs that are generous for a broker in the same room are therefore too
//! short for one on another continent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time-out of a transaction, in round trips. With review requests and newly opened connections a transaction takes
/// about twelve; large batches add some.
const TRANSACTION_TRIPS: u32 = 20;
/// The time-out of a session, in round trips. A session must be longer than a transaction.
const SESSION_TRIPS: u32 = 30;
/// The time-out for connecting and one answer, in round trips.
const REQUEST_TRIPS: u32 = 20;
/// The time for one partition, in round trips, if partitions are requested one after the other.
const PARTITION_TRIPS: u32 = 3;
/// The number of answered requests of which the fastest is the round trip, so that other load on the machines does not
/// count.
const SAMPLES: usize = 2;
/// The number of requests that may fail during a measurement: the client opens other connections as it learns the
/// brokers' addresses.
const MAX_FAILED: usize = 4;

/// The duration of a commit beyond which the next batch is larger.
const FAST_COMMIT: Duration = Duration::from_millis(100);
/// The largest factor by which batches grow. It bounds the memory for uncommitted records.
const MAX_GROWTH: usize = 32;

/// The longest measured round trip to the brokers. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RoundTrip(Arc<AtomicU64>);

impl PartialEq for RoundTrip {
    /// Always `true`: two connections to the same brokers are equal, whatever was measured.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RoundTrip {}

impl RoundTrip {
    /// Returns the round trip, which is zero before the first measurement.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Records a measurement. The longest one counts, because members and producers keep the time-outs they were created
    /// with when the round trip becomes shorter.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros.max(1), Ordering::Relaxed);
    }

    /// Returns `true` once there is a measurement.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Measures some requests and records the shortest. Returns `false`, and records nothing, if they fail.
    pub(super) fn measure(&self, mut request: impl FnMut() -> bool) -> bool {
        let mut answered = Vec::new();
        for _ in 0..SAMPLES + MAX_FAILED {
            let sent = Instant::now();
            if request() {
                answered.push(sent.elapsed());
            }
            if answered.len() == SAMPLES {
                break;
            }
        }
        let Some(least) = answered.into_iter().min() else { return false };
        self.record(least);
        true
    }

    /// Returns the time-out for an answer: `least`, or longer if the brokers are far away.
    #[must_use]
    pub fn request_timeout(&self, least: Duration) -> Duration {
        least.max(self.get() * REQUEST_TRIPS)
    }

    /// Returns the time-out for requests about `count` partitions, one after the other.
    #[must_use]
    pub fn partitions(&self, count: usize) -> Duration {
        self.get() * PARTITION_TRIPS * u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Returns the session time-out: `least`, or longer if the brokers are far away.
    #[must_use]
    pub(super) fn session(&self, least: Duration) -> Duration {
        let session = least.max(self.get() * SESSION_TRIPS);
        Duration::from_millis(u64::try_from(session.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the time-out of a transaction: `least`, or longer if the brokers are far away.
    #[must_use]
    pub(super) fn transaction(&self, least: Duration) -> Duration {
        let transaction = least.max(self.get() * TRANSACTION_TRIPS);
        Duration::from_millis(u64::try_from(transaction.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the size of the next batch: `least`, or more in proportion to the time that the last commit `took`, so that
    /// a long round trip does not cost throughput. Time that round trips do not explain is ignored: otherwise brokers that
    /// are slow because of the amount would get ever larger batches.
    #[must_use]
    pub fn scaled_batch(&self, least: usize, took: Duration) -> usize {
        let waited = took.min(self.get() * TRANSACTION_TRIPS);
        let factor = usize::try_from(waited.as_millis() / FAST_COMMIT.as_millis()).unwrap_or(MAX_GROWTH);
        least.saturating_mul(factor.clamp(1, MAX_GROWTH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_follow_the_round_trip_and_never_shrink() {
        let trip = RoundTrip::default();
        let (six, three) = (Duration::from_secs(6), Duration::from_secs(3));
        for (millis, session, transaction) in
            [(0, 6, 3), (1, 6, 3), (100, 6, 3), (200, 6, 4), (400, 12, 8), (1_000, 30, 20)]
        {
            if millis > 0 {
                trip.record(Duration::from_millis(millis));
            }
            let found = (trip.session(six).as_secs(), trip.transaction(three).as_secs());
            assert_eq!(found, (session, transaction), "{millis} ms");
            assert!(trip.transaction(three) < trip.session(six));
        }
        assert_eq!(trip.request_timeout(Duration::from_secs(5)), Duration::from_secs(20));
        assert_eq!(trip.partitions(50), Duration::from_secs(150));
        trip.record(Duration::from_millis(1));
        assert_eq!(trip.session(six).as_secs(), 30, "members created before have this session");
        assert_eq!(trip, RoundTrip::default());
    }

    #[test]
    fn the_fastest_request_is_recorded_and_failed_ones_are_not() {
        let (trip, mut sent) = (RoundTrip::default(), 0);
        let mut nth = |from: usize| {
            trip.measure(|| {
                sent += 1;
                sent >= from
            })
        };
        assert!(!nth(usize::MAX));
        assert!(nth(SAMPLES + 2 * MAX_FAILED));
        assert_eq!(sent, 2 * SAMPLES + 2 * MAX_FAILED - 1, "some fail, and only the needed number is sent");
        assert!(trip.is_known() && trip.get() < Duration::from_secs(1));
    }

    #[test]
    fn batches_grow_with_the_commit_up_to_a_bound() {
        let far = RoundTrip::default();
        far.record(Duration::from_millis(400));
        let after = |millis| far.scaled_batch(500, Duration::from_millis(millis));
        assert_eq!([0, 99, 199, 600, 3_000].map(after), [500, 500, 500, 3_000, 15_000]);
        assert_eq!(after(u64::MAX), 500 * MAX_GROWTH);
        // A broker that is near and slow gets no larger batches.
        let near = RoundTrip::default();
        assert_eq!(near.scaled_batch(500, Duration::from_secs(9)), 500);
        near.record(Duration::from_millis(4));
        assert_eq!(near.scaled_batch(500, Duration::from_secs(9)), 500);
    }
}
