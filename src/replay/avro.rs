//! Avro container files of labelled rounds: records whose fields have the names of the JSON lines.

use std::io::{self, BufReader, Read};

use apache_avro::types::Value as Avro;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::batch::Batch;
use super::line::Parser;
use super::read::{MAX_LINE_BYTES, too_long};
use crate::codec::{Container as Records, avro_millis};
use crate::core::hash::hex;

/// Records read at a time.
const MAX_RECORDS: usize = 2_048;
/// Bytes of text after which no further record is read.
const MAX_BYTES: usize = 1 << 20;

/// A container file being read.
pub(super) struct Container {
    records: Records<BufReader<Box<dyn Read + Send>>>,
    number: u64,
}

impl Container {
    pub(super) fn new(source: Box<dyn Read + Send>) -> io::Result<Self> {
        let records = Records::new(BufReader::with_capacity(1 << 20, source))?;
        Ok(Self { records, number: 0 })
    }

    /// Reads some records as lines. Returns `false` at the end.
    pub(super) fn next(&mut self, parser: &mut Parser, batch: &mut Batch) -> io::Result<bool> {
        let mut read = 0;
        let more = self.records.records(MAX_RECORDS, |record| {
            self.number += 1;
            batch.lines += 1;
            let line = json("", record).to_string();
            if line.len() > MAX_LINE_BYTES {
                batch.items.push((self.number, too_long()));
            } else {
                parser.parse_record(self.number, &line, batch);
            }
            read += line.len();
            read < MAX_BYTES
        })?;
        Ok(more)
    }
}

/// The fields that are times.
const TIMES: [&str; 4] = ["event_time", "label_time", "time", "received"];

/// Returns an Avro value as JSON lines have it: features in base64, an encoder's id in hexadecimal.
fn json(field: &str, value: Avro) -> Value {
    if TIMES.contains(&field)
        && !matches!(value, Avro::Union(..) | Avro::String(_))
        && let Ok(Some(time)) = avro_millis(&value)
    {
        return time.into();
    }
    // As on the topics: a time of day is not a time, and as a number it would be a time in January 1970.
    if TIMES.contains(&field) && matches!(value, Avro::TimeMillis(_) | Avro::TimeMicros(_)) {
        return refused();
    }
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => value.into(),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::TimestampNanos(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value)
        | Avro::LocalTimestampNanos(value) => value.into(),
        Avro::Float(value) => number(value.into()),
        Avro::Double(value) => number(value),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => binary(field, bytes),
        Avro::Union(_, inner) => json(field, *inner),
        Avro::Array(values) => values.into_iter().map(|value| json(field, value)).collect(),
        Avro::Map(values) => object(values),
        Avro::Record(values) => object(values),
        Avro::Uuid(id) => id.to_string().into(),
        // The codec reads no other logical types.
        _ => refused(),
    }
}

fn object(values: impl IntoIterator<Item = (String, Avro)>) -> Value {
    let fields: Map<_, _> = values
        .into_iter()
        .map(|(name, value)| {
            let value = json(&name, value);
            (name, value)
        })
        .collect();
    Value::Object(fields)
}

/// Returns a number. JSON cannot express NaN and infinity, and null would be an abstention.
fn number(value: f64) -> Value {
    if value.is_finite() { value.into() } else { refused() }
}

/// Returns bytes: features and ids of encoders encoded, in all other fields as text.
fn binary(field: &str, bytes: Vec<u8>) -> Value {
    match (field, <[u8; 32]>::try_from(bytes.as_slice())) {
        ("encoder", Ok(id)) => hex(&id).into(),
        ("features", _) => STANDARD.encode(bytes).into(),
        _ => String::from_utf8(bytes).map_or_else(|_| refused(), Value::from),
    }
}

/// Returns a value that every field of a line refuses.
fn refused() -> Value {
    Value::Array(Vec::new())
}

#[cfg(test)]
mod tests {
    use apache_avro::{Schema, Writer};

    use super::*;

    #[test]
    fn a_batch_ends_when_it_is_full() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"own","type":"string"}]}"#;
        let schema = Schema::parse_str(schema).unwrap();
        let mut writer = Writer::new(&schema, Vec::new()).unwrap();
        for _ in 0..12 {
            let own = Avro::String("x".repeat(200_000));
            writer.append_value(Avro::Record(vec![("own".to_owned(), own)])).unwrap();
        }
        let file = io::Cursor::new(writer.into_inner().unwrap());
        let mut container = Container::new(Box::new(file)).unwrap();
        let (mut parser, mut batch, mut lines) = (Parser::default(), Batch::default(), Vec::new());
        loop {
            batch.clear(0);
            let more = container.next(&mut parser, &mut batch).unwrap();
            lines.push(batch.lines);
            if !more {
                break;
            }
        }
        // Six are 1.2 million bytes.
        assert_eq!(lines, [6, 6, 0]);
    }
}
