//! Human labels in JSON of another layout.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::{self, LabelPosition, Values};
use super::pointer::{Pointer, RecordReader, configured, scalar};
use crate::codec::error::DecodeError;
use crate::codec::label::{LabelForm, MAX_CATEGORIES, RefForm, slugs};
use crate::codec::time::{TimeUnit, Zone};
use crate::codec::tree::{self, Node};
use crate::codec::wire::{List, Symbol, Symbols};
use crate::core::label;

/// `[label_fields]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelFields {
    /// JSON pointer (RFC 6901) to the id of the labelled event. If it is set, JSON labels are read by the pointers of this
    /// section, otherwise by Aegis's own field names.
    pub event_id: Pointer,
    /// Pointer to the list of annotations, if one record contains those of several people. Each is a label. Pointers into
    /// the list have `*` for the item: `/annotations/*/completed_by`. If empty, a record is one label.
    pub annotations: Pointer,
    /// Values by pointers. A record or an annotation with one of the values at its pointer is skipped: `"/answer" = ["ignore",
    /// "reject"]`, `"/annotations/*/was_cancelled" = true`. `""` stands for a missing or empty value.
    pub skip_if: BTreeMap<Pointer, Values>,
    /// Pointer to the label's id, which defaults to the event's id, `/` and the annotator.
    pub id: Pointer,
    /// Pointer to the event's tenant, which defaults to `defaults.tenant`.
    pub tenant: Pointer,
    /// Pointer to the event's policy, which defaults to `defaults.policy`.
    pub policy: Pointer,
    /// Pointer to the annotator. All labels without one have the same nameless annotator.
    pub annotator: Pointer,
    /// Pointer to the verdict: a text, a number, `true` for unsafe or `false` for safe, or a list with one of them.
    pub verdict: Pointer,
    /// Your names of verdicts: `toxic = "unsafe"`, `1 = "unsafe"`, `true = "safe"`. `safe`, `unsafe` and `needs_caution`
    /// need no entry.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Pointer to the severity, a number from 0 to 1.
    pub severity: Pointer,
    /// Pointer to the categories: a text with commas between them, or a list of texts.
    pub categories: Pointer,
    /// Pointer to the time, a number or a text such as `2026-03-01T09:30:00Z`. It defaults to 0, so that every label with a
    /// time is newer.
    pub time: Pointer,
    /// The unit of a number at `time`, counted since 1970.
    pub time_unit: TimeUnit,
    /// The zone of times without one: `UTC`, an offset such as `+01:00`, or a name such as `Europe/Berlin`. If empty, such
    /// a time is refused.
    pub time_zone: Zone,
    /// Pointer to the source of the label, which defaults to `review`.
    pub source: Pointer,
    /// Your names of sources: `flagged_by_user = "report"`. `review`, `report`, `appeal`, `gold` and
    /// `calibration` need no entry.
    pub sources: BTreeMap<String, Source>,
    /// Pointer to the probability with which the event was chosen for labelling, above 0 and at most 1.
    pub inclusion_probability: Pointer,
    /// Pointer to the review request's `decision`, an object with `partition` and `offset`.
    pub decision: Pointer,
    /// Pointer to the id of the label of the same event that this one corrects.
    pub corrects: Pointer,
    /// Pointer to the id of the label of the same event that this one retracts.
    pub retracts: Pointer,
}

/// The verdict of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The event does not break the policy.
    Safe,
    /// The event breaks the policy.
    Unsafe,
    /// The event is between the two. The policy defines what that means.
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

/// The source of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A review request was answered.
    Review,
    /// A user reported the event.
    Report,
    /// The moderated user appealed.
    Appeal,
    /// The event is an example with a known verdict.
    Gold,
    /// A reviewer answered an example with a known verdict, which measures the reviewer.
    Calibration,
}

impl From<Source> for label::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Review => Self::Review,
            Source::Report => Self::Report,
            Source::Appeal => Self::Appeal,
            Source::Gold => Self::Gold,
            Source::Calibration => Self::Calibration,
        }
    }
}

const VERDICT: &str = "safe, unsafe, needs_caution, true, false, or a word in label_fields.verdicts";
const ONE_VERDICT: &str = "one verdict: the list has several";
const SOURCE: &str = "review, report, appeal, gold, or a word in label_fields.sources";
const SEVERITY: &str = "a number from 0 to 1";
const PROBABILITY: &str = "a number above 0 and at most 1";
const CATEGORIES: &str = "a text, or a list of at most 64 texts";
const DECISION: &str = "an object with a partition and an offset";

impl LabelFields {
    /// Returns `true` if JSON labels are read by these pointers.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.event_id.is_empty()
    }

    /// Checks the settings together.
    ///
    /// # Errors
    /// Returns a message with the key and what to write.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_set() {
            // The example configuration of earlier versions contains the unit that was the default then.
            return if (Self { time_unit: TimeUnit::Auto, ..self.clone() }) == Self::default() {
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
        self.check_effective()?;
        annotations::check(self)
    }

    /// Refuses settings that cannot take effect.
    fn check_effective(&self) -> Result<(), String> {
        let without = |what: &str, field: &str| {
            Err(format!(
                "label_fields.{what} has no effect without label_fields.{field}: set that to where the {field} is, or \
                 leave {what} out"
            ))
        };
        if self.verdict.is_empty() && !self.verdicts.is_empty() {
            return without("verdicts", "verdict");
        }
        if self.source.is_empty() && !self.sources.is_empty() {
            return without("sources", "source");
        }
        if self.time.is_empty() && !self.time_zone.is_empty() {
            return without("time_zone", "time");
        }
        check_numbers("verdicts", &self.verdicts)?;
        let means = |word: &str| {
            let mut found = self.verdicts.iter().filter(|(own, _)| own.eq_ignore_ascii_case(word));
            found.next().map(|(_, means)| *means)
        };
        for (word, other, plain) in [("true", "false", Verdict::Safe), ("false", "true", Verdict::Unsafe)] {
            if means(word) == Some(plain) && means(other).is_none() {
                return Err(format!(
                    "label_fields.verdicts gives {word} the meaning that {other} has without it, so that both mean the \
                     same: add {other}"
                ));
            }
        }
        check_numbers("sources", &self.sources)
    }

    /// Returns the pointers by the names of their settings, in the order of the section.
    #[must_use]
    pub fn pointers(&self) -> [(&'static str, &Pointer); 15] {
        [
            ("event_id", &self.event_id),
            ("annotations", &self.annotations),
            ("id", &self.id),
            ("tenant", &self.tenant),
            ("policy", &self.policy),
            ("annotator", &self.annotator),
            ("verdict", &self.verdict),
            ("severity", &self.severity),
            ("categories", &self.categories),
            ("time", &self.time),
            ("source", &self.source),
            ("inclusion_probability", &self.inclusion_probability),
            ("decision", &self.decision),
            ("corrects", &self.corrects),
            ("retracts", &self.retracts),
        ]
    }

    /// Reads the labels of a record, all of one event, tenant and policy. There are none if the configuration skips it.
    pub(in crate::codec) fn read(&self, json: &str) -> Result<Vec<LabelForm<'static>>, DecodeError> {
        let (root, _) = &tree::parse(json)?;
        let record = RecordReader { section: "label_fields", root };
        let mut labels = Vec::new();
        for at in annotations::of(self, record)? {
            labels.push(self.label(record, at)?);
        }
        Ok(labels)
    }

    fn label(
        &self,
        record: RecordReader<'_, '_>,
        at: LabelPosition<'_>,
    ) -> Result<LabelForm<'static>, DecodeError> {
        let word =
            |field, pointer| Ok::<_, DecodeError>(record.word(field, &at.of(pointer))?.map(Cow::Owned));
        let event = word("event_id", &self.event_id)?;
        let form = LabelForm {
            event_id: event.ok_or_else(|| record.missing("event_id", self.event_id.as_str()))?,
            id: word("id", &self.id)?,
            tenant: word("tenant", &self.tenant)?,
            policy: word("policy", &self.policy)?,
            annotator: word("annotator", &self.annotator)?,
            verdict: self.verdict(record, &at.of(&self.verdict))?.map(Symbol),
            severity: number(record, "severity", &at.of(&self.severity), SEVERITY, |found| {
                (0.0..=1.0).contains(&found)
            })?,
            categories: categories(record, &at.of(&self.categories))?,
            time: record.time(&at.of(&self.time), self.time_unit, &self.time_zone)?.unwrap_or(0),
            source: Symbol(self.source(record, &at.of(&self.source))?),
            inclusion_probability: number(
                record,
                "inclusion_probability",
                &at.of(&self.inclusion_probability),
                PROBABILITY,
                |found| found > 0.0 && found <= 1.0,
            )?,
            decision: decision(record, &at.of(&self.decision))?,
            corrects: word("corrects", &self.corrects)?,
            retracts: word("retracts", &self.retracts)?,
        };
        if form.verdict.is_none() && form.severity.is_none() && form.retracts.is_none() {
            let (field, pointer) = match self.verdict.is_empty() {
                false => ("verdict", &self.verdict),
                true => ("severity", &self.severity),
            };
            return Err(DecodeError::NoVerdictAt { field, pointer: at.of(pointer).into_owned() });
        }
        Ok(form)
    }

    fn verdict(&self, record: RecordReader<'_, '_>, at: &str) -> Result<Option<label::Finding>, DecodeError> {
        let Some(value) = record.get("verdict", at)? else { return Ok(None) };
        let value = match value {
            // Some tools write a choice as a list even if it is a single one.
            Node::List(items) => match items.as_slice() {
                [] => return Ok(None),
                [one] => one,
                _ => return Err(record.invalid("verdict", at, ONE_VERDICT)),
            },
            one => one,
        };
        let known = || match value {
            Node::Bool(true) => Some(label::Finding::Unsafe),
            Node::Bool(false) => Some(label::Finding::Safe),
            other => other.text().and_then(label::Finding::parse),
        };
        let found = configured(value, &self.verdicts).map(label::Finding::from).or_else(known);
        found.map(Some).ok_or_else(|| record.invalid("verdict", at, VERDICT))
    }

    fn source(&self, record: RecordReader<'_, '_>, at: &str) -> Result<label::Source, DecodeError> {
        let Some(value) = record.get("source", at)? else { return Ok(label::Source::Review) };
        let known = || value.text().and_then(label::Source::parse);
        let found = configured(value, &self.sources).map(label::Source::from).or_else(known);
        found.ok_or_else(|| record.invalid("source", at, SOURCE))
    }
}

/// Refuses two spellings of one number with different values, since which of them applies would be arbitrary.
fn check_numbers<T: PartialEq>(table: &str, words: &BTreeMap<String, T>) -> Result<(), String> {
    let numbers = || words.iter().filter_map(|(word, means)| Some((word.parse::<f64>().ok()?, word, means)));
    for (number, word, means) in numbers() {
        if let Some((_, other, _)) = numbers().find(|(twin, _, other)| *twin == number && *other != means) {
            return Err(format!(
                "label_fields.{table} has the number {word} twice, as {other} too, with two meanings: leave one out"
            ));
        }
    }
    Ok(())
}

fn categories(
    record: RecordReader<'_, '_>,
    at: &str,
) -> Result<List<Cow<'static, str>, MAX_CATEGORIES>, DecodeError> {
    /// One more than the maximum, so that an excess is noticed.
    const LIMIT: usize = MAX_CATEGORIES + 1;
    let owned = |slug: &str| Cow::Owned(slug.to_owned());
    let found: Option<Vec<Cow<'static, str>>> = match record.get("categories", at)? {
        None => return Ok(List::of(Vec::new())),
        Some(Node::Text(text)) => Some(slugs([text.as_ref()], true).take(LIMIT).map(owned).collect()),
        Some(Node::List(items)) => {
            let texts: Option<Vec<_>> = items.iter().map(Node::text).collect();
            texts.map(|texts| slugs(texts, false).take(LIMIT).map(owned).collect())
        }
        Some(_) => None,
    };
    let found = found.filter(|found| found.len() <= MAX_CATEGORIES);
    found.map(List::of).ok_or_else(|| record.invalid("categories", at, CATEGORIES))
}

fn decision(record: RecordReader<'_, '_>, at: &str) -> Result<Option<RefForm>, DecodeError> {
    let Some(value) = record.get("decision", at)? else { return Ok(None) };
    let whole = |name: &str| {
        let field = value
            .field(name)
            .map_err(|error| record.pointer_error("decision", format!("{at}/{name}"), error))?;
        let found = field.and_then(|field| scalar(field).whole("decision").ok()?);
        Ok::<_, DecodeError>(found.filter(|found| *found >= 0))
    };
    let partition = whole("partition")?.and_then(|partition| i32::try_from(partition).ok());
    let found = partition.zip(whole("offset")?);
    found
        .map(|(partition, offset)| Some(RefForm::new(partition, offset)))
        .ok_or_else(|| record.invalid("decision", at, DECISION))
}

fn number(
    record: RecordReader<'_, '_>,
    field: &'static str,
    at: &str,
    wanted: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<Option<f64>, DecodeError> {
    let Some(value) = record.get(field, at)? else { return Ok(None) };
    let found = scalar(value).number(field).ok().flatten().filter(|found| fits(*found));
    found.map(Some).ok_or_else(|| record.invalid(field, at, wanted))
}
