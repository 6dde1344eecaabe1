//! Schemas of other writers, and their values made to fit ours.
//!
//! Avro lets a reader take a logical type that it does not use as the type beneath it. The library does not: a
//! `uuid` is a type of its own to it, which no string of ours accepts, and a text that is no UUID fails the whole
//! record. So a writer's schema is read without logical types, except the few that say what a value means.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{EnumSchema, RecordField, UnionSchema};
use apache_avro::types::Value;
use serde_json::{Map, Value as Json};

use super::error::DecodeError;
use super::fields::role;
use super::json::Scalar;
use super::label::{MAX_CATEGORIES, slugs};
use super::wire::Words as _;
use crate::core::event::{Millis, Role};
use crate::core::label::Finding;

/// Logical types whose values are times, and those of another unit are converted.
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

/// Parses the schema of a writer. What only readers use is left out: logical types that mean nothing here,
/// defaults, which some tools write wrongly, and aliases.
pub(super) fn parse(text: &str) -> Option<Schema> {
    let given: Json = serde_json::from_str(text).ok()?;
    if has_long_name(&given) {
        return None;
    }
    let mut base = given.clone();
    strip(&mut base);
    // Of a union of a logical type and its base type two of one type would be left.
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

/// Longest name of a type, a field or a symbol, in bytes. The library copies a name with every value that has it, so that
/// a long one in a small datum would fill the memory.
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

/// Sixteen bytes that are a UUID; in a string it is spelled out already.
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

/// Makes a value one that the library resolves to `ours`: the base type of a logical type, milliseconds of a time,
/// the default of a field whose value is null and must not be, and texts of numbers where JSON has them for ids.
/// What cannot be made to fit is left as it is, and the library refuses it.
///
/// # Errors
/// Returns the errors of [`millis`], which say more of a time than that it does not fit.
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
        (Schema::Enum(words), value) => word(value, words),
        (Schema::String, value) => text(value),
        (Schema::Double, Value::Int(value)) => Value::Double(value.into()),
        (Schema::Double, Value::Float(value)) => Value::Double(value.into()),
        (_, value) => value,
    })
}

/// The value of the type beneath a logical type that is a time.
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

/// A value of a union; ours are all of null and one other.
fn nullable(value: Value, union: &UnionSchema) -> Result<Value, DecodeError> {
    let other = union.variants().iter().find(|variant| **variant != Schema::Null);
    match other {
        Some(other) if value != Value::Null => fit(value, other),
        _ => Ok(value),
    }
}

/// The fields of a label by our names: what a label in JSON may say another way, one in Avro may, too.
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
        // One more than there may be is as good as all of them.
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

/// A symbol by its number with us. A text that is no symbol is one that we do not know.
fn word(value: Value, words: &EnumSchema) -> Value {
    let (Value::Enum(_, name) | Value::String(name)) = &value else { return value };
    let place = |name: &String| words.symbols.iter().position(|symbol| symbol == name);
    // The words that interfaces of chats have for roles mean the same as in JSON.
    let chat = || {
        let role = (words.name.name() == Role::NAME).then(|| role(name))??;
        place(&role.word().to_owned())
    };
    let found = place(name).or_else(chat).or_else(|| words.default.as_ref().and_then(place));
    let known = found.and_then(|place| Some((u32::try_from(place).ok()?, words.symbols.get(place)?)));
    match known {
        Some((place, symbol)) => Value::Enum(place, symbol.clone()),
        None => value,
    }
}

/// A text: also of bytes, as Avro has it, of a UUID, of a symbol, of a whole number, since many ids are numbers,
/// and of null, which is empty.
fn text(value: Value) -> Value {
    match value {
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        },
        Value::Uuid(id) => Value::String(id.to_string()),
        // A turn that only calls a tool has no text; an id must not be empty, and is refused for it later.
        Value::Null => Value::String(String::new()),
        Value::Enum(_, symbol) => Value::String(symbol),
        Value::Int(number) => Value::String(number.to_string()),
        Value::Long(number) => Value::String(number.to_string()),
        other => other,
    }
}

/// A time in milliseconds, rounded down. One of a day alone is that day's begin in UTC, and one without a zone is
/// in UTC; a time of day is none, nor is a value of another type.
///
/// # Errors
/// Returns [`DecodeError::NoZone`] or [`DecodeError::BadValue`] for a text or a number with a fraction that JSON could
/// not have either.
pub fn millis(value: &Value) -> Result<Option<Millis>, DecodeError> {
    const DAY: Millis = 86_400_000;
    Ok(match value {
        Value::TimestampMillis(time) | Value::LocalTimestampMillis(time) => Some(*time),
        Value::TimestampMicros(time) | Value::LocalTimestampMicros(time) => Some(time.div_euclid(1_000)),
        Value::TimestampNanos(time) | Value::LocalTimestampNanos(time) => Some(time.div_euclid(1_000_000)),
        Value::Date(days) => Some(Millis::from(*days) * DAY),
        // Those that do not say what they are are read as in JSON.
        Value::Int(time) => Some(Millis::from(*time)),
        Value::Long(time) => Scalar::Whole(*time).millis("time").ok().flatten(),
        Value::Float(time) => Scalar::Number(f64::from(*time)).millis("time")?,
        Value::Double(time) => Scalar::Number(*time).millis("time")?,
        Value::String(text) => Scalar::Text(text.clone()).millis("time")?,
        _ => None,
    })
}
