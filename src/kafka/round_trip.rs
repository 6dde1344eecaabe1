//! The time that one request to the brokers takes, and the time-outs and sizes that follow from it.
//!
//! A unit costs a handful of round trips that nothing can shorten: partitions are added to the transaction, records are
//! acknowledged, offsets are added and sent, and the transaction ends. Time-outs that are generous beside a broker in
//! the same room are therefore too short for one on another continent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Round trips that a transaction may take. With review requests and connections that are opened on the way it takes
/// about twelve; large units add some.
const TRANSACTION: u32 = 20;
/// Round trips that a session is longer than. It must be longer than a transaction.
const SESSION: u32 = 30;
/// Round trips that a client may take to connect and to be answered.
const ANSWER: u32 = 20;
/// Round trips that one partition costs where partitions are asked about one after the other.
const PARTITION: u32 = 3;
/// The round trip is the least of this many requests that are answered: what the machines are busy with beside it does not
/// count.
const SAMPLES: usize = 2;
/// Requests that may go unanswered meanwhile: the client opens other connections as it learns where the brokers are.
const LOST: usize = 4;

/// A commit that takes longer than this is followed by a larger unit.
const COMMIT: Duration = Duration::from_millis(100);
/// The greatest factor by which units grow. It bounds the memory of what is decided and not committed.
const GROWTH: usize = 32;

/// The longest round trip to the brokers that was measured. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RoundTrip(Arc<AtomicU64>);

impl PartialEq for RoundTrip {
    /// A measurement says nothing of which brokers are meant.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RoundTrip {}

impl RoundTrip {
    /// The round trip; zero before the first measurement.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Notes a measurement. The longest counts: members and producers that are made with one time-out live on when the
    /// round trip is shorter again.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros.max(1), Ordering::Relaxed);
    }

    /// Returns `true` once there is a measurement.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Notes the least duration of some requests. Returns `false`, and notes nothing, if they are not answered.
    pub(super) fn measure(&self, mut request: impl FnMut() -> bool) -> bool {
        let mut answered = Vec::new();
        for _ in 0..SAMPLES + LOST {
            let sent = Instant::now();
            if request() {
                answered.push(sent.elapsed());
            }
            if answered.len() == SAMPLES {
                break;
            }
        }
        let Some(least) = answered.into_iter().min() else { return false };
        self.note(least);
        true
    }

    /// The time-out for an answer: `least`, or longer if the brokers are far away.
    #[must_use]
    pub fn request_timeout(&self, least: Duration) -> Duration {
        least.max(self.get() * ANSWER)
    }

    /// The time that `count` partitions may take that are asked about one after the other.
    #[must_use]
    pub fn partitions(&self, count: usize) -> Duration {
        self.get() * PARTITION * u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The session time-out: `least`, or longer if the brokers are far away.
    #[must_use]
    pub(super) fn session(&self, least: Duration) -> Duration {
        let session = least.max(self.get() * SESSION);
        Duration::from_millis(u64::try_from(session.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time-out of a transaction: `least`, or longer if the brokers are far away.
    #[must_use]
    pub(super) fn transaction(&self, least: Duration) -> Duration {
        let transaction = least.max(self.get() * TRANSACTION);
        Duration::from_millis(u64::try_from(transaction.as_millis()).unwrap_or(u64::MAX))
    }

    /// The size of the next unit: `least`, or more in proportion to the time that the last commit took, so that a long
    /// round trip does not cost throughput. Time that round trips do not explain counts for nothing: brokers that are slow
    /// because of the amount would be given ever more.
    #[must_use]
    pub fn scaled_batch(&self, least: usize, took: Duration) -> usize {
        let waited = took.min(self.get() * TRANSACTION);
        let factor = usize::try_from(waited.as_millis() / COMMIT.as_millis()).unwrap_or(GROWTH);
        least.saturating_mul(factor.clamp(1, GROWTH))
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
                trip.note(Duration::from_millis(millis));
            }
            let found = (trip.session(six).as_secs(), trip.transaction(three).as_secs());
            assert_eq!(found, (session, transaction), "{millis} ms");
            assert!(trip.transaction(three) < trip.session(six));
        }
        assert_eq!(trip.request_timeout(Duration::from_secs(5)), Duration::from_secs(20));
        assert_eq!(trip.partitions(50), Duration::from_secs(150));
        trip.note(Duration::from_millis(1));
        assert_eq!(trip.session(six).as_secs(), 30, "members that were made before have this session");
        assert_eq!(trip, RoundTrip::default());
    }

    #[test]
    fn the_least_of_some_requests_is_noted_and_none_that_fails() {
        let (trip, mut asked) = (RoundTrip::default(), 0);
        let mut nth = |from: usize| {
            trip.measure(|| {
                asked += 1;
                asked >= from
            })
        };
        assert!(!nth(usize::MAX));
        assert!(nth(SAMPLES + 2 * LOST));
        assert_eq!(
            asked,
            2 * SAMPLES + 2 * LOST - 1,
            "some are lost, and no more are asked for than are needed"
        );
        assert!(trip.is_known() && trip.get() < Duration::from_secs(1));
    }

    #[test]
    fn units_grow_with_the_commit_up_to_a_bound() {
        let far = RoundTrip::default();
        far.note(Duration::from_millis(400));
        let after = |millis| far.scaled_batch(500, Duration::from_millis(millis));
        assert_eq!([0, 99, 199, 600, 3_000].map(after), [500, 500, 500, 3_000, 15_000]);
        assert_eq!(after(u64::MAX), 500 * GROWTH);
        // A near broker that is slow gets no more at a time.
        let near = RoundTrip::default();
        assert_eq!(near.scaled_batch(500, Duration::from_secs(9)), 500);
        near.note(Duration::from_millis(4));
        assert_eq!(near.scaled_batch(500, Duration::from_secs(9)), 500);
    }
}
