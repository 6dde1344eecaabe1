//! Files of every layout, good and hostile: the labels that are sent, and the reasons of those that are not.

mod hostile;
mod tools;

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::codec::{Defaults, decode_label};
use crate::core::label::{DecisionRef, Finding, Source};
use crate::labels::reader::Layout;
use crate::rows::Format;

/// Keeps what it gets.
#[derive(Default)]
struct Kept {
    labels: Vec<Label>,
    refused: Vec<RefusedRow>,
    sends: usize,
}

impl Sink for &mut Kept {
    type Error = Infallible;

    fn send(&mut self, records: &[Produced]) -> Result<(), Infallible> {
        self.sends += 1;
        let label = |record: &Produced| {
            assert_eq!(record.topic.as_ref(), "labels");
            let label = decode_label(record.payload.as_deref().unwrap(), &Defaults::default()).unwrap();
            assert_eq!(record.key.as_deref(), Some(label.event.as_bytes()));
            label
        };
        self.labels.extend(records.iter().map(label));
        Ok(())
    }

    fn refuse(&mut self, row: &RefusedRow) -> Result<(), Infallible> {
        let reason = |reason: &Reason| Reason {
            message: reason.message.clone(),
            annotation: reason.annotation,
            reason: reason.reason,
        };
        let refused = row.refused.iter().map(reason);
        self.refused.push(RefusedRow {
            file: row.file.clone(),
            refused: refused.collect(),
            json: row.json.clone(),
            line: row.line,
            row: row.row,
        });
        Ok(())
    }
}

fn reading() -> Reading {
    let defaults = Defaults { tenant: "t".into(), policy: "default".into(), ..Defaults::default() };
    Reading { defaults, ..Reading::default() }
}

/// Imports a file with this name and content.
fn import_as(
    reading: &Reading,
    name: &str,
    content: &[u8],
    layout: Option<Layout>,
) -> (Kept, Tally, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(content).unwrap();
    let mut kept = Kept::default();
    let mut import = Import {
        reading,
        is_policy: &|policy| policy == "default",
        topic: "labels".into(),
        sink: &mut kept,
        dry_run: false,
        tally: Tally::default(),
    };
    let format = None::<Format>;
    let error = match LabelFile::open(&path, format, layout, None).map_err(ImportError::Rows) {
        Ok(file) => import.file(file).err(),
        Err(error) => Some(error),
    };
    let tally = import.tally;
    (kept, tally, error.map(|error| error.to_string()))
}

fn import(content: &str) -> (Kept, Tally) {
    let (kept, tally, error) = import_as(&reading(), "file", content.as_bytes(), None);
    assert_eq!(error, None);
    assert_eq!(kept.labels.len() as u64, tally.labels);
    (kept, tally)
}

/// Event, annotator, verdict and id of each label.
fn told(kept: &Kept) -> Vec<(&str, &str, &str, &str)> {
    let mut told = Vec::new();
    for label in &kept.labels {
        let verdict = label.verdict.map_or("-", Finding::word);
        told.push((
            label.event.as_str(),
            label.annotator.as_deref().unwrap_or("-"),
            verdict,
            label.id.as_str(),
        ));
    }
    told
}

fn reasons(kept: &Kept) -> Vec<(u64, Option<usize>, &'static str)> {
    let rows = kept.refused.iter();
    rows.flat_map(|row| row.refused.iter().map(|reason| (row.line, reason.annotation, reason.reason)))
        .collect()
}

#[test]
fn json_lines_arrays_and_csv_give_the_same_labels() {
    let lines = "\u{feff}{\"event_id\":\"e1\",\"annotator\":\"ann\",\"verdict\":\"unsafe\",\"categories\":\"a, b\",\
                 \"inclusion_probability\":0.25,\"decision\":{\"partition\":3,\"offset\":77},\"time\":\"2026-03-01T09:30:00Z\",\
                 \"text\":\"beside it\"}\r\n\r\n{\"event_id\":2,\"annotator\":\"bob\",\"verdict\":\"Needs Caution\",\"source\":\"gold\"}\r\n";
    let (plain, tally) = import(lines);
    assert_eq!((tally.rows, tally.labels, tally.sent, tally.refused), (2, 2, 2, 0));
    assert_eq!(
        told(&plain),
        [("e1", "ann", "unsafe", "e1/ann"), ("2", "bob", "needs_caution", "2/bob/gold")]
    );
    let first = &plain.labels[0];
    assert_eq!(
        (first.inclusion_probability, first.decision),
        (Some(0.25), Some(DecisionRef { partition: 3, offset: 77 }))
    );
    assert_eq!((first.time, first.categories.join("+")), (1_772_357_400_000, "a+b".to_owned()));
    assert_eq!(plain.labels[1].source, Source::Gold);
    let array = format!("[{}]", lines.trim_start_matches('\u{feff}').trim().replace("}\r\n\r\n{", "},\n{"));
    assert_eq!(import(&array).0.labels, plain.labels);
    let csv = "event_id,annotator,verdict,categories,inclusion_probability,decision,time,source,text\r\n\
               e1,ann,unsafe,\"a, b\",0.25,3:77,2026-03-01T09:30:00Z,,\"two\nlines\"\r\n\
               2,bob,Needs Caution,,,,,gold,\r\n";
    assert_eq!(import(csv).0.labels, plain.labels);
    let tsv = "event_id\tannotator\tverdict\tsource\n2\tbob\tneeds_caution\tgold\n";
    assert_eq!(import(tsv).0.labels, plain.labels[1..]);
}

#[test]
fn cells_of_csv_are_numbers_and_booleans_where_the_field_is() {
    let (kept, tally) = import(
        "event_id,unsafe,severity,decision_partition,decision_offset\ne1,TRUE,,1,2\ne2,0.25,,,\ne3,,0.5,,\ne4,no,,,\ne5,,,,\ne6,,hot,,\n",
    );
    let values: Vec<_> = kept.labels.iter().map(|label| (label.verdict, label.severity)).collect();
    let expected =
        [(Some(Finding::Unsafe), None), (None, Some(0.25)), (None, Some(0.5)), (Some(Finding::Safe), None)];
    assert_eq!(values, expected);
    assert_eq!(kept.labels[0].decision, Some(DecisionRef { partition: 1, offset: 2 }));
    assert_eq!(reasons(&kept), [(6, None, "NoVerdict"), (7, None, "BadSeverity")]);
    assert_eq!(tally.verdicts, [("safe", 1), ("severity", 2), ("unsafe", 1)].into());
}

const TASKS: &str = r#"[{"id":1,"data":{"event_id":"e1","tenant":"t2","text":"secret",
  "inclusion_probability":0.1,"decision":{"partition":0,"offset":5}},
  "annotations":[
    {"id":11,"completed_by":7,"was_cancelled":true,"result":[{"from_name":"verdict","value":{"choices":["unsafe"]}}]},
    {"id":12,"completed_by":8,"was_cancelled":false,"updated_at":"2026-03-01T09:30:00.5Z","result":[
      {"from_name":"verdict","value":{"choices":["safe"]}},{"from_name":"categories","value":{"choices":["a","b"]}}]},
    {"id":13,"completed_by":{"id":9,"email":"cy@x.org"},"ground_truth":true,"result":[{"from_name":"verdict","value":{"choices":["unsafe"]}}]},
    {"id":14,"completed_by":10,"result":[]},
    {"id":15,"completed_by":11,"result":[{"from_name":"other","value":{"choices":["unsafe"]}}]},
    {"id":16,"completed_by":12,"result":[{"from_name":"verdict","value":{"choices":["bad"]}}]}],
  "predictions":[{"result":[{"from_name":"verdict","value":{"choices":["unsafe"]}}]}]},
 {"id":2,"data":{"event_id":"e2"},"annotations":[]},
 {"id":3,"data":{},"annotations":[{"id":31,"completed_by":7,"result":[{"from_name":"verdict","value":{"choices":["safe"]}}]}]}]"#;

#[test]
fn the_same_file_gives_the_same_labels_each_time() {
    for content in [TASKS, "event_id,verdict,annotator\ne1,safe,ann\ne2,unsafe,ann\n"] {
        assert_eq!(import(content).0.labels, import(content).0.labels);
    }
    let (_, tally) = import("event_id,verdict,annotator\ne1,safe,ann\ne1,unsafe,ann\ne1,safe,bob\n");
    assert_eq!((tally.labels, tally.repeated), (3, 1));
}

#[test]
fn many_labels_are_sent_in_batches_of_bounded_size() {
    let rows: String =
        (0..2_500).map(|number| format!("{{\"event_id\":{number},\"verdict\":\"safe\"}}\n")).collect();
    let (kept, tally) = import(&rows);
    assert_eq!((kept.sends, tally.sent), (3, 2_500));
}

#[test]
fn a_dry_run_sends_nothing() {
    let mut kept = Kept::default();
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("file");
    std::fs::write(&path, TASKS).unwrap();
    let reading = reading();
    let mut import = Import {
        reading: &reading,
        is_policy: &|_| true,
        topic: "labels".into(),
        sink: &mut kept,
        dry_run: true,
        tally: Tally::default(),
    };
    import.file(LabelFile::open(&path, None, None, None).unwrap()).unwrap();
    assert_eq!((import.tally.labels, import.tally.sent), (2, 0));
    assert_eq!((kept.labels.len(), kept.sends), (0, 0));
}
