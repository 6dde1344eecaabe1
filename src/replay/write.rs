//! The writer of replay files: a header, then rounds, labels and edits, one JSON object a line. docs/replay-format.md
//! describes the format.

use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::core::event::Millis;
use crate::core::features::EncoderId;
use crate::core::hash::hex;
use crate::core::label::Mapping;
use crate::core::learners::{LearnerSpec, Name, Value};
use crate::core::ledger::{Edit, EditAction, LabelRecord, Record, RoundRecord};

/// Version of the format.
pub const FORMAT: u32 = 1;

/// The settings of one policy's fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The learner.
    pub learner: LearnerSpec,
    /// The mapping from labels to targets.
    pub mapping: Mapping,
    /// The encoder whose features are used. `None` for the one that most rounds have features of.
    pub encoder: Option<EncoderId>,
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    aegis: &'static str,
    format: u32,
    policies: BTreeMap<&'a str, HeaderPolicy<'a>>,
}

#[derive(Serialize)]
struct HeaderPolicy<'a> {
    learner: &'static str,
    parameters: BTreeMap<&'static str, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prior: Option<BTreeMap<&'a str, f64>>,
    needs_caution: f64,
    teaches: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_annotator_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
}

#[derive(Serialize)]
struct RoundLine<'a> {
    aegis: &'static str,
    tenant: &'a str,
    policy: &'a str,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    event_time: Millis,
    partition: i32,
    offset: i64,
    votes: BTreeMap<&'a str, Option<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisive: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<String>,
}

#[derive(Serialize)]
struct LabelLine<'a> {
    aegis: &'static str,
    tenant: &'a str,
    policy: &'a str,
    event_id: &'a str,
    label_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'a [String],
    label_time: Millis,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inclusion_probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrects: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retracts: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    received: Millis,
    standing: &'static str,
}

#[derive(Serialize)]
struct EditLine<'a> {
    aegis: &'static str,
    edit_id: &'a str,
    action: &'static str,
    tenant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
}

/// Returns a parameter as JSON.
pub(super) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
    }
}

/// Writes lines.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl Policy {
    /// Returns the settings of a policy without a header.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            learner: LearnerSpec::new(Name::Default),
            mapping: Mapping::default(),
            encoder: None,
        }
    }
}

/// Returns the line of a header.
#[must_use]
pub fn header(policies: &[Policy]) -> String {
    line(|writer| writer.header(policies))
}

/// Returns the line of a record.
#[must_use]
pub fn record(record: &Record) -> String {
    line(|writer| writer.record(record))
}

fn line(write: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> String {
    let mut writer = Writer::new(Vec::new());
    write(&mut writer).expect("writing to memory cannot fail");
    let mut bytes = writer.into_inner();
    bytes.truncate(bytes.trim_ascii_end().len());
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Returns the underlying writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    /// Writes the header. A learner's seed is a secret, so only its fingerprint is written.
    ///
    /// # Errors
    /// Returns the error of the underlying writer.
    pub fn header(&mut self, policies: &[Policy]) -> io::Result<()> {
        let policies = policies.iter().map(|settings| {
            let parameters = settings.learner.parameters();
            let parameters = parameters.iter().filter(|(name, _)| *name != "prior");
            let prior = settings.learner.prior.as_ref();
            let policy = HeaderPolicy {
                learner: settings.learner.name.as_str(),
                parameters: parameters.map(|(name, value)| (*name, json(value))).collect(),
                prior: prior.map(|prior| prior.iter().map(|(id, mass)| (id.as_str(), *mass)).collect()),
                needs_caution: settings.mapping.needs_caution,
                teaches: settings.mapping.teaches.iter().map(|source| source.word()).collect(),
                max_annotator_share: settings.mapping.caps().then_some(settings.mapping.max_annotator_share),
                encoder: settings.encoder.as_ref().map(hex),
            };
            (settings.name.as_str(), policy)
        });
        self.line(&HeaderLine { aegis: "header", format: FORMAT, policies: policies.collect() })
    }

    /// Writes a record of the ledger.
    ///
    /// # Errors
    /// Returns the error of the underlying writer.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Round(round) => self.round(round),
            Record::Label(label) => self.label(label),
            Record::Edit(edit) => self.edit(edit),
        }
    }

    fn round(&mut self, round: &RoundRecord) -> io::Result<()> {
        let votes = round.votes.iter();
        self.line(&RoundLine {
            aegis: "round",
            tenant: &round.id.tenant,
            policy: &round.id.policy,
            event_id: &round.id.event,
            subject: round.subject.as_deref(),
            event_time: round.round_time,
            partition: round.decision.partition,
            offset: round.decision.offset,
            votes: votes.clone().map(|vote| (vote.expert.as_str(), vote.score)).collect(),
            shadow: votes.clone().filter(|vote| vote.shadow).map(|vote| vote.expert.as_str()).collect(),
            decisive: votes.filter(|vote| vote.decisive).map(|vote| vote.expert.as_str()).collect(),
            encoder: round.features.as_ref().map(|reading| hex(&reading.encoder)),
            features: round.features.as_ref().map(|reading| base64(&*reading.features)),
        })
    }

    fn label(&mut self, record: &LabelRecord) -> io::Result<()> {
        let label = &record.label;
        self.line(&LabelLine {
            aegis: "label",
            tenant: &label.tenant,
            policy: &label.policy,
            event_id: &label.event,
            label_id: &label.id,
            annotator: label.annotator.as_deref(),
            verdict: label.verdict.map(|verdict| verdict.word()),
            severity: label.severity,
            categories: &label.categories,
            label_time: label.time,
            source: label.source.word(),
            inclusion_probability: label.inclusion_probability,
            corrects: label.corrects.as_deref(),
            retracts: label.retracts.as_deref(),
            partition: label.decision.map(|at| at.partition),
            offset: label.decision.map(|at| at.offset),
            received: record.received,
            standing: record.status.word(),
        })
    }

    fn edit(&mut self, edit: &Edit) -> io::Result<()> {
        let (action, tenant, annotator, subject) = match &edit.action {
            EditAction::Quarantine { tenant, annotator } => ("quarantine", tenant, Some(annotator), None),
            EditAction::Erase { tenant, subject } => ("erase", tenant, None, Some(subject)),
        };
        self.line(&EditLine {
            aegis: "edit",
            edit_id: &edit.id,
            action,
            tenant,
            annotator: annotator.map(String::as_str),
            subject: subject.map(String::as_str),
        })
    }
}

/// Returns features as padded base64, in the standard alphabet, of the signed bytes.
pub(crate) fn base64(features: &[i8]) -> String {
    let bytes: Vec<u8> = features.iter().map(|byte| byte.cast_unsigned()).collect();
    STANDARD.encode(bytes)
}
