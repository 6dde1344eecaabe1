//! The delay that a busy server states.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;

/// Returns the `Retry-After` of a response, in seconds. A date is ignored, because clocks differ.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(RETRY_AFTER)?.as_bytes())
}

/// Parses a `Retry-After`. The caller bounds the delay, which may be long.
fn parse(value: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(value).ok()?.trim();
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // A number that does not fit is bounded like any other.
    all.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_of_seconds() {
        let seconds = Duration::from_secs;
        assert_eq!(parse(b"7"), Some(seconds(7)));
        assert_eq!(parse(b" 0 "), Some(seconds(0)));
        assert_eq!(parse(&[b'9'; 40]), Some(seconds(u64::MAX)));
        for other in ["", "-1", "1.5", "+3", "Fri, 31 Dec 1999 23:59:59 GMT", "\u{661}"] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(parse(b"\xff"), None);
    }
}
