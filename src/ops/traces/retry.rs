//! Trying again: a collector that is busy says so, and perhaps for how long.

use std::time::Duration;

use ureq::http::StatusCode;

/// Requests that are made for one batch, at most.
const TRIES: u32 = 5;
/// How long the first wait is where the collector names none; each one after it is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer, whatever the collector asks for.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether whoever answers so may soon take the same: OTLP over HTTP names these four.
pub fn is_retryable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// What a `Retry-After` asks for, in seconds. A date is passed over: clocks differ.
pub fn asked(value: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(value).ok()?.trim();
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // More digits than a number holds are a wait without end.
    all.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

/// How long to wait after so many requests; `None`: no more of them. Where the collector asks for nothing, many
/// clients must not come back together: `chance`, from 0 to 1, shortens the wait to as little as half.
pub fn wait(tried: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    if tried >= TRIES {
        return None;
    }
    let own = || {
        let whole = FIRST * 2_u32.pow(tried.saturating_sub(1));
        whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    };
    Some(asked.unwrap_or_else(own).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_waited_for_within_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(asked(b"7"), Some(seconds(7)));
        assert_eq!(asked(b" 0 "), Some(seconds(0)));
        for other in ["", "-1", "1.5", "+3", "Fri, 31 Dec 1999 23:59:59 GMT", "\u{661}"] {
            assert_eq!(asked(other.as_bytes()), None, "{other}");
        }
        assert_eq!(asked(b"\xff"), None);
        assert_eq!(wait(1, asked(b"7"), 0.9), Some(seconds(7)));
        assert_eq!(wait(4, asked(b"86400"), 0.0), Some(LONGEST));
        assert_eq!(wait(1, asked(&[b'9'; 40]), 0.0), Some(LONGEST));
    }

    #[test]
    fn waits_double_and_end() {
        let waits = |chance| (1..8).map_while(|tried| wait(tried, None, chance)).collect::<Vec<_>>();
        assert_eq!(waits(0.0), [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!(waits(1.0), [500, 1_000, 2_000, 4_000].map(Duration::from_millis));
        assert_eq!(wait(TRIES, asked(b"1"), 0.0), None);
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let passing: Vec<u16> =
            (100..600).filter(|code| is_retryable(StatusCode::from_u16(*code).unwrap())).collect();
        assert_eq!(passing, [429, 502, 503, 504]);
    }
}
