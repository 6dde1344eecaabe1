//! Parquet, read row by row.

use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Value};

use super::{BadRow, Item, MAX_ROW, Problem, Row, Source};
use crate::panics::contain;

/// The maximum size of a column in a row group, uncompressed, in bytes.
const MAX_CHUNK: i64 = 1 << 30;
/// The number of milliseconds in a day.
const DAY: i64 = 86_400_000;

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    /// The number of rows that were read.
    number: u64,
    ended: bool,
}

/// Calls the library. It panics on some damaged files.
fn guarded<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, Problem> {
    match contain(work) {
        Ok(Ok(value)) => Ok(value),
        // The library's messages describe the structure of the file, and no values.
        Ok(Err(error)) => Err(Problem::Damaged(format!("the Parquet file cannot be read: {error}"))),
        Err(_) => Err(Problem::Damaged("the Parquet file cannot be read: it is damaged".to_owned())),
    }
}

impl ParquetRows {
    /// Reads the metadata.
    pub(super) fn new(file: impl ChunkReader + 'static) -> Result<Self, Problem> {
        let reader = guarded(|| SerializedFileReader::new(file))?;
        let columns = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
        let largest = columns.map(|column| column.uncompressed_size()).max().unwrap_or(0);
        if largest > MAX_CHUNK {
            return Err(Problem::Damaged(format!(
                "a row group has a column of {largest} bytes, more than {MAX_CHUNK}: write smaller row groups"
            )));
        }
        let rows = guarded(|| Ok(RowIter::from_file_into(Box::new(reader))))?;
        Ok(Self { rows, number: 0, ended: false })
    }
}

impl Source for ParquetRows {
    fn next(&mut self) -> Result<Option<Item>, Problem> {
        if self.ended {
            return Ok(None);
        }
        let rows = &mut self.rows;
        let record = guarded(|| rows.next().transpose()).inspect_err(|_| self.ended = true)?;
        let Some(record) = record else {
            self.ended = true;
            return Ok(None);
        };
        self.number += 1;
        let json = object(record).to_string().into_bytes();
        Ok(Some(if json.len() > MAX_ROW {
            Item::Bad(BadRow::too_large(self.number, ""))
        } else {
            Item::Row(Row { number: self.number, json })
        }))
    }
}

fn object(record: Record) -> Value {
    let fields = record.into_columns().into_iter().map(|(name, field)| (name, value(&field)));
    Value::Object(fields.collect())
}

/// Returns a value as JSON: times in milliseconds since 1970, bytes as text if they are UTF-8.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) | Field::TimestampMillis(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => f64::from(*value).into(),
        Field::Float(value) => f64::from(*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into(),
        Field::TimestampMicros(value) => value.div_euclid(1_000).into(),
        Field::Date(days) => (i64::from(*days) * DAY).into(),
        Field::TimeMillis(_) | Field::TimeMicros(_) | Field::Decimal(_) => field.to_string().into(),
        Field::Group(group) => {
            let fields = group.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
            Value::Object(fields.collect())
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entry = |(key, found): &(Field, Field)| match key {
                Field::Str(name) => (name.clone(), value(found)),
                other => (other.to_string(), value(found)),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Map<_, _>>())
        }
    }
}
