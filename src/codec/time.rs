//! Times as people and tools write them.

use crate::core::event::Millis;

/// The first millisecond of the year 0000.
pub const EARLIEST: Millis = -62_167_219_200_000;
/// The last millisecond of the year 9999. Times outside are refused, so that sums of times and
/// horizons never overflow.
pub const LATEST: Millis = 253_402_300_799_999;

/// Reads an RFC 3339 time such as `2026-03-01T09:30:00.250+01:00`; a space may stand for the `T`.
///
/// Digits past the millisecond are cut off, a leap second is the next minute's first. `None` where
/// the text is anything else, or before the year 0000 or after 9999 in UTC.
#[must_use]
pub fn parse_millis(text: &str) -> Option<Millis> {
    let mut rest = Scanner(text.as_bytes());
    let year = rest.digits(4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.digits(2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2)?;
    rest.one_of(b":")?;
    let second = rest.digits(2)?;
    let millis = rest.fraction()?;
    let offset = rest.zone()?;
    if !rest.0.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset;
    let time = (minutes * 60 + second) * 1_000 + millis;
    (EARLIEST..=LATEST).contains(&time).then_some(time)
}

/// Writes a time in RFC 3339, in UTC to the millisecond; times outside [`EARLIEST`] to [`LATEST`] as the
/// nearest of these.
#[must_use]
pub fn format_millis(time: Millis) -> String {
    let time = time.clamp(EARLIEST, LATEST);
    let (days, inside) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000));
    // A year has at most 366 days: never past it, and a few years short of it.
    let mut year = (days + 719_528) / 366;
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_epoch(year, month + 1, 1) <= days {
        month += 1;
    }
    let day = days - days_since_epoch(year, month, 1) + 1;
    let (seconds, millis) = (inside / 1_000, inside % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, for years from 0.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before this year, counting the year 0, which is one.
    let leaps = if year == 0 {
        0
    } else {
        let last = year - 1;
        last / 4 - last / 100 + last / 400 + 1
    };
    let before: i64 = (1..month).map(|month| days_of(year, month)).sum();
    year * 365 + leaps + before + day - 1 - 719_528
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn digit(&mut self) -> Option<i64> {
        let (first, rest) = self.0.split_first()?;
        first.is_ascii_digit().then(|| {
            self.0 = rest;
            i64::from(first - b'0')
        })
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        (0..count).try_fold(0, |sum, _| Some(sum * 10 + self.digit()?))
    }

    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        allowed.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// Milliseconds of an optional fraction; `None` for a point without digits.
    fn fraction(&mut self) -> Option<i64> {
        if self.one_of(b".").is_none() {
            return Some(0);
        }
        let mut millis = 100 * self.digit()?;
        let mut scale = 10;
        while let Some(digit) = self.digit() {
            millis += digit * scale;
            scale /= 10;
        }
        Some(millis)
    }

    /// Minutes east of UTC.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.digits(2)?;
        self.one_of(b":")?;
        let minutes = self.digits(2)?;
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2026-03-01T09:30:00.25+01:00", 1_772_353_800_250),
            ("2026-03-01 08:30:00.2509999z", 1_772_353_800_250),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2090-01-01T00:00:00Z", 3_786_912_000_000),
            ("0000-01-01T00:00:00Z", EARLIEST),
            ("9999-12-31T23:59:59.999Z", LATEST),
        ] {
            assert_eq!(parse_millis(text), Some(expected), "{text}");
            assert_eq!(parse_millis(&format_millis(expected)), Some(expected), "{text}");
        }
        assert_eq!(format_millis(1_772_353_800_250), "2026-03-01T08:30:00.250Z");
        assert_eq!(format_millis(i64::MIN), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = EARLIEST;
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(
                        days_since_epoch(year, month, day) * 86_400_000,
                        expected,
                        "{year}-{month}-{day}"
                    );
                    expected += 86_400_000;
                }
            }
        }
        assert_eq!(expected, LATEST + 1);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2026",
            "2026-03-01",
            "2026-03-01T09:30:00",
            "2026-3-1T09:30:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00Z ",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "１970-01-01T00:00:00Z",
            "2026-01-01T00:00:00+24:00",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
    }
}
