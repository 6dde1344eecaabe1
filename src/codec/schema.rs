//! The kinds of records: their schemas, parsed once, and how their bytes are framed.
//!
//! A datum (the bytes that Avro makes of a value) is read and written in one place, its frame in
//! another: [`Kind::frame`] and [`Kind::encode`]. A registry's frame may name another schema: its datum is
//! made one of ours first ([`super::confluent`]).

use std::borrow::Cow;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::util::max_allocation_bytes;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::confluent::{NUMBER, Received, Resolved, convert, resolve};
use super::error::{DecodeError, EncodeError};
use super::{
    Encoding, MAX_DECISION, MAX_EVENT, MAX_LABEL, MAX_PREDICTOR, MAX_RECORD, MAX_REVIEW, json, straight,
};
use crate::crash;

/// The schema files by the names of their records.
pub const SCHEMAS: [(&str, &str); 6] = [
    ("Event", include_str!("../../schemas/event.avsc")),
    ("Label", include_str!("../../schemas/label.avsc")),
    ("Decision", include_str!("../../schemas/decision.avsc")),
    ("LedgerRecord", include_str!("../../schemas/ledger.avsc")),
    ("Predictor", include_str!("../../schemas/predictor.avsc")),
    ("ReviewRequest", include_str!("../../schemas/review.avsc")),
];

/// The schemas that earlier versions wrote decisions and review requests with. These are read for ever.
const EARLIER: [(&str, &str); 4] = [
    ("Decision", include_str!("../../schemas/earlier/decision-1.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-2.avsc")),
    ("Decision", include_str!("../../schemas/earlier/decision-3.avsc")),
    ("ReviewRequest", include_str!("../../schemas/earlier/review-1.avsc")),
];

/// Marks Avro's single-object encoding; the schema's fingerprint follows, little-endian, then the datum.
const MARKER: [u8; 2] = [0xC3, 0x01];
const FINGERPRINT: usize = 8;

/// All kinds.
pub(super) struct Kinds {
    pub(super) event: Kind,
    pub(super) label: Kind,
    pub(super) decision: Kind,
    pub(super) record: Kind,
    pub(super) predictor: Kind,
    pub(super) review: Kind,
}

static KINDS: LazyLock<Option<Kinds>> = LazyLock::new(|| {
    // Once for the process, before the first datum is read: a length prefix cannot ask for more.
    max_allocation_bytes(MAX_PREDICTOR);
    let [event, label, decision, record, predictor, review] = SCHEMAS;
    Some(Kinds {
        event: Kind::parse(event, MAX_EVENT)?,
        label: Kind::parse(label, MAX_LABEL)?,
        decision: Kind::parse(decision, MAX_DECISION)?,
        record: Kind::parse(record, MAX_RECORD)?,
        predictor: Kind::parse(predictor, MAX_PREDICTOR)?,
        review: Kind::parse(review, MAX_REVIEW)?,
    })
});

/// The kinds, their schemas parsed.
pub(super) fn kinds() -> Result<&'static Kinds, DecodeError> {
    KINDS.as_ref().ok_or(DecodeError::NoSchema)
}

/// A kind of record.
pub(super) struct Kind {
    name: &'static str,
    /// The greatest record read or written, in bytes.
    bound: usize,
    fingerprint: u64,
    schema: &'static Schema,
    /// Earlier versions by their fingerprints.
    earlier: Vec<(u64, Schema)>,
    reader: GenericDatumReader<'static>,
    writer: GenericDatumWriter<'static>,
}

/// A record's bytes, its frame taken off.
enum Framed<'a> {
    Datum(Cow<'a, [u8]>),
    Json(&'a str),
}

/// CRC-64-AVRO fingerprint of a schema's canonical form, in the order of its bytes.
pub(super) fn fingerprint(schema: &Schema) -> Option<u64> {
    // The canonical form has no logical types, but this library leaves `{"type":"long"}` of them,
    // where the specification and other libraries have `"long"`: parsing it once more mends that.
    let canonical = Schema::parse_str(&schema.canonical_form()).ok()?;
    let bytes = canonical.fingerprint::<Rabin>().bytes.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// The bytes without the byte order mark that some editors and Windows tools put before UTF-8.
fn unmarked(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload)
}

impl Kind {
    fn parse((name, text): (&'static str, &'static str), bound: usize) -> Option<Self> {
        // Leaked once per kind: reader and writer borrow it for as long as the program runs.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(text).ok()?));
        let earlier = EARLIER.iter().filter(|(of, _)| *of == name).map(|(_, text)| {
            let schema = Schema::parse_str(text).ok()?;
            Some((fingerprint(&schema)?, schema))
        });
        Some(Self {
            name,
            earlier: earlier.collect::<Option<_>>()?,
            bound,
            fingerprint: fingerprint(schema)?,
            schema,
            reader: GenericDatumReader::builder(schema).human_readable(false).build().ok()?,
            writer: GenericDatumWriter::builder(schema).human_readable(false).build().ok()?,
        })
    }

    /// Returns `false` where a test has this process play a version that does not know this schema yet.
    fn reads_its_own(&self) -> bool {
        self.earlier.is_empty() || !crash::plays_older()
    }

    /// A number that stands for the schemas of single-object encoding that are read.
    pub(super) fn reads(&self) -> u64 {
        let own = self.reads_its_own().then_some(self.fingerprint);
        let all = self.earlier.iter().map(|(print, _)| *print).chain(own);
        // Zero stands for a reader that is not known.
        all.fold(0_u64, |all, print| all.rotate_left(1) ^ print).max(1)
    }

    fn frame<'a>(&self, received: &Received<'a>) -> Result<Framed<'a>, DecodeError> {
        let payload = received.payload;
        let (bytes, bound) = (payload.len(), self.bound);
        if bytes == 0 {
            return Err(DecodeError::Empty);
        }
        if bytes > bound {
            return Err(DecodeError::TooLarge { bytes, bound });
        }
        if let Some(named) = received.named()? {
            return match resolve(named, (self.schema, self.fingerprint), &self.writer)? {
                Resolved::Datum(datum) => Ok(Framed::Datum(datum)),
                Resolved::Json(text) => Self::text(text),
            };
        }
        if let Some(rest) = payload.strip_prefix(&MARKER) {
            let Some((found, datum)) = rest.split_first_chunk::<FINGERPRINT>() else {
                return Err(DecodeError::Malformed { why: "ends within its header" });
            };
            let (expected, found) = (self.fingerprint, u64::from_le_bytes(*found));
            if found == expected && self.reads_its_own() {
                return Ok(Framed::Datum(Cow::Borrowed(datum)));
            }
            let earlier = self.earlier.iter().find(|(print, _)| *print == found);
            let (_, schema) = earlier.ok_or(DecodeError::WrongSchema { expected, found })?;
            let misfit = DecodeError::Malformed { why: "does not fit its schema" };
            return Ok(Framed::Datum(Cow::Owned(convert(schema, datum, self.schema, &self.writer, misfit)?)));
        }
        if unmarked(payload).trim_ascii_start().first() != Some(&b'{') {
            return Err(DecodeError::NotAvro);
        }
        Self::text(payload)
    }

    fn text(payload: &[u8]) -> Result<Framed<'_>, DecodeError> {
        std::str::from_utf8(unmarked(payload)).map(Framed::Json).map_err(|_| DecodeError::NotJson)
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
        match self.frame(received)? {
            Framed::Datum(datum) => self.datum(&datum),
            Framed::Json(text) => json::parse(text),
        }
    }

    /// Reads a record whose datum `quick` may know how to read; where it does not, the library does.
    pub(super) fn decode_quick<T: DeserializeOwned, U>(
        &self,
        received: &Received<'_>,
        quick: impl FnOnce(&[u8]) -> Option<U>,
        form: impl FnOnce(T) -> Result<U, DecodeError>,
    ) -> Result<U, DecodeError> {
        match self.frame(received)? {
            Framed::Datum(datum) => match quick(&datum) {
                Some(read) => Ok(read),
                None => form(self.datum(&datum)?),
            },
            Framed::Json(text) => form(json::parse(text)?),
        }
    }

    /// Reads a record whose JSON may leave out more than Avro lets it.
    pub(super) fn decode_either<T: DeserializeOwned, U>(
        &self,
        received: &Received<'_>,
        avro: impl FnOnce(T) -> Result<U, DecodeError>,
        json: impl FnOnce(&str) -> Result<U, DecodeError>,
    ) -> Result<U, DecodeError> {
        match self.frame(received)? {
            Framed::Datum(datum) => avro(self.datum(&datum)?),
            Framed::Json(text) => json(text),
        }
    }

    /// Writes a record.
    pub(super) fn encode<T: Serialize>(&self, form: &T, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
        self.framed(form, encoding, |out| self.writer.write_ser(out, form).map(drop).ok())
    }

    /// The same for a form whose datum can be written [straight](straight).
    pub(super) fn encode_straight<T: Serialize>(
        &self,
        form: &T,
        encoding: Encoding,
    ) -> Result<Vec<u8>, EncodeError> {
        self.framed(form, encoding, |out| straight::write(form, out).ok())
    }

    fn framed<T: Serialize>(
        &self,
        form: &T,
        encoding: Encoding,
        datum: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Result<Vec<u8>, EncodeError> {
        let unfit = EncodeError::Unfit { record: self.name };
        let mut out = Vec::with_capacity(512);
        match encoding {
            Encoding::Avro => {
                out.extend_from_slice(&MARKER);
                out.extend_from_slice(&self.fingerprint.to_le_bytes());
                datum(&mut out).ok_or(unfit)?;
            }
            Encoding::Confluent(id) => {
                out.push(NUMBER);
                out.extend_from_slice(&id.to_be_bytes());
                datum(&mut out).ok_or(unfit)?;
            }
            Encoding::Json => serde_json::to_writer(&mut out, form).map_err(|_| unfit)?,
        }
        let (bytes, bound) = (out.len(), self.bound);
        if bytes > bound { Err(DecodeError::TooLarge { bytes, bound }.into()) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_schema_is_noticed() {
        assert!(Kind::parse(("Event", "{}"), 1).is_none());
        assert!(kinds().is_ok());
    }

    /// As another implementation (fastavro) computes them, in the bytes' order: producers in other
    /// languages write these.
    #[test]
    fn fingerprints_are_those_of_other_libraries() {
        let kinds = kinds().unwrap();
        for (kind, expected) in [
            (&kinds.event, 0xacee_0e27_8ed4_4cdf_u64),
            (&kinds.label, 0x556f_e34c_818d_bc14),
            (&kinds.decision, 0x8815_f9e1_0131_fe93),
            (&kinds.record, 0x23eb_51b9_b7dd_60e6),
            (&kinds.predictor, 0x3a0e_f307_be4c_f0a6),
            (&kinds.review, 0xd1ad_3c85_d2b3_3dd3),
        ] {
            assert_eq!(kind.fingerprint.swap_bytes(), expected, "{}", kind.name);
        }
    }
}
