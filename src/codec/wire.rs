//! Parts of records for which serde's own implementations do not fit the schemas: the symbols of enums, bytes that are
//! hexadecimal or base64 in JSON, and lists that are bounded while they are read.

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
use crate::core::language::Language;
use crate::core::ledger::LabelStatus;
use crate::core::policy::Action;
use crate::core::text::HiddenText;
use crate::core::vote::Abstention;

/// A core enum that is an enum of the schemas.
pub(super) trait Symbols: Copy + PartialEq + 'static {
    /// The enum's name in the schemas.
    const NAME: &'static str;
    /// All values, in the order of the schema's symbols.
    const VALUES: &'static [Self];
    /// Returns the symbol of a value.
    fn symbol(self) -> &'static str;
    /// Returns the value of a symbol.
    fn parse(symbol: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.symbol() == symbol)
    }
}

macro_rules! symbols {
    ($($core:ident: $name:literal),*) => {$(
        impl Symbols for $core {
            const NAME: &'static str = $name;
            const VALUES: &'static [Self] = &Self::ALL;
            fn symbol(self) -> &'static str {
                self.word()
            }
        }
    )*};
}

symbols!(
    Role: "Role",
    Finding: "Finding",
    Source: "Source",
    Action: "Action",
    Abstention: "Abstention",
    ReviewReason: "ReviewReason",
    HiddenText: "HiddenText",
    LabelStatus: "Standing"
);

/// A core enum inside a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Symbol<T>(pub(super) T);

impl<T: Symbols> Serialize for Symbol<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = T::VALUES.iter().position(|value| *value == self.0);
        let index = index.and_then(|index| u32::try_from(index).ok()).expect("VALUES has all values");
        serializer.serialize_unit_variant(T::NAME, index, self.0.symbol())
    }
}

impl<'de, T: Symbols> Deserialize<'de> for Symbol<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum(T::NAME, &[], SymbolVisitor(PhantomData))
    }
}

struct SymbolVisitor<T>(PhantomData<T>);

impl<'de, T: Symbols> Visitor<'de> for SymbolVisitor<T> {
    type Value = Symbol<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a symbol of the schema")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        let (Name(value), rest) = data.variant::<Name<T>>()?;
        rest.unit_variant()?;
        Ok(Symbol(value))
    }
}

struct Name<T>(T);

impl<'de, T: Symbols> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(NameVisitor(PhantomData))
    }
}

struct NameVisitor<T>(PhantomData<T>);

impl<T: Symbols> Visitor<'_> for NameVisitor<T> {
    type Value = Name<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a symbol of the schema")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        T::parse(word).map(Name).ok_or_else(|| E::custom("unknown symbol"))
    }
}

/// A language, which is a string in the schemas. A code that this version does not know is read as unknown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code(pub(super) Language);

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = Cow::<str>::deserialize(deserializer)?;
        Ok(Self(code.parse().unwrap_or_default()))
    }
}

/// Reads bytes, or the text that encodes them in JSON.
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

/// A SHA-256 hash, which is hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sha256(pub(super) [u8; 32]);

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = bytes(deserializer, |text| hex::decode(text).ok())?;
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

/// Bytes, which are base64 in JSON.
#[derive(Debug, Clone)]
pub(super) struct RawBytes<'a>(pub(super) Cow<'a, [u8]>);

impl Serialize for RawBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_bytes(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for RawBytes<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Cow::Owned(bytes(deserializer, unbase64)?)))
    }
}

/// Features, which are base64 in JSON.
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

/// A learner's state as consecutive little-endian `f64`, which is base64 in JSON.
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

/// A list that keeps only its first `MAX` items while it is read, so that a small record cannot become a large list.
#[derive(Debug, Clone)]
pub(super) struct List<T, const MAX: usize> {
    /// The first `MAX` items.
    pub(super) items: Vec<T>,
    /// The number of items in the record.
    pub(super) total: usize,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    /// Returns a list to write.
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
        // Further items are read as their type and not as `IgnoredAny`, since the Avro reader cannot skip an enum as one.
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
    fn a_list_stays_bounded() {
        let list: List<u8, 2> = serde_json::from_str("[1,2,3,4]").unwrap();
        assert_eq!((list.items, list.total), (vec![1, 2], 4));
    }
}
