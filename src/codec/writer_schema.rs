//! Schemas of other writers, and the conversion of their values to our schemas.
//!
//! In Avro a reader may treat an unknown logical type as its base type. The library does not: its `uuid` is a separate
//! type that resolves to no string of ours, and a text that is not a UUID fails the whole record. A writer's schema is
//! therefore read without logical types, except those that determine the meaning of a value.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{EnumSchema, RecordField, UnionSchema};
use apache_avro::types::Value;
use serde_json::{Map, Value as Json};

use super::error::DecodeError;
use super::fields::role;
use super::json::Scalar;
use super::label::{MAX_CATEGORIES, slugs};
use super::wire::Symbols as _;
use crate::core::event::{Millis, Role};
use crate::core::label::Finding;

/// The logical types of times, whose values are converted to milliseconds.
const TIMES: [&str; 9] = [
    "date",
    "time-millis",
    "time-micros",
    "timestamp-millis",
    "timestamp-micros",
    "timestamp-nanos",
    "local-timestamp-millis",
    "local-timestamp-micros",
    "local-timestamp-nanos",
];

/// Parses the schema of a writer, without the parts that only readers use: unused logical types, aliases, and defaults,
/// which some tools write incorrectly.
pub(super) fn parse(text: &str) -> Option<Schema> {
    let given: Json = serde_json::from_str(text).ok()?;
    if has_long_name(&given) {
        return None;
    }
    let mut base = given.clone();
    strip(&mut base);
    // Without logical types, a union of one and its base type would have two equal branches.
    Schema::parse(&base).or_else(|_| Schema::parse(&given)).ok()
}

fn strip(json: &mut Json) {
    match json {
        Json::Array(branches) => branches.iter_mut().for_each(strip),
        Json::Object(entries) => {
            let logical = entries.get("logicalType").and_then(Json::as_str);
            if !logical.is_some_and(|name| TIMES.contains(&name) || is_fixed_uuid(name, entries)) {
                entries.remove("logicalType");
            }
            entries.remove("default");
            entries.remove("aliases");
            for place in ["type", "items", "values"] {
                entries.get_mut(place).into_iter().for_each(strip);
            }
            for field in entries.get_mut("fields").and_then(Json::as_array_mut).into_iter().flatten() {
                strip(field);
            }
        }
        _ => {}
    }
}

/// The maximum length of the name of a type, a field or a symbol, in bytes. The library copies a name with every value,
/// so that a long one could fill the memory with a small datum.
const MAX_NAME: usize = 1_024;

/// Returns `true` if a name in the schema is too long.
fn has_long_name(json: &Json) -> bool {
    match json {
        Json::String(name) => name.len() > MAX_NAME,
        Json::Array(branches) => branches.iter().any(has_long_name),
        Json::Object(entries) => {
            const PLACES: [&str; 7] = ["name", "namespace", "symbols", "type", "items", "values", "fields"];
            PLACES.iter().filter_map(|place| entries.get(*place)).any(has_long_name)
        }
        _ => false,
    }
}

/// Returns `true` for a UUID in sixteen bytes. One in a string needs no conversion.
fn is_fixed_uuid(logical: &str, entries: &Map<String, Json>) -> bool {
    logical == "uuid" && entries.get("type").and_then(Json::as_str) == Some("fixed")
}

/// Returns `true` if a time in the schema is not in milliseconds. A schema's fingerprint leaves logical types out.
pub(super) fn has_other_times(schema: &Schema) -> bool {
    match schema {
        Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos
        | Schema::TimeMicros => true,
        Schema::Array(array) => has_other_times(&array.items),
        Schema::Map(map) => has_other_times(&map.types),
        Schema::Union(union) => union.variants().iter().any(has_other_times),
        Schema::Record(record) => record.fields.iter().any(|field| has_other_times(&field.schema)),
        _ => false,
    }
}

/// Converts a value so that the library can resolve it to `ours`: a logical type to its base type, a time to milliseconds,
/// a number to a text as JSON allows it for ids. A null in a field that is not nullable and has a default is left out. A
/// value that cannot be converted stays as it is, and the library refuses it.
///
/// # Errors
/// Returns the errors of [`millis`], which are more specific than the library's.
pub(super) fn fit(value: Value, ours: &Schema) -> Result<Value, DecodeError> {
    let value = match (ours, value) {
        (_, Value::Union(_, inner)) => return fit(*inner, ours),
        (Schema::TimestampMillis, value) => {
            return Ok(millis(&value)?.map_or(value, Value::TimestampMillis));
        }
        (Schema::Union(union), value) => return nullable(value, union),
        (_, value) => base(value),
    };
    Ok(match (ours, value) {
        (Schema::Record(record), Value::Record(theirs)) => {
            let theirs = if record.name.name() == "Label" { label(theirs) } else { theirs };
            fields(theirs, &record.fields)?
        }
        (Schema::Array(array), Value::Array(items)) => {
            Value::Array(items.into_iter().map(|item| fit(item, &array.items)).collect::<Result<_, _>>()?)
        }
        (Schema::Map(map), Value::Map(entries)) => {
            let fitted =
                entries.into_iter().map(|(name, value)| fit(value, &map.types).map(|value| (name, value)));
            Value::Map(fitted.collect::<Result<_, _>>()?)
        }
        (Schema::Enum(schema), value) => symbol(value, schema),
        (Schema::String, value) => text(value),
        (Schema::Double, Value::Int(value)) => Value::Double(value.into()),
        (Schema::Double, Value::Float(value)) => Value::Double(value.into()),
        (_, value) => value,
    })
}

/// Returns a time as its base type.
fn base(value: Value) -> Value {
    match value {
        Value::Date(value) | Value::TimeMillis(value) => Value::Int(value),
        Value::TimeMicros(value)
        | Value::TimestampMillis(value)
        | Value::TimestampMicros(value)
        | Value::TimestampNanos(value)
        | Value::LocalTimestampMillis(value)
        | Value::LocalTimestampMicros(value)
        | Value::LocalTimestampNanos(value) => Value::Long(value),
        other => other,
    }
}

/// Converts a value to a union. All our unions are of null and one other type.
fn nullable(value: Value, union: &UnionSchema) -> Result<Value, DecodeError> {
    let other = union.variants().iter().find(|variant| **variant != Schema::Null);
    match other {
        Some(other) if value != Value::Null => fit(value, other),
        _ => Ok(value),
    }
}

/// Renames the fields of a label to ours. A label in Avro may use the same alternatives as one in JSON.
fn label(theirs: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let plain = |value| if let Value::Union(_, inner) = value { *inner } else { value };
    let mut fields: BTreeMap<String, Value> = theirs
        .into_iter()
        .map(|(name, value)| (name, plain(value)))
        .filter(|(_, value)| *value != Value::Null)
        .collect();
    for (theirs, ours) in [("label_id", "id"), ("label_time", "time")] {
        if let Some(value) = fields.remove(theirs) {
            fields.insert(ours.to_owned(), value);
        }
    }
    match fields.remove("unsafe") {
        Some(Value::Boolean(harmful)) => {
            let word = if harmful { Finding::Unsafe } else { Finding::Safe }.word();
            fields.entry("verdict".to_owned()).or_insert_with(|| Value::String(word.to_owned()));
        }
        Some(number) => {
            fields.entry("severity".to_owned()).or_insert(number);
        }
        None => {}
    }
    if let Some(Value::String(text)) = fields.get("categories") {
        // One more than the maximum is enough to notice an excess.
        let slugs = slugs([text.as_str()], true).take(MAX_CATEGORIES + 1);
        let slugs = Value::Array(slugs.map(|slug| Value::String(slug.to_owned())).collect());
        fields.insert("categories".to_owned(), slugs);
    }
    fields.into_iter().collect()
}

fn fields(theirs: Vec<(String, Value)>, ours: &[RecordField]) -> Result<Value, DecodeError> {
    let mut fitted = Vec::new();
    for (name, value) in theirs {
        let Some(field) = ours.iter().find(|field| field.name == name) else { continue };
        let value = fit(value, &field.schema)?;
        let left_out =
            value == Value::Null && !matches!(field.schema, Schema::Union(_)) && field.default.is_some();
        if !left_out {
            fitted.push((name, value));
        }
    }
    Ok(Value::Record(fitted))
}

/// Converts a symbol or a text to our enum. An unknown symbol becomes our default.
fn symbol(value: Value, schema: &EnumSchema) -> Value {
    let (Value::Enum(_, name) | Value::String(name)) = &value else { return value };
    let place = |name: &String| schema.symbols.iter().position(|symbol| symbol == name);
    // The names of roles in chat interfaces mean the same as in JSON.
    let chat = || {
        let role = (schema.name.name() == Role::NAME).then(|| role(name))??;
        place(&role.word().to_owned())
    };
    let found = place(name).or_else(chat).or_else(|| schema.default.as_ref().and_then(place));
    let known = found.and_then(|place| Some((u32::try_from(place).ok()?, schema.symbols.get(place)?)));
    match known {
        Some((place, symbol)) => Value::Enum(place, symbol.clone()),
        None => value,
    }
}

/// Converts a value to a text: bytes, as Avro promotes them, a UUID, a symbol, an integer, since many ids are numbers, and
/// null, which becomes an empty text.
fn text(value: Value) -> Value {
    match value {
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        },
        Value::Uuid(id) => Value::String(id.to_string()),
        // A turn that only calls a tool has no text. An empty id is refused later.
        Value::Null => Value::String(String::new()),
        Value::Enum(_, symbol) => Value::String(symbol),
        Value::Int(number) => Value::String(number.to_string()),
        Value::Long(number) => Value::String(number.to_string()),
        other => other,
    }
}

/// Returns a time in milliseconds since 1970, rounded down. A date is the beginning of its day in UTC, and a local time is
/// in UTC. Returns `None` for a time of day and for a value of another type.
///
/// # Errors
/// Returns [`DecodeError::NoZone`] or [`DecodeError::BadValue`] for a text or a floating-point number that would not be a
/// time in JSON either.
pub fn millis(value: &Value) -> Result<Option<Millis>, DecodeError> {
    const DAY: Millis = 86_400_000;
    Ok(match value {
        Value::TimestampMillis(time) | Value::LocalTimestampMillis(time) => Some(*time),
        Value::TimestampMicros(time) | Value::LocalTimestampMicros(time) => Some(time.div_euclid(1_000)),
        Value::TimestampNanos(time) | Value::LocalTimestampNanos(time) => Some(time.div_euclid(1_000_000)),
        Value::Date(days) => Some(Millis::from(*days) * DAY),
        // Values without a logical type are read as in JSON.
        Value::Int(time) => Some(Millis::from(*time)),
        Value::Long(time) => Scalar::Whole(*time).millis("time").ok().flatten(),
        Value::Float(time) => Scalar::Number(f64::from(*time)).millis("time")?,
        Value::Double(time) => Scalar::Number(*time).millis("time")?,
        Value::String(text) => Scalar::Text(text.clone()).millis("time")?,
        _ => None,
    })
}
