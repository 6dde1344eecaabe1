//! Human labels in JSON of another shape.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::{self, LabelPosition, Values};
use super::pointer::{Pointer, RecordReader, meant, scalar};
use crate::codec::error::DecodeError;
use crate::codec::label::{LabelForm, MAX_CATEGORIES, RefForm, slugs};
use crate::codec::time::{TimeUnit, Zone};
use crate::codec::tree::{self, Node};
use crate::codec::wire::{List, Symbol, Symbols};
use crate::core::label;

/// `[label_fields]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelFields {
    /// JSON pointer (RFC 6901) to the id of the event that a label is about. Where it is set, JSON labels are read
    /// by the pointers of this section, else by Aegis's own names.
    pub event_id: Pointer,
    /// To the list of annotations, where one record holds those of several people: each is a label. Pointers into it
    /// have `*` for the item: `/annotations/*/completed_by`. Empty: a record is one label.
    pub annotations: Pointer,
    /// Values by pointers: a record, or an annotation, that has one of them there is no label. `"/answer" = ["ignore",
    /// "reject"]`, `"/annotations/*/was_cancelled" = true`. `""` is for nothing there, and for what is empty.
    pub skip_if: BTreeMap<Pointer, Values>,
    /// To the label's own id; empty or nothing there: event id, `/`, annotator.
    pub id: Pointer,
    /// To the event's tenant; empty or nothing there: `defaults.tenant`.
    pub tenant: Pointer,
    /// To the event's policy; empty or nothing there: `defaults.policy`.
    pub policy: Pointer,
    /// To whoever labelled; empty or nothing there: one nameless annotator.
    pub annotator: Pointer,
    /// To the verdict: a word, a number, `true` for unsafe or `false` for safe; also as the only item of a list.
    pub verdict: Pointer,
    /// Your words for verdicts: `toxic = "unsafe"`, `1 = "unsafe"`, `true = "safe"`. `safe`, `unsafe` and
    /// `needs_caution` are known without.
    pub verdicts: BTreeMap<String, Verdict>,
    /// To how bad it is, a number from 0 to 1.
    pub severity: Pointer,
    /// To the categories: a text, with commas between several, or a list of texts.
    pub categories: Pointer,
    /// To the time, a number or a text such as `2026-03-01T09:30:00Z`; empty or nothing there: 0, so that every label
    /// with a time is newer.
    pub time: Pointer,
    /// What a number at `time` counts since 1970.
    pub time_unit: TimeUnit,
    /// The zone of times that say none: `UTC`, an offset such as `+01:00`, or a name such as `Europe/Berlin`. Empty:
    /// such a time is refused.
    pub time_zone: Zone,
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
            annotations: none(),
            skip_if: BTreeMap::new(),
            id: none(),
            tenant: none(),
            policy: none(),
            annotator: none(),
            verdict: none(),
            verdicts: BTreeMap::new(),
            severity: none(),
            categories: none(),
            time: none(),
            time_unit: TimeUnit::Auto,
            time_zone: Zone::default(),
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
const ONE_VERDICT: &str = "one verdict: the list has several";
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
            // The example of earlier versions wrote the unit that was the default then.
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
        self.effective()?;
        annotations::check(self)
    }

    /// Refuses settings that cannot take effect.
    fn effective(&self) -> Result<(), String> {
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
        twins("verdicts", &self.verdicts)?;
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
        twins("sources", &self.sources)
    }

    /// The pointers by their settings' names, in the order of the section.
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

    /// Reads the labels of a record; none where the configuration leaves it out.
    ///
    /// Several have the same event, tenant and policy.
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
                CHANCE,
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
            // A choice is a list, also where only one can be made.
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
        let found = meant(value, &self.verdicts).map(label::Finding::from).or_else(known);
        found.map(Some).ok_or_else(|| record.invalid("verdict", at, VERDICT))
    }

    fn source(&self, record: RecordReader<'_, '_>, at: &str) -> Result<label::Source, DecodeError> {
        let Some(value) = record.get("source", at)? else { return Ok(label::Source::Review) };
        let known = || value.text().and_then(label::Source::parse);
        let found = meant(value, &self.sources).map(label::Source::from).or_else(known);
        found.ok_or_else(|| record.invalid("source", at, SOURCE))
    }
}

/// Refuses two words for one number that mean different things: which of them holds would be chance.
fn twins<T: PartialEq>(table: &str, words: &BTreeMap<String, T>) -> Result<(), String> {
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
    /// One more than there may be, so that too many are seen.
    const TAKEN: usize = MAX_CATEGORIES + 1;
    let owned = |slug: &str| Cow::Owned(slug.to_owned());
    let found: Option<Vec<Cow<'static, str>>> = match record.get("categories", at)? {
        None => return Ok(List::of(Vec::new())),
        Some(Node::Text(text)) => Some(slugs([text.as_ref()], true).take(TAKEN).map(owned).collect()),
        Some(Node::List(items)) => {
            let texts: Option<Vec<_>> = items.iter().map(Node::text).collect();
            texts.map(|texts| slugs(texts, false).take(TAKEN).map(owned).collect())
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
            .map_err(|astray| record.pointer_error("decision", format!("{at}/{name}"), astray))?;
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
