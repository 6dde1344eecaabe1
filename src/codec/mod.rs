//! Records on topics and in files <-> core's types.
//!
//! One codec, three encodings: Avro's single-object encoding (`C3 01`, the schema's CRC-64-AVRO
//! fingerprint, the datum), Confluent's framing (a registry's id of the schema, the datum) and JSON. Readers
//! tell them apart by the first bytes. `docs/records.md` describes the records, `docs/registry.md` the use of
//! a registry, `schemas/` holds the Avro schemas.
//!
//! Everything read is bounded before it is parsed, and no error quotes what was read.

mod confluent;
mod container;
mod datum;
mod decision;
mod error;
mod event;
mod fields;
mod foreign;
mod json;
mod key;
mod label;
mod ledger;
mod lenient;
mod number;
mod predictor;
mod review;
mod schema;
mod skim;
mod straight;
pub mod time;
mod tree;
mod wire;

pub use confluent::{MAX_SCHEMA, Received, SCHEMA_ID_HEADER, SchemaId, Schemas, Writer};
pub use container::{CONTAINER_MAGIC, Container, ContainerError};
pub use datum::Spare;
pub use decision::{decisions_read, decode_decision, encode_decision};
pub use error::{DecodeError, EncodeError};
pub use event::{decode_event, encode_event};
pub use fields::{
    EventFields, LabelFields, Pointer, Source as LabelSource, Speaker, Values, Verdict, default_event_id,
};
pub use foreign::millis as avro_millis;
pub(crate) use json::{Loose, Object, Scalar, read_into};
pub use key::{decode_key, encode_key};
pub(crate) use label::{LabelJson, RefJson, Slugs};
pub use label::{MAX_CATEGORIES, decode_label, default_label_id, encode_label};
pub use ledger::{decode_record, decode_record_onto, encode_record};
pub use predictor::{decode_published, encode_published};
pub use review::{decode_review, encode_review};
pub use schema::SCHEMAS;
pub use time::TimeUnit;
pub use wire::hex;

use crate::core::event::Millis;
use crate::core::label::DecisionRef;

/// Greatest event, in bytes. Core bounds the text; JSON that escapes every character of another
/// script is about three times as long.
pub const MAX_EVENT: usize = 4 << 20;
/// Greatest human label, in bytes.
pub const MAX_LABEL: usize = 64 << 10;
/// Greatest decision, in bytes.
pub const MAX_DECISION: usize = 1 << 20;
/// Greatest review request, in bytes: it says less than its decision.
pub const MAX_REVIEW: usize = MAX_DECISION;
/// Greatest ledger record, in bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// Greatest predictor, in bytes.
pub const MAX_PREDICTOR: usize = 16 << 20;
/// Greatest nesting of JSON.
pub const MAX_DEPTH: usize = 32;

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Avro's single-object encoding.
    #[default]
    Avro,
    /// JSON.
    Json,
    /// Confluent's framing, with the id that a registry gave this record's schema.
    Confluent(u32),
}

/// What is given to events and labels of tools that know only the event, and where those tools put what they know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// The tenant of records that name none.
    pub tenant: String,
    /// The policy of records that name none.
    pub policy: String,
    /// Where JSON events have their fields; `None`: where `docs/records.md` says.
    pub event_fields: Option<EventFields>,
    /// Where JSON labels have theirs; `None`: the same.
    pub label_fields: Option<LabelFields>,
}

/// Whether every schema compiled into this program parses: to be asked at start.
///
/// # Errors
/// [`DecodeError::NoSchema`] where one does not.
pub fn check() -> Result<(), DecodeError> {
    schema::kinds().map(|_| ())
}

/// Checks a time: see [`time::LATEST`].
fn check_time(field: &'static str, time: Millis) -> Result<(), DecodeError> {
    let fits = (time::EARLIEST..=time::LATEST).contains(&time);
    if fits { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}

/// Checks a number from 0 to 1; NaN is none.
fn check_share(field: &'static str, value: f64) -> Result<(), DecodeError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}

/// Checks where a decision lies.
fn check_ref(field: &'static str, at: DecisionRef) -> Result<(), DecodeError> {
    if at.partition >= 0 && at.offset >= 0 { Ok(()) } else { Err(DecodeError::BadValue { field }) }
}
