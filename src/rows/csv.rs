//! CSV with a header. Cells are texts, and an empty cell is null.

use std::io::BufRead;

use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::{BadRow, Item, MAX_ROW, Problem, Row, Source};

/// The maximum number of columns.
const MAX_COLUMNS: usize = 4_096;
/// The size of the pieces in which cells are read, in bytes.
const PIECE: usize = 4 << 10;
/// The end of an error of a record that is too large.
const QUOTE_HINT: &str = "; perhaps a quotation mark before its end is not closed";

/// The rows of a CSV file.
pub(super) struct CsvRows<R> {
    source: R,
    parser: Reader,
    names: Vec<String>,
    /// The number of line breaks that were read.
    breaks: u64,
    piece: Box<[u8; PIECE]>,
}

/// A record before it is checked.
struct Record {
    /// The line at which it begins.
    number: u64,
    /// The cells, at most `limit` of them.
    cells: Vec<Vec<u8>>,
    /// The number of all cells.
    count: usize,
    too_large: bool,
}

impl<R: BufRead> CsvRows<R> {
    /// Reads the header.
    pub(super) fn new(source: R, delimiter: u8) -> Result<Self, Problem> {
        let parser = ReaderBuilder::new().delimiter(delimiter).build();
        let (names, piece) = (Vec::new(), Box::new([0; PIECE]));
        let mut rows = Self { source, parser, names, breaks: 0, piece };
        let damaged = |why: String| Problem::Damaged(format!("the header {why}"));
        let header = rows.record(MAX_COLUMNS)?;
        let Some(header) = header else {
            return Err(Problem::Damaged("the file is empty: it needs a header".to_owned()));
        };
        if header.too_large || header.count > MAX_COLUMNS {
            return Err(damaged(format!("has more than {MAX_COLUMNS} columns, or a very long name")));
        }
        for (at, cell) in header.cells.into_iter().enumerate() {
            let name =
                String::from_utf8(cell).map_err(|_| damaged("is not UTF-8: encode it so".to_owned()))?;
            let name = if at == 0 { name.trim_start_matches('\u{feff}') } else { &name };
            if rows.names.iter().any(|known| known == name) {
                return Err(damaged(format!("has the column {name:?} twice: rename one of them")));
            }
            rows.names.push(name.to_owned());
        }
        Ok(rows)
    }

    /// Reads a record and keeps at most `limit` cells of it.
    fn record(&mut self, limit: usize) -> Result<Option<Record>, Problem> {
        self.skip_breaks()?;
        let mut record = Record { number: self.breaks + 1, cells: Vec::new(), count: 0, too_large: false };
        let (mut cell, mut size) = (Vec::new(), 0);
        loop {
            let bytes = self.source.fill_buf()?;
            let (result, read, written) = self.parser.read_field(bytes, self.piece.as_mut_slice());
            let consumed = bytes.get(..read).unwrap_or_default();
            self.breaks += consumed.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.source.consume(read);
            size += written;
            record.too_large |= size > MAX_ROW;
            if !record.too_large && record.count < limit {
                cell.extend_from_slice(self.piece.get(..written).unwrap_or_default());
            }
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => {
                    let cell = std::mem::take(&mut cell);
                    if record.count < limit {
                        record.cells.push(cell);
                    }
                    record.count += 1;
                    if record_end {
                        return Ok(Some(record));
                    }
                }
                ReadFieldResult::End => return Ok(None),
            }
        }
    }

    /// Skips empty lines, which the parser would skip, to know the line at which the record begins.
    fn skip_breaks(&mut self) -> Result<(), Problem> {
        while let Some(byte @ (b'\r' | b'\n')) = self.source.fill_buf()?.first().copied() {
            self.source.consume(1);
            self.breaks += u64::from(byte == b'\n');
        }
        Ok(())
    }

    fn item(&self, record: Record) -> Item {
        let number = record.number;
        if record.too_large {
            return Item::Bad(BadRow::too_large(number, QUOTE_HINT));
        }
        if record.count != self.names.len() {
            let (cells, names) = (record.count, self.names.len());
            let why =
                format!("the row has {cells} cells, and the header {names}: quote cells with a delimiter");
            return Item::Bad(BadRow::malformed(number, why));
        }
        let mut row = Map::new();
        for (name, cell) in self.names.iter().zip(record.cells) {
            let Ok(cell) = String::from_utf8(cell) else {
                let why = format!("column {name:?} is not UTF-8: encode the file so");
                return Item::Bad(BadRow::malformed(number, why));
            };
            row.insert(name.clone(), if cell.is_empty() { Value::Null } else { cell.into() });
        }
        Item::Row(Row { number, json: Value::Object(row).to_string().into_bytes() })
    }
}

impl<R: BufRead> Source for CsvRows<R> {
    fn next(&mut self) -> Result<Option<Item>, Problem> {
        Ok(self.record(self.names.len())?.map(|record| self.item(record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(bytes: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let Ok(mut rows) = CsvRows::new(bytes, b',') else { return Vec::new() };
        let mut found = Vec::new();
        while let Some(item) = rows.next().ok().flatten() {
            found.push(match item {
                Item::Row(row) => (row.number, Ok(String::from_utf8(row.json).unwrap())),
                Item::Bad(bad) => (bad.number, Err(bad.message)),
            });
        }
        found
    }

    #[test]
    fn cells_are_texts_and_empty_ones_null() {
        let text = "\u{feff}id,text\r\n1,\"two\nlines, \"\"quoted\"\"\"\r\n\r\n2,\r\n";
        let expected = [
            (2, Ok(r#"{"id":"1","text":"two\nlines, \"quoted\""}"#.to_owned())),
            (5, Ok(r#"{"id":"2","text":null}"#.to_owned())),
        ];
        assert_eq!(rows(text.as_bytes()), expected);
    }

    #[test]
    fn bad_rows_are_named_and_the_next_is_read() {
        let found = rows(b"a,b\n1\n1,2,3\n\xff,1\n1,2");
        let numbers: Vec<_> = found.iter().map(|(number, row)| (*number, row.is_ok())).collect();
        assert_eq!(numbers, [(2, false), (3, false), (4, false), (5, true)]);
        assert!(found[1].1.as_ref().unwrap_err().contains("3 cells"), "{found:?}");
        assert!(found[2].1.as_ref().unwrap_err().contains("\"a\""), "{found:?}");
    }

    #[test]
    fn a_huge_cell_is_not_kept() {
        let mut text = b"a,b\n".to_vec();
        text.extend(b"x,\"".iter().chain(&vec![b'y'; MAX_ROW + 9]).chain(b"\"\n1,2\n"));
        let found = rows(&text);
        assert!(found[0].1.as_ref().unwrap_err().contains("quotation mark"), "{}", found.len());
        assert_eq!(found[1], (3, Ok(r#"{"a":"1","b":"2"}"#.to_owned())));
    }

    #[test]
    fn a_header_must_be_one() {
        let wide = vec![b','; MAX_COLUMNS + 1];
        let cases: [(&[u8], &str); 4] =
            [(b"", "empty"), (b"a,a\n", "twice"), (b"\xffa\n", "UTF-8"), (&wide, "columns")];
        for (text, why) in cases {
            let Some(Problem::Damaged(message)) = CsvRows::new(text, b',').err() else {
                panic!("{why}: not refused");
            };
            assert!(message.contains(why), "{message}");
        }
    }
}
