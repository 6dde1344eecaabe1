//! JSON pointers, and what stands where they point.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::error::DecodeError;
use crate::codec::json::Scalar;
use crate::core::event::Millis;

/// A JSON pointer (RFC 6901). The empty one, which is the whole, says in most places that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Pointer(String);

impl Pointer {
    /// One of ours.
    pub(super) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written; `None` where it is empty.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        (!self.is_empty()).then_some(&self.0)
    }
}

impl TryFrom<String> for Pointer {
    /// What is wrong, and how to write it.
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("{text:?} is no JSON pointer: begin it with /, as in \"/request/id\""));
        }
        if !text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
            return Err(format!("{text:?} is no JSON pointer: in a name write ~0 for ~ and ~1 for /"));
        }
        Ok(Self(text))
    }
}

/// What a number that is a time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// As Kafka does.
    Milliseconds,
    /// Also with a fraction.
    Seconds,
}

/// What ids may be.
const WORD: &str = "text or a whole number";
const TIME: &str = "a time (a number as time_unit says, or RFC 3339)";

/// What stands there; null is nothing.
pub(super) fn found<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    value.pointer(pointer).filter(|found| !found.is_null())
}

/// What stands at a pointer, with it; nothing where there is no pointer.
pub(super) fn look<'p, 'v>(value: &'v Value, pointer: &'p Pointer) -> Option<(&'p str, &'v Value)> {
    let pointer = pointer.given()?;
    found(value, pointer).map(|found| (pointer, found))
}

/// A record that is read by the pointers of a section of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Read<'v> {
    /// The section.
    pub(super) section: &'static str,
    /// The record.
    pub(super) root: &'v Value,
}

impl<'v> Read<'v> {
    pub(super) fn look<'p>(&self, pointer: &'p Pointer) -> Option<(&'p str, &'v Value)> {
        look(self.root, pointer)
    }

    pub(super) fn missing(&self, field: &'static str, pointer: impl Into<String>) -> DecodeError {
        DecodeError::MissingAt { section: self.section, field, pointer: pointer.into() }
    }

    pub(super) fn unfit(
        &self,
        field: &'static str,
        pointer: impl Into<String>,
        wanted: &'static str,
    ) -> DecodeError {
        DecodeError::UnfitAt { section: self.section, field, pointer: pointer.into(), wanted }
    }

    /// An id, or a name.
    pub(super) fn word(&self, field: &'static str, at: &Pointer) -> Result<Option<String>, DecodeError> {
        let Some((at, value)) = self.look(at) else { return Ok(None) };
        word(value).map(Some).ok_or_else(|| self.unfit(field, at, WORD))
    }

    /// A time, where a number counts this.
    pub(super) fn time(&self, at: &Pointer, unit: TimeUnit) -> Result<Option<Millis>, DecodeError> {
        let Some((at, value)) = self.look(at) else { return Ok(None) };
        let time = scalar(value);
        let time = if unit == TimeUnit::Seconds { of_seconds(time) } else { time };
        time.millis("time").map_err(|_| self.unfit("time", at, TIME))
    }
}

/// An id: many are numbers. Digits of a number that is not whole would depend on who writes them.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn note(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        other => word(other),
    }
}

pub(super) fn scalar(value: &Value) -> Scalar {
    match value {
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Scalar::Whole(whole),
            (None, Some(value)) if number.is_f64() => Scalar::Number(value),
            _ => Scalar::Other,
        },
        _ => Scalar::Other,
    }
}

/// Milliseconds of a number of seconds.
fn of_seconds(seconds: Scalar) -> Scalar {
    match seconds {
        Scalar::Whole(whole) => whole.checked_mul(1_000).map_or(Scalar::Other, Scalar::Whole),
        Scalar::Number(value) => Scalar::Number((value * 1_000.0).round()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        for good in ["", "/", "/a/b", "/a~1b/m~0n", "//", "/0", "/ä ö", "/a~01"] {
            assert_eq!(Pointer::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for (bad, said) in [
            ("a", "begin it with /"),
            ("$.a", "begin it with /"),
            ("#/a", "begin it with /"),
            (" /a", "begin it with /"),
            ("/a~", "write ~0 for ~"),
            ("/a~2", "write ~0 for ~"),
            ("/~~0", "write ~0 for ~"),
        ] {
            let refused = Pointer::try_from(bad.to_owned()).unwrap_err();
            assert!(refused.contains(said) && refused.contains(bad), "{refused}");
        }
    }
}
