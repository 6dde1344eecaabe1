//! The units of times that are numbers.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::event::Millis;

/// The unit in which a number counts the time since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// The unit that makes it a time from 1990 to 2099: seconds, milliseconds, microseconds or nanoseconds. If none does,
    /// milliseconds.
    #[default]
    Auto,
    /// Milliseconds, as Kafka uses them.
    Milliseconds,
    /// Seconds, which may have a fraction.
    Seconds,
    /// Microseconds, as in Debezium's `MicroTimestamp`.
    Microseconds,
    /// Nanoseconds, as in pandas and in Debezium's `NanoTimestamp`.
    Nanoseconds,
}

/// The seconds of the years 1990 to 2099. No number is within this range in two units.
const PLAUSIBLE: Range<f64> = 631_152_000.0..4_102_444_800.0;

/// Returns the unit of a number by its size.
///
/// `ours` is set for records with Aegis's own field names, in which an integer is in milliseconds unless that is
/// implausible.
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

/// Reads an integer as a time. Returns `None` if it is out of range.
#[expect(clippy::cast_precision_loss, reason = "only the size matters")]
pub(in crate::codec) fn parse_integer(number: i64, setting: TimeUnit, ours: bool) -> Option<Millis> {
    let found = if setting == TimeUnit::Auto { unit(number as f64, ours) } else { Some(setting) };
    match found {
        Some(TimeUnit::Seconds) => number.checked_mul(1_000),
        Some(TimeUnit::Microseconds) => Some(number.div_euclid(1_000)),
        Some(TimeUnit::Nanoseconds) => Some(number.div_euclid(1_000_000)),
        Some(TimeUnit::Milliseconds | TimeUnit::Auto) | None => Some(number),
    }
}

/// Reads a number that is written with a fraction or an exponent as a time. Returns `None` if it cannot be one.
///
/// The fraction may be zero, since a clock that counts seconds as floats also gives whole numbers.
pub(in crate::codec) fn parse_real(number: f64, setting: TimeUnit) -> Option<Millis> {
    /// Whole numbers up to here are exact in f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let found = match setting {
        TimeUnit::Auto => unit(number, false),
        TimeUnit::Milliseconds => None,
        other => Some(other),
    };
    let millis = match found {
        Some(TimeUnit::Seconds) => (number * 1_000.0).round(),
        Some(TimeUnit::Microseconds) => (number / 1e3).floor(),
        Some(TimeUnit::Nanoseconds) => (number / 1e6).floor(),
        Some(TimeUnit::Milliseconds | TimeUnit::Auto) => number.floor(),
        // A fraction of a millisecond is a mistake, whether in 1970 or if the unit is set to milliseconds.
        None if number.fract() == 0.0 => number,
        None => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "whole and within i64")]
    (millis.abs() <= EXACT).then_some(millis as i64)
}

/// Reads a text of digits as a number. Returns `None` for any other text, and if the digits may be a date.
///
/// Without a unit ten digits can be seconds or an hour of a day (`2026030112`), so they are not read.
pub(in crate::codec) fn parse_digits(text: &str, setting: TimeUnit) -> Option<Millis> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    match text.parse::<i64>() {
        Ok(number) => {
            #[expect(clippy::cast_precision_loss, reason = "only the size matters")]
            let known = setting != TimeUnit::Auto || unit(number as f64, true).is_some();
            if known { parse_integer(number, setting, true) } else { None }
        }
        Err(_) => {
            let number: f64 = text.parse().ok()?;
            // Ten digits with a fraction of zero are as ambiguous as ten digits.
            let known = setting != TimeUnit::Auto || unit(number, true).is_some();
            if known { parse_real(number, setting) } else { None }
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
                assert_eq!(parse_integer(number, TimeUnit::Auto, ours), millis, "{number}");
            }
            assert_eq!(parse_integer(5, TimeUnit::Auto, ours), Some(5));
            assert_eq!(parse_integer(-5, TimeUnit::Auto, ours), Some(-5));
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
            assert_eq!(parse_real(number, TimeUnit::Auto), expected, "{number}");
        }
        assert_eq!(parse_integer(1_772_366_400, TimeUnit::Auto, false), Some(1_772_366_400_000));
        assert_eq!(parse_integer(1_772_366_400, TimeUnit::Auto, true), Some(1_772_366_400));
        for (number, unit) in [
            (1_772_366_400_250, TimeUnit::Milliseconds),
            (1_772_366_400_250_999, TimeUnit::Microseconds),
            (1_772_366_400_250_999_999, TimeUnit::Nanoseconds),
        ] {
            assert_eq!(parse_integer(number, unit, false), millis);
            assert_eq!(parse_digits(&number.to_string(), unit), millis);
            assert_eq!(parse_digits(&number.to_string(), TimeUnit::Auto), millis);
        }
        assert_eq!(parse_integer(1_772_366_400, TimeUnit::Seconds, false), Some(1_772_366_400_000));
        assert_eq!(parse_digits("1772366400.25", TimeUnit::Auto), millis);
        assert_eq!(parse_digits("1772366400", TimeUnit::Seconds), Some(1_772_366_400_000));
        assert_eq!(parse_digits("1772366400250.0", TimeUnit::Auto), millis);
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
            assert_eq!(parse_digits(text, TimeUnit::Auto), None, "{text}");
        }
    }
}
