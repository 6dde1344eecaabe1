//! Files with bad rows, other encodings and any other content: no row is lost, and no message quotes one.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::MAX_EVENT;

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
