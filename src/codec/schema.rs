//! The kinds of records, with their parsed schemas and their framing.
//!
//! A record is a datum, which is Avro's encoding of a value, in a frame. [`Kind::unframe`] and [`Kind::encode`] handle the
//! frames. A registry's frame may name a schema of another writer; its datum is converted to our schema first
//! ([`super::confluent`]).

use std::borrow::Cow;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::confluent::{NUMBER, Received, Resolved, convert, resolve};
use super::error::{DecodeError, EncodeError};
use super::ledger_datum::Layout;
use super::writer_schema::fit;
use super::{
    Encoding, MAX_DECISION, MAX_EVENT, MAX_LABEL, MAX_PREDICTOR, MAX_RECORD, MAX_REVIEW, datum_writer, json,
};
use crate::core::event::MAX_ID;
use crate::core::predictor::MAX_PIN_REASON;
use crate::crash;

/// The schema files, by the names of their records.
pub const SCHEMAS: [(&str, &str); 7] = [
    ("Event", include_str!("../../schemas/event.avsc")),
    ("Label", include_str!("../../schemas/label.avsc")),
    ("Decision", include_str!("../../schemas/decision.avsc")),
    ("LedgerRecord", include_str!("../../schemas/ledger.avsc")),
    ("Predictor", include_str!("../../schemas/predictor.avsc")),
    ("ReviewRequest", include_str!("../../schemas/review.avsc")),
    ("Pin", include_str!("../../schemas/pin.avsc")),
];

/// The schemas that earlier versions wrote records with, by record from the oldest to the newest. They remain readable.
const EARLIER: [(&str, &str); 11] = [
    ("Decision", include_str!("../../schemas/earlier/decision-1.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-2.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-3.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-4.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-5.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-6.avsc")),
    ("ReviewRequest", include_str!("../../schemas/earlier/review-1.avsc")),
    ("ReviewRequest", include_str!("../../schemas/earlier/review-2.avsc")),
    ("LedgerRecord", include_str!("../../schemas/earlier/ledger-1.avsc")),
    ("LedgerRecord", include_str!("../../schemas/earlier/ledger-2.avsc")),
    ("Label", include_str!("../../schemas/earlier/label-1.avsc")),
];

/// The kind of record that a test's older version does not read yet.
const DECISION: &str = SCHEMAS[2].0;

/// The marker of Avro's single-object encoding. The schema's fingerprint, little-endian, and the datum follow it.
const MARKER: [u8; 2] = [0xC3, 0x01];
/// The size of a fingerprint, in bytes.
const FINGERPRINT: usize = 8;

/// All kinds of records.
pub(super) struct RecordKinds {
    pub(super) event: Kind,
    pub(super) label: Kind,
    pub(super) decision: Kind,
    pub(super) record: Kind,
    pub(super) predictor: Kind,
    pub(super) review: Kind,
    pub(super) pin: Kind,
}

/// Returns all kinds of records.
///
/// # Panics
/// Panics if a schema that is compiled into this program does not parse. A unit test checks that they do.
pub(super) fn kinds() -> &'static RecordKinds {
    static KINDS: LazyLock<RecordKinds> = LazyLock::new(|| {
        // The limit is the process's, and is set before the first datum is read: a length prefix cannot make the library
        // allocate more.
        max_allocation_bytes(MAX_PREDICTOR);
        let [event, label, decision, record, predictor, review, pin] = SCHEMAS;
        let kind = |schema, max_size| Kind::parse(schema, max_size).expect("compiled-in schemas parse");
        RecordKinds {
            event: kind(event, MAX_EVENT),
            label: kind(label, MAX_LABEL),
            decision: kind(decision, MAX_DECISION),
            record: kind(record, MAX_RECORD),
            predictor: kind(predictor, MAX_PREDICTOR),
            review: kind(review, MAX_REVIEW),
            // It holds a predictor, whose bytes are bounded by the allocation, and a reason, two ids and a few numbers.
            pin: kind(pin, MAX_PREDICTOR + MAX_PIN_REASON + 2 * MAX_ID + 128),
        }
    });
    &KINDS
}

/// A kind of record.
pub(super) struct Kind {
    name: &'static str,
    /// The maximum size of a record that is read or written, in bytes.
    max_size: usize,
    fingerprint: u64,
    schema: &'static Schema,
    /// The schemas of earlier versions, by their fingerprints.
    earlier: Vec<(u64, Schema)>,
    reader: GenericDatumReader<'static>,
    writer: GenericDatumWriter<'static>,
}

/// The content of a record's frame.
enum Content<'a> {
    Datum(Cow<'a, [u8]>),
    Json(&'a str),
}

/// Returns the CRC-64-AVRO fingerprint of a schema's canonical form, as its little-endian bytes are read.
pub(super) fn fingerprint(schema: &Schema) -> Option<u64> {
    // The canonical form has no logical types. The library writes `{"type":"long"}` for one, where the specification
    // and other libraries write `"long"`; parsing the form a second time makes it `"long"`.
    let canonical = Schema::parse_str(&schema.canonical_form()).ok()?;
    let bytes = canonical.fingerprint::<Rabin>().bytes.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Removes the byte order mark that some editors and Windows tools put before UTF-8.
fn without_bom(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload)
}

impl Kind {
    fn parse((name, text): (&'static str, &'static str), max_size: usize) -> Option<Self> {
        // Leaked once per kind: the reader and the writer borrow it for as long as the program runs.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(text).ok()?));
        let earlier = EARLIER.iter().filter(|(of, _)| *of == name).map(|(_, text)| {
            let schema = Schema::parse_str(text).ok()?;
            Some((fingerprint(&schema)?, schema))
        });
        Some(Self {
            name,
            earlier: earlier.collect::<Option<_>>()?,
            max_size,
            fingerprint: fingerprint(schema)?,
            schema,
            reader: GenericDatumReader::builder(schema).human_readable(false).build().ok()?,
            writer: GenericDatumWriter::builder(schema).human_readable(false).build().ok()?,
        })
    }

    /// Returns `false` if a test has this process act as a version that does not have this schema yet.
    fn reads_own_schema(&self) -> bool {
        self.name != DECISION || !crash::plays_older()
    }

    /// Returns a number that identifies the set of schemas that this version reads in the single-object encoding.
    pub(super) fn readable_schemas(&self) -> u64 {
        let own = self.reads_own_schema().then_some(self.fingerprint);
        let all = self.earlier.iter().map(|(print, _)| *print).chain(own);
        // Zero means that the version is not known.
        all.fold(0_u64, |all, print| all.rotate_left(1) ^ print).max(1)
    }

    /// Takes the frame off a record. A datum of another schema is converted to this kind's.
    fn unframe<'a>(&self, received: &Received<'a>) -> Result<Content<'a>, DecodeError> {
        let payload = received.payload;
        let (bytes, bound) = (payload.len(), self.max_size);
        if bytes == 0 {
            return Err(DecodeError::Empty);
        }
        if bytes > bound {
            return Err(DecodeError::TooLarge { bytes, bound });
        }
        if let Some(framed) = received.confluent()? {
            return match resolve(framed, (self.schema, self.fingerprint), &self.writer)? {
                Resolved::Datum(datum) => Ok(Content::Datum(datum)),
                Resolved::Json(text) => Self::text(text),
            };
        }
        if let Some(rest) = payload.strip_prefix(&MARKER) {
            let Some((found, datum)) = rest.split_first_chunk::<FINGERPRINT>() else {
                return Err(DecodeError::Malformed { why: "ends within its header" });
            };
            let (expected, found) = (self.fingerprint, u64::from_le_bytes(*found));
            if found == expected && self.reads_own_schema() {
                return Ok(Content::Datum(Cow::Borrowed(datum)));
            }
            let earlier = self.earlier.iter().find(|(print, _)| *print == found);
            let (_, schema) = earlier.ok_or(DecodeError::WrongSchema { expected, found })?;
            let misfit = DecodeError::Malformed { why: "does not fit its schema" };
            let datum = convert(schema, datum, self.schema, &self.writer, misfit)?;
            return Ok(Content::Datum(Cow::Owned(datum)));
        }
        if without_bom(payload).trim_ascii_start().first() != Some(&b'{') {
            return Err(DecodeError::NotAvro);
        }
        Self::text(payload)
    }

    fn text(payload: &[u8]) -> Result<Content<'_>, DecodeError> {
        std::str::from_utf8(without_bom(payload)).map(Content::Json).map_err(|_| DecodeError::NotJson)
    }

    fn datum<T: DeserializeOwned>(&self, datum: &[u8]) -> Result<T, DecodeError> {
        use apache_avro::error::Details::{ReadBytes, ReadVariableIntegerBytes};
        let mut rest = datum;
        let form = self.reader.read_deser(&mut rest).map_err(|error| match error.details() {
            ReadBytes(_) | ReadVariableIntegerBytes(_) => DecodeError::Malformed { why: "ends too early" },
            _ => DecodeError::Malformed { why: "does not fit its schema" },
        })?;
        if rest.is_empty() { Ok(form) } else { Err(DecodeError::Malformed { why: "goes on after its end" }) }
    }

    /// Reads a record whose JSON has the fields of its Avro schema.
    pub(super) fn decode<T: DeserializeOwned>(&self, received: &Received<'_>) -> Result<T, DecodeError> {
        match self.unframe(received)? {
            Content::Datum(datum) => self.datum(&datum),
            Content::Json(text) => json::parse(text),
        }
    }

    /// Reads a record of a container file.
    pub(super) fn decode_value<T: DeserializeOwned>(&self, value: Value) -> Result<T, DecodeError> {
        let misfit = DecodeError::Malformed { why: "does not fit its schema" };
        let value = fit(value, self.schema)?.resolve(self.schema).map_err(|_| misfit.clone())?;
        let mut bytes = Vec::new();
        self.writer.write_value_ref(&mut bytes, &value).map_err(|_| misfit)?;
        self.datum(&bytes)
    }

    /// The datum of a record in the single-object encoding with its layout, if its schema is an earlier one.
    fn earlier_datum<'a>(&self, received: &Received<'a>) -> Option<(&'a [u8], Layout)> {
        let datum =
            received.payload.strip_prefix(&MARKER).filter(|_| received.payload.len() <= self.max_size)?;
        let (found, datum) = datum.split_first_chunk::<FINGERPRINT>()?;
        let found = u64::from_le_bytes(*found);
        let at = self.earlier.iter().position(|(print, _)| *print == found)?;
        // Since the second version the layout has not changed.
        Some((datum, if at == 0 { Layout::First } else { Layout::Current }))
    }

    /// Reads a record whose JSON has the fields of its Avro schema. The library reads a datum for which `fast` returns
    /// `None`.
    pub(super) fn decode_with<T: DeserializeOwned, U>(
        &self,
        received: &Received<'_>,
        mut fast: impl FnMut(&[u8], Layout) -> Option<U>,
        form: impl FnOnce(T) -> Result<U, DecodeError>,
    ) -> Result<U, DecodeError> {
        if let Some(read) = self.earlier_datum(received).and_then(|(datum, layout)| fast(datum, layout)) {
            return Ok(read);
        }
        match self.unframe(received)? {
            Content::Datum(datum) => match fast(&datum, Layout::Current) {
                Some(read) => Ok(read),
                None => form(self.datum(&datum)?),
            },
            Content::Json(text) => form(json::parse(text)?),
        }
    }

    /// Reads a record whose JSON may leave out more fields than its Avro schema.
    pub(super) fn decode_either<T: DeserializeOwned, U>(
        &self,
        received: &Received<'_>,
        avro: impl FnOnce(T) -> Result<U, DecodeError>,
        json: impl FnOnce(&str) -> Result<U, DecodeError>,
    ) -> Result<U, DecodeError> {
        match self.unframe(received)? {
            Content::Datum(datum) => avro(self.datum(&datum)?),
            Content::Json(text) => json(text),
        }
    }

    /// Writes a record.
    pub(super) fn encode<T: Serialize>(&self, form: &T, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
        self.frame(form, encoding, |out| self.writer.write_ser(out, form).map(drop).ok())
    }

    /// Writes a record with the [`datum_writer`].
    pub(super) fn encode_directly<T: Serialize>(
        &self,
        form: &T,
        encoding: Encoding,
    ) -> Result<Vec<u8>, EncodeError> {
        self.frame(form, encoding, |out| datum_writer::write(form, out).ok())
    }

    fn frame<T: Serialize>(
        &self,
        form: &T,
        encoding: Encoding,
        write_datum: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Result<Vec<u8>, EncodeError> {
        let unfit = EncodeError::Unfit { record: self.name };
        let mut out = Vec::with_capacity(512);
        match encoding {
            Encoding::Avro => {
                out.extend_from_slice(&MARKER);
                out.extend_from_slice(&self.fingerprint.to_le_bytes());
                write_datum(&mut out).ok_or(unfit)?;
            }
            Encoding::Confluent(id) => {
                out.push(NUMBER);
                out.extend_from_slice(&id.to_be_bytes());
                write_datum(&mut out).ok_or(unfit)?;
            }
            Encoding::Json => serde_json::to_writer(&mut out, form).map_err(|_| unfit)?,
        }
        let (bytes, bound) = (out.len(), self.max_size);
        if bytes > bound { Err(DecodeError::TooLarge { bytes, bound }.into()) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_schema_is_noticed() {
        assert!(Kind::parse(("Event", "{}"), 1).is_none());
    }

    /// The values are those of another implementation (fastavro), in the order of their bytes: producers in other
    /// languages write them.
    #[test]
    fn fingerprints_are_those_of_other_libraries() {
        let kinds = kinds();
        for (kind, expected) in [
            (&kinds.event, 0xacee_0e27_8ed4_4cdf_u64),
            (&kinds.label, 0x29c2_757d_05de_16ff),
            (&kinds.decision, 0xb0c3_5587_0202_aa3b),
            (&kinds.record, 0x8dc3_a228_dd9d_06f6),
            (&kinds.predictor, 0x3a0e_f307_be4c_f0a6),
            (&kinds.review, 0x938f_8dda_d119_34db),
            (&kinds.pin, 0x5e39_4c92_7ea2_9af0),
        ] {
            assert_eq!(kind.fingerprint.swap_bytes(), expected, "{}", kind.name);
        }
    }
}
