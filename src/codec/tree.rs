//! JSON as a tree, for shapes that only the configuration knows. It is bounded while it is built: an object of
//! one value has eight bytes in a record and hundreds in memory.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::DecodeError;
use super::json::too_deep;
use super::skim::MAX_VALUES;

/// Reads JSON of any shape; a name that stands twice in an object is refused, since readers differ in which of
/// the two they take.
pub(super) fn parse(text: &str) -> Result<Value, DecodeError> {
    if too_deep(text) {
        return Err(DecodeError::TooDeep);
    }
    let left = Cell::new(Some(MAX_VALUES));
    let mut from = serde_json::Deserializer::from_str(text);
    let read = Tree(&left).deserialize(&mut from).and_then(|value| from.end().map(|()| value));
    read.map_err(|error| match left.get() {
        None => DecodeError::TooManyValues,
        Some(_) => DecodeError::BadJson { line: error.line(), column: error.column() },
    })
}

/// A value to be read, and how many more there may be; none: there was one too many.
#[derive(Clone, Copy)]
struct Tree<'a>(&'a Cell<Option<usize>>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(1)));
        match self.0.get() {
            Some(_) => from.deserialize_any(self),
            None => Err(D::Error::custom("too many values")),
        }
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if entries.insert(name, from.next_value_seed(self)?).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_what_serde_json_makes_of_it() {
        for text in [
            r#"{"a":[1,-2,18446744073709551615,0.5,1e300,true,null,"\u00e4\n"],"b":{"":{}},"c":[]}"#,
            "5",
            "[[[]]]",
        ] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn values_are_counted_and_names_stand_once() {
        let zeros = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(parse(&zeros(MAX_VALUES - 1)).is_ok());
        assert_eq!(parse(&zeros(MAX_VALUES)), Err(DecodeError::TooManyValues));
        // What is wrong after the last value allowed is not their number.
        let broken = format!("{}]", zeros(MAX_VALUES - 1));
        assert!(matches!(parse(&broken), Err(DecodeError::BadJson { .. })));
        for bad in [r#"{"a":1,"a":1}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#, "1 2", "", "{", r#""\ud800""#] {
            assert!(matches!(parse(bad), Err(DecodeError::BadJson { .. })), "{bad}");
        }
    }
}
