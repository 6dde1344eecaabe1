//! Human labels in JSON of another shape.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pointer::{Pointer, Read, TimeUnit, scalar};
use crate::codec::error::DecodeError;
use crate::codec::label::{LabelForm, MAX_CATEGORIES, RefForm};
use crate::codec::tree;
use crate::codec::wire::{List, Word, Words};
use crate::core::label;

/// `[label_fields]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelFields {
    /// JSON pointer (RFC 6901) to the id of the event that a label is about. Where it is set, JSON labels are read
    /// by the pointers of this section, else by Aegis's own names.
    pub event_id: Pointer,
    /// To the label's own id; empty or nothing there: event id, `/`, annotator.
    pub id: Pointer,
    /// To the event's tenant; empty or nothing there: `defaults.tenant`.
    pub tenant: Pointer,
    /// To the event's policy; empty or nothing there: `defaults.policy`.
    pub policy: Pointer,
    /// To whoever labelled; empty or nothing there: one nameless annotator.
    pub annotator: Pointer,
    /// To the verdict: a word, `true` for unsafe or `false` for safe.
    pub verdict: Pointer,
    /// Your words for verdicts: `toxic = "unsafe"`. `safe`, `unsafe` and `needs_caution` are known without.
    pub verdicts: BTreeMap<String, Verdict>,
    /// To how bad it is, a number from 0 to 1.
    pub severity: Pointer,
    /// To the categories: a text, or a list of texts.
    pub categories: Pointer,
    /// To the time, a number or RFC 3339; empty or nothing there: 0, so that every label with a time is newer.
    pub time: Pointer,
    /// What a number at `time` counts since 1970.
    pub time_unit: TimeUnit,
    /// To where the label comes from; empty or nothing there: `review`.
    pub source: Pointer,
    /// Your words for sources: `flagged_by_user = "report"`. `review`, `report`, `appeal` and `gold` are known
    /// without.
    pub sources: BTreeMap<String, Source>,
    /// To the probability with which the event was chosen for labelling, above 0 and at most 1.
    pub inclusion_probability: Pointer,
    /// To the review request's `decision`, an object with `partition` and `offset`.
    pub decision: Pointer,
    /// To the id of the label of the same event that this one corrects.
    pub corrects: Pointer,
    /// To the id of the label of the same event that this one takes back.
    pub retracts: Pointer,
}

impl Default for LabelFields {
    fn default() -> Self {
        let none = Pointer::default;
        Self {
            event_id: none(),
            id: none(),
            tenant: none(),
            policy: none(),
            annotator: none(),
            verdict: none(),
            verdicts: BTreeMap::new(),
            severity: none(),
            categories: none(),
            time: none(),
            time_unit: TimeUnit::Milliseconds,
            source: none(),
            sources: BTreeMap::new(),
            inclusion_probability: none(),
            decision: none(),
            corrects: none(),
            retracts: none(),
        }
    }
}

/// What a label says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong with it.
    Safe,
    /// It breaks the policy.
    Unsafe,
    /// It is between the two; what that means is the policy's.
    NeedsCaution,
}

impl From<Verdict> for label::Finding {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Safe => Self::Safe,
            Verdict::Unsafe => Self::Unsafe,
            Verdict::NeedsCaution => Self::NeedsCaution,
        }
    }
}

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Somebody was asked.
    Review,
    /// A user complained.
    Report,
    /// Whoever was moderated objected.
    Appeal,
    /// An example whose answer is known.
    Gold,
}

impl From<Source> for label::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Review => Self::Review,
            Source::Report => Self::Report,
            Source::Appeal => Self::Appeal,
            Source::Gold => Self::Gold,
        }
    }
}

const VERDICT: &str = "safe, unsafe, needs_caution, true, false, or a word in label_fields.verdicts";
const SOURCE: &str = "review, report, appeal, gold, or a word in label_fields.sources";
const SEVERITY: &str = "a number from 0 to 1";
const CHANCE: &str = "a number above 0 and at most 1";
const CATEGORIES: &str = "a text, or a list of at most 64 texts";
const DECISION: &str = "an object with a partition and an offset";

impl LabelFields {
    /// Whether JSON labels are read by these pointers.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.event_id.is_empty()
    }

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// In words that name the key and what to write.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_set() {
            return if *self == Self::default() {
                Ok(())
            } else {
                Err("label_fields says where fields of a label are, and not which event it is about: set \
                     label_fields.event_id"
                    .into())
            };
        }
        if self.verdict.is_empty() && self.severity.is_empty() {
            return Err("label_fields finds neither verdict nor severity: set label_fields.verdict or \
                        label_fields.severity"
                .into());
        }
        Ok(())
    }

    /// Reads a label from `json`.
    pub(in crate::codec) fn read(&self, json: &str) -> Result<LabelForm<'static>, DecodeError> {
        let root = &tree::parse(json)?;
        let record = Read { section: "label_fields", root };
        let word = |field, at| Ok::<_, DecodeError>(record.word(field, at)?.map(Cow::Owned));
        let event = word("event_id", &self.event_id)?;
        Ok(LabelForm {
            event_id: event.ok_or_else(|| record.missing("event_id", self.event_id.as_str()))?,
            id: word("id", &self.id)?,
            tenant: word("tenant", &self.tenant)?,
            policy: word("policy", &self.policy)?,
            annotator: word("annotator", &self.annotator)?,
            verdict: self.verdict(record)?.map(Word),
            severity: number(record, "severity", &self.severity, SEVERITY, |found| {
                (0.0..=1.0).contains(&found)
            })?,
            categories: self.categories(record)?,
            time: record.time(&self.time, self.time_unit)?.unwrap_or(0),
            source: Word(self.source(record)?),
            inclusion_probability: number(
                record,
                "inclusion_probability",
                &self.inclusion_probability,
                CHANCE,
                |found| found > 0.0 && found <= 1.0,
            )?,
            decision: self.decision(record)?,
            corrects: word("corrects", &self.corrects)?,
            retracts: word("retracts", &self.retracts)?,
        })
    }

    fn verdict(&self, record: Read<'_>) -> Result<Option<label::Finding>, DecodeError> {
        let Some((at, value)) = record.look(&self.verdict) else { return Ok(None) };
        let found = match value {
            Value::Bool(true) => Some(label::Finding::Unsafe),
            Value::Bool(false) => Some(label::Finding::Safe),
            Value::String(word) => {
                self.verdicts.get(word).map(|own| (*own).into()).or_else(|| label::Finding::read(word))
            }
            _ => None,
        };
        found.map(Some).ok_or_else(|| record.unfit("verdict", at, VERDICT))
    }

    fn source(&self, record: Read<'_>) -> Result<label::Source, DecodeError> {
        let Some((at, value)) = record.look(&self.source) else { return Ok(label::Source::Review) };
        let known = |word: &str| {
            self.sources.get(word).map(|own| (*own).into()).or_else(|| label::Source::read(word))
        };
        value.as_str().and_then(known).ok_or_else(|| record.unfit("source", at, SOURCE))
    }

    fn categories(&self, record: Read<'_>) -> Result<List<Cow<'static, str>, MAX_CATEGORIES>, DecodeError> {
        let Some((at, value)) = record.look(&self.categories) else { return Ok(List::of(Vec::new())) };
        let items = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let slug = |value: &Value| value.as_str().map(|slug| Cow::Owned(slug.to_owned()));
        let slugs =
            (items.len() <= MAX_CATEGORIES).then(|| items.iter().map(slug).collect::<Option<Vec<_>>>());
        slugs.flatten().map(List::of).ok_or_else(|| record.unfit("categories", at, CATEGORIES))
    }

    fn decision(&self, record: Read<'_>) -> Result<Option<RefForm>, DecodeError> {
        let Some((at, value)) = record.look(&self.decision) else { return Ok(None) };
        let whole = |name: &str| scalar(value.get(name)?).whole("decision").ok()?.filter(|found| *found >= 0);
        let partition = whole("partition").and_then(|partition| i32::try_from(partition).ok());
        let found = partition.zip(whole("offset"));
        found
            .map(|(partition, offset)| Some(RefForm::new(partition, offset)))
            .ok_or_else(|| record.unfit("decision", at, DECISION))
    }
}

fn number(
    record: Read<'_>,
    field: &'static str,
    at: &Pointer,
    wanted: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<Option<f64>, DecodeError> {
    let Some((at, value)) = record.look(at) else { return Ok(None) };
    let found = scalar(value).number(field).ok().flatten().filter(|found| fits(*found));
    found.map(Some).ok_or_else(|| record.unfit(field, at, wanted))
}
