//! JSON as people and tools send it, in which every field may be missing or have a wrong type. An error then names the
//! field and does not quote its value; serde's own messages, which do, do not leave [`parse`].

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::MAX_DEPTH;
use super::error::DecodeError;
use super::lenient::Reader;
use super::time::{self, TimeError, TimeUnit, Zone};
use super::wire::{List, ListVisitor, Symbols};
use crate::core::event::Millis;

/// Parses JSON strictly.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    if too_deep(text) {
        return Err(DecodeError::TooDeep);
    }
    serde_json::from_str(text)
        .map_err(|error| DecodeError::BadJson { line: error.line(), column: error.column() })
}

/// Reads JSON that people and tools wrote, as long as its structure can be followed. Also returns the number of escapes
/// that were read as U+FFFD.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<(T, usize), DecodeError> {
    let mut reader = Reader::new(text);
    let read = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map(|value| (value, reader.replaced)).map_err(|error| reader.error(error))
}

/// Deserializes JSON with `seed`, as [`read`] does. Returns `None` if its structure cannot be followed.
pub(crate) fn read_into<'a, S: DeserializeSeed<'a>>(text: &'a str, seed: S) -> Option<S::Value> {
    let mut reader = Reader::new(text);
    let value = seed.deserialize(&mut reader).ok()?;
    reader.end().is_ok().then_some(value)
}

/// Returns `true` if brackets are nested deeper than [`MAX_DEPTH`].
fn too_deep(text: &str) -> bool {
    let (mut depth, mut quoted) = (0_usize, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                bytes.next();
            }
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Any value in the place of a symbol, a number or a text.
#[derive(Debug, Default)]
pub(crate) enum Scalar {
    #[default]
    Absent,
    Bool(bool),
    Whole(i64),
    /// An integer outside of `i64`, as it is written.
    Wide(String),
    Number(f64),
    Text(String),
    /// A list or an object.
    Other,
}

impl Scalar {
    /// Returns the text of a field.
    ///
    /// This and the other methods return `None` for a missing field or `null`, and [`DecodeError::BadValue`] for a value of
    /// another type.
    pub(super) fn text(self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(DecodeError::BadValue { field }),
        }
    }

    /// Returns an id, which may be an integer. The digits of other numbers depend on the program that writes them.
    pub(crate) fn id(self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match self {
            Self::Whole(number) => Ok(Some(number.to_string())),
            Self::Wide(digits) => Ok(Some(digits)),
            other => other.text(field),
        }
    }

    pub(super) fn word<T: Symbols>(self, field: &'static str) -> Result<Option<T>, DecodeError> {
        let read = |word: String| T::parse(&word).ok_or(DecodeError::BadValue { field });
        self.text(field)?.map(read).transpose()
    }

    /// Returns an integer, which may be written as 3.0.
    pub(super) fn whole(self, field: &'static str) -> Result<Option<i64>, DecodeError> {
        /// The greatest number up to which all integers are exact in `f64`.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Absent => Ok(None),
            Self::Whole(value) => Ok(Some(value)),
            #[expect(clippy::cast_possible_truncation, reason = "whole and within i64")]
            Self::Number(value) if value.fract() == 0.0 && value.abs() <= EXACT => Ok(Some(value as i64)),
            _ => Err(DecodeError::BadValue { field }),
        }
    }

    pub(super) fn number(self, field: &'static str) -> Result<Option<f64>, DecodeError> {
        match self {
            Self::Absent => Ok(None),
            #[expect(clippy::cast_precision_loss, reason = "only 0 and 1 pass the checks that follow")]
            Self::Whole(value) => Ok(Some(value as f64)),
            Self::Number(value) => Ok(Some(value)),
            _ => Err(DecodeError::BadValue { field }),
        }
    }

    /// Returns a time of a record with Aegis's own field names: milliseconds since 1970, a smaller unit if the number is as
    /// large as that, or a text with a zone.
    pub(crate) fn millis(self, field: &'static str) -> Result<Option<Millis>, DecodeError> {
        let bad = DecodeError::BadValue { field };
        self.time(TimeUnit::Auto, &Zone::default(), true).map_err(|why| match why {
            TimeError::NoZone => DecodeError::NoZone { field },
            TimeError::NotATime | TimeError::Ambiguous => bad,
        })
    }

    /// Returns a time. A number counts `unit`, and a text without a zone is in `zone`.
    pub(super) fn time(self, unit: TimeUnit, zone: &Zone, ours: bool) -> Result<Option<Millis>, TimeError> {
        let found = match self {
            Self::Absent => return Ok(None),
            Self::Text(text) => match time::parse_digits(&text, unit) {
                None => Some(time::parse(&text, zone)?),
                found => found,
            },
            Self::Whole(number) => time::parse_integer(number, unit, ours),
            Self::Number(number) => time::parse_real(number, unit),
            Self::Bool(_) | Self::Wide(_) | Self::Other => None,
        };
        let found = found.filter(|time| (time::EARLIEST..=time::LATEST).contains(time));
        found.map(Some).ok_or(TimeError::NotATime)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

macro_rules! scalar {
    ($($visit:ident($value:ident: $type:ty) -> $scalar:expr),* $(,)?) => {$(
        fn $visit<E: Error>(self, $value: $type) -> Result<Scalar, E> {
            Ok($scalar)
        }
    )*};
}

/// Skips the rest of a list.
fn skip_list<'de, A: SeqAccess<'de>>(mut from: A) -> Result<(), A::Error> {
    while from.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Skips the rest of an object.
fn skip_object<'de, A: MapAccess<'de>>(mut from: A) -> Result<(), A::Error> {
    while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }

    scalar!(
        visit_bool(value: bool) -> Scalar::Bool(value),
        visit_i64(value: i64) -> Scalar::Whole(value),
        visit_u64(value: u64) -> i64::try_from(value).map_or_else(|_| Scalar::Wide(value.to_string()), Scalar::Whole),
        visit_i128(value: i128) -> Scalar::Wide(value.to_string()),
        visit_u128(value: u128) -> Scalar::Wide(value.to_string()),
        visit_f64(value: f64) -> Scalar::Number(value),
        visit_str(value: &str) -> Scalar::Text(value.to_owned()),
        visit_string(value: String) -> Scalar::Text(value),
    );

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<Scalar, A::Error> {
        skip_list(from).map(|()| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Scalar, A::Error> {
        skip_object(from).map(|()| Scalar::Other)
    }
}

/// Any value in the place of a list or an object.
#[derive(Debug, Default)]
pub(crate) enum Loose<T> {
    #[default]
    Absent,
    Found(T),
    Other,
}

impl<T> Loose<T> {
    pub(super) fn found(self, field: &'static str) -> Result<Option<T>, DecodeError> {
        match self {
            Self::Absent => Ok(None),
            Self::Found(value) => Ok(Some(value)),
            Self::Other => Err(DecodeError::BadValue { field }),
        }
    }
}

/// A type that [`Loose`] can hold. It is read from a list, from an object, or from a text.
pub(crate) trait Nested<'de>: Sized {
    fn text(_: &str) -> Loose<Self> {
        Loose::Other
    }
    fn list<A: SeqAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        skip_list(from).map(|()| Loose::Other)
    }
    fn object<A: MapAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        skip_object(from).map(|()| Loose::Other)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Nested<'de> for List<T, MAX> {
    fn list<A: SeqAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        ListVisitor(PhantomData).visit_seq(from).map(Loose::Found)
    }
}

/// An object with known fields.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Nested<'de> for Object<T> {
    fn object<A: MapAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(from)).map(|value| Loose::Found(Self(value)))
    }
}

/// An object with any names. The first `MAX` entries and one more are kept, so that an excess is noticed.
#[derive(Debug)]
pub(super) struct Entries<const MAX: usize>(pub(super) BTreeMap<String, Scalar>);

impl<'de, const MAX: usize> Nested<'de> for Entries<MAX> {
    fn object<A: MapAccess<'de>>(mut from: A) -> Result<Loose<Self>, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((name, value)) = from.next_entry()? {
            if entries.len() <= MAX && entries.insert(name, value).is_some() {
                return Err(Error::duplicate_field("metadata.NAME"));
            }
        }
        Ok(Loose::Found(Self(entries)))
    }
}

impl<'de, T: Nested<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

struct LooseVisitor<T>(PhantomData<T>);

/// Visits values that are neither a list nor an object.
macro_rules! other {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E: Error>(self, _: $type) -> Result<Loose<T>, E> {
            Ok(Loose::Other)
        }
    )*};
}

impl<'de, T: Nested<'de>> Visitor<'de> for LooseVisitor<T> {
    type Value = Loose<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Loose<T>, E> {
        Ok(Loose::Absent)
    }

    other!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);

    fn visit_str<E: Error>(self, value: &str) -> Result<Loose<T>, E> {
        Ok(T::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<Loose<T>, A::Error> {
        T::list(from)
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Loose<T>, A::Error> {
        T::object(from)
    }
}
