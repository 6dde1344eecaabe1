//! Why a record cannot be read or written. No message ever quotes the record.

use thiserror::Error;

use super::confluent::SchemaId;
use crate::core::event::EventError;

/// Why bytes are not the record that was asked for. The names are metric labels and dead-letter reasons.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("the record is empty: send an Avro or JSON record, or no record")]
    Empty,
    /// Over the bound for its kind, refused before it is parsed.
    #[error("the record has {bytes} bytes, more than {bound}: send less context with it")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The greatest size read.
        bound: usize,
    },
    /// Neither Avro's single-object marker nor a JSON object.
    #[error(
        "the record begins neither with Avro's single-object marker C3 01 nor with a JSON object: \
         check the producer's serializer"
    )]
    NotAvro,
    /// Avro, written with another schema.
    #[error(
        "the record is of schema {found:016x}, this topic's is {expected:016x}: \
         write it with this version's schema file"
    )]
    WrongSchema {
        /// CRC-64-AVRO fingerprint of the schema of this version.
        expected: u64,
        /// The fingerprint found.
        found: u64,
    },
    /// Avro of the right schema, broken.
    #[error("the Avro record {why}: it was cut or changed after it was written")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// Begins like a JSON object and is not UTF-8.
    #[error("the JSON record is not UTF-8: encode it as UTF-8")]
    NotJson,
    /// Not valid JSON, or of a shape that does not fit.
    #[error(
        "the JSON record cannot be read at line {line}, column {column}: it is not JSON from there on; have the \
         producer write it with a JSON library"
    )]
    BadJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A field that has no default is not there.
    #[error("the record has no {field}: add it")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A field's name is there twice.
    #[error(
        "the record has two fields named {field}, and readers differ in which they take: send one of them"
    )]
    Twice {
        /// Its name.
        field: &'static str,
    },
    /// A time without a zone.
    #[error(
        "the record's {field} has no zone, so that it names no instant: end it with Z or with its offset, as in \
         2026-03-01T09:30:00+01:00"
    )]
    NoZone {
        /// The field's name.
        field: &'static str,
    },
    /// A field's value is of a wrong type or outside its range.
    #[error("the record's {field} has a wrong type or is out of range: see docs/records.md")]
    BadValue {
        /// Its name.
        field: &'static str,
    },
    /// Nothing stands where the configuration says that a field is.
    #[error(
        "the record has no {field}: nothing stands at {pointer}, where {section}.{field} says it is; mend the \
         producer or the pointer"
    )]
    MissingAt {
        /// The section of the configuration.
        section: &'static str,
        /// The setting's name.
        field: &'static str,
        /// The pointer, from the whole record.
        pointer: String,
    },
    /// What stands where the configuration says that a field is cannot be one.
    #[error(
        "what the record has at {pointer}, where {section}.{field} points, is not {wanted}; mend the producer \
         or the configuration"
    )]
    UnfitAt {
        /// The section of the configuration.
        section: &'static str,
        /// The setting's name.
        field: &'static str,
        /// The pointer, from the whole record.
        pointer: String,
        /// What it can be.
        wanted: &'static str,
    },
    /// More values than a tree is made of.
    #[error("the JSON record holds more than {} values: send less with it", super::skim::MAX_VALUES)]
    TooManyValues,
    /// JSON nested deeper than [`super::MAX_DEPTH`].
    #[error("the JSON record is nested deeper than {} levels: send it flat", super::MAX_DEPTH)]
    TooDeep,
    /// A bound that core sets.
    #[error(transparent)]
    Bounds(#[from] EventError),
    /// A label with neither verdict nor severity nor retraction.
    #[error("the label has neither verdict nor severity nor retracts: give it one of them")]
    NoVerdict,
    /// The same of a label that is read by pointers.
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
    /// Two labels of one record with one id.
    #[error(
        "two annotations of the record would be one label, since they have one id or one annotator: point \
         label_fields.annotator or label_fields.id to what tells them apart"
    )]
    SameLabel,
    /// A record of labels that does not hold exactly one, where one is needed.
    #[error("the record holds {labels} labels, not one")]
    NotOneLabel {
        /// Their number.
        labels: usize,
    },
    /// A label's severity outside \[0,1\].
    #[error("the label's severity is not a number from 0 to 1")]
    BadSeverity,
    /// A label's inclusion probability outside (0,1\].
    #[error("the label's inclusion probability is not a number above 0 and at most 1")]
    BadInclusionProbability,
    /// Framed for a schema registry, and there is none.
    #[error(
        "the record is framed for a schema registry, and none is configured: set registry.url, or have the \
         producer write Avro's single-object encoding or JSON"
    )]
    NoRegistry,
    /// The registry does not know the schema, although it was asked for long enough.
    #[error(
        "the record names the schema {id}, which the registry does not know: does its producer use another \
         registry, or was the schema deleted?"
    )]
    UnknownSchemaId {
        /// The schema.
        id: SchemaId,
    },
    /// The writer's schema is none that ours can be read from.
    #[error(
        "the record's schema {id} does not resolve to this topic's: register one that is compatible with \
         the file in schemas/, without references"
    )]
    Incompatible {
        /// The schema.
        id: SchemaId,
    },
    /// The schema has been asked for and is not there yet. Never an outcome.
    #[error("the schema {id} has been asked for: ask again")]
    SchemaPending {
        /// The schema.
        id: SchemaId,
    },
    /// The registry does not answer and the schema is not known yet. Never an outcome: nothing can be said
    /// about the record.
    #[error("the schema {id} cannot be had from the registry: {reason}")]
    RegistryUnavailable {
        /// The schema.
        id: SchemaId,
        /// What the registry did last.
        reason: String,
    },
    /// A schema compiled into this program does not parse: see [`super::check`].
    #[error("a schema compiled into this program is broken: build it again from a clean clone")]
    NoSchema,
}

impl DecodeError {
    /// The error's name, as metric label and dead-letter reason.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotAvro => "NotAvro",
            Self::WrongSchema { .. } => "WrongSchema",
            Self::Malformed { .. } => "Malformed",
            Self::NotJson => "NotJson",
            Self::BadJson { .. } | Self::Twice { .. } => "BadJson",
            Self::MissingField { .. } | Self::MissingAt { .. } => "MissingField",
            Self::BadValue { .. } | Self::NoZone { .. } | Self::UnfitAt { .. } => "BadValue",
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
            Self::NoSchema => "NoSchema",
        }
    }
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Nobody could read it back.
    #[error("the record would be unreadable: {0}")]
    Unreadable(#[from] DecodeError),
    /// The encoder refused it.
    #[error("the {record} does not fit its own schema: this is a fault of this program")]
    Unfit {
        /// The kind of record.
        record: &'static str,
    },
}

impl EncodeError {
    /// The error's name, as metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.name(),
            Self::Unfit { .. } => "Unfit",
        }
    }
}
