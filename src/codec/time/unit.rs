//! Numbers that are times: which unit of time they count.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::event::Millis;

/// What a number that is a time counts since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// Seconds, milliseconds, microseconds or nanoseconds: whichever makes it a time from 1990 to 2099; where none
    /// does, milliseconds.
    Auto,
    /// As Kafka does.
    Milliseconds,
    /// Also with a fraction.
    Seconds,
    /// As Debezium's `MicroTimestamp` does.
    Microseconds,
    /// As pandas and Debezium's `NanoTimestamp` do.
    Nanoseconds,
}

/// Seconds of the years 1990 to 2099: in no two units does one number lie there.
const PLAUSIBLE: Range<f64> = 631_152_000.0..4_102_444_800.0;

/// The unit of a number by its size.
///
/// `ours`: by Aegis's own names, where a whole number is milliseconds if it can be.
fn unit(number: f64, ours: bool) -> Option<TimeUnit> {
    let by = |divisor: f64| PLAUSIBLE.contains(&(number / divisor));
    if by(1.0) && (!ours || number.fract() != 0.0) {
        Some(TimeUnit::Seconds)
    } else if by(1e3) {
        Some(TimeUnit::Milliseconds)
    } else if by(1e6) {
        Some(TimeUnit::Microseconds)
    } else if by(1e9) {
        Some(TimeUnit::Nanoseconds)
    } else {
        None
    }
}

/// Reads a whole number as a time; `None`: it is none.
#[expect(clippy::cast_precision_loss, reason = "only the size matters")]
pub(in crate::codec) fn of_whole(number: i64, as_set: TimeUnit, ours: bool) -> Option<Millis> {
    let found = if as_set == TimeUnit::Auto { unit(number as f64, ours) } else { Some(as_set) };
    match found {
        Some(TimeUnit::Seconds) => number.checked_mul(1_000),
        Some(TimeUnit::Microseconds) => Some(number.div_euclid(1_000)),
        Some(TimeUnit::Nanoseconds) => Some(number.div_euclid(1_000_000)),
        Some(TimeUnit::Milliseconds | TimeUnit::Auto) | None => Some(number),
    }
}

/// Reads a number that is written with a fraction or an exponent as a time; `None`: it is none.
///
/// A fraction of zero is one: a clock that counts seconds as floats strikes whole ones, too.
pub(in crate::codec) fn of_real(number: f64, as_set: TimeUnit) -> Option<Millis> {
    /// Whole numbers up to here are exact in f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let found = match as_set {
        TimeUnit::Auto => unit(number, false),
        TimeUnit::Milliseconds => None,
        other => Some(other),
    };
    let millis = match found {
        Some(TimeUnit::Seconds) => (number * 1_000.0).round(),
        Some(TimeUnit::Microseconds) => (number / 1e3).floor(),
        Some(TimeUnit::Nanoseconds) => (number / 1e6).floor(),
        Some(TimeUnit::Milliseconds | TimeUnit::Auto) => number.floor(),
        // A fraction of a millisecond is a mistake, in 1970 or where milliseconds are set.
        None if number.fract() == 0.0 => number,
        None => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "whole and within i64")]
    (millis.abs() <= EXACT).then_some(millis as i64)
}

/// Reads a text of digits as the number that it is; `None`: it is anything else, or it may be another date.
///
/// Without a unit ten digits can be seconds or an hour of a day (`2026030112`), so they are not read.
pub(in crate::codec) fn of_digits(text: &str, as_set: TimeUnit) -> Option<Millis> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    match text.parse::<i64>() {
        Ok(number) => {
            #[expect(clippy::cast_precision_loss, reason = "only the size matters")]
            let known = as_set != TimeUnit::Auto || unit(number as f64, true).is_some();
            if known { of_whole(number, as_set, true) } else { None }
        }
        Err(_) => {
            let number: f64 = text.parse().ok()?;
            // Of ten digits and a fraction of zero the same holds as of ten digits.
            let known = as_set != TimeUnit::Auto || unit(number, true).is_some();
            if known { of_real(number, as_set) } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_number_is_its_size() {
        let millis = Some(1_772_366_400_250);
        for ours in [false, true] {
            for number in [1_772_366_400_250, 1_772_366_400_250_123, 1_772_366_400_250_123_456] {
                assert_eq!(of_whole(number, TimeUnit::Auto, ours), millis, "{number}");
            }
            assert_eq!(of_whole(5, TimeUnit::Auto, ours), Some(5));
            assert_eq!(of_whole(-5, TimeUnit::Auto, ours), Some(-5));
        }
        for (number, expected) in [
            (1_772_366_400.25, millis),
            (1_772_366_400_250.75, millis),
            (1_772_366_400.0, Some(1_772_366_400_000)),
            (1_772_366_400_250.0, millis),
            (5.0, Some(5)),
            (1.5, None),
            (f64::NAN, None),
        ] {
            assert_eq!(of_real(number, TimeUnit::Auto), expected, "{number}");
        }
        assert_eq!(of_whole(1_772_366_400, TimeUnit::Auto, false), Some(1_772_366_400_000));
        assert_eq!(of_whole(1_772_366_400, TimeUnit::Auto, true), Some(1_772_366_400));
        for (number, unit) in [
            (1_772_366_400_250, TimeUnit::Milliseconds),
            (1_772_366_400_250_999, TimeUnit::Microseconds),
            (1_772_366_400_250_999_999, TimeUnit::Nanoseconds),
        ] {
            assert_eq!(of_whole(number, unit, false), millis);
            assert_eq!(of_digits(&number.to_string(), unit), millis);
            assert_eq!(of_digits(&number.to_string(), TimeUnit::Auto), millis);
        }
        assert_eq!(of_whole(1_772_366_400, TimeUnit::Seconds, false), Some(1_772_366_400_000));
        assert_eq!(of_digits("1772366400.25", TimeUnit::Auto), millis);
        assert_eq!(of_digits("1772366400", TimeUnit::Seconds), Some(1_772_366_400_000));
        assert_eq!(of_digits("1772366400250.0", TimeUnit::Auto), millis);
        for text in [
            "2026030112",
            "20260301",
            "20260301120000",
            "",
            ".5",
            "1.2.3",
            "-",
            "1e3",
            "٣",
            "1772366400.0",
            "2026030112.0",
            "20260301.0",
            "20260301.5",
            "2026.",
        ] {
            assert_eq!(of_digits(text, TimeUnit::Auto), None, "{text}");
        }
    }
}
