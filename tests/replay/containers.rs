//! Avro container files: every codec, every kind of damage, and limits that a small file must not exceed.

use super::*;

use apache_avro::types::{Record, Value as Avro};
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, Schema, Writer, ZstandardSettings};

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"event_id","type":"string"},{"name":"unsafe","type":"boolean"}]}"#;
const MARKER: &[u8; 16] = b"between blocks..";

/// Files of other implementations: the same rounds with each codec.
const CODECS: [(&str, &[u8]); 6] = [
    ("null", include_bytes!("../codec/fuzz/corpus/avro/rounds-null.avro")),
    ("deflate", include_bytes!("../codec/fuzz/corpus/avro/rounds-deflate.avro")),
    ("snappy", include_bytes!("../codec/fuzz/corpus/avro/rounds-snappy.avro")),
    ("zstandard", include_bytes!("../codec/fuzz/corpus/avro/rounds-zstandard.avro")),
    ("bzip2", include_bytes!("../codec/fuzz/corpus/avro/rounds-bzip2.avro")),
    ("xz", include_bytes!("../codec/fuzz/corpus/avro/rounds-xz.avro")),
];

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7F {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [long(bytes.len() as i64), bytes.to_vec()].concat()
}

fn header(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [b"Obj\x01".to_vec(), long(entries.len() as i64)].concat();
    for (key, value) in entries {
        bytes.extend([sized(key.as_bytes()), sized(value.as_bytes())].concat());
    }
    [bytes, vec![0], MARKER.to_vec()].concat()
}

/// Returns a container file of blocks, each with a record count and its compressed bytes.
fn container(codec: &str, blocks: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = header(&[("avro.codec", codec), ("avro.schema", SCHEMA)]);
    for (count, packed) in blocks {
        bytes.extend([long(*count), sized(packed), MARKER.to_vec()].concat());
    }
    bytes
}

/// Returns a record of [`SCHEMA`].
fn labelled(event: &str) -> Vec<u8> {
    [sized(event.as_bytes()), vec![1]].concat()
}

fn read(name: &str, bytes: &[u8]) -> Ran {
    let room = Folder::new();
    let path = room.path(name);
    fs::write(&path, bytes).unwrap();
    replay(&args(&[&path]))
}

/// Returns the exit code and the error message of a file that is refused.
fn refused(bytes: &[u8]) -> (u8, String) {
    let ran = read("rounds.avro", bytes);
    let error = ran.result.as_ref().expect_err("refused").to_string();
    (ran.code(), error.split_once(".avro: ").map(|(_, why)| why.to_owned()).unwrap_or(error))
}

#[test]
fn every_codec_of_the_specification_is_read() {
    let expected = read("rounds.avro", CODECS[0].1);
    assert_eq!((expected.summary().lines, expected.summary().malformed), (4, 1), "{}", expected.notes);
    for (codec, bytes) in CODECS {
        let ran = read("rounds.avro", bytes);
        assert_eq!((ran.summary().lines, ran.summary().malformed), (4, 1), "{codec}: {}", ran.notes);
        assert_eq!(ran.hash(), expected.hash(), "{codec}");
        // The format follows from the first bytes, whatever the file name.
        assert_eq!(read("part-00000", bytes).hash(), expected.hash(), "{codec}");
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(CODECS[2].1).unwrap();
    assert_eq!(read("rounds.avro.gz", &packed.finish().unwrap()).hash(), expected.hash());
}

/// The types that tools use for ids and times: a UUID as text and as bytes, and times of every unit.
#[test]
fn logical_types_are_read_like_lines() {
    let room = Folder::new();
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let bytes = b"\x0f\x8f\xad\x5b\xd9\xcb\x46\x9f\xa1\x65\x70\x86\x77\x28\x95\x0e";
    let line = |time: i64| {
        json!({"event_id": id, "annotator": id, "event_time": time, "label_time": time, "unsafe": true,
               "votes": {"a": 0.5}})
    };
    for (unit, base, value, time) in [
        ("timestamp-millis", "long", Avro::TimestampMillis(-7), -7),
        ("timestamp-micros", "long", Avro::TimestampMicros(-1), -1),
        ("timestamp-nanos", "long", Avro::TimestampNanos(1_999_999), 1),
        ("local-timestamp-millis", "long", Avro::LocalTimestampMillis(5), 5),
        ("local-timestamp-micros", "long", Avro::LocalTimestampMicros(-1_001), -2),
        ("local-timestamp-nanos", "long", Avro::LocalTimestampNanos(5), 0),
        ("date", "int", Avro::Date(2), 172_800_000),
    ] {
        let time_type = format!(r#"{{"type":"{base}","logicalType":"{unit}"}}"#);
        let schema = format!(
            r#"{{"type":"record","name":"R","fields":[
                {{"name":"event_id","type":{{"type":"string","logicalType":"uuid"}}}},
                {{"name":"annotator","type":{{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}}}},
                {{"name":"event_time","type":{time_type}}}, {{"name":"label_time","type":["null",{time_type}]}},
                {{"name":"unsafe","type":"boolean"}}, {{"name":"votes","type":{{"type":"map","values":"float"}}}},
                {{"name":"own","type":{{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}}}}]}}"#
        );
        let schema = Schema::parse_str(&schema).unwrap();
        let mut writer = Writer::with_codec(&schema, Vec::new(), Codec::Snappy).unwrap();
        let mut record = Record::new(&schema).unwrap();
        record.put("event_id", Avro::Uuid(id.parse().unwrap()));
        record.put("annotator", Avro::Fixed(16, bytes.to_vec()));
        record.put("event_time", value.clone());
        record.put("label_time", Avro::Union(1, Box::new(value)));
        record.put("unsafe", Avro::Boolean(true));
        record.put("votes", Avro::Map([("a".to_owned(), Avro::Float(0.5))].into()));
        record.put("own", Avro::Decimal(vec![1, 44].into()));
        writer.append_value(record).unwrap();
        let saved = |stream: &Path| {
            let save = room.path("save");
            let ran = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[stream]) });
            assert_eq!(ran.summary().malformed, 0, "{unit}: {}", ran.notes);
            fs::read_to_string(save).unwrap()
        };
        let file = room.path("rounds.avro");
        fs::write(&file, writer.into_inner().unwrap()).unwrap();
        assert_eq!(saved(&file), saved(&room.file("rounds.jsonl", &[line(time).to_string()])), "{unit}");
    }
}

/// Labels of a topic in a container file, as connectors write them: with the schema of the topic.
#[test]
fn labels_of_a_topic_are_read_from_its_own_schema() {
    use aegis::codec::{Defaults, Encoding, SCHEMAS, decode_label, encode_label};
    let defaults = Defaults { tenant: "default".into(), policy: "default".into(), ..Defaults::default() };
    let full = json!({"event_id": "e", "id": "l", "annotator": "ann", "verdict": "unsafe", "severity": 0.25,
        "categories": ["hate", "spam"], "time": 77, "source": "gold", "inclusion_probability": 0.5,
        "decision": {"partition": 1, "offset": 2}, "corrects": "k"});
    let labels = [full, json!({"event_id": "f", "retracts": "l"})];
    let labels = labels.map(|label| decode_label(label.to_string().as_bytes(), &defaults).unwrap());
    let datum = |label| encode_label(label, Encoding::Avro).unwrap().split_off(10);
    let block = labels.iter().flat_map(datum).collect::<Vec<u8>>();
    let bytes = [header(&[("avro.schema", SCHEMAS[1].1)]), long(2), sized(&block), MARKER.to_vec()].concat();
    let room = Folder::new();
    let (file, save) = (room.path("labels.avro"), room.path("save"));
    fs::write(&file, bytes).unwrap();
    let ran = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&file]) });
    assert_eq!(ran.summary().malformed, 0, "{}", ran.notes);
    let saved = fs::read_to_string(save).unwrap();
    for label in labels {
        use aegis::core::ledger::{LabelRecord, LabelStatus};
        let filed = LabelRecord { received: label.time, label, status: LabelStatus::Accepted };
        let line = record(&aegis::core::ledger::Record::Label(filed));
        assert!(saved.lines().any(|saved| saved == line), "{line}\nis not in\n{saved}");
    }
}

/// NaN is not an abstention.
#[test]
fn a_vote_that_is_no_number_is_refused() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"event_id","type":"string"},
        {"name":"votes","type":{"type":"map","values":"double"}}]}"#;
    let mut bytes = header(&[("avro.schema", schema)]);
    let record =
        [labelled("e")[..2].to_vec(), long(1), sized(b"a"), f64::NAN.to_le_bytes().to_vec(), vec![0]]
            .concat();
    bytes.extend([long(1), sized(&record), MARKER.to_vec()].concat());
    let ran = read("rounds.avro", &bytes);
    assert_eq!(ran.code(), 65);
    assert!(ran.notes.contains("votes: "), "{}", ran.notes);
}

#[test]
fn a_codec_that_is_not_read_is_named() {
    let known = "write the file with one of null, deflate, snappy, zstandard, bzip2 and xz";
    let expected = |name: &str| (65, format!("codec {name:?} is not supported: {known}"));
    assert_eq!(refused(&container("lz4", &[])), expected("lz4"));
    assert_eq!(refused(&container("Snappy\n", &[])), expected("Snappy\n"));
    assert_eq!(refused(&container(&"x".repeat(1_000), &[])), expected(&"x".repeat(32)));
}

#[test]
fn damage_is_said_of_its_block() {
    let good = (2, [labelled("a"), labelled("b")].concat());
    let of = |block: (i64, Vec<u8>)| container("null", &[good.clone(), block]);
    let whole = of(good.clone());
    assert_eq!(read("rounds.avro", &whole).summary().lines, 4);
    let block = |why: &str| {
        let why = format!("block 2 of the Avro container file is damaged: {why}");
        (65, format!("{why}; write the file again with the tool that made it"))
    };
    let start = whole.len() - (1 + 1 + good.1.len() + MARKER.len());
    // Every cut within the second block. A cut at its beginning leaves a complete file.
    for end in start + 1..whole.len() {
        assert_eq!(refused(&whole[..end]), block("it ends early"), "{end}");
    }
    let mut marked = whole.clone();
    *marked.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&marked), block("it does not end with the file's marker"));
    let fit = |record: u64| block(&format!("its record {record} does not fit the file's schema"));
    assert_eq!(refused(&of((3, good.1.clone()))), fit(3));
    assert_eq!(refused(&of((2, [labelled("a"), vec![2, 0xff, 1]].concat()))), fit(2));
    assert_eq!(refused(&of((1, good.1.clone()))), block("it goes on after its last record"));
    assert_eq!(refused(&of((-1, good.1.clone()))), block("it has a negative number of records"));
    let sizes = |size: i64| [container("null", std::slice::from_ref(&good)), long(1), long(size)].concat();
    assert_eq!(refused(&sizes(-1)), block("it has a negative size"));
    let great = refused(&sizes(1 << 40));
    assert!(
        great.1.ends_with("it is greater than 16 MiB; write the file again with smaller blocks"),
        "{great:?}"
    );
    assert_eq!(
        refused(&[container("null", std::slice::from_ref(&good)), vec![0xff; 10]].concat()),
        block("a number in it is too long")
    );
    for codec in ["deflate", "snappy", "zstandard", "bzip2", "xz"] {
        let bytes = container(codec, &[(0, vec![]), (1, b"not packed at all".to_vec())]);
        assert_eq!(refused(&bytes), block("it cannot be unpacked"), "{codec}");
    }
}

#[test]
fn a_header_that_is_damaged_says_so() {
    let damaged = |why: &str| (65, format!("the header of the Avro container file is damaged: {why}"));
    let foreign = "not an Avro container file: it does not begin with Obj and the byte 1; lines of JSON have \
                   another ending than .avro";
    for bytes in [&b""[..], b"Obj", b"Obj\x02...", b"{\"event_id\":\"e\"}"] {
        assert_eq!(refused(bytes), (65, foreign.to_owned()));
    }
    let whole = container("null", &[]);
    for end in 4..whole.len() {
        assert_eq!(refused(&whole[..end]), damaged("it ends early"), "{end}");
    }
    assert_eq!(refused(&header(&[("avro.codec", "null")])), damaged("it has no schema"));
    let schema = |text: &str| refused(&header(&[("avro.schema", text)]));
    assert_eq!(schema("{"), damaged("its schema is not an Avro schema"));
    let open = r#"{"type":"record","name":"A","fields":[{"name":"b","type":"other.Name"}]}"#;
    assert_eq!(
        refused(&[header(&[("avro.schema", open)]), vec![0; 18]].concat()),
        damaged("its schema is not an Avro schema")
    );
    let great = refused(&header(&[("own", &"x".repeat((256 << 10) + 1))]));
    assert_eq!(great, damaged("an entry of it is greater than 256 KiB"));
    let many = [b"Obj\x01".to_vec(), long(i64::MAX), vec![0; 4_000]].concat();
    assert_eq!(refused(&many), damaged("it has too many entries"));
}

/// A few kilobytes that decompress to more than the limit of a block, and records of zero bytes.
#[test]
fn bombs_are_refused_before_they_go_off() {
    let begin = "block 1 of the Avro container file is damaged: ";
    let great = "it unpacks to more than 16 MiB; write the file again with smaller blocks";
    let great = (65, format!("{begin}{great}"));
    let block = |why: &str| (65, format!("{begin}{why}; write the file again with the tool that made it"));
    for (name, codec) in [
        ("deflate", Codec::Deflate(DeflateSettings::default())),
        ("snappy", Codec::Snappy),
        ("zstandard", Codec::Zstandard(ZstandardSettings::default())),
        ("bzip2", Codec::Bzip2(Bzip2Settings::default())),
    ] {
        let mut bytes = vec![0; 17 << 20];
        codec.compress(&mut bytes).unwrap();
        assert!(bytes.len() < 1 << 20, "{name}: {}", bytes.len());
        assert_eq!(refused(&container(name, &[(1, bytes)])), great, "{name}");
    }
    assert_eq!(refused(include_bytes!("../fixtures/containers/xz-bomb.avro")), great);
    // A dictionary of 4 GiB.
    let wide = refused(include_bytes!("../fixtures/containers/xz-dictionary.avro"));
    assert_eq!(wide, block("it cannot be unpacked"));
    // More records than bytes, of a type with an empty encoding.
    let bytes =
        [header(&[("avro.schema", r#""null""#)]), long(i64::MAX), sized(&[0]), MARKER.to_vec()].concat();
    assert_eq!(refused(&bytes), block("its record 1 does not fit the file's schema"));
    let nulls = r#"{"type":"array","items":"null"}"#;
    let record = [long(1 << 40), vec![0]].concat();
    let bytes = [header(&[("avro.schema", nulls)]), long(1), sized(&record), MARKER.to_vec()].concat();
    assert_eq!(refused(&bytes), block("its record 1 does not fit the file's schema"));
}

#[test]
fn a_record_is_at_most_as_long_as_a_line() {
    let long = labelled(&"e".repeat(5 << 20));
    let ran = read("rounds.avro", &container("null", &[(2, [long, labelled("e")].concat())]));
    assert_eq!((ran.summary().lines, ran.summary().malformed), (2, 1));
    assert!(ran.notes.contains(":1: longer than 4194304 bytes"), "{}", ran.notes);
}

/// For labels of a topic, too, pointers apply only to JSON.
#[test]
fn records_are_read_by_their_names_whatever_the_pointers() {
    let fields = toml::from_str("event_id = \"/task/id\"\nverdict = \"/bad\"").unwrap();
    let ran = replay_by(fields, "labels.avro", &container("null", &[(1, labelled("e"))]));
    assert_eq!((ran.summary().lines, ran.summary().malformed), (1, 0), "{}", ran.notes);
    let fields = toml::from_str("event_id = \"/task/id\"\nverdict = \"/bad\"").unwrap();
    let ran = replay_by(fields, "labels.jsonl", br#"{"event_id":"e","unsafe":true}"#);
    assert!(ran.notes.contains("/task/id"), "{}", ran.notes);
}

#[test]
fn a_time_of_day_is_no_time_of_a_record() {
    for (base, logical) in [("int", "time-millis"), ("long", "time-micros")] {
        let schema = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"event_id","type":"string"}},
                {{"name":"unsafe","type":"boolean"}},
                {{"name":"label_time","type":["null",{{"type":"{base}","logicalType":"{logical}"}}]}}]}}"#
        );
        let mut bytes = header(&[("avro.schema", &schema)]);
        let records = [labelled("e"), long(1), long(3_600_000), labelled("f"), long(0)].concat();
        bytes.extend([long(2), sized(&records), MARKER.to_vec()].concat());
        let ran = read("rounds.avro", &bytes);
        assert_eq!((ran.summary().lines, ran.summary().malformed), (2, 1), "{logical}: {}", ran.notes);
        assert!(ran.notes.contains("time"), "{}", ran.notes);
    }
}
