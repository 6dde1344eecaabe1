//! Confluent's framing: a record names the schema that wrote it by what a registry calls it, before the
//! datum or in a header.
//!
//! The registry itself is an edge of its own behind [`Schemas`]; here is what the bytes mean, and how a
//! datum of another schema becomes one of ours.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;

use super::error::DecodeError;
use super::foreign::{self, fit, has_other_times};
use super::schema::fingerprint;
use super::skim::skim;

/// The header that names the schema of a record's value.
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";
/// Greatest schema read, in bytes of its text.
pub const MAX_SCHEMA: usize = 256 << 10;

/// Before an id of four bytes, big-endian.
pub(super) const NUMBER: u8 = 0;
/// Before a GUID of sixteen bytes.
const GUID: u8 = 1;

/// What a registry calls a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// One registry's number.
    Number(u32),
    /// The same in every registry.
    Guid([u8; 16]),
}

impl SchemaId {
    /// Takes an id off the front of `bytes`.
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
            Self::Guid(bytes) => {
                for (place, byte) in bytes.iter().enumerate() {
                    if matches!(place, 4 | 6 | 8 | 10) {
                        to.write_str("-")?;
                    }
                    write!(to, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// A schema that wrote records, as a registry gave it.
#[derive(Debug)]
pub struct Writer(Kept);

#[derive(Debug)]
enum Kept {
    Avro {
        schema: Box<Schema>,
        fingerprint: u64,
        /// Its times count something else, which the fingerprint does not tell.
        other_times: bool,
    },
    /// The datum is JSON text.
    Json,
}

impl Writer {
    /// Reads an Avro schema; `None` where it is none, or greater than [`MAX_SCHEMA`].
    #[must_use]
    pub fn avro(text: &str) -> Option<Self> {
        if text.len() > MAX_SCHEMA {
            return None;
        }
        let schema = foreign::parse(text)?;
        // A schema that leaves names open could not be read with; the library finds out by this.
        GenericDatumReader::builder(&schema).build().ok()?;
        let fingerprint = fingerprint(&schema)?;
        let other_times = has_other_times(&schema);
        Some(Self(Kept::Avro { schema: Box::new(schema), fingerprint, other_times }))
    }

    /// The writer of records that are JSON, whatever their schema says of them.
    #[must_use]
    pub fn json() -> Self {
        Self(Kept::Json)
    }
}

/// Where the schemas of writers come from.
pub trait Schemas {
    /// The schema of that id.
    ///
    /// # Errors
    /// [`DecodeError::SchemaPending`] where it has been asked for and the answer is not there yet: ask
    /// again. [`DecodeError::UnknownSchemaId`], [`DecodeError::Incompatible`] and
    /// [`DecodeError::RegistryUnavailable`] are final.
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError>;
}

/// A datum with its writer.
pub(super) struct Named<'a> {
    id: SchemaId,
    writer: Arc<Writer>,
    datum: &'a [u8],
}

/// A record as it came.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// Its value.
    pub payload: &'a [u8],
    /// The value of its header [`SCHEMA_ID_HEADER`], where it has one.
    pub schema_id: Option<&'a [u8]>,
    /// Where schemas come from; `None`: there is no registry.
    pub schemas: Option<&'a dyn Schemas>,
    /// Its topic, partition and offset, where they are known: an event without an id takes them for one.
    pub place: Option<(&'a str, i32, i64)>,
}

impl<'a> Received<'a> {
    /// A value alone, no registry.
    #[must_use]
    pub fn plain(payload: &'a [u8]) -> Self {
        Self { payload, schema_id: None, schemas: None, place: None }
    }

    /// A value with its record's headers.
    #[must_use]
    pub fn new(
        payload: Option<&'a [u8]>,
        headers: &'a [(String, Option<Vec<u8>>)],
        schemas: Option<&'a dyn Schemas>,
    ) -> Self {
        // Where a header stands twice the last one counts, as for Kafka's own clients.
        let found = headers.iter().rev().find(|(name, _)| name == SCHEMA_ID_HEADER);
        let schema_id = found.and_then(|(_, value)| value.as_deref());
        Self { payload: payload.unwrap_or_default(), schema_id, schemas, place: None }
    }

    /// The same, read from there.
    #[must_use]
    pub fn at(self, topic: &'a str, partition: i32, offset: i64) -> Self {
        Self { place: Some((topic, partition, offset)), ..self }
    }

    /// The datum and its writer, where the record names one; `None` where it does not. The header goes
    /// before the payload's first bytes.
    pub(super) fn named(&self) -> Result<Option<Named<'a>>, DecodeError> {
        let cut = DecodeError::Malformed { why: "ends within its header" };
        let (id, datum) = match (self.schema_id, self.payload.first()) {
            // Without a registry a record that needs none is read for what it is.
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
        Ok(Some(Named { id, writer: schemas.writer(id)?, datum }))
    }
}

/// A datum once its writer is known.
pub(super) enum Resolved<'a> {
    /// A datum of our schema.
    Datum(Cow<'a, [u8]>),
    /// JSON.
    Json(&'a [u8]),
}

/// Makes a datum one of the schema `ours`.
pub(super) fn resolve<'a>(
    Named { id, writer, datum }: Named<'a>,
    (ours, print): (&Schema, u64),
    to: &GenericDatumWriter<'_>,
) -> Result<Resolved<'a>, DecodeError> {
    let schema = match &writer.0 {
        Kept::Json => return Ok(Resolved::Json(datum)),
        Kept::Avro { fingerprint, other_times: false, .. } if *fingerprint == print => {
            return Ok(Resolved::Datum(Cow::Borrowed(datum)));
        }
        Kept::Avro { schema, .. } => schema,
    };
    let bytes = convert(schema, datum, ours, to, DecodeError::Incompatible { id })?;
    Ok(Resolved::Datum(Cow::Owned(bytes)))
}

/// Makes a datum of one schema one of the schema `ours`; `misfit` is the error where that cannot be.
pub(super) fn convert(
    schema: &Schema,
    datum: &[u8],
    ours: &Schema,
    to: &GenericDatumWriter<'_>,
    misfit: DecodeError,
) -> Result<Vec<u8>, DecodeError> {
    // The library builds a tree of values: first it is counted what would come of these bytes.
    skim(schema, datum)?;
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
    fn ids_as_their_bytes_and_as_registries_spell_them() {
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
