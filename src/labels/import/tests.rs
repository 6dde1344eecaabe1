//! Files of every layout, good and hostile: the labels that are sent, and the reasons of those that are not.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::{Defaults, LabelFields, MAX_EVENT, decode_label};
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
    assert_eq!(told(&plain), [("e1", "ann", "unsafe", "e1/ann"), ("2", "bob", "needs_caution", "2/bob")]);
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
fn label_studio_gives_every_annotator_and_no_cancelled_annotation() {
    let (kept, tally) = import(TASKS);
    assert_eq!(
        told(&kept),
        [("e1", "8", "safe", "label-studio/12"), ("e1", "cy@x.org", "unsafe", "label-studio/13")]
    );
    assert_eq!((tally.rows, tally.left_out, tally.refused), (3, 2, 3));
    assert_eq!(
        reasons(&kept),
        [(1, Some(5), "NoVerdict"), (1, Some(6), "BadValue"), (13, Some(1), "MissingField")]
    );
    let first = &kept.labels[0];
    assert_eq!(
        (first.tenant.as_str(), first.inclusion_probability, first.time),
        ("t2", Some(0.1), 1_772_357_400_500)
    );
    assert_eq!(
        (first.decision, first.categories.join("+")),
        (Some(DecisionRef { partition: 0, offset: 5 }), "a+b".into())
    );
    assert_eq!(kept.labels[1].source, Source::Gold);
    let words = Reading { verdicts: [("bad".to_owned(), Finding::Unsafe)].into(), ..reading() };
    let (kept, ..) = import_as(&words, "x.json", TASKS.as_bytes(), None);
    assert_eq!(told(&kept).last(), Some(&("e1", "12", "unsafe", "label-studio/16")));
    assert!(
        kept.refused.iter().flat_map(|row| &row.refused).all(|reason| !reason.message.contains("secret"))
    );
}

#[test]
fn the_flat_exports_of_label_studio_give_the_same_labels_as_the_full_one() {
    let full = import(TASKS).0.labels.remove(0);
    let min = r#"[{"event_id":"e1","tenant":"t2","text":"secret","inclusion_probability":0.1,"decision":{"partition":0,"offset":5},
        "id":1,"verdict":"safe","categories":{"choices":["a","b"]},"annotator":8,"annotation_id":12,
        "created_at":"2026-03-01T09:00:00Z","updated_at":"2026-03-01T09:30:00.5Z","lead_time":3.1},
       {"event_id":"e2","id":2,"annotator":8,"annotation_id":13},
       {"event_id":"e3","id":3,"verdict":"safe","skipped":true,"annotator":8,"annotation_id":14},
       {"event_id":"e4","id":4,"verdict":"not a verdict","was_cancelled":true,"annotator":8,"annotation_id":15}]"#;
    let (kept, tally) = import(min);
    assert_eq!((kept.labels.as_slice(), tally.left_out, tally.refused), (&[full.clone()][..], 3, 0));
    let csv = "annotation_id,annotator,event_id,tenant,inclusion_probability,decision,verdict,categories,updated_at\n\
        12,8,e1,t2,0.1,\"{\"\"partition\"\": 0, \"\"offset\"\": 5}\",safe,\"{\"\"choices\"\":[\"\"a\"\",\"\"b\"\"]}\",2026-03-01T09:30:00.5Z\n";
    assert_eq!(import(csv).0.labels, [full]);
}

#[test]
fn argilla_gives_submitted_responses_in_each_of_its_shapes() {
    let api = r#"{"id":"uuid","external_id":"e1","fields":{"text":"x"},"metadata":{"decision_partition":1,"decision_offset":2,"inclusion_probability":0.5},
        "responses":[{"user_id":"u1","status":"submitted","updated_at":"2026-03-01T09:30:00.123456","values":{"verdict":{"value":"unsafe"},"categories":{"value":["a"]}}},
        {"user_id":"u2","status":"discarded","values":{"verdict":{"value":"safe"}}},
        {"user_id":"u3","status":"draft","values":{"verdict":{"value":"safe"}}},
        {"user_id":"u4","status":"submitted","values":{"other":{"value":"safe"}}},
        {"user_id":"u5","status":"discarded","values":null}]}"#;
    let (kept, tally) = import(&api.replace('\n', " "));
    assert_eq!(told(&kept), [("e1", "u1", "unsafe", "e1/u1")]);
    assert_eq!((tally.left_out, reasons(&kept)), (3, vec![(1, Some(4), "NoVerdict")]));
    let label = &kept.labels[0];
    assert_eq!(
        (label.time, label.decision),
        (1_772_357_400_123, Some(DecisionRef { partition: 1, offset: 2 }))
    );
    assert_eq!((label.inclusion_probability, label.categories.join("+")), (Some(0.5), "a".into()));
    let sdk = r#"{"id":"e1","fields":{"text":"x"},"metadata":{},"responses":{"verdict":[{"value":"unsafe","user_id":"u1"},{"value":"safe","user_id":"u2"}],"categories":[{"value":["a"],"user_id":"u1"}]}}"#;
    let (kept, _) = import(sdk);
    assert_eq!(told(&kept), [("e1", "u1", "unsafe", "e1/u1"), ("e1", "u2", "safe", "e1/u2")]);
    let flat = r#"{"id":"e1","text":"x","verdict.responses":["unsafe","safe"],"verdict.responses.users":["u1","u2"],"verdict.responses.status":["submitted","discarded"]}"#;
    let (kept, tally) = import(flat);
    assert_eq!((told(&kept), tally.left_out), (vec![("e1", "u1", "unsafe", "e1/u1")], 1));
}

#[test]
fn the_configured_pointers_read_any_other_shape() {
    let fields: LabelFields = toml::from_str(
        "event_id = \"/task/id\"\nverdict = \"/is\"\nverdicts = { good = \"safe\" }\nskip_if = { \"/answer\" = \"ignore\" }",
    )
    .unwrap();
    let mut reading = reading();
    reading.defaults.label_fields = Some(fields);
    let rows = "{\"task\":{\"id\":7},\"is\":\"good\"}\n{\"task\":{\"id\":8},\"answer\":\"ignore\"}\n{\"task\":{\"id\":9},\"is\":\"odd\"}\n";
    let (kept, tally, _) = import_as(&reading, "file", rows.as_bytes(), None);
    assert_eq!((told(&kept), tally.left_out), (vec![("7", "-", "safe", "7/")], 1));
    assert_eq!(reasons(&kept), [(3, None, "BadValue")]);
    // The exports of known tools need no pointers.
    assert_eq!(import_as(&reading, "file", TASKS.as_bytes(), None).0.labels.len(), 2);
}

#[test]
fn the_same_file_gives_the_same_labels_each_time() {
    for content in [TASKS, "event_id,verdict,annotator\ne1,safe,ann\ne2,unsafe,ann\n"] {
        assert_eq!(import(content).0.labels, import(content).0.labels);
    }
    let (_, tally) = import("event_id,verdict,annotator\ne1,safe,ann\ne1,unsafe,ann\ne1,safe,bob\n");
    assert_eq!((tally.labels, tally.repeated), (3, 1));
}

#[test]
fn one_bad_row_never_loses_the_rest() {
    let deep = "[".repeat(100_000);
    let huge = format!("{{\"event_id\":\"e\",\"verdict\":\"safe\",\"x\":\"{}\"}}", "x".repeat(MAX_EVENT));
    let long = format!("{{\"event_id\":\"{}\",\"verdict\":\"safe\"}}", "e".repeat(300));
    let good = |event: &str| format!("{{\"event_id\":\"{event}\",\"verdict\":\"safe\"}}");
    let mut file = Vec::new();
    for (line, row) in [
        good("e1").as_bytes(),
        b"{\"event_id\":\"e\",\"verdict\":",
        b"\xff\xfe broken",
        format!("{{\"event_id\":{deep}").as_bytes(),
        huge.as_bytes(),
        long.as_bytes(),
        b"{\"event_id\":\"e\",\"verdict\":\"safe\",\"policy\":\"absent\"}",
        b"[1,2]",
        b"\"secret\"",
        b"{\"event_id\":\"e\",\"verdict\":\"safe\",\"inclusion_probability\":0}",
        b"{\"verdict\":\"safe\"}",
        good("e2").as_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(line < 12);
        file.extend_from_slice(row);
        file.push(b'\n');
    }
    let (kept, tally, error) = import_as(&reading(), "file", &file, None);
    assert_eq!(error, None);
    assert_eq!(told(&kept), [("e1", "-", "safe", "e1/"), ("e2", "-", "safe", "e2/")]);
    let names = [
        "BadJson",
        "NotJson",
        "BadJson",
        "TooLarge",
        "IdTooLong",
        "UnknownPolicy",
        "BadJson",
        "BadJson",
        "BadInclusionProbability",
        "MissingField",
    ];
    let found: Vec<_> = reasons(&kept).into_iter().map(|(line, _, name)| (line, name)).collect();
    let expected: Vec<_> = (2..12).zip(names).collect();
    let plain = |found: &[(u64, &'static str)]| found.iter().map(|(line, _)| *line).collect::<Vec<_>>();
    assert_eq!(plain(&found), plain(&expected));
    for ((line, found), (_, expected)) in found.iter().zip(&expected) {
        // The codec names the bound of an id.
        assert!(found == expected || *line == 6, "line {line}: {found}, not {expected}");
    }
    assert_eq!((tally.rows, tally.refused), (12, 10));
    assert!(
        kept.refused.iter().flat_map(|row| &row.refused).all(|reason| !reason.message.contains("secret"))
    );
}

#[test]
fn rejected_rows_are_written_as_they_were_read() {
    let (kept, _) = import("{\"event_id\":\"e\",\"verdict\":\"odd\"}\nnot json\n");
    let lines: Vec<Value> =
        kept.refused.iter().map(|row| serde_json::from_str(&row.with_value()).unwrap()).collect();
    assert_eq!(lines[0]["value"], json!({"event_id": "e", "verdict": "odd"}));
    assert_eq!((&lines[0]["line"], &lines[0]["refused"][0]["reason"]), (&json!(1), &json!("BadValue")));
    assert_eq!(lines[1]["value"], json!("not json"));
}

#[test]
fn a_file_that_ends_early_keeps_what_came_before() {
    let (kept, tally, error) =
        import_as(&reading(), "file", b"[{\"event_id\":\"e1\",\"verdict\":\"safe\"},{\"event_id\":", None);
    assert_eq!((kept.labels.len(), tally.sent), (1, 1));
    assert!(error.unwrap().contains("the file ends within the object"));
}

#[test]
fn other_encodings_are_refused_with_what_to_do() {
    let wide = |order: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
        format!("{mark}event_id,verdict\n").encode_utf16().flat_map(order).collect()
    };
    for bytes in [
        wide(u16::to_le_bytes, "\u{feff}"),
        wide(u16::to_be_bytes, "\u{feff}"),
        wide(u16::to_le_bytes, ""),
        wide(u16::to_be_bytes, ""),
    ] {
        let (kept, _, error) = import_as(&reading(), "file.csv", &bytes, None);
        assert!(error.unwrap().contains("convert it with iconv") && kept.labels.is_empty());
    }
    // Latin-1: only the rows with letters beyond ASCII are refused.
    let (kept, _, error) =
        import_as(&reading(), "file.csv", b"event_id,verdict\ne1,safe\ne\xe9,safe\ne3,safe\n", None);
    assert_eq!((error, kept.labels.len(), reasons(&kept)), (None, 2, vec![(3, None, "Malformed")]));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A file with any content is read to its end, every row is counted once, and no message quotes it.
    #[test]
    fn no_file_breaks_the_import(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\n", "\"", "\\ud83d", "\"event_id\"", "\"data\"", "\"annotations\"", "\"responses\"",
            "\"metadata\"", "\"result\"", "\"SECRET\"", "null", "true", "1e999", "7", "\"verdict\"", "\"safe\"", "\u{0}", "\u{fffd}", ";", "\t",
        ]), 0..40),
        task in any::<bool>(),
    ) {
        let inner = parts.concat();
        let text = if task { format!("[{{\"data\":{{\"event_id\":1}},\"annotations\":[{inner}]}}]") } else { inner };
        let (kept, tally, _) = import_as(&reading(), "file", text.as_bytes(), None);
        prop_assert_eq!(kept.labels.len() as u64, tally.sent);
        for reason in kept.refused.iter().flat_map(|row| &row.refused) {
            prop_assert!(!reason.message.contains("SECRET"), "{}", reason.message);
        }
    }
}
