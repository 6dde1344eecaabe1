//! Retries of requests to a busy collector, which may state a delay.

use std::time::Duration;

use hyper::StatusCode;

/// The greatest number of requests for one batch.
const MAX_ATTEMPTS: u32 = 5;
/// The first delay if the collector states none. Each later one is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay, also of those that the collector states.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Returns `true` for the four statuses after which OTLP over HTTP repeats a request.
pub fn is_retryable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Returns the delay after this number of attempts, or `None` if there are no more. If the collector states no delay,
/// `jitter`, from 0 to 1, shortens it to as little as half, so that many clients do not return at the same time.
pub fn delay(attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
    if attempts >= MAX_ATTEMPTS {
        return None;
    }
    let own = || {
        let whole = FIRST_DELAY * 2_u32.pow(attempts.saturating_sub(1));
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    };
    Some(retry_after.unwrap_or_else(own).min(MAX_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_delay_is_used_within_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(delay(1, Some(seconds(7)), 0.9), Some(seconds(7)));
        assert_eq!(delay(4, Some(seconds(86_400)), 0.0), Some(MAX_DELAY));
        assert_eq!(delay(1, Some(Duration::MAX), 0.0), Some(MAX_DELAY));
    }

    #[test]
    fn delays_double_and_end() {
        let waits = |jitter| (1..8).map_while(|attempts| delay(attempts, None, jitter)).collect::<Vec<_>>();
        assert_eq!(waits(0.0), [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!(waits(1.0), [500, 1_000, 2_000, 4_000].map(Duration::from_millis));
        assert_eq!(delay(MAX_ATTEMPTS, Some(Duration::from_secs(1)), 0.0), None);
    }

    #[test]
    fn only_retryable_statuses_are_repeated() {
        let retryable: Vec<u16> =
            (100..600).filter(|code| is_retryable(StatusCode::from_u16(*code).unwrap())).collect();
        assert_eq!(retryable, [429, 502, 503, 504]);
    }
}
