//! JSON as people and tools send it: every field may be missing or of a wrong type, and the error then
//! names the field and quotes nothing. serde's own messages quote what they read; they go no further
//! than [`parse`].

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
use super::wire::{List, ListVisitor, Words};
use crate::core::event::Millis;

/// Reads JSON.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    if too_deep(text) {
        return Err(DecodeError::TooDeep);
    }
    serde_json::from_str(text)
        .map_err(|error| DecodeError::BadJson { line: error.line(), column: error.column() })
}

/// Reads JSON that people and tools wrote, as far as its structure can be followed; also returns how many escapes were
/// read as U+FFFD.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<(T, usize), DecodeError> {
    let mut reader = Reader::new(text);
    let read = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map(|value| (value, reader.replaced)).map_err(|fault| reader.error(fault))
}

/// Reads JSON into what `seed` makes of it, as [`read`] does; `None` if its structure cannot be followed.
pub(crate) fn read_into<'a, S: DeserializeSeed<'a>>(text: &'a str, seed: S) -> Option<S::Value> {
    let mut reader = Reader::new(text);
    let value = seed.deserialize(&mut reader).ok()?;
    reader.end().is_ok().then_some(value)
}

/// Whether brackets nest deeper than [`MAX_DEPTH`].
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

/// What may stand where a word, number or text is expected.
#[derive(Debug, Default)]
pub(crate) enum Scalar {
    #[default]
    Absent,
    Bool(bool),
    Whole(i64),
    /// A whole number past `i64`, as it is written.
    Wide(String),
    Number(f64),
    Text(String),
    /// A list or an object.
    Other,
}

impl Scalar {
    pub(super) fn text(self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(DecodeError::BadValue { field }),
        }
    }

    /// An id: many are numbers. Digits of a number that is not whole would depend on the program that writes them.
    pub(crate) fn id(self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match self {
            Self::Whole(number) => Ok(Some(number.to_string())),
            Self::Wide(digits) => Ok(Some(digits)),
            other => other.text(field),
        }
    }

    pub(super) fn word<T: Words>(self, field: &'static str) -> Result<Option<T>, DecodeError> {
        let read = |word: String| T::read(&word).ok_or(DecodeError::BadValue { field });
        self.text(field)?.map(read).transpose()
    }

    /// A whole number; 3.0 is one, too.
    pub(super) fn whole(self, field: &'static str) -> Result<Option<i64>, DecodeError> {
        /// Whole numbers up to here are exact in f64.
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

    /// A time by Aegis's own names: milliseconds since 1970, smaller units by their size, or a text with a zone.
    pub(crate) fn millis(self, field: &'static str) -> Result<Option<Millis>, DecodeError> {
        let bad = DecodeError::BadValue { field };
        self.time(TimeUnit::Auto, &Zone::default(), true).map_err(|why| match why {
            TimeError::NoZone => DecodeError::NoZone { field },
            TimeError::NotATime | TimeError::Ambiguous => bad,
        })
    }

    /// A time, where a number counts `unit` and a text without a zone is in `zone`.
    pub(super) fn time(self, unit: TimeUnit, zone: &Zone, ours: bool) -> Result<Option<Millis>, TimeError> {
        let found = match self {
            Self::Absent => return Ok(None),
            Self::Text(text) => match time::of_digits(&text, unit) {
                None => Some(time::parse(&text, zone)?),
                found => found,
            },
            Self::Whole(number) => time::of_whole(number, unit, ours),
            Self::Number(number) => time::of_real(number, unit),
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

/// Reads a list or an object and forgets it.
fn pass<'de, A: SeqAccess<'de>>(mut from: A) -> Result<(), A::Error> {
    while from.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn pass_map<'de, A: MapAccess<'de>>(mut from: A) -> Result<(), A::Error> {
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

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(value).map_or_else(|_| Scalar::Wide(value.to_string()), Scalar::Whole))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Scalar, E> {
        Ok(Scalar::Wide(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Scalar, E> {
        Ok(Scalar::Wide(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<Scalar, A::Error> {
        pass(from).map(|()| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Scalar, A::Error> {
        pass_map(from).map(|()| Scalar::Other)
    }
}

/// What may stand where a list or an object is expected.
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

/// What [`Loose`] can hold: each is read from a list, from an object, or from a text.
pub(crate) trait Nested<'de>: Sized {
    fn text(_: &str) -> Loose<Self> {
        Loose::Other
    }
    fn list<A: SeqAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        pass(from).map(|()| Loose::Other)
    }
    fn object<A: MapAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        pass_map(from).map(|()| Loose::Other)
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

/// An object with any names, of which the first `MAX` and one more are kept.
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

impl<'de, T: Nested<'de>> Visitor<'de> for LooseVisitor<T> {
    type Value = Loose<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Loose<T>, E> {
        Ok(Loose::Absent)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Loose<T>, E> {
        Ok(Loose::Other)
    }

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
