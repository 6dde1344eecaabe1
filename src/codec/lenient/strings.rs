//! The strings of JSON and their escapes.

use std::borrow::Cow;

use super::{ReadError, Reader};

impl<'a> Reader<'a> {
    /// Reads a string, beginning with its quotation mark.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, ReadError> {
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

    /// Skips a string.
    pub(super) fn skip_string(&mut self) -> Result<(), ReadError> {
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

    /// Counts an escape that stands for no character. Returns U+FFFD.
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

    /// Returns the number of the four hexadecimal digits at a position.
    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if all { u32::from_str_radix(digits, 16).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<(String, usize), ReadError> {
        let mut reader = Reader::new(json);
        let found = reader.string()?.into_owned();
        reader.end().map(|()| (found, reader.replaced))
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
