//! Pieces of records that serde alone would not write the way the schemas say: words of enums,
//! bytes that are hexadecimal or base64 in JSON, and lists that stay bounded while they are read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{EnumAccess, Error, SeqAccess, VariantAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::decision::ReviewReason;
use crate::core::event::Role;
use crate::core::features::{DIMENSIONS, Features};
use crate::core::label::{Finding, Source};
use crate::core::ledger::LabelStatus;
use crate::core::policy::Action;
use crate::core::text::HiddenText;
use crate::core::vote::Abstention;

/// A core enum that records spell as words, in the order of the schema's symbols.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// The schema's name for the enum.
    const NAME: &'static str;
    /// All values, in the schema's order.
    const VALUES: &'static [Self];
    /// The value's word.
    fn spelled(self) -> &'static str;
    /// The value of a word.
    fn read(word: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.spelled() == word)
    }
}

macro_rules! words {
    ($($core:ident),*) => {$(
        impl Words for $core {
            const NAME: &'static str = stringify!($core);
            const VALUES: &'static [Self] = &Self::ALL;
            fn spelled(self) -> &'static str {
                self.word()
            }
        }
    )*};
}

words!(Role, Finding, Source, Action, Abstention, ReviewReason, HiddenText, LabelStatus);

/// A core enum inside a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word<T>(pub(super) T);

impl<T: Words> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place =
            T::VALUES.iter().position(|value| *value == self.0).and_then(|place| u32::try_from(place).ok());
        serializer.serialize_unit_variant(T::NAME, place.unwrap_or(u32::MAX), self.0.spelled())
    }
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum(T::NAME, &[], WordVisitor(PhantomData))
    }
}

struct WordVisitor<T>(PhantomData<T>);

impl<'de, T: Words> Visitor<'de> for WordVisitor<T> {
    type Value = Word<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a word of the schema")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        let (Symbol(value), rest) = data.variant::<Symbol<T>>()?;
        rest.unit_variant()?;
        Ok(Word(value))
    }
}

struct Symbol<T>(T);

impl<'de, T: Words> Deserialize<'de> for Symbol<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(SymbolVisitor(PhantomData))
    }
}

struct SymbolVisitor<T>(PhantomData<T>);

impl<T: Words> Visitor<'_> for SymbolVisitor<T> {
    type Value = Symbol<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a word of the schema")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        T::read(word).map(Symbol).ok_or_else(|| E::custom("unknown word"))
    }
}

/// Reads bytes: as they are, or as text in formats for people.
struct BytesVisitor(fn(&str) -> Option<Vec<u8>>);

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        (self.0)(text).ok_or_else(|| E::custom("bytes that cannot be read"))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

fn bytes<'de, D: Deserializer<'de>>(from: D, text: fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, D::Error> {
    if from.is_human_readable() {
        from.deserialize_str(BytesVisitor(text))
    } else {
        from.deserialize_byte_buf(BytesVisitor(text))
    }
}

/// A SHA-256; hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sha256(pub(super) [u8; 32]);

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = bytes(deserializer, unhex)?;
        found.try_into().map(Self).map_err(|_| D::Error::custom("a hash of another size"))
    }
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn write_bytes<S: Serializer>(found: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&STANDARD.encode(found))
    } else {
        serializer.serialize_bytes(found)
    }
}

/// Features; base64 in JSON.
#[derive(Debug, Clone)]
pub(super) struct FeatureBytes<'a>(pub(super) Cow<'a, Features>);

impl Serialize for FeatureBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_bytes(&self.0.map(i8::cast_unsigned), serializer)
    }
}

impl<'de> Deserialize<'de> for FeatureBytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found: [u8; DIMENSIONS] = bytes(deserializer, unbase64)?
            .try_into()
            .map_err(|_| D::Error::custom("features of another size"))?;
        Ok(Self(Cow::Owned(found.map(u8::cast_signed))))
    }
}

/// A learner's state as little-endian f64, one after the other; base64 in JSON.
#[derive(Debug, Clone)]
pub(super) struct StateBytes<'a>(pub(super) Cow<'a, [f64]>);

impl Serialize for StateBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
        write_bytes(&found, serializer)
    }
}

impl<'de> Deserialize<'de> for StateBytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = bytes(deserializer, unbase64)?;
        let (numbers, rest) = found.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(D::Error::custom("a state of another size"));
        }
        Ok(Self(Cow::Owned(numbers.iter().map(|number| f64::from_le_bytes(*number)).collect())))
    }
}

/// A list that keeps its first `MAX` items while it is read and counts the rest, so that a small
/// record cannot become a big list.
#[derive(Debug, Clone)]
pub(super) struct List<T, const MAX: usize> {
    /// The first `MAX` items.
    pub(super) items: Vec<T>,
    /// How many there were.
    pub(super) total: usize,
}

impl<T, const MAX: usize> List<T, MAX> {
    /// A list to be written.
    pub(super) fn of(items: Vec<T>) -> Self {
        Self { total: items.len(), items }
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut to = serializer.serialize_seq(Some(self.items.len()))?;
        for item in &self.items {
            to.serialize_element(item)?;
        }
        to.end()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

pub(super) struct ListVisitor<T, const MAX: usize>(pub(super) PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = List<T, MAX>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut list = List { items: Vec::new(), total: 0 };
        // Items past the bound are read as what they are, not as `IgnoredAny`: the Avro reader
        // cannot skip an enum that way.
        while let Some(item) = from.next_element()? {
            list.total += 1;
            if list.total <= MAX {
                list.items.push(item);
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(unhex("001fFF"), Some(vec![0, 0x1f, 0xff]));
        for text in ["0", "0g", "+1", "é"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_stays_bounded() {
        let list: List<u8, 2> = serde_json::from_str("[1,2,3,4]").unwrap();
        assert_eq!((list.items, list.total), (vec![1, 2], 4));
    }
}
