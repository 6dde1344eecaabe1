//! Records of earlier versions remain readable. A changed schema gets another folder of fixtures; existing fixtures
//! never change.
//!
//! `cargo test --test codec -- --ignored write_missing_fixtures` writes the fixtures that are missing.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use crate::examples;
use aegis::codec::{
    DecodeError, Defaults, EncodeError, Encoding, SCHEMAS, decode_decision, decode_event, decode_label,
    decode_pin, decode_published, decode_record, decode_review, encode_decision, encode_event, encode_label,
    encode_pin, encode_published, encode_record, encode_review,
};
use aegis::core::decision::{Decision, ReviewReason};
use aegis::core::ledger::Record;
use aegis::core::review::ReviewRequest;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value as AvroValue;
use serde_json::Value;

fn version(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(name)
}

fn folder() -> PathBuf {
    version("v1")
}

/// Returns the folder of the newest schema.
fn changed() -> PathBuf {
    version("v7")
}

fn path(name: &str, encoding: Encoding) -> PathBuf {
    let ending = match encoding {
        Encoding::Avro => "avro",
        Encoding::Json => "json",
        Encoding::Confluent(_) => panic!("its records hold ids of one registry"),
    };
    let folder = match name {
        "event" | "predictor" => folder(),
        "decision" => changed(),
        _ => version("v6"),
    };
    folder.join(format!("{name}.{ending}"))
}

fn records() -> [(&'static str, Record); 4] {
    [
        ("judged", examples::judged()),
        ("filed", examples::filed()),
        ("quarantine", examples::quarantine()),
        ("erasure", examples::erasure()),
    ]
}

/// Checks that the fixture is read as the value, and the value is written as the fixture.
fn same<T: PartialEq + Debug>(
    name: &str,
    value: &T,
    encode: fn(&T, Encoding) -> Result<Vec<u8>, EncodeError>,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    for encoding in [Encoding::Avro, Encoding::Json] {
        let path = path(name, encoding);
        let fixture = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(decode(&fixture).as_ref(), Ok(value), "{name} {encoding:?}");
        assert_eq!(encode(value, encoding).as_ref(), Ok(&fixture), "{name} {encoding:?}");
    }
}

#[test]
fn fixtures_are_read_and_written_the_same() {
    // The fixtures have all fields, so that no defaults are needed.
    let defaults = Defaults::default();
    same("event", &examples::event(), encode_event, |bytes| decode_event(bytes, &defaults));
    same("label", &examples::label(), encode_label, |bytes| decode_label(bytes, &defaults));
    same("decision", &examples::decision(), encode_decision, decode_decision);
    same("review", &examples::review(), encode_review, decode_review);
    same("predictor", &examples::published(), encode_published, decode_published);
    same("pin", &examples::pin(), encode_pin, decode_pin);
    for (name, record) in records() {
        same(name, &record, encode_record, decode_record);
    }
}

/// Decisions of earlier versions are read without what these did not have: votes shared between equal texts, texts in
/// windows, hidden text, events with nothing to judge, experts that are served elsewhere, and languages.
#[test]
fn decisions_of_earlier_versions_are_read() {
    for (folder, decision) in [
        ("v1", examples::first_decision()),
        ("v2", examples::second_decision()),
        ("v3", examples::third_decision()),
        ("v4", examples::fourth_decision()),
        ("v5", examples::fifth_decision()),
        ("v6", examples::sixth_decision()),
    ] {
        for name in ["decision.avro", "decision.json"] {
            let fixture = fs::read(version(folder).join(name)).unwrap();
            assert_eq!(decode_decision(&fixture).as_ref(), Ok(&decision), "{folder} {name}");
        }
    }
    let earlier = |folder: &str, name: &str| fs::read(version(folder).join(name)).unwrap();
    for ((name, record), ending) in records().iter().flat_map(|known| ["avro", "json"].map(|to| (known, to)))
    {
        let file = format!("{name}.{ending}");
        let first = if *name == "judged" { examples::first_judged() } else { record.clone() };
        assert_eq!(decode_record(&earlier("v1", &file)).as_ref(), Ok(&first), "{name} {ending}");
        assert_eq!(decode_record(&earlier("v5", &file)).as_ref(), Ok(record), "{name} {ending}");
    }
    for (folder, review) in [("v1", examples::first_review()), ("v4", examples::second_review())] {
        for name in ["review.avro", "review.json"] {
            assert_eq!(decode_review(&earlier(folder, name)).as_ref(), Ok(&review), "{folder} {name}");
        }
    }
    for name in ["label.avro", "label.json"] {
        let label = decode_label(&earlier("v1", name), &Defaults::default());
        assert_eq!(label.as_ref(), Ok(&examples::label()), "{name}");
    }
}

#[test]
#[ignore = "writes fixtures; run it after adding one"]
fn write_missing_fixtures() {
    fs::create_dir_all(changed()).unwrap();
    for encoding in [Encoding::Avro, Encoding::Json] {
        let mut found = vec![
            ("event", encode_event(&examples::event(), encoding)),
            ("label", encode_label(&examples::label(), encoding)),
            ("decision", encode_decision(&examples::decision(), encoding)),
            ("review", encode_review(&examples::review(), encoding)),
            ("predictor", encode_published(&examples::published(), encoding)),
            ("pin", encode_pin(&examples::pin(), encoding)),
        ];
        found.extend(records().map(|(name, record)| (name, encode_record(&record, encoding))));
        for (name, bytes) in found {
            let path = path(name, encoding);
            if !path.exists() {
                fs::write(path, bytes.unwrap()).unwrap();
            }
        }
    }
}

/// Calls `visit` with every object of a schema that names a type or a field.
fn walk(schema: &Value, visit: &mut impl FnMut(&Value)) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| walk(branch, visit)),
        Value::Object(fields) => {
            if fields.contains_key("name") {
                visit(schema);
            }
            for nested in ["type", "items", "values", "fields"] {
                fields.get(nested).into_iter().for_each(|nested| walk(nested, visit));
            }
        }
        _ => {}
    }
}

#[test]
fn every_type_and_field_is_documented() {
    for (record, text) in SCHEMAS {
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["namespace"], "aegis.v1");
        let mut seen = 0;
        walk(&schema, &mut |named| {
            seen += 1;
            let doc = named["doc"].as_str().unwrap_or_default();
            assert!(doc.ends_with('.'), "{record}: {} has no doc", named["name"]);
        });
        assert!(seen > 7, "{record} has {seen} documented names");
    }
}

/// Optional fields can be added and fields with a default can be removed, in both directions: nullable fields start
/// with null, and enums that may grow have a default for symbols that a reader does not have.
#[test]
fn schemas_can_evolve() {
    let closed = BTreeSet::from(["Finding"]);
    for (record, text) in SCHEMAS {
        let schema: Value = serde_json::from_str(text).unwrap();
        walk(&schema, &mut |named| {
            if let Some(branches) = named["type"].as_array() {
                assert_eq!(branches[0], "null", "{record}: {}", named["name"]);
                assert_eq!(named.get("default"), Some(&Value::Null), "{record}: {}", named["name"]);
            }
            if named["type"] == "enum" && !closed.contains(named["name"].as_str().unwrap()) {
                let symbols = named["symbols"].as_array().unwrap();
                assert!(symbols.contains(&named["default"]), "{record}: {}", named["name"]);
            }
        });
    }
}

/// Returns the schemas of the first version.
fn first() -> Vec<(&'static str, Schema)> {
    let files = ["event", "label", "decision", "ledger", "predictor", "review"];
    let read = |file: &&str| fs::read_to_string(folder().join(format!("{file}.avsc"))).unwrap();
    let parsed = files.iter().map(|file| Schema::parse_str(&read(file)).unwrap());
    SCHEMAS.iter().map(|(record, _)| *record).zip(parsed).collect()
}

#[test]
fn schemas_and_their_first_versions_read_each_other() {
    for ((record, text), (_, first)) in SCHEMAS.iter().zip(first()) {
        let now = Schema::parse_str(text).unwrap();
        let found = SchemaCompatibility::mutual_read(&first, &now);
        assert!(found.is_ok(), "{record}: {found:?}");
    }
    let now = Schema::parse_str(SCHEMAS[2].1).unwrap();
    for folder in ["v2", "v3", "v4", "v5", "v6", "v7"] {
        let earlier = fs::read_to_string(version(folder).join("decision.avsc")).unwrap();
        let earlier = Schema::parse_str(&earlier).unwrap();
        assert!(SchemaCompatibility::mutual_read(&earlier, &now).is_ok(), "{folder}");
    }
    let pin = Schema::parse_str(&fs::read_to_string(version("v6").join("pin.avsc")).unwrap()).unwrap();
    assert!(SchemaCompatibility::mutual_read(&pin, &Schema::parse_str(SCHEMAS[6].1).unwrap()).is_ok());
    let now = Schema::parse_str(SCHEMAS[5].1).unwrap();
    let fourth = Schema::parse_str(&fs::read_to_string(version("v4").join("review.avsc")).unwrap()).unwrap();
    assert!(SchemaCompatibility::mutual_read(&fourth, &now).is_ok());
}

/// Returns the field of a record.
fn field(record: AvroValue, name: &str) -> AvroValue {
    let AvroValue::Record(fields) = record else { panic!("{record:?} is no record") };
    fields.into_iter().find(|(field, _)| field == name).unwrap().1
}

/// The reason `audit` came later than all others. To readers of earlier versions it is the default of their enum, so that they
/// count such a request, and do not fail.
#[test]
fn earlier_readers_take_an_audit_for_a_flagged_event() {
    let read = |writer: &str, reader: &str, bytes: &[u8]| {
        let [writer, reader] = [writer, reader].map(|schema| Schema::parse_str(schema).unwrap());
        // The header of a single object is not part of the datum.
        let reader = GenericDatumReader::builder(&writer).maybe_reader_schema(Some(&reader)).build().unwrap();
        reader.read_value(&mut &bytes[10..]).unwrap()
    };
    let earlier = |folder: &str, record: &str| {
        fs::read_to_string(version(folder).join(format!("{record}.avsc"))).unwrap()
    };
    let decision = Decision { reasons: vec![ReviewReason::Audit], ..examples::decision() };
    let bytes = encode_decision(&decision, Encoding::Avro).unwrap();
    for folder in ["v2", "v3", "v4", "v5"] {
        let value = read(SCHEMAS[2].1, &earlier(folder, "decision"), &bytes);
        let AvroValue::Union(_, review) = field(value, "review") else { panic!("{folder}") };
        assert!(matches!(&*review, AvroValue::Enum(_, word) if word == "flagged"), "{folder}: {review:?}");
    }
    let request = ReviewRequest { reasons: vec![ReviewReason::Audit], ..examples::review() };
    let bytes = encode_review(&request, Encoding::Avro).unwrap();
    let value = read(SCHEMAS[5].1, &earlier("v4", "review"), &bytes);
    let AvroValue::Array(reasons) = field(value, "reasons") else { panic!("no reasons") };
    assert!(matches!(&reasons[..], [AvroValue::Enum(_, word)] if word == "flagged"), "{reasons:?}");
}

/// The changes that a later version may make are compatible, and those that it must not make are not.
#[test]
fn compatible_changes_are_told_from_others() {
    let (_, first) = first().swap_remove(0);
    let changed = |change: fn(&mut Value)| {
        let mut schema: Value = serde_json::from_str(SCHEMAS[0].1).unwrap();
        change(&mut schema);
        SchemaCompatibility::mutual_read(&first, &Schema::parse(&schema).unwrap()).is_ok()
    };
    assert!(changed(|_| {}));
    assert!(changed(|schema| {
        let field = serde_json::json!({"name": "language", "type": ["null", "string"], "default": null});
        schema["fields"].as_array_mut().unwrap().push(field);
    }));
    assert!(changed(|schema| {
        schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "metadata");
    }));
    assert!(!changed(|schema| {
        let field = serde_json::json!({"name": "language", "type": "string"});
        schema["fields"].as_array_mut().unwrap().push(field);
    }));
    assert!(!changed(|schema| {
        schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "id");
    }));
}
