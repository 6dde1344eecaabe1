//! Writes replay files: a header, then rounds, labels and edits, one JSON object a line. The format is
//! docs/replay-format.md.

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

/// All that the fold of one policy needs to know beside its records.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The learner.
    pub learner: LearnerSpec,
    /// How labels become targets.
    pub mapping: Mapping,
    /// The encoder whose features are read; `None`: the one that most rounds carry.
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

/// A parameter as JSON.
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
    /// What a policy without a header is folded with.
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

/// The header's line.
#[must_use]
pub fn header(policies: &[Policy]) -> String {
    line(|writer| writer.header(policies))
}

/// A record's line.
#[must_use]
pub fn record(record: &Record) -> String {
    line(|writer| writer.record(record))
}

fn line(write: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> String {
    let mut writer = Writer::new(Vec::new());
    // Writing to memory cannot fail.
    let _ = write(&mut writer);
    let mut bytes = writer.into_inner();
    bytes.truncate(bytes.trim_ascii_end().len());
    String::from_utf8(bytes).unwrap_or_default()
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    /// Writes the header. A learner's seed is a secret and stays out of it; its fingerprint goes in.
    ///
    /// # Errors
    /// As `out` says.
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
                encoder: settings.encoder.as_ref().map(hex),
            };
            (settings.name.as_str(), policy)
        });
        self.line(&HeaderLine { aegis: "header", format: FORMAT, policies: policies.collect() })
    }

    /// Writes a record of the ledger.
    ///
    /// # Errors
    /// As `out` says.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Round(judged) => self.round(judged),
            Record::Label(filed) => self.label(filed),
            Record::Edit(edit) => self.edit(edit),
        }
    }

    fn round(&mut self, judged: &RoundRecord) -> io::Result<()> {
        let votes = judged.votes.iter();
        self.line(&RoundLine {
            aegis: "round",
            tenant: &judged.id.tenant,
            policy: &judged.id.policy,
            event_id: &judged.id.event,
            subject: judged.subject.as_deref(),
            event_time: judged.round_time,
            partition: judged.decision.partition,
            offset: judged.decision.offset,
            votes: votes.clone().map(|vote| (vote.expert.as_str(), vote.score)).collect(),
            shadow: votes.filter(|vote| vote.shadow).map(|vote| vote.expert.as_str()).collect(),
            encoder: judged.features.as_ref().map(|reading| hex(&reading.encoder)),
            features: judged.features.as_ref().map(|reading| base64(&*reading.features)),
        })
    }

    fn label(&mut self, filed: &LabelRecord) -> io::Result<()> {
        let label = &filed.label;
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
            received: filed.received,
            standing: filed.status.word(),
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

/// Features as the standard alphabet's padded base64 of the signed bytes.
pub(crate) fn base64(features: &[i8]) -> String {
    let bytes: Vec<u8> = features.iter().map(|byte| byte.cast_unsigned()).collect();
    STANDARD.encode(bytes)
}
