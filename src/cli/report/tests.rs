//! The command on files and on an embedded broker.

use std::fs;
use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::codec::{Encoding, encode_decision, encode_label, encode_record};
use crate::core::decision::Decision;
use crate::core::label::{Finding, Label};
use crate::core::ledger::{LabelRecord, LabelStatus, Record, RoundId};
use crate::kafka::embedded::Embedded;
use crate::kafka::{Connection, Delivery, Outbox, Produced};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ReportArgs,
}

fn parsed(arguments: &[&str]) -> Result<ReportArgs, clap::Error> {
    Line::try_parse_from([&["report"], arguments].concat()).map(|line| line.args)
}

/// A decision about the event with this number, which is audited with probability 1.
fn decision(number: i64) -> Decision {
    let id = RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number}") };
    let mut decision = Decision::example(id, number);
    decision.round_time = number;
    decision.probability = Some(0.9);
    decision.action = Action::Block;
    decision.reasons = vec![crate::core::decision::ReviewReason::Audit];
    decision.review_probability = 1.0;
    decision.sampling.audit = 1.0;
    decision
}

fn label(decision: &Decision) -> Label {
    let is_unsafe = decision.origin.offset % 4 > 0;
    Label::new(&decision.id, "l", if is_unsafe { Finding::Unsafe } else { Finding::Safe })
}

fn lines(records: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    records.flat_map(|record| [record, b"\n".to_vec()].concat()).collect()
}

fn of(arguments: &[&str]) -> Result<Report, (Exit, String)> {
    let args = parsed(arguments).unwrap();
    of_files(&args, None, args.settings()).map_err(|failure| (failure.exit, format!("{:#}", failure.error)))
}

/// Writes decisions and labels of 40 events.
fn files(folder: &Path) -> (String, String) {
    let (decisions, labels) = (folder.join("decisions.jsonl"), folder.join("labels.jsonl"));
    let all: Vec<_> = (0..40).map(decision).collect();
    fs::write(&decisions, lines(all.iter().map(|one| encode_decision(one, Encoding::Json).unwrap())))
        .unwrap();
    fs::write(&labels, lines(all.iter().map(|one| encode_label(&label(one), Encoding::Json).unwrap())))
        .unwrap();
    (decisions.display().to_string(), labels.display().to_string())
}

#[test]
fn files_are_reported_about() {
    let folder = tempfile::tempdir().unwrap();
    let (decisions, labels) = files(folder.path());
    let report = of(&[&decisions, "--labels", &labels]).unwrap();
    let only = &report.policies[0];
    assert_eq!((only.counts.decisions, only.counts.answered), (40, 40));
    assert_eq!(only.figures.precision.unwrap().value, 0.75);
    // A second file is the same events again: each is a decision of its own.
    let twice = of(&[&decisions, &decisions, "--labels", &labels]).unwrap();
    assert_eq!(twice.policies[0].counts.decisions, 80);
    let none = of(&[&decisions]).unwrap();
    assert_eq!((none.policies[0].counts.answered, none.policies[0].figures.precision), (0, None));
    let part = of(&[&decisions, "--labels", &labels, "--since", "10", "--until", "20"]).unwrap();
    assert_eq!(part.policies[0].counts.decisions, 10);
    let preview = of(&[&decisions, "--labels", &labels, "--threshold", "0.95"]).unwrap();
    let preview = preview.policies[0].preview.as_ref().unwrap();
    assert_eq!((preview.changed.len(), preview.threshold), (1, 0.95));
}

#[test]
fn other_files_are_refused_and_damaged_rows_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (decisions, labels) = files(folder.path());
    let (exit, text) = of(&[&labels]).err().unwrap();
    assert_eq!(exit, Exit::Data);
    assert!(text.contains("none of its 40 rows is a decision"), "{text}");
    assert_eq!(of(&["no/such/file"]).err().unwrap().0, Exit::Unavailable);
    let empty = folder.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    assert_eq!(of(&[empty.to_str().unwrap()]).unwrap().policies, []);
    let mixed = folder.path().join("mixed.jsonl");
    let deep = "[".repeat(100_000);
    let hostile =
        [fs::read(&decisions).unwrap(), format!("{{}}\nnull\n{{\"a\":{deep}\n\u{0}\n").into_bytes()];
    fs::write(&mixed, hostile.concat()).unwrap();
    let report = of(&[mixed.to_str().unwrap()]).unwrap();
    assert_eq!(report.policies[0].counts.decisions, 40);
    assert_eq!(report.skipped.values().sum::<u64>(), 4, "{:?}", report.skipped);
    let args = parsed(&[mixed.to_str().unwrap()]).unwrap();
    let mut collector = Collector::new(Policies::default(), args.settings());
    let mut notes = Vec::new();
    read_files(&args, &Defaults::default(), &mut collector, &mut notes).unwrap();
    let notes = String::from_utf8(notes).unwrap();
    let numbers: Vec<&str> = notes.lines().map(|line| line.split(':').nth(1).unwrap()).collect();
    assert_eq!(numbers, ["41", "42", "43", "44"], "{notes}");
    let many = folder.path().join("many.jsonl");
    fs::write(&many, "{}\n".repeat(1_000)).unwrap();
    let mut notes = Vec::new();
    let args = parsed(&[many.to_str().unwrap()]).unwrap();
    assert!(read_files(&args, &Defaults::default(), &mut collector, &mut notes).is_err());
    assert_eq!(String::from_utf8(notes).unwrap().lines().count(), 6, "a screenful at most");
}

#[test]
fn missing_data_and_an_empty_period_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (decisions, labels) = files(folder.path());
    let report = of(&[&decisions, "--labels", &labels]).unwrap();
    let only = &report.policies[0];
    assert_eq!(only.lacks, ["categories", "languages", "votes"]);
    assert_eq!(
        only.lacks_text().unwrap(),
        "the decisions have no scores of categories, no languages and no votes, and there are no figures of them"
    );
    assert!(report::page(&report).contains("no languages and no votes"));
    let empty = of(&[&decisions, "--since", "30d"]).unwrap();
    let outside = empty.outside.unwrap();
    assert_eq!((empty.policies.len(), outside.decisions), (0, 40));
    assert_eq!((&*outside.first, &*outside.last), ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.039Z"));
}

#[test]
fn a_container_of_decisions_is_read_like_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (_, labels) = files(folder.path());
    let schema = codec::SCHEMAS.iter().find(|(name, _)| *name == "Decision").unwrap().1;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for number in 0..40 {
        let datum = encode_decision(&decision(number), Encoding::Avro).unwrap().split_off(10);
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        writer.append_value(reader.read_value(&mut &datum[..]).unwrap()).unwrap();
    }
    let path = folder.path().join("decisions.avro");
    fs::write(&path, writer.into_inner().unwrap()).unwrap();
    let report = of(&[path.to_str().unwrap(), "--labels", &labels]).unwrap();
    assert_eq!((report.policies[0].counts.answered, report.skipped.len()), (40, 0), "{:?}", report.skipped);
}

#[test]
fn arguments_are_checked() {
    let rule = "violence=0.8:block";
    let args = parsed(&["f", "--category", rule, "--cost-false-negative", "3", "--since", "2h"]).unwrap();
    let settings = args.settings();
    assert_eq!(settings.changes.categories["violence"].action, Action::Block);
    let (since, until) = (settings.since.unwrap(), settings.until.unwrap());
    assert!(since + 2 * HOUR <= until && settings.before() == Some(since - (until - since)));
    for wrong in [
        &["f", "--threshold", "0"][..],
        &["f", "--threshold", "NaN"],
        &["f", "--threshold", "0.5", "--cost-false-positive", "2"],
        &["f", "--cost-false-negative", "-1"],
        &["f", "--cost-false-negative", "inf"],
        &["f", "--category", "violence=2:block"],
        &["f", "--category", "violence=0.5:delete"],
        &["f", "--category", "=0.5:block"],
        &["f", "--since", "yesterday"],
        &["--labels", "l"],
    ] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
    let args = parsed(&["f", "--since", "20", "--until", "20"]).unwrap();
    assert_eq!(report(&args).err().unwrap().exit, Exit::Usage);
}

#[test]
fn topics_are_reported_about() {
    let mut config = Config::default();
    let topics = &config.topics;
    let names = [topics.decisions.to_string(), topics.rounds.to_string()];
    let broker = Embedded::start(&[(&names[0], 2), (&names[1], 1)]).unwrap();
    config.kafka.brokers = broker.bootstrap().to_owned();
    let produced = |topic: &str, partition, payload: Option<Vec<u8>>| Produced {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(b"k".to_vec()),
        payload,
        headers: Vec::new(),
        timestamp: None,
    };
    let mut records =
        vec![produced(&names[0], 0, Some(b"no decision".to_vec())), produced(&names[0], 1, None)];
    for number in 0..40 {
        let decision = decision(number);
        let partition = i32::from(number % 2 == 0);
        records.push(produced(
            &names[0],
            partition,
            Some(encode_decision(&decision, Encoding::Avro).unwrap()),
        ));
        let label = LabelRecord { label: label(&decision), received: 1, status: LabelStatus::Accepted };
        let record = encode_record(&Record::Label(label), Encoding::Avro).unwrap();
        records.push(produced(&names[1], 0, Some(record)));
    }
    let connection = Connection::new(broker.bootstrap());
    Outbox::open(&connection, Delivery::AtLeastOnce).unwrap().commit(&records, None).unwrap();
    let settings = parsed(&["f"]).unwrap().settings();
    let report = of_topics(&config, Policies::default(), settings)
        .unwrap_or_else(|failure| panic!("{:#}", failure.error));
    let only = &report.policies[0];
    assert_eq!((only.counts.decisions, only.counts.answered), (40, 40));
    assert_eq!(only.figures.precision.unwrap().value, 0.75);
    assert_eq!(report.skipped.values().sum::<u64>(), 1, "{:?}", report.skipped);
}
