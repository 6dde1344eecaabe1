//! Avro containers. A field that is a timestamp becomes milliseconds since 1970.

use std::collections::VecDeque;
use std::io::{self, Read};

use apache_avro::types::Value as Avro;
use serde_json::Value;

use super::{BadRow, Item, MAX_ROW, Problem, Row, Source};
use crate::codec::{Container, ContainerError, avro_millis};

/// The number of records that are read at a time, and the number of bytes after which no further one is read.
const RECORDS: usize = 256;
const BYTES: usize = 1 << 20;

/// The rows of an Avro container.
pub(super) struct AvroRows<R> {
    container: Container<R>,
    items: VecDeque<Item>,
    number: u64,
    ended: bool,
}

fn problem(error: ContainerError) -> Problem {
    match error {
        ContainerError::Io(error) => error.into(),
        other => Problem::Damaged(io::Error::from(other).to_string()),
    }
}

impl<R: Read> AvroRows<R> {
    pub(super) fn new(source: R) -> Result<Self, Problem> {
        let container = Container::new(source).map_err(problem)?;
        Ok(Self { container, items: VecDeque::new(), number: 0, ended: false })
    }
}

impl<R: Read> Source for AvroRows<R> {
    fn next(&mut self) -> Result<Option<Item>, Problem> {
        if self.items.is_empty() && !self.ended {
            let (items, number, mut bytes) = (&mut self.items, &mut self.number, 0);
            let more = self.container.records(RECORDS, |record| {
                *number += 1;
                let json = json(record).to_string().into_bytes();
                bytes += json.len();
                items.push_back(if json.len() > MAX_ROW {
                    Item::Bad(BadRow::too_large(*number, ""))
                } else {
                    Item::Row(Row { number: *number, json })
                });
                bytes < BYTES
            });
            self.ended = !more.map_err(problem).inspect_err(|_| self.ended = true)?;
        }
        Ok(self.items.pop_front())
    }
}

fn json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) => value.into(),
        Avro::Float(value) => f64::from(value).into(),
        Avro::Double(value) => value.into(),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => String::from_utf8_lossy(&bytes).into(),
        Avro::Union(_, inner) => json(*inner),
        Avro::Array(values) => values.into_iter().map(json).collect(),
        Avro::Map(values) => object(values),
        Avro::Record(values) => object(values),
        Avro::Uuid(id) => id.to_string().into(),
        other => avro_millis(&other).ok().flatten().map_or(Value::Null, Value::from),
    }
}

fn object(values: impl IntoIterator<Item = (String, Avro)>) -> Value {
    Value::Object(values.into_iter().map(|(name, value)| (name, json(value))).collect())
}
