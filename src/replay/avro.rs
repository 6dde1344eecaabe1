//! Avro container files of labelled rounds: records whose fields have the names of the JSON lines.

use std::io::{self, BufReader, Read};

use apache_avro::Reader;
use apache_avro::types::Value as Avro;
use apache_avro::util::max_allocation_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::batch::Batch;
use super::line::Parser;
use crate::codec::MAX_PREDICTOR;
use crate::core::hash::hex;

/// Records taken at a time.
const PIECE: usize = 2_048;

/// A container file being read.
pub(super) struct Container {
    records: Reader<'static, BufReader<Box<dyn Read + Send>>>,
    number: u64,
}

impl Container {
    pub(super) fn new(source: Box<dyn Read + Send>) -> io::Result<Self> {
        // Once for the process, as the codec does: a length that a file names cannot ask for more.
        max_allocation_bytes(MAX_PREDICTOR);
        let records =
            Reader::new(BufReader::with_capacity(1 << 20, source)).map_err(|error| broken(&error))?;
        Ok(Self { records, number: 0 })
    }

    /// Reads some records as lines; `false` at the end.
    pub(super) fn next(&mut self, parser: &mut Parser, batch: &mut Batch) -> io::Result<bool> {
        for _ in 0..PIECE {
            let Some(record) = self.records.next() else { return Ok(false) };
            let record = json("", record.map_err(|error| broken(&error))?);
            self.number += 1;
            batch.lines += 1;
            parser.read(self.number, &record.to_string(), batch);
        }
        Ok(true)
    }
}

/// The library's words may show content: only that there is a fault is passed on.
fn broken(error: &apache_avro::Error) -> io::Error {
    let kind = match error.details() {
        apache_avro::error::Details::ReadHeader(reason) => reason.kind(),
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, "not an Avro container file, or a damaged one")
}

/// An Avro value as a line of JSON would have it: bytes in base64, an encoder's id in hexadecimal.
fn json(field: &str, value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => value.into(),
        Avro::Long(value) | Avro::TimestampMillis(value) | Avro::LocalTimestampMillis(value) => value.into(),
        Avro::TimestampMicros(value) | Avro::LocalTimestampMicros(value) => value.div_euclid(1_000).into(),
        Avro::Float(value) => f64::from(value).into(),
        Avro::Double(value) => value.into(),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(id) if field == "encoder" => hex(&id).into(),
            _ => STANDARD.encode(bytes).into(),
        },
        Avro::Union(_, inner) => json(field, *inner),
        Avro::Array(values) => values.into_iter().map(|value| json(field, value)).collect(),
        Avro::Map(values) => {
            let fields: Map<_, _> =
                values.into_iter().map(|(name, value)| (name.clone(), json(&name, value))).collect();
            Value::Object(fields)
        }
        Avro::Record(values) => {
            let fields: Map<_, _> =
                values.into_iter().map(|(name, value)| (name.clone(), json(&name, value))).collect();
            Value::Object(fields)
        }
        Avro::Uuid(id) => id.to_string().into(),
        // No field of ours is any of these.
        _ => Value::Array(Vec::new()),
    }
}
