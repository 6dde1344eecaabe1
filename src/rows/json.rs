//! JSON lines, and JSON arrays of objects, which are cut without being parsed.

use std::io::BufRead;

use super::{BadRow, Item, MAX_ROW, Problem, Row, Source};

/// The layout of a file, which its first byte tells.
#[derive(PartialEq)]
enum Layout {
    Unknown,
    Lines,
    /// An array; `true` once its end was read. Another one may follow.
    Array(bool),
}

/// The rows of a JSON file.
pub(super) struct JsonRows<R> {
    source: R,
    layout: Layout,
    /// The number of line breaks that were read.
    breaks: u64,
}

impl<R: BufRead> JsonRows<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, layout: Layout::Unknown, breaks: 0 }
    }

    /// Returns the next byte without consuming it.
    fn peek(&mut self) -> Result<Option<u8>, Problem> {
        Ok(self.source.fill_buf()?.first().copied())
    }

    fn bump(&mut self, byte: u8) {
        self.source.consume(1);
        self.breaks += u64::from(byte == b'\n');
    }

    /// Skips white space, and byte order marks, which concatenated files have in the middle. Returns the byte after it.
    fn skip_space(&mut self) -> Result<Option<u8>, Problem> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf) {
                return Ok(Some(byte));
            }
            self.bump(byte);
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<Item>, Problem> {
        if self.skip_space()?.is_none() {
            return Ok(None);
        }
        let number = self.breaks + 1;
        let (mut json, mut too_large) = (Vec::new(), false);
        loop {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            too_large |= json.len() + part.len() > MAX_ROW;
            if !too_large {
                json.extend_from_slice(part);
            }
            let read = part.len() + usize::from(end.is_some());
            self.source.consume(read);
            if end.is_some() {
                self.breaks += 1;
                break;
            }
        }
        if too_large {
            return Ok(Some(Item::Bad(BadRow::too_large(number, ""))));
        }
        json.truncate(json.trim_ascii_end().len());
        Ok(Some(Item::Row(Row { number, json })))
    }

    /// Reads the next element of an array, or its end.
    fn element(&mut self) -> Result<Option<Item>, Problem> {
        let damaged = |line: u64, why: &str| {
            Problem::Damaged(format!("line {line}: {why}; write JSON lines, or one JSON array of objects"))
        };
        let mut next = self.skip_space()?;
        if next == Some(b',') {
            self.bump(b',');
            next = self.skip_space()?;
        }
        let number = self.breaks + 1;
        match next {
            Some(b'{') => self.object(number).map(Some),
            Some(b']') => {
                self.bump(b']');
                self.layout = Layout::Array(true);
                Ok(None)
            }
            Some(_) => Err(damaged(number, "the array has an element that is not an object")),
            None => Err(damaged(number, "the file ends before its array does")),
        }
    }

    /// Begins the next array, of files that were joined. Returns `false` at the end of the file.
    fn next_array(&mut self) -> Result<bool, Problem> {
        match self.skip_space()? {
            None => Ok(false),
            Some(b'[') => {
                self.bump(b'[');
                self.layout = Layout::Array(false);
                Ok(true)
            }
            Some(_) => Err(Problem::Damaged(format!(
                "line {}: the array ended before this; write JSON lines, or one JSON array of objects",
                self.breaks + 1
            ))),
        }
    }

    /// Cuts the object that begins here: up to the bracket that closes it.
    fn object(&mut self, number: u64) -> Result<Item, Problem> {
        let (mut json, mut too_large) = (Vec::new(), false);
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        while let Some(byte) = self.peek()? {
            self.bump(byte);
            too_large |= json.len() >= MAX_ROW;
            if !too_large {
                json.push(byte);
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(if too_large {
                    Item::Bad(BadRow::too_large(number, ""))
                } else {
                    Item::Row(Row { number, json })
                });
            }
        }
        Err(Problem::Damaged(format!("the file ends within the object that begins at line {number}")))
    }
}

impl<R: BufRead> Source for JsonRows<R> {
    fn next(&mut self) -> Result<Option<Item>, Problem> {
        if matches!(self.layout, Layout::Unknown) {
            self.layout = match self.skip_space()? {
                Some(b'[') => {
                    self.bump(b'[');
                    Layout::Array(false)
                }
                _ => Layout::Lines,
            };
        }
        if matches!(self.layout, Layout::Lines | Layout::Unknown) {
            return self.line();
        }
        while self.layout == Layout::Array(false) || self.next_array()? {
            if let Some(element) = self.element()? {
                return Ok(Some(element));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(bytes: &[u8]) -> Vec<(u64, Option<String>)> {
        let mut rows = JsonRows::new(bytes);
        let mut found = Vec::new();
        while let Some(item) = rows.next().ok().flatten() {
            found.push(match item {
                Item::Row(row) => (row.number, Some(String::from_utf8_lossy(&row.json).into_owned())),
                Item::Bad(bad) => (bad.number, None),
            });
        }
        found
    }

    fn row(number: u64, json: &str) -> (u64, Option<String>) {
        (number, Some(json.to_owned()))
    }

    #[test]
    fn lines_are_cut() {
        let text = "\u{feff}{\"a\": 1}\r\n\n  {\"a\": 2}\nnot JSON\n{\"a\": 3}";
        let expected = [row(1, "{\"a\": 1}"), row(3, "{\"a\": 2}"), row(4, "not JSON"), row(5, "{\"a\": 3}")];
        assert_eq!(rows(text.as_bytes()), expected);
        assert_eq!(rows(b""), []);
    }

    #[test]
    fn an_array_is_cut_into_its_objects() {
        let text = "[{\"a\": \"]}\\\"\"},\n {\"b\": [{}, {\"c\": 1}]}\n]\n";
        assert_eq!(
            rows(text.as_bytes()),
            [row(1, "{\"a\": \"]}\\\"\"}"), row(2, "{\"b\": [{}, {\"c\": 1}]}")]
        );
        assert_eq!(rows(b"[]"), []);
        // Files that were joined.
        assert_eq!(rows(b"[{}]\n[]\n[{\"a\": 1}]"), [row(1, "{}"), row(3, "{\"a\": 1}")]);
        for broken in ["[1]", "[{}", "[{\"a\": ", "[", "[{}] {}"] {
            let mut rows = JsonRows::new(broken.as_bytes());
            let end = std::iter::repeat_with(|| rows.next()).find(|next| !matches!(next, Ok(Some(_))));
            assert!(matches!(end, Some(Err(Problem::Damaged(_)))), "{broken}");
        }
    }

    #[test]
    fn a_row_that_is_too_large_is_skipped() {
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_ROW));
        assert_eq!(rows(format!("{{}}\n{long}\n{{}}").as_bytes()), [row(1, "{}"), (2, None), row(3, "{}")]);
        assert_eq!(rows(format!("[{{}},{long},{{}}]").as_bytes()), [row(1, "{}"), (1, None), row(1, "{}")]);
    }
}
