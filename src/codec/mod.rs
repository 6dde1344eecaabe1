//! Reads and writes the records on topics and in files.
//!
//! There are three encodings: Avro's single-object encoding (`C3 01`, the schema's CRC-64-AVRO fingerprint, the datum),
//! Confluent's framing (a registry's id of the schema, the datum) and JSON. Readers distinguish them by the first bytes.
//! `docs/records.md` describes the records, `docs/registry.md` the use of a registry, and `schemas/` contains the Avro
//! schemas.
//!
//! The size of all input is checked before it is parsed, and no error quotes the input.

mod cloud_event;
mod confluent;
mod container;
mod datum_size;
mod datum_writer;
mod decision;
mod error;
mod event;
mod explained;
mod fields;
mod json;
mod key;
mod label;
mod ledger;
mod ledger_datum;
mod lenient;
mod number;
mod pin;
mod predictor;
mod review;
mod schema;
pub mod time;
mod tree;
mod wire;
mod writer_schema;

pub use cloud_event::remove_headers as remove_cloud_event_headers;
pub use confluent::{MAX_SCHEMA, Received, SCHEMA_ID_HEADER, SchemaId, Schemas, Writer};
pub use container::{CONTAINER_MAGIC, Container, ContainerError};
pub use decision::{decisions_read, decode_decision, decode_decision_value, encode_decision};
pub use error::{DecodeError, EncodeError};
pub use event::{decode_event, encode_event};
pub use explained::{explained_decision, is_same};
pub use fields::{
    EventFields, LabelFields, Pointer, Source as LabelSource, Speaker, Values, Verdict, default_event_id,
};
pub(crate) use json::{Loose, Object, Scalar, read_into};
pub use key::{decode_key, encode_key};
pub(crate) use label::{LabelJson, RefJson, Slugs};
pub use label::{MAX_CATEGORIES, decode_label, default_label_id, encode_label};
pub use ledger::{decode_record, decode_record_into_pool, encode_record};
pub use ledger_datum::RecordPool;
pub use pin::{PIN_BY_HEADER, PIN_REASON_HEADER, decode_pin, encode_pin, pin_key, pin_policy};
pub use predictor::{decode_published, encode_published};
pub use review::{decode_review, encode_review};
pub use schema::SCHEMAS;
pub use time::TimeUnit;
pub use writer_schema::millis as avro_millis;

use crate::core::event::Millis;
use crate::core::label::DecisionRef;

/// The maximum size of an event, in bytes. Core bounds the text; JSON that escapes every character of a script other than
/// Latin is about three times as long.
pub const MAX_EVENT: usize = 4 << 20;
/// The maximum size of a human label, in bytes.
pub const MAX_LABEL: usize = 64 << 10;
/// The maximum size of a decision, in bytes.
pub const MAX_DECISION: usize = 1 << 20;
/// The maximum size of a review request, in bytes. It contains less than its decision.
pub const MAX_REVIEW: usize = MAX_DECISION;
/// The maximum size of a ledger record, in bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// The maximum size of a predictor, in bytes.
pub const MAX_PREDICTOR: usize = 16 << 20;
/// The maximum nesting depth of JSON.
pub const MAX_DEPTH: usize = 32;

/// The encoding of a written record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Avro's single-object encoding.
    #[default]
    Avro,
    /// JSON.
    Json,
    /// Confluent's framing, with the id that a registry gave the record's schema.
    Confluent(u32),
}

/// The values of fields that events and labels leave out, and the pointers to fields in JSON of another layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// The tenant of records without one.
    pub tenant: String,
    /// The policy of records without one.
    pub policy: String,
    /// The pointers to the fields of JSON events. With `None` they have the fields of `docs/records.md`.
    pub event_fields: Option<EventFields>,
    /// The pointers to the fields of JSON labels. With `None` they have the fields of `docs/records.md`.
    pub label_fields: Option<LabelFields>,
}

/// Returns bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    ::hex::encode(bytes)
}

/// Checks that a time is from [`time::EARLIEST`] to [`time::LATEST`].
fn check_time(field: &'static str, time: Millis) -> Result<(), DecodeError> {
    let fits = (time::EARLIEST..=time::LATEST).contains(&time);
    if fits { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}

/// Checks that a number is from 0 to 1. NaN is not.
fn check_share(field: &'static str, value: f64) -> Result<(), DecodeError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}

/// Checks that a partition and an offset are not negative.
fn check_ref(field: &'static str, at: DecisionRef) -> Result<(), DecodeError> {
    if at.partition >= 0 && at.offset >= 0 { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}
