//! Ledger records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::label::{LabelForm, RefForm, check as check_label, label};
use super::ledger_datum::{self, RecordPool};
use super::schema::kinds;
use super::wire::{FeatureBytes, Sha256, Symbol};
use super::{Defaults, Encoding, check_ref, check_share, check_time};
use crate::core::event::{Millis, check_id};
use crate::core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};

/// A ledger record with the fields of its schema, of which exactly one is set.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename = "LedgerRecord")]
struct RecordForm<'a> {
    judged: Option<RoundForm<'a>>,
    filed: Option<LabelRecordForm<'a>>,
    edit: Option<EditForm<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Judged")]
struct RoundForm<'a> {
    tenant: Cow<'a, str>,
    policy: Cow<'a, str>,
    event_id: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    round_time: Millis,
    decision: RefForm,
    votes: Vec<RoundVoteForm<'a>>,
    features: Option<FeaturesForm<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "RoundVote")]
struct RoundVoteForm<'a> {
    expert: Cow<'a, str>,
    score: Option<f64>,
    shadow: bool,
    #[serde(default)]
    decisive: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Features")]
pub(super) struct FeaturesForm<'a> {
    encoder: Sha256,
    values: FeatureBytes<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Filed")]
struct LabelRecordForm<'a> {
    label: LabelForm<'a>,
    received: Millis,
    standing: Symbol<LabelStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Edit")]
struct EditForm<'a> {
    id: Cow<'a, str>,
    tenant: Cow<'a, str>,
    annotator: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
}

pub(super) fn features(reading: &TextFeatures) -> FeaturesForm<'_> {
    FeaturesForm { encoder: Sha256(reading.encoder), values: FeatureBytes(Cow::Borrowed(&reading.features)) }
}

pub(super) fn reading(form: FeaturesForm<'_>) -> TextFeatures {
    TextFeatures { encoder: form.encoder.0, features: Box::new(form.values.0.into_owned()) }
}

impl<'a> From<&'a Record> for RecordForm<'a> {
    fn from(record: &'a Record) -> Self {
        match record {
            Record::Round(round) => Self { judged: Some(round.into()), ..Self::default() },
            Record::Label(record) => {
                let form = LabelRecordForm {
                    label: LabelForm::from(&record.label),
                    received: record.received,
                    standing: Symbol(record.status),
                };
                Self { filed: Some(form), ..Self::default() }
            }
            Record::Edit(edit) => Self { edit: Some(edit.into()), ..Self::default() },
        }
    }
}

impl<'a> From<&'a RoundRecord> for RoundForm<'a> {
    fn from(round: &'a RoundRecord) -> Self {
        let vote = |vote: &'a RoundVote| RoundVoteForm {
            expert: Cow::Borrowed(&vote.expert),
            score: vote.score,
            shadow: vote.shadow,
            decisive: vote.decisive,
        };
        Self {
            tenant: Cow::Borrowed(&round.id.tenant),
            policy: Cow::Borrowed(&round.id.policy),
            event_id: Cow::Borrowed(&round.id.event),
            subject: round.subject.as_deref().map(Cow::Borrowed),
            round_time: round.round_time,
            decision: round.decision.into(),
            votes: round.votes.iter().map(vote).collect(),
            features: round.features.as_ref().map(features),
        }
    }
}

impl<'a> From<&'a Edit> for EditForm<'a> {
    fn from(edit: &'a Edit) -> Self {
        let (tenant, annotator, subject) = match &edit.action {
            EditAction::Quarantine { tenant, annotator } => (tenant, Some(annotator), None),
            EditAction::Erase { tenant, subject } => (tenant, None, Some(subject)),
        };
        Self {
            id: Cow::Borrowed(&edit.id),
            tenant: Cow::Borrowed(tenant),
            annotator: annotator.map(|text| Cow::Borrowed(text.as_str())),
            subject: subject.map(|text| Cow::Borrowed(text.as_str())),
        }
    }
}

fn round(form: RoundForm<'_>) -> RoundRecord {
    let vote = |form: RoundVoteForm<'_>| RoundVote {
        expert: form.expert.into_owned(),
        score: form.score,
        shadow: form.shadow,
        decisive: form.decisive,
    };
    RoundRecord {
        id: RoundId {
            tenant: form.tenant.into_owned(),
            policy: form.policy.into_owned(),
            event: form.event_id.into_owned(),
        },
        subject: form.subject.map(Cow::into_owned),
        round_time: form.round_time,
        decision: form.decision.into(),
        votes: form.votes.into_iter().map(vote).collect(),
        features: form.features.map(reading),
    }
}

fn edit(form: EditForm<'_>) -> Result<Edit, DecodeError> {
    let tenant = form.tenant.into_owned();
    let action = match (form.annotator, form.subject) {
        (Some(annotator), None) => EditAction::Quarantine { tenant, annotator: annotator.into_owned() },
        (None, Some(subject)) => EditAction::Erase { tenant, subject: subject.into_owned() },
        _ => return Err(DecodeError::BadValue { field: "edit" }),
    };
    Ok(Edit { id: form.id.into_owned(), action })
}

fn record(form: RecordForm<'_>) -> Result<Record, DecodeError> {
    match (form.judged, form.filed, form.edit) {
        (Some(form), None, None) => Ok(Record::Round(round(form))),
        (None, Some(form), None) => Ok(Record::Label(LabelRecord {
            // A label in the ledger has a tenant and a policy. Without them it fails the check.
            label: label(form.label, &Defaults::default())?,
            received: form.received,
            status: form.standing.0,
        })),
        (None, None, Some(form)) => Ok(Record::Edit(edit(form)?)),
        _ => Err(DecodeError::BadValue { field: "judged, filed or edit" }),
    }
}

/// Checks the ids of a round.
pub(super) fn check_round(id: &RoundId) -> Result<(), DecodeError> {
    check_id("tenant", &id.tenant)?;
    check_id("policy", &id.policy)?;
    Ok(check_id("event_id", &id.event)?)
}

fn check(record: &Record) -> Result<(), DecodeError> {
    match record {
        Record::Round(round) => {
            check_round(&round.id)?;
            round.subject.as_deref().map_or(Ok(()), |subject| check_id("subject", subject))?;
            check_time("round_time", round.round_time)?;
            check_ref("decision", round.decision)?;
            if !round.votes.is_sorted_by(|a, b| a.expert < b.expert) {
                return Err(DecodeError::BadValue { field: "votes" });
            }
            for vote in &round.votes {
                check_id("votes.expert", &vote.expert)?;
                vote.score.map_or(Ok(()), |score| check_share("votes.score", score))?;
            }
            Ok(())
        }
        Record::Label(record) => {
            check_label(&record.label)?;
            check_time("received", record.received)
        }
        Record::Edit(edit) => {
            check_id("id", &edit.id)?;
            let (tenant, field, named) = match &edit.action {
                EditAction::Quarantine { tenant, annotator } => (tenant, "annotator", annotator),
                EditAction::Erase { tenant, subject } => (tenant, "subject", subject),
            };
            check_id(field, named)?;
            if tenant.is_empty() { Ok(()) } else { Ok(check_id("tenant", tenant)?) }
        }
    }
}

/// Reads a ledger record in Avro or JSON.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a ledger record.
pub fn decode_record(payload: &[u8]) -> Result<Record, DecodeError> {
    decode_record_into_pool(payload, &mut RecordPool::default())
}

/// Reads a ledger record into the memory of a record in `pool`, as [`decode_record`] does.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a ledger record.
pub fn decode_record_into_pool(payload: &[u8], pool: &mut RecordPool) -> Result<Record, DecodeError> {
    let fast = |bytes: &[u8], layout| ledger_datum::record(bytes, layout, pool);
    let record = kinds().record.decode_with(&Received::plain(payload), fast, record)?;
    check(&record)?;
    Ok(record)
}

/// Writes a ledger record. The ledger's topic contains Avro.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_record`] would refuse the record.
pub fn encode_record(record: &Record, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(record)?;
    kinds().record.encode(&RecordForm::from(record), encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger_datum::Layout;
    use crate::core::label::{DecisionRef, Finding, Label, Source};
    use proptest::prelude::*;

    fn examples() -> Vec<Record> {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: "événement".into() };
        let vote =
            |expert: &str, score, shadow| RoundVote { expert: expert.into(), score, shadow, decisive: false };
        let judged = RoundRecord {
            id: id.clone(),
            subject: Some("u1".into()),
            round_time: 1_790_000_000_123,
            decision: DecisionRef { partition: 70, offset: 1 << 40 },
            votes: vec![
                vote("a", Some(0.25), false),
                vote("b", None, true),
                vote("c", Some(1.0), true),
                RoundVote { decisive: true, ..vote("d", Some(0.5), false) },
            ],
            features: Some(TextFeatures {
                encoder: [7; 32],
                features: Box::new(std::array::from_fn(|at| (at % 256).to_le_bytes()[0].cast_signed())),
            }),
        };
        let label = Label {
            id: "l1".into(),
            tenant: id.tenant,
            policy: id.policy,
            event: id.event,
            annotator: Some("r".into()),
            verdict: Some(Finding::NeedsCaution),
            severity: Some(0.5),
            categories: vec!["hate".into(), "violence".into()],
            time: -5,
            source: Source::Gold,
            inclusion_probability: Some(0.125),
            decision: Some(judged.decision),
            corrects: Some("l0".into()),
            retracts: None,
        };
        let bare = Label {
            annotator: None,
            severity: None,
            categories: Vec::new(),
            inclusion_probability: None,
            decision: None,
            corrects: None,
            ..label.clone()
        };
        let filed = |label, status| Record::Label(LabelRecord { label, received: 1_790_000_000_456, status });
        let edit = |action| Record::Edit(Edit { id: "e".into(), action });
        let everyone = String::new();
        vec![
            Record::Round(RoundRecord { subject: None, votes: Vec::new(), features: None, ..judged.clone() }),
            Record::Round(judged),
            filed(label, LabelStatus::Waiting),
            filed(bare, LabelStatus::Accepted),
            edit(EditAction::Quarantine { tenant: "t".into(), annotator: "r".into() }),
            edit(EditAction::Erase { tenant: everyone, subject: "u1".into() }),
        ]
    }

    fn by_library(payload: &[u8]) -> Result<Record, DecodeError> {
        let record = record(kinds().record.decode(&Received::plain(payload))?)?;
        check(&record)?;
        Ok(record)
    }

    #[test]
    fn our_records_are_read_without_the_library() {
        for record in examples() {
            let bytes = encode_record(&record, Encoding::Avro).unwrap();
            let datum = bytes.get(10..).unwrap();
            assert_eq!(
                ledger_datum::record(datum, Layout::Current, &mut RecordPool::default()),
                Some(record.clone())
            );
            assert_eq!(by_library(&bytes), Ok(record));
        }
    }

    /// A ledger of an earlier version is read as fast as one of this version.
    #[test]
    fn earlier_records_are_read_without_the_library() {
        let bytes = include_bytes!("../../tests/fixtures/records/v1/judged.avro");
        let datum = bytes.get(10..).unwrap();
        let read = ledger_datum::record(datum, Layout::First, &mut RecordPool::default()).unwrap();
        assert_eq!(by_library(bytes), Ok(read));
    }

    /// A record that is read into the memory of another has nothing of it.
    #[test]
    fn recycled_records_leave_nothing_behind() {
        let examples = examples();
        let mut pool = RecordPool::default();
        for (before, after) in
            examples.iter().flat_map(|before| examples.iter().map(move |after| (before, after)))
        {
            pool.recycle(before.clone());
            let bytes = encode_record(after, Encoding::Avro).unwrap();
            assert_eq!(decode_record_into_pool(&bytes, &mut pool).as_ref(), Ok(after));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn both_readers_have_the_same_result(
            which in 0..6_usize,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = encode_record(&examples()[which], Encoding::Avro).unwrap();
            // Most of a record with features is features, which any bytes can be.
            let end = bytes.len().min(120);
            for (place, value) in changes {
                bytes[10 + place.index(end - 10)] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(10 + cut.index(bytes.len() - 9));
            }
            prop_assert_eq!(decode_record(&bytes), by_library(&bytes));
        }
    }
}
