//! The values of a line, of any type.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::codec;

/// A value of a field that is expected to be neither a list nor an object.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    #[default]
    Absent,
    Bool(bool),
    Whole(i64),
    /// The digits of an integer outside the range of `i64`.
    Wide(String),
    Number(f64),
    Text(Cow<'a, str>),
    /// A list or an object.
    Other,
}

impl From<Scalar<'_>> for codec::Scalar {
    fn from(scalar: Scalar<'_>) -> Self {
        match scalar {
            Scalar::Absent => Self::Absent,
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Whole(value) => Self::Whole(value),
            Scalar::Wide(digits) => Self::Wide(digits),
            Scalar::Number(value) => Self::Number(value),
            Scalar::Text(text) => Self::Text(text.into_owned()),
            Scalar::Other => Self::Other,
        }
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
        Ok(i64::try_from(value).map_or_else(|_| Scalar::Wide(value.to_string()), Scalar::Whole))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Wide(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Wide(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Scalar<'de>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ScalarVisitor)
    }
}

/// The greatest length of a list.
const MAX_ENTRIES: usize = 256;

/// A value of a field that is expected to be a list.
#[derive(Debug, Default)]
pub(super) enum Listed<'a> {
    #[default]
    Absent,
    Items(Vec<Scalar<'a>>),
    /// Anything else, or a list that is too long.
    Other,
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Listed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Listed<'de>, E> {
        Ok(Listed::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Listed<'de>, E> {
        Ok(Listed::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listed<'de>, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = list.next_element()? {
            if found.len() == MAX_ENTRIES {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Listed::Other);
            }
            found.push(entry);
        }
        Ok(Listed::Items(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Listed<'de>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Listed::Other)
    }
}

impl<'de> serde::Deserialize<'de> for Listed<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListVisitor)
    }
}
