//! Labels in Avro of other schemas.

use super::*;

#[test]
fn labels_of_other_schemas_are_read() {
    let shown = |field: &str, label: &Label| match field {
        "event_id" => label.event.clone(),
        "severity" => format!("{:?}", label.severity),
        "verdict" => format!("{:?}", label.verdict),
        "time" => label.time.to_string(),
        "categories" => label.categories.join(","),
        "source" => label.source.word().to_owned(),
        "annotator" => format!("{:?}", label.annotator),
        _ => format!("{:?}", label.decision.map(|at| (at.partition, at.offset))),
    };
    let null = || Value::Union(0, Box::new(Null));
    let place = r#"{"type":"record","name":"At","fields":[{"name":"offset","type":"int"},{"name":"partition","type":"long"}]}"#;
    let finding = r#"{"type":"enum","name":"F","symbols":["needs_caution","bad"]}"#;
    let rows = vec![
        (("event_id", logical!("string", "uuid"), text(UUID)), good(UUID), Refuses),
        (("event_id", r#""long""#, Long(7)), good("7"), Refuses),
        (
            ("annotator", r#"["null",{"type":"string","logicalType":"uuid"}]"#, some(text(UUID))),
            good(format!("Some({UUID:?})")),
            Refuses,
        ),
        (("annotator", r#""int""#, Int(7)), good(r#"Some("7")"#), Refuses),
        (("severity", r#""int""#, Int(1)), good("Some(1.0)"), Same),
        (("severity", r#"["null","long"]"#, some(Long(1))), good("Some(1.0)"), Same),
        (("severity", r#""float""#, Float(0.25)), good("Some(0.25)"), Same),
        (("severity", r#""float""#, Float(f32::NAN)), Err("BadSeverity"), Same),
        (("severity", r#""string""#, text("high")), Err("Incompatible"), Refuses),
        (("verdict", r#""string""#, text("unsafe")), good("Some(Unsafe)"), Same),
        (("verdict", finding, Value::Enum(0, "needs_caution".into())), good("Some(NeedsCaution)"), Same),
        // The enum is closed: an unknown finding must not become a label.
        (("verdict", finding, Value::Enum(1, "bad".into())), Err("Incompatible"), Refuses),
        (("time", logical!("long", "timestamp-micros"), Long(-1)), good(-1), Refuses),
        (("time", logical!("int", "date"), Int(1)), good(86_400_000), Refuses),
        (("time", r#"["null","long"]"#, null()), good(0), Refuses),
        (("source", r#""string""#, text("gold")), good("gold"), Same),
        (("source", r#""string""#, text("survey")), good("report"), Same),
        (("source", r#"["null","string"]"#, null()), good("review"), Refuses),
        (("categories", r#"["null",{"type":"array","items":"string"}]"#, null()), good(""), Refuses),
        (
            ("categories", r#"{"type":"array","items":"bytes"}"#, Array(vec![Bytes(b"hate".to_vec())])),
            good("hate"),
            Same,
        ),
        (
            ("decision", place, Record(vec![("offset".into(), Int(9)), ("partition".into(), Long(1))])),
            good("Some((1, 9))"),
            Same,
        ),
    ];
    check(rows, (label_needs(), SCHEMAS[1].1), read_label, shown);
}

/// A label in Avro may use the same alternative fields as one in JSON.
#[test]
fn labels_in_avro_have_the_shapes_of_labels_in_json() {
    let null = || Value::Union(0, Box::new(Null));
    let nullable = r#"["null","string"]"#;
    for (written, json) in [
        (vec![("unsafe", r#""boolean""#, Boolean(true))], r#""unsafe":true"#),
        (vec![("unsafe", r#"["null","boolean"]"#, some(Boolean(false)))], r#""unsafe":false"#),
        (vec![("unsafe", r#""float""#, Float(0.25))], r#""unsafe":0.25"#),
        (
            vec![("unsafe", r#""boolean""#, Boolean(true)), ("verdict", nullable, null())],
            r#""unsafe":true,"verdict":null"#,
        ),
        (
            vec![("unsafe", r#""boolean""#, Boolean(true)), ("verdict", nullable, some(text("safe")))],
            r#""unsafe":true,"verdict":"safe""#,
        ),
        (
            vec![
                ("severity", r#""int""#, Int(1)),
                ("label_id", r#""long""#, Long(9)),
                ("id", r#""string""#, text("row")),
                ("label_time", logical!("long", "timestamp-micros"), Long(7_000)),
            ],
            r#""severity":1,"label_id":9,"label_time":7"#,
        ),
        (
            vec![
                ("unsafe", r#""boolean""#, Boolean(true)),
                ("categories", r#""string""#, text("hate, spam,")),
            ],
            r#""unsafe":true,"categories":"hate, spam,""#,
        ),
        (
            vec![
                ("unsafe", r#""boolean""#, Boolean(true)),
                ("categories", r#"{"type":"array","items":"string"}"#, Array(vec![text(""), text("hate")])),
            ],
            r#""unsafe":true,"categories":["","hate"]"#,
        ),
        (vec![("verdict", nullable, null())], r#""verdict":null"#),
    ] {
        let (schema, value) = record(&written, &label_needs()[..1]);
        let expected =
            aegis::codec::decode_label(format!(r#"{{"event_id":"e",{json}}}"#).as_bytes(), &defaults());
        let expected = expected.map_err(|error| error.name().to_owned());
        assert_eq!(read_label(&schema, &datum(&schema, &value)), expected, "{json}");
    }
}
