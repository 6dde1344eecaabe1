//! JSON of labelling tools as a tree of bounded size.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Refusal;
use crate::codec::{MAX_DEPTH, read_into};

/// The maximum number of values of a row: an object of one value takes eight bytes in a row and hundreds in memory.
const MAX_VALUES: usize = 100_000;

/// Parses a row. A number that no type holds becomes null, and an escape that stands for no character U+FFFD.
///
/// # Errors
/// Returns a [`Refusal`] if the row is not UTF-8 or not JSON, has an object with a name twice, or is too large or too deep.
pub(super) fn parse(row: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(row).map_err(|_| {
        Refusal::new("NotJson", "the row is not UTF-8: export the file so, or convert it with iconv")
    })?;
    let state = State { left: Cell::new(Some(MAX_VALUES)), twice: Cell::new(false) };
    read_into(text, Seed(&state)).ok_or_else(|| {
        if state.left.get().is_none() {
            Refusal::new("TooManyValues", format!("the row has more than {MAX_VALUES} values: export less with it"))
        } else if state.twice.get() {
            Refusal::new("BadJson", "an object of the row has a name twice, and readers differ in which they take")
        } else {
            let message =
                format!("the row is not JSON, is cut off, or is nested deeper than {MAX_DEPTH} levels: export it again");
            Refusal::new("BadJson", message)
        }
    })
}

/// The state of one parse.
struct State {
    /// The number of values that may follow; `None` after one too many.
    left: Cell<Option<usize>>,
    /// `true` if an object has a name twice.
    twice: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let left = &self.0.left;
        left.set(left.get().and_then(|left| left.checked_sub(1)));
        if left.get().is_none() {
            return Err(D::Error::custom("too many values"));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
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
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    // An integer of 39 digits may be an id, which has no other use than its digits.
    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
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
        let mut fields = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if fields.contains_key(&name) {
                self.0.twice.set(true);
                return Err(A::Error::custom("a name twice"));
            }
            fields.insert(name, from.next_value_seed(self)?);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(row: &[u8]) -> Refusal {
        parse(row).expect_err("it is refused")
    }

    #[test]
    fn rows_are_read_as_serde_json_reads_them() {
        let row = r#"{"a":[1,-2,0.5,true,null,"\u00e4"],"b":{"":{}},"c":18446744073709551615}"#;
        assert_eq!(parse(row.as_bytes()).unwrap(), serde_json::from_str::<Value>(row).unwrap());
        // These are not JSON, and tools write them.
        let row = r#"{"score":NaN,"cut":"x\ud83d","wide":123456789012345678901234567890}"#;
        let wide = "123456789012345678901234567890";
        assert_eq!(
            parse(row.as_bytes()).unwrap(),
            serde_json::json!({"score": null, "cut": "x\u{fffd}", "wide": wide})
        );
    }

    #[test]
    fn hostile_rows_are_refused_without_being_quoted() {
        let deep = format!("{}secret{}", "[".repeat(100_000), "]".repeat(100_000));
        let many = format!("[{}\"secret\"]", "{},".repeat(MAX_VALUES));
        for (row, name, words) in [
            (deep.as_bytes(), "BadJson", "32 levels"),
            (many.as_bytes(), "TooManyValues", "100000 values"),
            (b"{\"secret\":1,\"secret\":2}", "BadJson", "a name twice"),
            (b"{\"secret\":\xff}", "NotJson", "not UTF-8"),
            (b"{\"secret\":", "BadJson", "cut off"),
            (b"{\"a\":1} secret", "BadJson", "not JSON"),
        ] {
            let refusal = refused(row);
            assert_eq!(refusal.name, name, "{}", refusal.message);
            assert!(
                refusal.message.contains(words) && !refusal.message.contains("secret"),
                "{}",
                refusal.message
            );
        }
    }
}
