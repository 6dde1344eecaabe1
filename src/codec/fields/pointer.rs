//! JSON pointers, and the values that they lead to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::error::DecodeError;
use crate::codec::json::Scalar;
use crate::codec::number::Number;
use crate::codec::time::{TimeError, TimeUnit, Zone};
use crate::codec::tree::{Node, PointerError};
use crate::core::event::Millis;

/// A JSON pointer (RFC 6901). In most settings the empty one, which is the whole record, means that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Pointer(String);

impl Pointer {
    /// Returns a pointer of this program's source.
    pub(super) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns `true` if the pointer is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pointer as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the pointer as it is written, or `None` if it is empty.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        (!self.is_empty()).then_some(&self.0)
    }
}

impl TryFrom<String> for Pointer {
    /// A message with the problem and how to write the pointer.
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

const WORD: &str = "text or a whole number";
const TIME: &str = "a time (a number as time_unit says, or a text such as 2026-03-01T09:30:00Z)";
const NO_ZONE: &str =
    "a time with a zone: it has no offset, no Z and no zone, and time_zone in the same section is not set";
const AMBIGUOUS: &str =
    "one time: the clocks of its zone were changed in that hour, and only an offset says which is meant";
const TWICE: &str =
    "one value: a name on the way there is twice in its object, and readers differ in which they take";
const SEVERAL: &str =
    "one value: several items of the list are those that name=value in the pointer asks for";

/// Reads a record by the pointers of a section of the configuration.
#[derive(Clone, Copy)]
pub(super) struct RecordReader<'v, 'a> {
    /// The name of the section.
    pub(super) section: &'static str,
    /// The record.
    pub(super) root: &'v Node<'a>,
}

impl<'v, 'a> RecordReader<'v, 'a> {
    /// Returns the value that a pointer leads to, or `None` if there is none, if it is `null`, or if the pointer is empty.
    pub(super) fn get(
        &self,
        field: &'static str,
        pointer: &str,
    ) -> Result<Option<&'v Node<'a>>, DecodeError> {
        self.get_in(self.root, field, pointer, || pointer.to_owned())
    }

    /// Returns the value that a pointer leads to from a value within the record. `whole` is the pointer from the record.
    pub(super) fn get_in(
        &self,
        value: &'v Node<'a>,
        field: &'static str,
        pointer: &str,
        whole: impl FnOnce() -> String,
    ) -> Result<Option<&'v Node<'a>>, DecodeError> {
        if pointer.is_empty() {
            return Ok(None);
        }
        let found = value.at(pointer).map_err(|error| self.pointer_error(field, whole(), error))?;
        Ok(found.filter(|found| **found != Node::Null))
    }

    pub(super) fn pointer_error(
        &self,
        field: &'static str,
        pointer: String,
        error: PointerError,
    ) -> DecodeError {
        let wanted = match error {
            PointerError::DuplicateName => TWICE,
            PointerError::SeveralItems => SEVERAL,
        };
        self.invalid(field, pointer, wanted)
    }

    pub(super) fn missing(&self, field: &'static str, pointer: impl Into<String>) -> DecodeError {
        DecodeError::MissingAt { section: self.section, field, pointer: pointer.into() }
    }

    pub(super) fn invalid(
        &self,
        field: &'static str,
        pointer: impl Into<String>,
        wanted: &'static str,
    ) -> DecodeError {
        DecodeError::InvalidAt { section: self.section, field, pointer: pointer.into(), wanted }
    }

    /// Reads an id or a name.
    pub(super) fn word(&self, field: &'static str, at: &str) -> Result<Option<String>, DecodeError> {
        let Some(value) = self.get(field, at)? else { return Ok(None) };
        word(value).map(Some).ok_or_else(|| self.invalid(field, at, WORD))
    }

    /// Reads a time. A number counts `unit`, and a text without a zone is in `zone`.
    pub(super) fn time(&self, at: &str, unit: TimeUnit, zone: &Zone) -> Result<Option<Millis>, DecodeError> {
        let Some(value) = self.get("time", at)? else { return Ok(None) };
        scalar(value).time(unit, zone, false).map_err(|why| {
            let wanted = match why {
                TimeError::NotATime => TIME,
                TimeError::NoZone => NO_ZONE,
                TimeError::Ambiguous => AMBIGUOUS,
            };
            self.invalid("time", at, wanted)
        })
    }
}

/// Returns an id, which may be an integer. The digits of other numbers depend on the program that writes them.
pub(super) fn word(value: &Node<'_>) -> Option<String> {
    match value {
        Node::Bool(_) => None,
        other => other.word().map(Cow::into_owned),
    }
}

pub(super) fn metadata_text(value: &Node<'_>) -> Option<String> {
    value.word().map(Cow::into_owned)
}

pub(super) fn scalar(value: &Node<'_>) -> Scalar {
    match value {
        Node::Text(text) => Scalar::Text(text.clone().into_owned()),
        Node::Number(Number::Whole(whole)) => i64::try_from(*whole).map_or(Scalar::Other, Scalar::Whole),
        Node::Number(Number::Real(value)) => Scalar::Number(*value),
        _ => Scalar::Other,
    }
}

/// Returns the entry of a table of the configuration that a value of a record stands for: a text, a number, `true` or
/// `false`.
pub(super) fn configured<T: Copy>(value: &Node<'_>, table: &BTreeMap<String, T>) -> Option<T> {
    let exact = value.word().and_then(|word| table.get(word.as_ref()));
    exact.or_else(|| table.iter().find(|(word, _)| value.means(word)).map(|(_, own)| own)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        for good in ["", "/", "/a/b", "/a~1b/m~0n", "//", "/0", "/ä ö", "/a~01"] {
            assert_eq!(Pointer::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for (bad, message) in [
            ("a", "begin it with /"),
            ("$.a", "begin it with /"),
            ("#/a", "begin it with /"),
            (" /a", "begin it with /"),
            ("/a~", "write ~0 for ~"),
            ("/a~2", "write ~0 for ~"),
            ("/~~0", "write ~0 for ~"),
        ] {
            let refused = Pointer::try_from(bad.to_owned()).unwrap_err();
            assert!(refused.contains(message) && refused.contains(bad), "{refused}");
        }
    }
}
