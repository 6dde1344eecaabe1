//! A label as an object with Aegis's own field names, the form in which all layouts but that of `[label_fields]` are
//! decoded. The codec checks it as it checks a record of the labels topic.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Refusal;
use super::value::parse;
use crate::codec::time::{TimeError, Zone, parse as parse_time};
use crate::codec::{Defaults, decode_label};
use crate::core::label::{Finding, Label, Source};

/// The fields of a label that are copied from a row as they are.
const FIELDS: [&str; 15] = [
    "event_id",
    "id",
    "label_id",
    "tenant",
    "policy",
    "annotator",
    "severity",
    "time",
    "label_time",
    "source",
    "inclusion_probability",
    "decision",
    "corrects",
    "retracts",
    "unsafe",
];

/// The settings by which rows become labels.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The tenant and policy of rows that name none. Its pointers are those of the layout `fields`.
    pub defaults: Defaults,
    /// The names of the control or question with the verdict, and of the one with the categories.
    pub names: Names,
    /// The meanings of words for verdicts, beside those that records have.
    pub verdicts: BTreeMap<String, Finding>,
    /// The source of labels that name none.
    pub source: Option<Source>,
    /// The zone of times without one, if not UTC as the tools write them.
    pub zone: Zone,
}

/// The names of the fields of an annotation.
#[derive(Debug, Clone)]
pub struct Names {
    /// The control or question with the verdict.
    pub verdict: String,
    /// The control or question with the categories.
    pub categories: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { verdict: "verdict".to_owned(), categories: "categories".to_owned() }
    }
}

/// A label that is being built.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft(Map<String, Value>);

impl Draft {
    /// Copies the fields that say which round is labelled, and how it was chosen.
    pub(super) fn of_round(fields: &Map<String, Value>) -> Self {
        let mut draft = Self::default();
        for name in ["event_id", "tenant", "policy"] {
            draft.set(name, fields.get(name));
        }
        draft.set("inclusion_probability", number(fields.get("inclusion_probability")).as_ref());
        draft.set("decision", decision(fields).as_ref());
        draft
    }

    /// Sets a field, unless the value is missing, null or an empty text.
    pub(super) fn set(&mut self, name: &str, value: Option<&Value>) {
        if let Some(value) = value.filter(|value| !value.is_null() && value.as_str() != Some("")) {
            self.0.insert(name.to_owned(), value.clone());
        }
    }

    pub(super) fn set_verdict(&mut self, verdict: Finding) {
        self.0.insert("verdict".to_owned(), verdict.word().into());
    }

    pub(super) fn set_categories(&mut self, found: Option<&Value>) {
        if let Some(found) = found {
            self.0.insert("categories".to_owned(), categories(found).into());
        }
    }

    /// Sets the time. A text without a zone is in the zone of `reading`.
    pub(super) fn set_time(&mut self, time: Option<&Value>, reading: &Reading) {
        let utc = || Zone::try_from("UTC".to_owned()).expect("UTC is a zone");
        let zone = if reading.zone.is_empty() { utc() } else { reading.zone.clone() };
        match time {
            Some(Value::String(text)) if parse_time(text, &Zone::default()) == Err(TimeError::NoZone) => {
                let instant = parse_time(text, &zone).map(Value::from);
                self.set("time", instant.ok().or_else(|| time.cloned()).as_ref());
            }
            other => self.set("time", other),
        }
    }

    /// Checks the label.
    ///
    /// # Errors
    /// Returns the codec's reason if a field is missing or out of its bounds.
    pub(super) fn label(mut self, reading: &Reading) -> Result<Label, Refusal> {
        if let (Some(source), false) = (reading.source, self.0.contains_key("source")) {
            self.0.insert("source".to_owned(), source.word().into());
        }
        let defaults = Defaults { event_fields: None, label_fields: None, ..reading.defaults.clone() };
        Ok(decode_label(Value::Object(self.0).to_string().as_bytes(), &defaults)?)
    }
}

/// Reads a row with Aegis's own field names. Cells of CSV are texts, also those of numbers.
pub(super) fn label(row: &Map<String, Value>, reading: &Reading) -> Result<Label, Refusal> {
    let mut draft = Draft::default();
    for name in FIELDS {
        draft.set(name, row.get(name));
    }
    for name in ["severity", "inclusion_probability"] {
        draft.set(name, number(row.get(name)).as_ref());
    }
    draft.set("unsafe", harm(row.get("unsafe")).as_ref());
    draft.set("decision", decision(row).as_ref());
    for name in ["time", "label_time"] {
        if row.get(name).is_some_and(Value::is_string) {
            draft.0.remove(name);
            draft.set_time(row.get(name), reading);
        }
    }
    if let Some(verdict) =
        row.get(&reading.names.verdict).map(|found| verdict(found, reading)).transpose()?.flatten()
    {
        draft.set_verdict(verdict);
    }
    draft.set_categories(row.get(&reading.names.categories));
    draft.label(reading)
}

/// Returns the finding of a verdict: a word, a boolean, a number with a meaning, or a list or an object with one of these.
/// `None` if nothing is chosen.
pub(super) fn verdict(found: &Value, reading: &Reading) -> Result<Option<Finding>, Refusal> {
    let word = match found {
        Value::Null => return Ok(None),
        Value::Array(items) => match items.as_slice() {
            [] => return Ok(None),
            [one] => return verdict(one, reading),
            _ => return Err(Refusal::new("BadValue", "the verdict is several: allow one choice only")),
        },
        Value::Object(fields) => {
            let inner = fields.get("choices").or_else(|| fields.get("value"));
            return inner.map_or(Ok(None), |inner| verdict(inner, reading));
        }
        Value::String(text) => match embedded(text) {
            Some(inner) => return verdict(&inner, reading),
            None => text.trim().to_owned(),
        },
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
    };
    if word.is_empty() {
        return Ok(None);
    }
    if let Some(known) = reading.verdicts.get(&word) {
        return Ok(Some(*known));
    }
    let plain = word.to_ascii_lowercase().replace([' ', '-'], "_");
    let known = Finding::ALL.into_iter().find(|finding| finding.word() == plain);
    let known = known.or(match found {
        Value::Bool(harmful) => Some(if *harmful { Finding::Unsafe } else { Finding::Safe }),
        _ => None,
    });
    known.map(Some).ok_or_else(|| {
        let message = "the verdict is none of safe, unsafe and needs_caution: say what your words mean with --verdicts \
                       WORD=VERDICT";
        Refusal::new("BadValue", message)
    })
}

/// Returns the categories of a text with commas, a list, or Label Studio's object with choices.
fn categories(found: &Value) -> Vec<Value> {
    match found {
        Value::Array(items) => items.iter().flat_map(categories).collect(),
        Value::Object(fields) => {
            let inner = fields.get("choices").or_else(|| fields.get("value"));
            inner.map(categories).unwrap_or_default()
        }
        Value::String(text) => match embedded(text) {
            Some(inner) => categories(&inner),
            None => text.split(',').map(str::trim).filter(|slug| !slug.is_empty()).map(Value::from).collect(),
        },
        Value::Null => Vec::new(),
        // The codec refuses it.
        other => vec![other.clone()],
    }
}

/// Returns the JSON in a cell of CSV, in which tools write lists and objects.
fn embedded(text: &str) -> Option<Value> {
    let found = text.trim_start().starts_with(['{', '[']).then(|| parse(text.as_bytes()).ok()).flatten();
    found.filter(|found| found.is_array() || found.is_object())
}

/// Returns a number that may be a cell of CSV.
fn number(found: Option<&Value>) -> Option<Value> {
    let text = found.and_then(Value::as_str).and_then(|text| text.trim().parse::<f64>().ok());
    text.and_then(serde_json::Number::from_f64).map(Value::Number).or_else(|| found.cloned())
}

/// Returns the field `unsafe` of a cell of CSV as a boolean or a number.
fn harm(found: Option<&Value>) -> Option<Value> {
    match found.and_then(Value::as_str).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        Some("true" | "yes" | "1") => Some(true.into()),
        Some("false" | "no" | "0") => Some(false.into()),
        _ => number(found),
    }
}

/// Returns the position of the decision: an object, a text `PARTITION:OFFSET`, or two fields.
fn decision(fields: &Map<String, Value>) -> Option<Value> {
    let whole = |found: Option<&Value>| match found {
        Some(Value::String(text)) => text.trim().parse::<i64>().ok(),
        found => found.and_then(Value::as_i64),
    };
    match fields.get("decision") {
        Some(Value::String(text)) => {
            let place = text
                .trim()
                .split_once(':')
                .map(|(partition, offset)| (partition.parse::<i64>(), offset.parse::<i64>()));
            match place {
                Some((Ok(partition), Ok(offset))) => Some(json!({"partition": partition, "offset": offset})),
                _ if text.is_empty() => None,
                _ => embedded(text).or_else(|| fields.get("decision").cloned()),
            }
        }
        Some(Value::Null) | None => {
            let of = |name: &str| fields.get(&format!("decision_{name}"));
            let (partition, offset) = (whole(of("partition"))?, whole(of("offset"))?);
            Some(json!({"partition": partition, "offset": offset}))
        }
        other => other.cloned(),
    }
}
