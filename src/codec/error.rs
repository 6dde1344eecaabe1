//! Errors of records that cannot be read or written. No message quotes the record.

use thiserror::Error;

use super::confluent::SchemaId;
use crate::core::event::EventError;

/// An error of a record that cannot be read. The names are metric labels and dead-letter reasons.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The record is empty.
    #[error("the record is empty: send an Avro or JSON record, or no record")]
    Empty,
    /// The record is larger than its kind may be. It is not parsed.
    #[error("the record has {bytes} bytes, more than {bound}: send less context with it")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The maximum size of its kind.
        bound: usize,
    },
    /// The record begins neither with Avro's single-object marker nor with a JSON object.
    #[error(
        "the record begins neither with Avro's single-object marker C3 01 nor with a JSON object: \
         check that its producer writes one of the two"
    )]
    NotAvro,
    /// The Avro record has another schema.
    #[error(
        "the record is of schema {found:016x}, this topic's is {expected:016x}: \
         write it with this version's schema file"
    )]
    WrongSchema {
        /// The CRC-64-AVRO fingerprint of this version's schema.
        expected: u64,
        /// The record's fingerprint.
        found: u64,
    },
    /// The Avro record does not fit its schema.
    #[error("the Avro record {why}: it was cut or changed after it was written")]
    Malformed {
        /// The problem.
        why: &'static str,
    },
    /// The record begins like a JSON object and is not UTF-8.
    #[error("the JSON record is not UTF-8: encode it as UTF-8")]
    NotJson,
    /// The record is not valid JSON, or its layout does not fit.
    #[error(
        "the JSON record cannot be read at line {line}, column {column}: it is not JSON from there on, or it lacks \
         fields of such a record; have the producer write it with a JSON library"
    )]
    BadJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A field without a default is missing.
    #[error("the record has no {field}: add it")]
    MissingField {
        /// The field's name.
        field: &'static str,
    },
    /// An object has two fields of one name.
    #[error(
        "the record has two fields named {field}, and readers differ in which they take: send one of them"
    )]
    DuplicateField {
        /// The field's name.
        field: &'static str,
    },
    /// A time has no zone.
    #[error(
        "the record's {field} has no zone, so that it names no instant: end it with Z or with its offset, as in \
         2026-03-01T09:30:00+01:00"
    )]
    NoZone {
        /// The field's name.
        field: &'static str,
    },
    /// A field's value has a wrong type or is out of range.
    #[error("the record's {field} has a wrong type or is out of range: see docs/records.md")]
    BadValue {
        /// The field's name.
        field: &'static str,
    },
    /// There is no value at the pointer that the configuration gives for a field.
    #[error(
        "the record has no {field}: nothing stands at {pointer}, where {section}.{field} says it is; correct \
         the producer or the pointer"
    )]
    MissingAt {
        /// The section of the configuration.
        section: &'static str,
        /// The setting's name.
        field: &'static str,
        /// The pointer, from the whole record.
        pointer: String,
    },
    /// The value at the pointer that the configuration gives for a field cannot be its value.
    #[error(
        "what the record has at {pointer}, where {section}.{field} points, is not {wanted}; correct the \
         producer or the configuration"
    )]
    InvalidAt {
        /// The section of the configuration.
        section: &'static str,
        /// The setting's name.
        field: &'static str,
        /// The pointer, from the whole record.
        pointer: String,
        /// The values that the field can have.
        wanted: &'static str,
    },
    /// The record is a CloudEvent that cannot be read.
    #[error("the record is a CloudEvent that {why}")]
    BadCloudEvent {
        /// The problem, and its remedy.
        why: &'static str,
    },
    /// The JSON has more values than [`super::tree`] holds.
    #[error("the JSON record holds more than {} values: send less with it", super::datum_size::MAX_VALUES)]
    TooManyValues,
    /// The JSON is nested deeper than [`super::MAX_DEPTH`].
    #[error("the JSON record is nested deeper than {} levels: send it flat", super::MAX_DEPTH)]
    TooDeep,
    /// A bound of core is exceeded.
    #[error(transparent)]
    Bounds(#[from] EventError),
    /// A label has neither a verdict nor a severity nor a retraction.
    #[error("the label has neither verdict nor severity nor retracts: give it one of them")]
    NoVerdict,
    /// A label that is read by pointers has neither a verdict nor a severity nor a retraction.
    #[error(
        "the label says nothing: at {pointer}, where label_fields.{field} points, is no {field}; correct the producer or \
         the pointer, or leave such records out by label_fields.skip_if"
    )]
    NoVerdictAt {
        /// The setting's name.
        field: &'static str,
        /// The pointer, from the whole record.
        pointer: String,
    },
    /// Two labels of one record have one id.
    #[error(
        "two annotations of the record would be one label, since they have one id or one annotator: point \
         label_fields.annotator or label_fields.id to what tells them apart"
    )]
    SameLabel,
    /// A record does not contain exactly one label, as the caller requires.
    #[error("the record holds {labels} labels, not one")]
    NotOneLabel {
        /// The number of labels.
        labels: usize,
    },
    /// A label's severity is outside of \[0,1\].
    #[error("the label's severity is not a number from 0 to 1")]
    BadSeverity,
    /// A label's inclusion probability is outside of (0,1\].
    #[error("the label's inclusion probability is not a number above 0 and at most 1")]
    BadInclusionProbability,
    /// The record is framed for a schema registry, and none is configured.
    #[error(
        "the record is framed for a schema registry, and none is configured: set registry.url, or have the \
         producer write Avro's single-object encoding or JSON"
    )]
    NoRegistry,
    /// The registry does not know the schema, although the time for it to appear is over.
    #[error(
        "the record names the schema {id}, which the registry does not know: does its producer use another \
         registry, or was the schema deleted?"
    )]
    UnknownSchemaId {
        /// The schema's id.
        id: SchemaId,
    },
    /// Our schema cannot be read from the writer's schema.
    #[error(
        "the record's schema {id} does not resolve to this topic's: register one that is compatible with \
         the file in schemas/, without references"
    )]
    Incompatible {
        /// The schema's id.
        id: SchemaId,
    },
    /// The schema is requested from the registry, and the answer is not there yet. Never the outcome of a record.
    #[error("the schema {id} is requested from the registry: try again")]
    SchemaPending {
        /// The schema's id.
        id: SchemaId,
    },
    /// The registry does not answer, and the schema is not known yet. Never the outcome of a record, which may be valid.
    #[error("the schema {id} is not available from the registry: {reason}")]
    RegistryUnavailable {
        /// The schema's id.
        id: SchemaId,
        /// The registry's last failure.
        reason: String,
    },
}

impl DecodeError {
    /// Returns the error's name, which is a metric label and a dead letter's reason.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotAvro => "NotAvro",
            Self::WrongSchema { .. } => "WrongSchema",
            Self::Malformed { .. } => "Malformed",
            Self::NotJson => "NotJson",
            Self::BadJson { .. } | Self::DuplicateField { .. } => "BadJson",
            Self::MissingField { .. } | Self::MissingAt { .. } => "MissingField",
            Self::BadValue { .. } | Self::NoZone { .. } | Self::InvalidAt { .. } => "BadValue",
            Self::BadCloudEvent { .. } => "BadCloudEvent",
            Self::TooManyValues => "TooManyValues",
            Self::TooDeep => "TooDeep",
            Self::Bounds(bounds) => bounds.name(),
            Self::NoVerdict | Self::NoVerdictAt { .. } => "NoVerdict",
            Self::SameLabel => "SameLabel",
            Self::NotOneLabel { .. } => "NotOneLabel",
            Self::BadSeverity => "BadSeverity",
            Self::BadInclusionProbability => "BadInclusionProbability",
            Self::NoRegistry => "NoRegistry",
            Self::UnknownSchemaId { .. } => "UnknownSchemaId",
            Self::Incompatible { .. } => "Incompatible",
            Self::SchemaPending { .. } => "SchemaPending",
            Self::RegistryUnavailable { .. } => "RegistryUnavailable",
        }
    }
}

/// An error of a value that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The record could not be read back.
    #[error("the record would be unreadable: {0}")]
    Unreadable(#[from] DecodeError),
    /// The encoder refused the value.
    #[error("the {record} does not fit its own schema: this is a fault of this program")]
    Unfit {
        /// The kind of the record.
        record: &'static str,
    },
}

impl EncodeError {
    /// Returns the error's name, which is a metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.name(),
            Self::Unfit { .. } => "Unfit",
        }
    }
}
