//! The same rows in every format have the same figures.

use std::io::Write as _;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::{Desk, lines, rows};

fn parquet() -> Vec<u8> {
    let schema = "message rows { required binary text (UTF8); required boolean label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let compression = parquet::basic::Compression::ZSTD(Default::default());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = rows().iter().map(|(text, _)| text.as_str().into()).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let labels: Vec<bool> = rows().iter().map(|(_, label)| *label).collect();
    column.typed::<BoolType>().write_batch(&labels, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn avro() -> Vec<u8> {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"text","type":"string"},
        {"name":"label","type":["null","boolean"]}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for (text, label) in rows() {
        let label = Avro::Union(1, Box::new(Avro::Boolean(label)));
        let fields = vec![("text".to_owned(), Avro::String(text)), ("label".to_owned(), label)];
        writer.append_value(Avro::Record(fields)).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn every_format_has_the_same_figures() {
    let desk = Desk::new();
    let table = |delimiter: &str| -> String {
        let row = |(text, label): &(String, bool)| format!("\"{text}\"{delimiter}{}\n", u8::from(*label));
        format!("text{delimiter}label\n{}", rows().iter().map(row).collect::<String>())
    };
    let array = format!("[{}]", lines().trim_end().replace('\n', ",\n"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(lines().as_bytes()).unwrap();
    let figures = desk.figures(&desk.put("rows.jsonl", lines()), "");
    // Of 20 unsafe texts, the strict expert has 10 above all safe ones, and 10 tie with these: .5 + .5 · .5.
    assert_eq!(figures["judges"]["strict"]["auc"], json!(0.75), "{figures:#}");
    assert_eq!(figures["judges"]["strict"]["recall_5"], json!(0.5));
    // At .9 the precision is 1, and at .1 all 50 are flagged: .5 · 1 + .5 · .4.
    assert_eq!(figures["judges"]["strict"]["ap"], json!(0.7));
    assert_eq!((&figures["texts"], &figures["unsafe"]), (&json!(50), &json!(20)));
    for (name, bytes, arguments) in [
        ("rows.json", array.into_bytes(), ""),
        ("rows.csv", table(",").into_bytes(), ""),
        ("rows.tsv", table("\t").into_bytes(), ""),
        ("semicolons.csv", table(";").into_bytes(), "--delimiter ;"),
        ("rows.parquet", parquet(), ""),
        ("rows.avro", avro(), ""),
        ("lines.jsonl.gz", gz.finish().unwrap(), ""),
        ("lines.zst", zstd::encode_all(lines().as_bytes(), 0).unwrap(), "--format json"),
    ] {
        let other = desk.figures(&desk.put(name, bytes), arguments);
        assert_eq!(other["judges"], figures["judges"], "{name}");
    }
}
