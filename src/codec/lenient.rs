//! A JSON reader that continues as long as the structure of the record can be followed.
//!
//! `serde_json` refuses a whole record for a lone surrogate escape, for `NaN`, and for a number that no type holds,
//! wherever they are. A user could then avoid moderation by adding six characters to a text, and an event would be lost
//! because of a statistic that nothing reads. This reader reads an escape that stands for no character as U+FFFD, and
//! keeps a bare word that is not JSON as a value that fits no field. It also keeps integers exact, since one of 39 digits
//! may be an id. No published crate does these three things (decision 0009). Both layouts of JSON, Aegis's own and that of
//! pointers, are read with this reader, so that they agree.

mod deserializer;
mod strings;

use std::borrow::Cow;
use std::fmt;

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

    /// Skips white space and reads this byte.
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
}
