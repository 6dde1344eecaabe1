//! The limit of requests a minute, for each key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The part of a minute's requests that may come at once.
const BURST_PART: f64 = 0.1;

/// The requests that a key may still send, as of a time.
struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets of the keys that have sent requests.
pub struct Rates {
    per_minute: f64,
    by_key: HashMap<String, Bucket>,
}

impl Rates {
    /// Allows this number of requests a minute for each key, or any number if it is 0.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute), by_key: HashMap::new() }
    }

    /// Takes a request of a key.
    ///
    /// # Errors
    /// Returns the time after which the key may send a request if it may send none now.
    pub fn take(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        if self.per_minute <= 0.0 {
            return Ok(());
        }
        let burst = (self.per_minute * BURST_PART).max(1.0);
        let rate = self.per_minute / 60.0;
        let bucket = self.by_key.entry(key.to_owned()).or_insert(Bucket { left: burst, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { left: (bucket.left + passed * rate).min(burst), at: now };
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.left) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_a_tenth_and_the_rest_follows_the_minute() {
        let (mut rates, start) = (Rates::new(60), Instant::now());
        assert_eq!((0..20).filter(|_| rates.take("a", start).is_ok()).count(), 6);
        assert!(rates.take("b", start).is_ok(), "keys do not share");
        let wait = rates.take("a", start).unwrap_err();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(900), "{wait:?}");
        let later = start + Duration::from_secs(3);
        assert_eq!((0..20).filter(|_| rates.take("a", later).is_ok()).count(), 3);
        let mut free = Rates::new(0);
        assert!((0..1_000).all(|_| free.take("a", start).is_ok()));
    }
}
