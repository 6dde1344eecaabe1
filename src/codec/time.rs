//! Times as people and tools write them. The calendar and the time zones are [`jiff`]'s.

mod unit;

use std::borrow::Cow;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::unit::TimeUnit;
pub(super) use self::unit::{parse_digits, parse_integer, parse_real};
use crate::core::event::Millis;

/// The first millisecond of the year 0000.
pub const EARLIEST: Millis = -62_167_219_200_000;
/// The last millisecond of the year 9999. Times outside of the two are refused, so that sums of times and horizons never
/// overflow.
pub const LATEST: Millis = 253_402_300_799_999;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Reads a time with a zone, such as `2026-03-01T09:30:00.250+01:00`.
///
/// Digits after the millisecond are cut off. A leap second is the first second of the next minute. Returns `None` for any
/// other text, for a time without a zone, and for a time before the year 0000 or after 9999 in UTC.
#[must_use]
pub fn parse_millis(text: &str) -> Option<Millis> {
    parse(text, &Zone::default()).ok()
}

/// The reason why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeError {
    /// It is not written as a time, or it is before the year 0000 or after 9999.
    NotATime,
    /// It has no offset, no `Z` and no zone, and no setting gives its zone.
    NoZone,
    /// It names no instant, or two, because the clocks of its zone were changed at that time.
    Ambiguous,
}

/// The zone of times that are written without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    text: String,
    zone: Option<TimeZone>,
}

impl Zone {
    /// Returns `true` if no zone is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zone.is_none()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.text
    }
}

impl TryFrom<String> for Zone {
    /// A message with the problem and what to write instead.
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let named = || TimeZone::get(&text).ok().filter(|_| !text.starts_with(['+', '-']));
        // An offset is read by the rules for the end of a time.
        let offset = || offset_of(&Pieces::parse(&format!("2000-01-01T00{text}")).ok()?);
        match offset().map(TimeZone::fixed).or_else(named) {
            Some(zone) => Ok(Self { text, zone: Some(zone) }),
            None => Err(format!(
                "{text:?} is no time zone: write \"UTC\", an offset such as \"+01:00\", or a name such as \"Europe/Berlin\""
            )),
        }
    }
}

/// Reads a time as tools write it: ISO 8601 and RFC 3339, with a space for the `T`, an offset with or without a colon,
/// `Z`, ` UTC` or ` GMT`, or a zone's name in brackets as Java writes it. `zone` is the zone of texts without one.
///
/// An offset takes precedence over the name of a zone after it. Digits after the millisecond are cut off. A leap second
/// is the first second of the next minute.
///
/// # Errors
/// Returns [`TimeError`] if the text names no instant in the years 0000 to 9999.
pub fn parse(text: &str, zone: &Zone) -> Result<Millis, TimeError> {
    let (rest, utc) = match text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")) {
        Some(rest) => (rest.strip_suffix(' ').unwrap_or(rest), true),
        None => (text, false),
    };
    let rest = without_space(rest);
    let rest = with_nine_digits(&rest);
    let pieces = Pieces::parse(rest.as_bytes()).map_err(|_| TimeError::NotATime)?;
    let local = DateTime::from_parts(pieces.date(), pieces.time().ok_or(TimeError::NotATime)?);
    // The library reads second 60 as 59.
    let leap = if rest.get(16..19) == Some(":60") { 1_000 } else { 0 };
    let millis = if pieces.offset().is_some() {
        let offset = offset_of(&pieces).ok_or(TimeError::NotATime)?;
        if utc && !offset.is_zero() {
            return Err(TimeError::NotATime);
        }
        millis_at(local, offset)
    } else if utc {
        millis_at(local, Offset::UTC)
    } else if let Some(named) = pieces.time_zone_annotation() {
        millis_in(local, &named.to_time_zone().map_err(|_| TimeError::NotATime)?)?
    } else {
        millis_in(local, zone.zone.as_ref().ok_or(TimeError::NoZone)?)?
    };
    let time = millis + leap;
    if (EARLIEST..=LATEST).contains(&time) { Ok(time) } else { Err(TimeError::NotATime) }
}

/// Returns the text's offset if it is less than a day.
fn offset_of(pieces: &Pieces<'_>) -> Option<Offset> {
    pieces.offset().map(|offset| offset.to_numeric_offset()).filter(|offset| offset.seconds().abs() < 86_400)
}

/// Removes the space that some writers put before an offset or `Z`.
fn without_space(text: &str) -> Cow<'_, str> {
    let space = text.rfind(" +").or_else(|| text.rfind(" -")).or_else(|| text.rfind(" Z"));
    match space.and_then(|at| text.split_at_checked(at)) {
        // The first space is the one between date and time.
        Some((time, rest)) if time.contains([' ', 'T', 't']) => {
            Cow::Owned([time, rest.trim_start()].concat())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Cuts the fraction of a second to the nine digits that the library reads.
fn with_nine_digits(text: &str) -> Cow<'_, str> {
    let fraction = text.find('.').and_then(|at| text.split_at_checked(at + 1));
    let Some((time, rest)) = fraction else { return Cow::Borrowed(text) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match (rest.get(..9), rest.get(digits..)) {
        (Some(kept), Some(rest)) if digits > 9 => Cow::Owned([time, kept, rest].concat()),
        _ => Cow::Borrowed(text),
    }
}

/// Returns the milliseconds of a count of nanoseconds since 1970, rounded down.
fn millis_of(nanos: i128) -> Millis {
    i64::try_from(nanos.div_euclid(1_000_000)).expect("the library's times end with the year 9999")
}

/// Returns a local time with an offset in milliseconds. This also holds for the last hours of the year 9999, which the
/// library's instants do not reach.
fn millis_at(local: DateTime, offset: Offset) -> Millis {
    millis_of(local.duration_since(EPOCH).as_nanos()) - i64::from(offset.seconds()) * 1_000
}

fn millis_in(local: DateTime, zone: &TimeZone) -> Result<Millis, TimeError> {
    if let Ok(offset) = zone.to_fixed_offset() {
        return Ok(millis_at(local, offset));
    }
    let found = zone.to_ambiguous_timestamp(local);
    if found.is_ambiguous() {
        return Err(TimeError::Ambiguous);
    }
    found.compatible().map(|instant| millis_of(instant.as_nanosecond())).map_err(|_| TimeError::NotATime)
}

/// Writes a time in RFC 3339, in UTC to the millisecond. A time outside of [`EARLIEST`] to [`LATEST`] is written as the
/// nearest of the two.
#[must_use]
pub fn format_millis(time: Millis) -> String {
    let since = SignedDuration::from_millis(time.clamp(EARLIEST, LATEST));
    let time = EPOCH.checked_add(since).expect("the library's calendar has the years 0000 to 9999");
    format!("{time:.3}Z")
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
    fn times_as_tools_write_them() {
        let noon = 1_772_366_400_000;
        for text in [
            "2026-03-01T12:00:00+0000",
            "2026-03-01T12:00:00+00:00",
            "2026-03-01T12:00:00+00",
            "2026-03-01T12:00:00.000000Z",
            "2026-03-01 12:00:00 UTC",
            "2026-03-01 12:00:00+00:00",
            "2026-03-01 12:00:00 +0000 UTC",
            "2026-03-01 13:00:00 +0100",
            "2026-03-01T12:00:00 Z",
            "2026-03-01T12:00:00GMT",
            "2026-03-01T12:00:00.000000000000Z",
            "2026-03-01T12:00Z",
            "20260301T120000Z",
            "2026-03-01T13:00:00+01:00[Europe/Berlin]",
            "2026-03-01T13:00:00[Europe/Berlin]",
            "2026-03-01T12:00:00Z[UTC]",
            "2026-03-01T06:30:00-0530",
        ] {
            assert_eq!(parse(text, &Zone::default()), Ok(noon), "{text}");
        }
        assert_eq!(parse_millis("2026-03-01T12:00:00.123456789Z"), Some(noon + 123));
        assert_eq!(parse_millis("1969-12-31T23:59:59.9991Z"), Some(-1));
        for (text, why) in [
            ("2026-03-01T12:00:00", TimeError::NoZone),
            ("2026-03-01 12:00:00.25", TimeError::NoZone),
            ("2026-03-01T12:00", TimeError::NoZone),
            ("2026-03-01", TimeError::NotATime),
            ("2026-03-01 UTC", TimeError::NotATime),
            ("2026-03-01T12:00:00+0100 UTC", TimeError::NotATime),
            ("2026-03-01T12:00:00[Europe/Nowhere]", TimeError::NotATime),
            ("2026-03-29T02:30:00[Europe/Berlin]", TimeError::Ambiguous),
            ("2026-10-25T02:30:00[Europe/Berlin]", TimeError::Ambiguous),
            ("UTC", TimeError::NotATime),
            ("Z", TimeError::NotATime),
            (" +0000", TimeError::NotATime),
        ] {
            assert_eq!(parse(text, &Zone::default()), Err(why), "{text}");
        }
        assert_eq!(parse_millis("2026-10-25T02:30:00+01:00[Europe/Berlin]"), Some(1_792_891_800_000));
    }

    #[test]
    fn a_zone_is_for_times_without_one() {
        for (zone, expected) in [
            ("UTC", 1_772_366_400_000),
            ("Z", 1_772_366_400_000),
            ("+01:00", 1_772_362_800_000),
            ("-0530", 1_772_386_200_000),
            ("Europe/Berlin", 1_772_362_800_000),
            ("America/New_York", 1_772_384_400_000),
        ] {
            let zone = Zone::try_from(zone.to_owned()).unwrap();
            assert_eq!(parse("2026-03-01 12:00:00", &zone), Ok(expected), "{zone:?}");
            assert_eq!(parse("2026-03-01 12:00:00Z", &zone), Ok(1_772_366_400_000), "{zone:?}");
        }
        let berlin = Zone::try_from("Europe/Berlin".to_owned()).unwrap();
        assert_eq!(parse("2026-03-29T02:30:00", &berlin), Err(TimeError::Ambiguous));
        let utc = Zone::try_from("+00:00".to_owned()).unwrap();
        assert_eq!(parse("9999-12-31T23:59:59.999", &utc), Ok(LATEST));
        for bad in ["+25:00", "CET+1", "Berlin", "+", "01:00", "+01:00[UTC", "-"] {
            let refused = Zone::try_from(bad.to_owned()).unwrap_err();
            assert!(refused.contains(bad) && refused.contains("Europe/Berlin"), "{refused}");
        }
    }

    #[test]
    fn every_day_is_written_and_read() {
        // 29 days.
        for time in (EARLIEST..=LATEST).step_by(2_505_600_000) {
            assert_eq!(parse_millis(&format_millis(time)), Some(time));
        }
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
