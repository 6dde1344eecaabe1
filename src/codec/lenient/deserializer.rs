//! The reader as a deserializer of serde.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{ReadError, Reader, Token};
use crate::codec::number::Number;

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Syntax
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::DuplicateField(field)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.token()? {
            Token::Null => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Number(Number::Whole(value)) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => visitor.visit_i128(value),
            },
            Token::Number(Number::Wide(value)) => visitor.visit_u128(value),
            Token::Number(Number::Real(value)) => visitor.visit_f64(value),
            Token::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Token::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Token::List => visitor.visit_seq(Items { reader: self, first: true }),
            Token::Object => visitor.visit_map(Items { reader: self, first: true }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.peek() == Some(b'n') {
            let before = self.at;
            if self.bare()? == "null" {
                return visitor.visit_none();
            }
            self.at = before;
        }
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// The items of a list or the fields of an object.
struct Items<'r, 'a> {
    reader: &'r mut Reader<'a>,
    first: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let more = self.reader.more(&mut self.first, b']')?;
        if more { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        if !self.reader.more(&mut self.first, b'}')? {
            return Ok(None);
        }
        match self.reader.name()? {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            Cow::Owned(name) => seed.deserialize(name.into_deserializer()),
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    #[test]
    fn an_option_is_what_serde_json_makes_of_it() {
        for (json, expected) in [
            ("null", Some(None)),
            (r#"{"a":[1,null,"x"],"b":{}}"#, Some(Some(serde_json::json!({"a": [1, null, "x"], "b": {}})))),
            ("[]", Some(Some(serde_json::json!([])))),
            ("nul", None),
        ] {
            let found = <Option<serde_json::Value>>::deserialize(&mut Reader::new(json));
            // A bare word that is not JSON is read as NaN.
            assert_eq!(found.ok().filter(|_| expected.is_some()), expected, "{json}");
        }
    }
}
