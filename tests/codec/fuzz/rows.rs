//! Rows of files that users evaluate and score.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use aegis::rows::{Format, Item, MAX_ROW, Rows, RowsError};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::corpus::hash;
use super::mutate::Mutator;
use super::{HEAVY, weigh};

/// Reads all rows, and checks that each is bounded and that the numbers of rows do not decrease.
fn read(rows: Result<Rows, RowsError>) -> u64 {
    let mut rows = match rows {
        Ok(rows) => rows,
        Err(error) => return hash((0, error.to_string().len())),
    };
    let (mut good, mut bad, mut last) = (0_u32, 0_u32, 0);
    loop {
        let number = match rows.next_row() {
            Ok(Some(Item::Row(row))) => {
                assert!(row.json.len() <= 4 * MAX_ROW, "a row of {} bytes", row.json.len());
                good += 1;
                row.number
            }
            Ok(Some(Item::Bad(row))) => {
                bad += 1;
                row.number
            }
            Ok(None) => return hash((1, good.min(16), bad.min(16))),
            Err(_) => return hash((2, good.min(16), bad.min(16))),
        };
        assert!(number >= last, "row {number} follows row {last}");
        last = number;
    }
}

fn bytes(format: Format, bytes: &[u8]) -> u64 {
    read(Rows::read(Path::new("rows"), Cursor::new(bytes.to_vec()), format, None))
}

pub fn json(input: &[u8]) -> u64 {
    bytes(Format::Json, input)
}

pub fn csv(input: &[u8]) -> u64 {
    bytes(Format::Csv, input)
}

pub fn avro(input: &[u8]) -> u64 {
    bytes(Format::Avro, input)
}

/// A Parquet file of texts and labels.
fn parquet_file() -> Vec<u8> {
    let schema = "message rows { required binary text (UTF8); optional boolean label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let compression = parquet::basic::Compression::SNAPPY;
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: [ByteArray; 3] = ["one", "two", "three"].map(Into::into);
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<BoolType>().write_batch(&[true, false], Some(&[1, 0, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// The library reserves memory for a page by the size in its header, so that only its time and its errors are bounded.
#[test]
fn damaged_parquet_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let read_file = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(Rows::open(&path, None, None))
    };
    let whole = parquet_file();
    assert_eq!(read_file(&whole), hash((1, 3_u32, 0_u32)));
    for end in 0..whole.len() {
        assert_ne!(read_file(&whole[..end]), hash((1, 3_u32, 0_u32)), "cut at {end}");
    }
    let (mut mutator, mut input) = (Mutator::new(1), Vec::new());
    for _ in 0..2_000 {
        mutator.next(std::slice::from_ref(&whole), &mut input);
        read_file(&input);
    }
}

/// A text of `left` letters between a beginning and an end.
struct Long {
    begin: Cursor<Vec<u8>>,
    left: usize,
    end: Cursor<Vec<u8>>,
}

impl Read for Long {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.begin.read(to)?;
        if read > 0 {
            return Ok(read);
        }
        let count = to.len().min(self.left);
        to[..count].fill(b'x');
        self.left -= count;
        if count > 0 { Ok(count) } else { self.end.read(to) }
    }
}

#[test]
fn a_cell_of_100_megabytes_is_not_held() {
    for (format, begin, end) in [
        (Format::Csv, "text,label\n\"", "\",1\nshort,0\n"),
        (Format::Json, "{\"text\": \"", "\"}\n{\"text\": \"short\"}\n"),
        (Format::Json, "[{\"text\": \"", "\"}, {\"text\": \"short\"}]"),
    ] {
        let cursor = |text: &str| Cursor::new(text.as_bytes().to_vec());
        let long = Long { begin: cursor(begin), left: 100 << 20, end: cursor(end) };
        let weight = weigh::begin();
        let outcome = read(Rows::read(Path::new("rows"), long, format, None));
        let peak = weigh::peak(weight);
        assert_eq!(outcome, hash((1, 1_u32, 1_u32)), "{format:?}: one row is too large, and one is read");
        assert!(peak < HEAVY, "{format:?} holds {peak} bytes");
    }
}
