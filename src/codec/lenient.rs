//! A JSON reader that continues as long as the structure of the record can be followed.
//!
//! `serde_json` refuses a whole record for a lone surrogate escape, for `NaN`, and for a number that no type holds,
//! wherever they are. A user could then avoid moderation by adding six characters to a text, and an event would be lost
//! because of a statistic that nothing reads. This reader reads an escape that stands for no character as U+FFFD, and
//! keeps a bare word that is not JSON as a value that fits no field. It also keeps integers exact, since one of 39 digits
//! may be an id. No published crate does these three things (decision 0009). Both layouts of JSON, Aegis's own and that of
//! pointers, are read with this reader, so that they agree.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::MAX_DEPTH;
use super::error::DecodeError;
use super::number::Number;

/// An error of a JSON text that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The text is not JSON at this position.
    Syntax,
    /// A field that is read is there twice.
    DuplicateField(&'static str),
    /// Brackets nest deeper than [`MAX_DEPTH`].
    TooDeep,
}

impl fmt::Display for ReadError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("unreadable")
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Syntax
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::DuplicateField(field)
    }
}

/// A value without parts, or the beginning of a list or an object.
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List,
    Object,
}

/// Reads one JSON text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The number of lists and objects around the current position, which bounds the recursion of readers.
    depth: usize,
    /// The number of escapes that stood for no character and were read as U+FFFD.
    pub(super) replaced: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, replaced: 0 }
    }

    /// Returns the error of the record, with the position that was reached.
    pub(super) fn error(&self, error: ReadError) -> DecodeError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        match error {
            ReadError::Syntax => DecodeError::BadJson { line, column },
            ReadError::DuplicateField(field) => DecodeError::DuplicateField { field },
            ReadError::TooDeep => DecodeError::TooDeep,
        }
    }

    /// Checks that the text ends here.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        if self.peek().is_none() { Ok(()) } else { Err(ReadError::Syntax) }
    }

    /// Skips white space and returns the next byte, which is not read.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), ReadError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(ReadError::Syntax)
        }
    }

    /// Reads the bracket that begins a list or an object.
    pub(super) fn enter(&mut self, open: u8) -> Result<(), ReadError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(ReadError::TooDeep) } else { self.take(open) }
    }

    /// Returns `true` if another item follows in a list or object that ends with `close`. Otherwise its end is read.
    pub(super) fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, ReadError> {
        if self.peek() == Some(close) {
            self.at += 1;
            self.depth = self.depth.saturating_sub(1);
            // A comma before the end is an error, since an item is read after each comma.
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.take(b',')?;
        }
        Ok(true)
    }

    /// Reads the name of an object's next field and the colon after it.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, ReadError> {
        self.peek();
        let name = self.string()?;
        self.take(b':')?;
        Ok(name)
    }

    /// Reads a value. Of a list or an object only the opening bracket is read.
    pub(super) fn token(&mut self) -> Result<Token<'a>, ReadError> {
        Ok(match self.peek().ok_or(ReadError::Syntax)? {
            b'[' => self.enter(b'[').map(|()| Token::List)?,
            b'{' => self.enter(b'{').map(|()| Token::Object)?,
            b'"' => Token::Text(self.string()?),
            _ => match self.bare()? {
                "null" => Token::Null,
                "true" => Token::Bool(true),
                "false" => Token::Bool(false),
                number => Token::Number(Number::parse(number)),
            },
        })
    }

    /// Reads a word without quotation marks: a number, `true`, `false`, `null`, or a word that is not JSON.
    fn bare(&mut self) -> Result<&'a str, ReadError> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(byte)) {
            self.at += 1;
        }
        self.text.get(start..self.at).filter(|token| !token.is_empty()).ok_or(ReadError::Syntax)
    }

    /// Skips a value.
    fn skip(&mut self) -> Result<(), ReadError> {
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

    fn skip_string(&mut self) -> Result<(), ReadError> {
        self.take(b'"')?;
        loop {
            let byte = self.text.as_bytes().get(self.at).ok_or(ReadError::Syntax)?;
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

    /// Reads a string, beginning with its quotation mark.
    fn string(&mut self) -> Result<Cow<'a, str>, ReadError> {
        self.take(b'"')?;
        let mut whole = String::new();
        loop {
            let rest = self.text.get(self.at..).ok_or(ReadError::Syntax)?;
            let plain =
                rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(ReadError::Syntax)?;
            let (plain, rest) = rest.split_at(plain);
            self.at += plain.len() + 1;
            if rest.starts_with('"') {
                return Ok(if whole.is_empty() { Cow::Borrowed(plain) } else { Cow::Owned(whole + plain) });
            }
            whole.push_str(plain);
            whole.push(self.escape());
            // `whole` is not empty now, so that the end of the string does not drop it.
        }
    }

    /// Reads an escape after its backslash. Returns U+FFFD if it stands for no character.
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
                // Only an ASCII character is part of a broken escape.
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

    /// Reads the character of one or two UTF-16 units, after `\u`.
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
                char::from_u32(code).expect("a pair of surrogates stands for U+10000 to U+10FFFF")
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

    fn text(json: &str) -> Result<(String, usize), ReadError> {
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
            // A bare word that is not JSON is read as NaN.
            assert_eq!(found.ok().filter(|_| expected.is_some()), expected, "{json}");
        }
    }

    #[test]
    fn an_escape_of_no_character_is_replaced_and_counted() {
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
            assert_eq!(text(json), Err(ReadError::Syntax), "{json}");
        }
    }
}
