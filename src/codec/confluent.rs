//! Confluent's framing: the id that a registry gave the schema of a record, before the datum or in a header.
//!
//! This module reads the frame and converts a datum of another schema to ours. [`Schemas`] is the interface to the
//! registry.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;

use super::datum_size::check_size;
use super::error::DecodeError;
use super::schema::fingerprint;
use super::writer_schema::{self, fit, has_other_times};

/// The header with the id of the schema of a record's value.
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";
/// The maximum size of a schema's text, in bytes.
pub const MAX_SCHEMA: usize = 256 << 10;

/// The byte before an id of four bytes, big-endian.
pub(super) const NUMBER: u8 = 0;
/// The byte before a GUID of sixteen bytes.
const GUID: u8 = 1;

/// The id of a schema in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// A number, which one registry assigned.
    Number(u32),
    /// A GUID, which is the same in every registry.
    Guid([u8; 16]),
}

impl SchemaId {
    /// Splits an id off the front of `bytes`.
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        match bytes.split_first()? {
            (&NUMBER, rest) => {
                rest.split_first_chunk().map(|(id, rest)| (Self::Number(u32::from_be_bytes(*id)), rest))
            }
            (&GUID, rest) => rest.split_first_chunk().map(|(id, rest)| (Self::Guid(*id), rest)),
            _ => None,
        }
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(to, "{number}"),
            Self::Guid(bytes) => uuid::Uuid::from_bytes(*bytes).fmt(to),
        }
    }
}

/// The schema of a writer, from a registry.
#[derive(Debug)]
pub struct Writer(WriterKind);

#[derive(Debug)]
enum WriterKind {
    Avro {
        schema: Box<Schema>,
        fingerprint: u64,
        /// `true` if a time is not in milliseconds. The fingerprint does not cover units.
        has_other_times: bool,
    },
    /// The datum is JSON.
    Json,
}

impl Writer {
    /// Parses an Avro schema. Returns `None` if it is not one that records can be read with, or greater than
    /// [`MAX_SCHEMA`].
    #[must_use]
    pub fn avro(text: &str) -> Option<Self> {
        if text.len() > MAX_SCHEMA {
            return None;
        }
        let schema = writer_schema::parse(text)?;
        // Building a reader fails for a schema with unresolved names.
        GenericDatumReader::builder(&schema).build().ok()?;
        let fingerprint = fingerprint(&schema)?;
        let has_other_times = has_other_times(&schema);
        Some(Self(WriterKind::Avro { schema: Box::new(schema), fingerprint, has_other_times }))
    }

    /// Returns the writer of JSON records. Their schema is not used.
    #[must_use]
    pub fn json() -> Self {
        Self(WriterKind::Json)
    }
}

/// A source of writers' schemas.
pub trait Schemas {
    /// Returns the schema of an id.
    ///
    /// # Errors
    /// Returns [`DecodeError::SchemaPending`] if the schema is requested and the caller should try again later.
    /// [`DecodeError::UnknownSchemaId`], [`DecodeError::Incompatible`] and [`DecodeError::RegistryUnavailable`] are final.
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError>;
}

/// A datum in Confluent's framing, with its writer.
pub(super) struct FramedDatum<'a> {
    id: SchemaId,
    writer: Arc<Writer>,
    datum: &'a [u8],
}

/// A record as it was received.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The record's value.
    pub payload: &'a [u8],
    /// The record's headers.
    pub headers: &'a [(String, Option<Vec<u8>>)],
    /// The value of the header [`SCHEMA_ID_HEADER`], if the record has one.
    pub schema_id: Option<&'a [u8]>,
    /// The registry, if there is one.
    pub schemas: Option<&'a dyn Schemas>,
    /// The record's topic, partition and offset, if they are known. They are the id of an event without one.
    pub place: Option<(&'a str, i32, i64)>,
}

impl<'a> Received<'a> {
    /// Returns a record that is a value alone, without a registry.
    #[must_use]
    pub fn plain(payload: &'a [u8]) -> Self {
        Self { payload, headers: &[], schema_id: None, schemas: None, place: None }
    }

    /// Returns a record with a value and headers. A value of `None` is read as an empty one.
    #[must_use]
    pub fn new(
        payload: Option<&'a [u8]>,
        headers: &'a [(String, Option<Vec<u8>>)],
        schemas: Option<&'a dyn Schemas>,
    ) -> Self {
        // Of two headers with one name the last one counts, as for Kafka's own clients.
        let found = headers.iter().rev().find(|(name, _)| name == SCHEMA_ID_HEADER);
        let schema_id = found.and_then(|(_, value)| value.as_deref());
        Self { payload: payload.unwrap_or_default(), headers, schema_id, schemas, place: None }
    }

    /// Sets the position that the record was read from.
    #[must_use]
    pub fn at(self, topic: &'a str, partition: i32, offset: i64) -> Self {
        Self { place: Some((topic, partition, offset)), ..self }
    }

    /// Returns the datum and its writer, or `None` if the record is not in Confluent's framing. The header takes
    /// precedence over the first bytes of the payload.
    pub(super) fn confluent(&self) -> Result<Option<FramedDatum<'a>>, DecodeError> {
        let cut = DecodeError::Malformed { why: "ends within its header" };
        let (id, datum) = match (self.schema_id, self.payload.first()) {
            // Without a registry, a record that needs none is read by its first bytes.
            (Some(header), first) if self.schemas.is_some() || !matches!(first, Some(0xC3 | b'{')) => {
                match SchemaId::split(header) {
                    Some((id, [])) => (id, self.payload),
                    _ => return Err(DecodeError::Malformed { why: "names no schema in its header" }),
                }
            }
            (_, Some(&NUMBER | &GUID)) => SchemaId::split(self.payload).ok_or(cut)?,
            _ => return Ok(None),
        };
        let schemas = self.schemas.ok_or(DecodeError::NoRegistry)?;
        Ok(Some(FramedDatum { id, writer: schemas.writer(id)?, datum }))
    }
}

/// The content of a record in Confluent's framing.
pub(super) enum Resolved<'a> {
    /// A datum of our schema.
    Datum(Cow<'a, [u8]>),
    /// JSON.
    Json(&'a [u8]),
}

/// Converts a datum to the schema `ours`.
pub(super) fn resolve<'a>(
    FramedDatum { id, writer, datum }: FramedDatum<'a>,
    (ours, print): (&Schema, u64),
    to: &GenericDatumWriter<'_>,
) -> Result<Resolved<'a>, DecodeError> {
    let schema = match &writer.0 {
        WriterKind::Json => return Ok(Resolved::Json(datum)),
        WriterKind::Avro { fingerprint, has_other_times: false, .. } if *fingerprint == print => {
            return Ok(Resolved::Datum(Cow::Borrowed(datum)));
        }
        WriterKind::Avro { schema, .. } => schema,
    };
    let bytes = convert(schema, datum, ours, to, DecodeError::Incompatible { id })?;
    Ok(Resolved::Datum(Cow::Owned(bytes)))
}

/// Converts a datum of `schema` to the schema `ours`.
///
/// # Errors
/// Returns `misfit` if the datum cannot be converted.
pub(super) fn convert(
    schema: &Schema,
    datum: &[u8],
    ours: &Schema,
    to: &GenericDatumWriter<'_>,
    misfit: DecodeError,
) -> Result<Vec<u8>, DecodeError> {
    // The library builds a tree of values, so its size is checked first.
    check_size(schema, datum)?;
    let read = || GenericDatumReader::builder(schema).human_readable(false).build()?.read_value(&mut &*datum);
    let value = fit(read().map_err(|_| misfit.clone())?, ours)?;
    let made = || {
        let value = value.resolve(ours)?;
        let mut bytes = Vec::with_capacity(datum.len());
        to.write_value_ref(&mut bytes, &value)?;
        Ok::<_, apache_avro::Error>(bytes)
    };
    made().map_err(|_| misfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_as_registries_write_them() {
        let (id, rest) = SchemaId::split(b"\0\0\0\x01\x02rest").unwrap();
        assert_eq!((id, id.to_string().as_str(), rest), (SchemaId::Number(258), "258", &b"rest"[..]));
        let guid = *b"\x89\x79\x17\x62\x23\x36\x41\x86\x96\x74\x29\x9b\x90\xa8\x02\xe2";
        let bytes = [&[1][..], &guid].concat();
        let (id, rest) = SchemaId::split(&bytes).unwrap();
        assert_eq!((id, rest), (SchemaId::Guid(guid), &b""[..]));
        assert_eq!(id.to_string(), "89791762-2336-4186-9674-299b90a802e2");
        for cut in [&b""[..], b"\0\0\0\0", b"\x01\0", b"\x02\0\0\0\0"] {
            assert_eq!(SchemaId::split(cut), None);
        }
    }

    #[test]
    fn the_last_of_two_headers_counts() {
        let header = |id: u8| (SCHEMA_ID_HEADER.to_owned(), Some(vec![0, 0, 0, 0, id]));
        let headers = [header(1), ("other".to_owned(), None), header(2)];
        assert_eq!(Received::new(None, &headers, None).schema_id, Some(&b"\0\0\0\0\x02"[..]));
    }

    #[test]
    fn schemas_that_cannot_be_read_with_are_refused() {
        assert!(Writer::avro(r#""string""#).is_some());
        let open = r#"{"type":"record","name":"A","fields":[{"name":"b","type":"other.Name"}]}"#;
        for text in ["", "{}", "[", open, &" ".repeat(MAX_SCHEMA + 1)] {
            assert!(Writer::avro(text).is_none(), "{text:.20}");
        }
    }
}
