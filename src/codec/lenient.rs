//! A JSON reader that continues as long as the structure of the record can be followed.
//!
//! `serde_json` refuses a whole record for a lone surrogate escape, for `NaN`, and for a number that no type holds,
//! wherever they are. Whoever adds six characters to a text would not be judged, and a statistic that nothing reads
//! would cost the event. This reader takes U+FFFD for an escape that stands for no character, and keeps a bare word that
//! is not JSON as a value that fits no field. It is also exact about numbers: a whole number of 39 digits is an id.
//! No published crate does these three, and one parser for both kinds of JSON (by Aegis's names, by pointers) means that
//! they agree.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::MAX_DEPTH;
use super::error::DecodeError;
use super::number::Number;

/// The reason why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text is not JSON at this position.
    Syntax,
    /// A field that is read has its name twice.
    Twice(&'static str),
    /// Brackets nest deeper than [`MAX_DEPTH`].
    Deep,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("unreadable")
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Syntax
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Twice(field)
    }
}

/// A value without parts.
enum Plain<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
}

/// Reads one JSON text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many lists and objects are entered and not left: what reads them recursively is bounded by it.
    depth: usize,
    /// How many escapes stood for no character and were read as U+FFFD.
    pub(super) replaced: usize,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, replaced: 0 }
    }

    /// The error for a fault, with the position that was reached.
    pub(super) fn error(&self, fault: Fault) -> DecodeError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        match fault {
            Fault::Syntax => DecodeError::BadJson { line, column },
            Fault::Twice(field) => DecodeError::Twice { field },
            Fault::Deep => DecodeError::TooDeep,
        }
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { Err(Fault::Syntax) }
    }

    /// The first byte of what comes next, after white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Fault::Syntax)
        }
    }

    /// Enters a list or an object, which begins with `open`.
    pub(super) fn enter(&mut self, open: u8) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault::Deep) } else { self.take(open) }
    }

    /// Returns `true` if another item follows in a list or object that ends with `close`; else it is left.
    pub(super) fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        if self.peek() == Some(close) {
            self.at += 1;
            self.depth = self.depth.saturating_sub(1);
            // A comma before the end does not come here: an item is read after it.
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.take(b',')?;
        }
        Ok(true)
    }

    /// The name of an object's next field, with its colon.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.peek();
        let name = self.string()?;
        self.take(b':')?;
        Ok(name)
    }

    fn plain(&mut self) -> Result<Plain<'a>, Fault> {
        if self.peek().ok_or(Fault::Syntax)? == b'"' {
            return self.string().map(Plain::Text);
        }
        match self.bare()? {
            "null" => Ok(Plain::Null),
            "true" => Ok(Plain::Bool(true)),
            "false" => Ok(Plain::Bool(false)),
            number => Ok(Plain::Number(Number::of(number))),
        }
    }

    /// A word without quotation marks: a number, `true`, `false`, `null`, or something that is not JSON.
    fn bare(&mut self) -> Result<&'a str, Fault> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(byte)) {
            self.at += 1;
        }
        self.text.get(start..self.at).filter(|token| !token.is_empty()).ok_or(Fault::Syntax)
    }

    /// Passes over a value that nothing reads.
    fn skip(&mut self) -> Result<(), Fault> {
        let mut first = true;
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'[') => {
                self.enter(b'[')?;
                while self.more(&mut first, b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'{') => {
                self.enter(b'{')?;
                while self.more(&mut first, b'}')? {
                    self.skip_string()?;
                    self.take(b':')?;
                    self.skip()?;
                }
                Ok(())
            }
            _ => self.bare().map(|_| ()),
        }
    }

    fn skip_string(&mut self) -> Result<(), Fault> {
        self.take(b'"')?;
        loop {
            let byte = self.text.as_bytes().get(self.at).ok_or(Fault::Syntax)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    self.escape();
                }
                _ => {}
            }
        }
    }

    /// A string, from its quotation mark on.
    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.take(b'"')?;
        let mut whole = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Fault::Syntax)?;
            let (plain, rest) = rest.split_at(plain);
            self.at += plain.len() + 1;
            if rest.starts_with('"') {
                return Ok(if whole.is_empty() { Cow::Borrowed(plain) } else { Cow::Owned(whole + plain) });
            }
            whole.push_str(plain);
            whole.push(self.escape());
            // An escaped text is never empty, so that what was collected is not lost.
        }
    }

    /// What an escape stands for, after its backslash: U+FFFD where that is no character.
    fn escape(&mut self) -> char {
        let byte = self.text.as_bytes().get(self.at).copied();
        let known = match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unit();
            }
            other => {
                // The character after a broken escape stays where it is text of its own.
                self.at += usize::from(other.is_some_and(|byte| byte.is_ascii()));
                return self.replace();
            }
        };
        self.at += 1;
        known
    }

    fn replace(&mut self) -> char {
        self.replaced += 1;
        char::REPLACEMENT_CHARACTER
    }

    /// The character of one or two UTF-16 units, after `\u`.
    fn unit(&mut self) -> char {
        let Some(first) = self.hex(self.at) else { return self.replace() };
        self.at += 4;
        if let Some(known) = char::from_u32(first) {
            return known;
        }
        let pair = self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u"));
        let second = if pair { self.hex(self.at + 2) } else { None };
        match (first, second) {
            (0xD800..0xDC00, Some(second @ 0xDC00..0xE000)) => {
                self.at += 6;
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => self.replace(),
        }
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if all { u32::from_str_radix(digits, 16).ok() } else { None }
    }
}

/// What [`super::tree`] is made of.
pub(super) enum Part<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List,
    Object,
}

impl<'a> Reader<'a> {
    /// A value; a list or an object is only entered.
    pub(super) fn part(&mut self) -> Result<Part<'a>, Fault> {
        match self.peek() {
            Some(b'[') => self.enter(b'[').map(|()| Part::List),
            Some(b'{') => self.enter(b'{').map(|()| Part::Object),
            _ => Ok(match self.plain()? {
                Plain::Null => Part::Null,
                Plain::Bool(value) => Part::Bool(value),
                Plain::Number(number) => Part::Number(number),
                Plain::Text(text) => Part::Text(text),
            }),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.part()? {
            Part::Null => visitor.visit_unit(),
            Part::Bool(value) => visitor.visit_bool(value),
            Part::Number(Number::Whole(value)) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => visitor.visit_i128(value),
            },
            Part::Number(Number::Wide(value)) => visitor.visit_u128(value),
            Part::Number(Number::Real(value)) => visitor.visit_f64(value),
            Part::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Part::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Part::List => visitor.visit_seq(Items { reader: self, first: true }),
            Part::Object => visitor.visit_map(Items { reader: self, first: true }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.peek() == Some(b'n') {
            let before = self.at;
            if self.bare()? == "null" {
                return visitor.visit_none();
            }
            self.at = before;
        }
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
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
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let more = self.reader.more(&mut self.first, b']')?;
        if more { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if !self.reader.more(&mut self.first, b'}')? {
            return Ok(None);
        }
        match self.reader.name()? {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            Cow::Owned(name) => seed.deserialize(name.into_deserializer()),
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    fn text(json: &str) -> Result<(String, usize), Fault> {
        let mut reader = Reader::new(json);
        let found = reader.string()?.into_owned();
        reader.end().map(|()| (found, reader.replaced))
    }

    #[test]
    fn an_option_is_what_serde_json_makes_of_it() {
        for (json, expected) in [
            ("null", Some(None)),
            (r#"{"a":[1,null,"x"],"b":{}}"#, Some(Some(serde_json::json!({"a": [1, null, "x"], "b": {}})))),
            ("[]", Some(Some(serde_json::json!([])))),
            ("nul", None),
        ] {
            let found = <Option<serde_json::Value>>::deserialize(&mut Reader::new(json));
            // A bare word that is no JSON is a number that is none.
            assert_eq!(found.ok().filter(|_| expected.is_some()), expected, "{json}");
        }
    }

    #[test]
    fn an_escape_that_is_no_character_is_replaced_and_counted() {
        for (json, expected, replaced) in [
            (r#""\ud83d\ude00 \u00e4\/\"\\""#, "\u{1f600} ä/\"\\", 0),
            (r#""a \ud83d""#, "a \u{fffd}", 1),
            (r#""\ude00\ud83d b""#, "\u{fffd}\u{fffd} b", 2),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}", 1),
            (r#""\ud83d\u0041""#, "\u{fffd}A", 1),
            (r#""\ud83d\n""#, "\u{fffd}\n", 1),
            (r#""\u12""#, "\u{fffd}12", 1),
            (r#""\u+123""#, "\u{fffd}+123", 1),
            (r#""\x41""#, "\u{fffd}41", 1),
            ("\"\\é\"", "\u{fffd}é", 1),
            ("\"tab\there\"", "tab\there", 0),
        ] {
            assert_eq!(text(json), Ok((expected.to_owned(), replaced)), "{json}");
        }
        for json in [r#"""#, r#""a"#, r#""a\"#, r#""a\""#, r#""\ud83d"#, r#""\u"#] {
            assert_eq!(text(json), Err(Fault::Syntax), "{json}");
        }
    }
}
