//! A label as a record of a topic and as a line of a file gives the same label, or is malformed for the same reason.

use proptest::prelude::*;

use super::*;
use crate::codec::decode_label;
use crate::core::label::Source;
use crate::replay::batch::Item;
use crate::replay::line::Parser;

/// Returns the labels of a line, or the reason why it is malformed.
fn line(parser: &mut Parser, line: &str) -> Result<Vec<Label>, String> {
    let mut batch = Batch::default();
    parser.parse(1, line, &mut batch);
    match &batch.items[..] {
        [(1, Item::Round { id, label: Some(label), .. })] => Ok(vec![beside(*id, label, &batch)]),
        [(1, Item::Records(records))] => {
            let label = |record: &Record| match record {
                Record::Label(record) => record.label.clone(),
                other => panic!("{line}: {other:?}"),
            };
            Ok(records.iter().map(label).collect())
        }
        [(1, Item::Malformed(reason))] => Err(reason.clone()),
        other => panic!("{line}: {other:?}"),
    }
}

/// Returns the label beside votes as the ledger has it.
fn beside(round: RoundSpan, label: &RoundLabel, batch: &Batch) -> Label {
    let text = |span| batch.text(span).to_owned();
    match label {
        RoundLabel::Record(record) => record.label.clone(),
        RoundLabel::Plain { id, annotator, verdict, severity } => Label {
            id: text(*id),
            tenant: text(round.tenant),
            policy: text(round.policy),
            event: text(round.event),
            annotator: annotator.map(text),
            verdict: *verdict,
            severity: *severity,
            categories: Vec::new(),
            time: 0,
            source: Source::Review,
            inclusion_probability: None,
            decision: None,
            corrects: None,
            retracts: None,
        },
    }
}

/// Returns `true` if the reason of a line is the one of a record.
fn same(error: &DecodeError, reason: &str) -> bool {
    match error {
        DecodeError::NoVerdict => reason == NO_LABEL,
        DecodeError::BadJson { .. } => reason.starts_with("not JSON: "),
        DecodeError::DuplicateField { field } => reason.starts_with(&format!("{field}: there twice")),
        other => reason == other.to_string(),
    }
}

const IDS: [&str; 12] = [
    r#""a""#,
    r#""ann""#,
    r#""""#,
    "7",
    "-1",
    "18446744073709551615",
    "1000000000000000000000000000001",
    "1.5",
    "true",
    "null",
    "[]",
    "{}",
];

/// Names of fields with values that tools write, good and bad.
fn field() -> impl Strategy<Value = String> {
    let long = format!("{:?}", "x".repeat(257));
    let many = format!("[{}]", vec![r#""c""#; 65].join(","));
    let named = |names: &'static [&'static str], values: Vec<String>| {
        (prop::sample::select(names), prop::sample::select(values))
            .prop_map(|(name, value)| format!("{name:?}:{value}"))
    };
    let of = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let ids = [of(&IDS), vec![long]].concat();
    prop_oneof![
        4 => named(&["id", "label_id", "tenant", "policy", "annotator", "corrects", "retracts"], ids),
        2 => named(&["verdict"], of(&[r#""safe""#, r#""unsafe""#, r#""needs_caution""#, r#""bad""#, "true", "null", "1"])),
        3 => named(&["unsafe"], of(&["true", "false", "0.25", "1", "-0.0", "2", r#""yes""#, "null", "[]", "NaN"])),
        2 => named(&["severity"], of(&["0.5", "0", "1", "-0.0", "1.01", r#""0.5""#, "true", "null", "NaN", "1e999"])),
        2 => named(&["categories"], [
            of(&["[]", r#"["a","b"]"#, r#""a, b,,""#, r#""""#, r#"["","a"]"#, "[1]", "{}", "3", "null", r#"["a",null]"#]),
            vec![many],
        ].concat()),
        2 => named(&["time", "label_time"], of(&[
            "0", "-7", "1772000000123", "1772000000123456", "1772000000.5", "9e18", "253402300800000",
            r#""2026-03-01T09:30:00Z""#, r#""2026-03-01T12:00:00+0000""#, r#""2026-03-01 12:00:00""#,
            r#""1772000000123""#, r#""today""#, "true", "null",
        ])),
        1 => named(&["source"], of(&[r#""gold""#, r#""report""#, r#""survey""#, "7", "null"])),
        1 => named(&["inclusion_probability"], of(&["0.5", "1", "0", "1.5", r#""x""#, "null"])),
        1 => named(&["decision"], of(&[
            r#"{"partition":1,"offset":2}"#, r#"{"partition":-1,"offset":2}"#, r#"{"partition":1}"#, "[]", "7", "null",
            r#"{"partition":4294967296,"offset":2}"#,
        ])),
        // Names that are unknown, or known only on lines of other kinds.
        2 => named(
            &["own", "text", "turns", "shadow", "features", "partition", "received", "standing", "subject", "format"],
            of(&["NaN", "-Infinity", r#""\ud83d""#, r#"{"a":1,"a":2}"#, "[[1]]", "7", r#""x""#, "1e999"]),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_line_and_a_record_give_the_same_label(
        event in prop::sample::select(IDS.to_vec()),
        fields in prop::collection::vec(field(), 0..6),
        decides in any::<bool>(),
        cut in prop::option::weighted(0.05, 0..40_usize),
    ) {
        let mut all = vec![format!("\"event_id\":{event}")];
        all.extend(decides.then(|| "\"unsafe\":true".to_owned()));
        all.extend(fields);
        let mut text = format!("{{{}}}", all.join(","));
        text.truncate(cut.map_or(text.len(), |cut| 1 + text.len().saturating_sub(1 + cut)));
        let mut parser = Parser::default();
        let (record, line) = (decode_label(text.as_bytes(), &parser.defaults), line(&mut parser, &text));
        // A record that is cut after a repeated name has two errors, and readers report different ones.
        let cut = |reason: &str| cut.is_some() && reason.starts_with("not JSON: ");
        match (&record, &line) {
            (Ok(record), Ok(line)) => prop_assert_eq!(std::slice::from_ref(record), line.as_slice(), "{}", text),
            (Err(error), Err(reason)) => prop_assert!(same(error, reason) || cut(reason), "{}: {}, and the line: {}", text, error, reason),
            _ => prop_assert!(false, "{}: {:?}, and the line: {:?}", text, record, line),
        }
    }
}

/// The label of a line with votes, where `id`, `time` and `decision` are columns of the reader's own.
#[test]
fn a_label_beside_votes_is_the_label_alone() {
    for fields in [
        r#""unsafe":true"#,
        r#""unsafe":0.25,"annotator":"ann""#,
        r#""unsafe":true,"severity":0.1,"annotator":7"#,
        r#""verdict":"needs_caution","categories":"a,b","label_time":"2026-03-01T09:30:00Z","label_id":9"#,
        r#""retracts":"l","source":"gold","inclusion_probability":0.5,"own":NaN"#,
        r#""unsafe":2"#,
        r#""unsafe":true,"annotator":"""#,
        r#""severity":"high""#,
    ] {
        let mut parser = Parser::default();
        let alone = line(&mut parser, &format!("{{\"event_id\":\"e\",{fields}}}"));
        let own = r#""votes":{"a":0.5},"id":[],"time":"yesterday","decision":7"#;
        let beside = line(&mut parser, &format!("{{\"event_id\":\"e\",{own},{fields}}}"));
        assert_eq!(alone, beside, "{fields}");
    }
}

#[test]
fn labels_of_another_shape_are_read_by_the_pointers_of_the_configuration() {
    let fields: crate::codec::LabelFields = toml::from_str(
        r#"event_id = "/task/id"
           annotations = "/annotations"
           annotator = "/annotations/*/by"
           verdict = "/annotations/*/choice"
           verdicts = { bad = "unsafe", good = "safe" }
           skip_if = { "/annotations/*/cancelled" = true }"#,
    )
    .unwrap();
    let mut parser = Parser::default();
    parser.defaults.label_fields = Some(fields);
    let task = |annotations: &str| format!(r#"{{"task":{{"id":7}},"annotations":[{annotations}]}}"#);
    for text in [
        task(
            r#"{"by":1,"choice":"bad"},{"by":2,"choice":["good"]},{"by":3,"choice":"bad","cancelled":true}"#,
        ),
        task(r#"{"by":1,"choice":"bad","cancelled":true}"#),
        task(r#"{"by":1,"choice":"unheard of"}"#),
        r#"{"event_id":"e","unsafe":true}"#.to_owned(),
    ] {
        let expected = Received::plain(text.as_bytes()).labels(&parser.defaults);
        assert_eq!(line(&mut parser, &text), expected.map_err(|error| error.to_string()), "{text}");
    }
    // Pointers do not apply to lines of the ledger's own kinds.
    let ledger = r#"{"aegis":"label","event_id":"e","label_id":"l","verdict":"safe","label_time":3}"#;
    assert_eq!(line(&mut parser, ledger).unwrap()[0].id, "l");
}
