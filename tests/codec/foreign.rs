//! Records of another writer's Avro schema: logical types, schemas that grew or were written by hand, and times in
//! other units.

use std::sync::Arc;

use aegis::codec::{DecodeError, Received, SCHEMAS, SchemaId, Schemas, Writer, encode_event};
use aegis::core::event::Event;
use aegis::core::label::Label;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value::{
    self, Array, Boolean, Bytes, Double, Fixed, Float, Int, Long, Map, Null, Record,
};
use apache_avro::writer::datum::GenericDatumWriter;

use crate::defaults;

struct One(Arc<Writer>);

impl Schemas for One {
    fn writer(&self, _: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        Ok(Arc::clone(&self.0))
    }
}

/// Returns the datum of a value. It is written without logical types, since the bytes are those of the base type.
fn datum(schema: &str, value: &Value) -> Vec<u8> {
    let schema = Schema::parse_str(&schema.replace("logicalType", "passedOver")).unwrap();
    let writer = GenericDatumWriter::builder(&schema).human_readable(false).build().unwrap();
    let mut bytes = Vec::new();
    writer.write_value_ref(&mut bytes, value).unwrap_or_else(|error| panic!("{error}"));
    bytes
}

fn read<T>(
    schema: &str,
    datum: &[u8],
    read: impl FnOnce(&Received<'_>) -> Result<T, DecodeError>,
) -> Result<T, String> {
    let writer = Writer::avro(schema).unwrap_or_else(|| panic!("{schema} is refused"));
    let (schemas, payload) = (One(Arc::new(writer)), [&[0, 0, 0, 0, 1], datum].concat());
    read(&Received { schemas: Some(&schemas), ..Received::plain(&payload) })
        .map_err(|error| error.name().to_owned())
}

fn read_event(schema: &str, datum: &[u8]) -> Result<Event, String> {
    read(schema, datum, |received| received.event(&defaults()))
}

fn read_label(schema: &str, datum: &[u8]) -> Result<Label, String> {
    read(schema, datum, |received| received.label(&defaults()))
}

/// Resolves the same datum to our schema with the library. Returns `None` if it does not resolve.
fn library(schema: &str, datum: &[u8], ours: &str) -> Option<Vec<u8>> {
    let (schema, ours) = (Schema::parse_str(schema).ok()?, Schema::parse_str(ours).unwrap());
    let reader =
        GenericDatumReader::builder(&schema).reader_schema(&ours).human_readable(false).build().ok()?;
    let value = reader.read_value(&mut &*datum).ok()?;
    let writer = GenericDatumWriter::builder(&ours).human_readable(false).build().unwrap();
    let mut bytes = Vec::new();
    writer.write_value_ref(&mut bytes, &value).ok()?;
    Some(bytes)
}

/// A field of a writer, with its value.
type Written = (&'static str, &'static str, Value);

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

/// Returns the schema and the value of a record with these fields, in this order, and the required ones.
fn record(written: &[Written], needed: &[Written]) -> (String, Value) {
    let absent = |field: &&Written| !written.iter().any(|(name, ..)| *name == field.0);
    let all: Vec<&Written> = written.iter().chain(needed.iter().filter(absent)).collect();
    let fields: Vec<String> =
        all.iter().map(|(name, schema, _)| format!(r#"{{"name":"{name}","type":{schema}}}"#)).collect();
    let schema = format!(r#"{{"type":"record","name":"Theirs","fields":[{}]}}"#, fields.join(","));
    let values = all.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())).collect();
    (schema, Record(values))
}

fn turns(role: Value, said: Value) -> Value {
    Array(vec![Record(vec![("role".to_owned(), role), ("text".to_owned(), said)])])
}

const TURNS: &str = r#"{"type":"array","items":{"type":"record","name":"T","fields":[
    {"name":"role","type":"string"},{"name":"text","type":"string"}]}}"#;

fn event_needs() -> Vec<Written> {
    vec![("turns", TURNS, turns(text("user"), text("hello"))), ("id", r#""string""#, text("e"))]
}

fn label_needs() -> Vec<Written> {
    vec![("event_id", r#""string""#, text("e")), ("severity", r#""double""#, Double(0.5))]
}

/// Returns the result of the library's own resolution.
#[derive(Debug, PartialEq)]
enum Library {
    Same,
    Differs,
    Refuses,
}
use Library::{Differs, Refuses, Same};

const UUID: &str = "0F8FAD5B-D9CB-469F-A165-70867728950E";
const UUID_BYTES: &[u8; 16] = b"\x0f\x8f\xad\x5b\xd9\xcb\x46\x9f\xa1\x65\x70\x86\x77\x28\x95\x0e";

/// Returns the schema of a primitive type with a logical type.
macro_rules! logical {
    ($base:literal, $logical:literal) => {
        concat!(r#"{"type":""#, $base, r#"","logicalType":""#, $logical, r#""}"#)
    };
}

// After the macro that it uses.
mod labels;

/// Checks rows of a writer's field, the value or the error's name that is expected, and if the library agrees.
fn check<T>(
    rows: Vec<(Written, Result<String, &str>, Library)>,
    (needed, ours): (Vec<Written>, &str),
    read: impl Fn(&str, &[u8]) -> Result<T, String>,
    shown: impl Fn(&str, &T) -> String,
) {
    let mut wrong = Vec::new();
    for (written, expected, agrees) in rows {
        let field = written.0;
        let row = format!("{field} as {} of {:?}", written.1, written.2);
        let (schema, value) = record(&[written], &needed);
        let bytes = datum(&schema, &value);
        let found = read(&schema, &bytes).map(|read| shown(field, &read));
        let theirs =
            library(&schema, &bytes, ours).map(|datum| read(ours, &datum).map(|read| shown(field, &read)));
        let found_agrees = match &theirs {
            Some(theirs) if *theirs == found => Same,
            Some(_) => Differs,
            None => Refuses,
        };
        if found != expected.map_err(str::to_owned) || found_agrees != agrees {
            wrong.push(format!("{row}: {found:?}; the library {found_agrees:?}: {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn shown_event(field: &str, event: &Event) -> String {
    match field {
        "id" => event.id.clone(),
        "conversation" => event.conversation.clone(),
        "time" => format!("{:?}", event.time),
        "judged" => event.judged.to_string(),
        "metadata" => format!("{:?}", event.metadata),
        "turns" => format!("{:?} {:?}", event.turns[0].role, event.turns[0].text),
        // A field that our schema does not have is ignored.
        _ => event.turns[0].text.clone(),
    }
}

fn good<'a>(shown: impl ToString) -> Result<String, &'a str> {
    Ok(shown.to_string())
}

fn bad<'a>() -> Result<String, &'a str> {
    Err("Incompatible")
}

#[test]
fn a_logical_type_that_is_not_used_is_its_base_type() {
    let fixed = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    let nullable = r#"["null",{"type":"string","logicalType":"uuid"}]"#;
    let spelled = UUID.to_lowercase();
    let rows = vec![
        // The text is kept as it is and need not be a UUID.
        (("id", logical!("string", "uuid"), text(UUID)), good(UUID), Refuses),
        (("id", logical!("string", "uuid"), text("no uuid")), good("no uuid"), Refuses),
        (("id", fixed, Fixed(16, UUID_BYTES.to_vec())), good(&spelled), Refuses),
        (("id", logical!("bytes", "uuid"), Bytes(UUID.into())), good(UUID), Refuses),
        (("id", logical!("string", "our.own"), text("a")), good("a"), Same),
        (("conversation", nullable, some(text(UUID))), good(UUID), Refuses),
        (("conversation", nullable, Value::Union(0, Box::new(Null))), good("e"), Same),
        (("conversation", fixed, Fixed(16, UUID_BYTES.to_vec())), good(&spelled), Refuses),
        // Values that are not read may be anything.
        (("own", logical!("string", "uuid"), text("no uuid")), good("hello"), Refuses),
        (("own", logical!("bytes", "uuid"), Bytes(vec![1])), good("hello"), Refuses),
        (("own", logical!("bytes", "big-decimal"), Bytes(vec![1])), good("hello"), Refuses),
        (
            (
                "own",
                r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#,
                Bytes(vec![1, 44]),
            ),
            good("hello"),
            Same,
        ),
        (("own", r#"{"type":"bytes","logicalType":"decimal"}"#, Bytes(vec![1])), good("hello"), Same),
        (
            (
                "own",
                r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#,
                Fixed(12, vec![7; 12]),
            ),
            good("hello"),
            Same,
        ),
        (
            ("own", r#"{"type":"fixed","name":"D","size":3,"logicalType":"duration"}"#, Fixed(3, vec![7; 3])),
            good("hello"),
            Same,
        ),
        (("own", logical!("int", "date"), Int(-1)), good("hello"), Same),
        (("own", logical!("int", "time-millis"), Int(-1)), good("hello"), Same),
        (("own", logical!("long", "time-micros"), Long(-1)), good("hello"), Same),
        (("own", logical!("long", "timestamp-nanos"), Long(-1)), good("hello"), Same),
        // A type that does not become a text.
        (("id", r#""boolean""#, Boolean(true)), bad(), Refuses),
        (("id", r#""double""#, Double(1.0)), bad(), Refuses),
    ];
    check(rows, (event_needs(), SCHEMAS[0].1), read_event, shown_event);
}

#[test]
fn times_of_every_unit_are_milliseconds() {
    let time = |time: i64| good(format!("Some({time})"));
    let micros = r#"["null",{"type":"long","logicalType":"timestamp-micros"}]"#;
    let rows = vec![
        (("time", r#""long""#, Long(7)), time(7), Same),
        (("time", r#""int""#, Int(7)), time(7), Same),
        // The unit follows from the size, as in JSON.
        (("time", r#""long""#, Long(1_772_000_000_123_456)), time(1_772_000_000_123), Differs),
        (("time", logical!("long", "timestamp-millis"), Long(-7)), time(-7), Same),
        // Times are rounded down, also before 1970.
        (("time", logical!("long", "timestamp-micros"), Long(1_999)), time(1), Refuses),
        (("time", logical!("long", "timestamp-micros"), Long(-1)), time(-1), Refuses),
        (("time", micros, some(Long(-1_001))), time(-2), Refuses),
        (("time", micros, Value::Union(0, Box::new(Null))), good("None"), Same),
        (("time", logical!("long", "timestamp-nanos"), Long(1_999_999)), time(1), Refuses),
        (("time", logical!("long", "timestamp-nanos"), Long(-1)), time(-1), Refuses),
        (("time", logical!("long", "local-timestamp-millis"), Long(5)), time(5), Refuses),
        (("time", logical!("long", "local-timestamp-micros"), Long(5_999)), time(5), Refuses),
        (("time", logical!("long", "local-timestamp-nanos"), Long(-5)), time(-1), Refuses),
        (("time", logical!("int", "date"), Int(-1)), time(-86_400_000), Refuses),
        (("time", r#""string""#, text("1970-01-01T00:00:01Z")), time(1_000), Refuses),
        (("time", r#""string""#, text("today")), Err("BadValue"), Refuses),
        (("time", r#""string""#, text("2026-03-01T09:30:00")), Err("BadValue"), Refuses),
        (("time", r#"["null","string"]"#, some(text("2026-03-01 09:30"))), Err("BadValue"), Refuses),
        (("time", logical!("int", "time-millis"), Int(1)), bad(), Refuses),
        (("time", logical!("long", "time-micros"), Long(1)), bad(), Refuses),
        (("time", r#""boolean""#, Boolean(true)), bad(), Refuses),
        // Floating-point times are read as in JSON.
        (("time", r#""double""#, Double(1.0)), time(1), Refuses),
        (("time", r#""double""#, Double(1_772_366_400.25)), time(1_772_366_400_250), Refuses),
        (("time", r#"["null","double"]"#, some(Double(1_772_366_400.0))), time(1_772_366_400_000), Refuses),
        (("time", r#""float""#, Float(1_772_366_464.0)), time(1_772_366_464_000), Refuses),
        (("time", r#""double""#, Double(1.5)), Err("BadValue"), Refuses),
        (("time", r#""double""#, Double(f64::NAN)), Err("BadValue"), Refuses),
    ];
    check(rows, (event_needs(), SCHEMAS[0].1), read_event, shown_event);
}

#[test]
fn a_time_without_a_zone_says_so() {
    let (schema, value) = record(&[("time", r#""string""#, text("2026-03-01T09:30:00"))], &event_needs());
    let schemas = One(Arc::new(Writer::avro(&schema).unwrap()));
    let payload = [&[0, 0, 0, 0, 1], &datum(&schema, &value)[..]].concat();
    let received = Received { schemas: Some(&schemas), ..Received::plain(&payload) };
    assert_eq!(received.event(&defaults()).unwrap_err(), DecodeError::NoZone { field: "time" });
}

#[test]
fn a_schema_that_differs_from_ours_in_its_units_alone_is_not_taken_for_ours() {
    let mut sent = read_event(SCHEMAS[0].1, &datum_of_ours()).unwrap();
    for (unit, factor) in
        [("timestamp-millis", 1), ("timestamp-micros", 1_000), ("local-timestamp-nanos", 1_000_000)]
    {
        let schema = SCHEMAS[0].1.replace("timestamp-millis", unit);
        sent.time = Some(1_772_000_000_123 * factor);
        // The time is written as if in milliseconds, which gives the same bytes.
        let bytes = raw_time(&sent);
        assert_eq!(read_event(&schema, &bytes).unwrap().time, Some(1_772_000_000_123), "{unit}");
    }
}

fn datum_of_ours() -> Vec<u8> {
    let event = aegis::codec::decode_event(br#"{"id":"e","text":"a"}"#, &defaults()).unwrap();
    encode_event(&event, aegis::codec::Encoding::Avro).unwrap().split_off(10)
}

/// Returns an event's datum with a time that the encoder would refuse.
fn raw_time(event: &Event) -> Vec<u8> {
    let plain = Event { time: Some(0), ..event.clone() };
    let bytes = encode_event(&plain, aegis::codec::Encoding::Avro).unwrap().split_off(10);
    let schema = Schema::parse_str(SCHEMAS[0].1).unwrap();
    let mut value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &*bytes).unwrap();
    if let Record(fields) = &mut value {
        let time = fields.iter_mut().find(|(name, _)| name == "time").unwrap();
        time.1 = some(Value::TimestampMillis(event.time.unwrap()));
    }
    let mut bytes = Vec::new();
    let writer = GenericDatumWriter::builder(&schema).human_readable(false).build().unwrap();
    writer.write_value_ref(&mut bytes, &value).unwrap();
    bytes
}

#[test]
fn schemas_that_grew_are_read() {
    let nullable = r#"{"type":"array","items":{"type":"record","name":"T","fields":[
        {"name":"text","type":["null","string"]},
        {"name":"role","type":["null",{"type":"enum","name":"R","symbols":["bot","tool"],"default":"bot"}]}]}}"#;
    let bytes = r#"{"type":"array","items":{"type":"record","name":"T","fields":[
        {"name":"role","type":"string"},{"name":"text","type":"bytes"}]}}"#;
    let swapped = |role: Value, said: Value| {
        Array(vec![Record(vec![("text".to_owned(), said), ("role".to_owned(), role)])])
    };
    let null = || Value::Union(0, Box::new(Null));
    let tool = some(Value::Enum(1, "tool".into()));
    let notes = |value: Value| Map([("k".to_owned(), value)].into());
    let rows = vec![
        (("id", r#""bytes""#, Bytes(b"e".to_vec())), good("e"), Same),
        (("id", r#""bytes""#, Bytes(vec![0xff])), bad(), Refuses),
        (("id", r#""int""#, Int(-7)), good("-7"), Refuses),
        (("id", r#"["null","long"]"#, some(Long(i64::MAX))), good(i64::MAX), Refuses),
        (("id", r#"["null","string"]"#, null()), Err("EmptyId"), Refuses),
        (("conversation", r#""string""#, text("c")), good("c"), Same),
        (("conversation", r#"["string","null"]"#, Value::Union(0, Box::new(text("c")))), good("c"), Same),
        (("conversation", r#"["null","bytes"]"#, some(Bytes(b"c".to_vec()))), good("c"), Same),
        (("judged", r#""int""#, Int(0)), good(0), Same),
        (("judged", r#""long""#, Long(0)), good(0), Same),
        (("judged", r#""long""#, Long(1 << 40)), bad(), Refuses),
        (("metadata", r#"{"type":"map","values":"string"}"#, notes(text("v"))), good(r#"{"k": "v"}"#), Same),
        (("metadata", r#"{"type":"map","values":"int"}"#, notes(Int(3))), good(r#"{"k": "3"}"#), Refuses),
        (("metadata", r#"["null",{"type":"map","values":"string"}]"#, null()), good("{}"), Refuses),
        (("turns", TURNS, turns(text("tool"), text("t"))), good(r#"Tool "t""#), Same),
        (("turns", TURNS, turns(text("bot"), text("t"))), good(r#"User "t""#), Same),
        (("turns", TURNS, turns(text("model"), text("t"))), good(r#"Assistant "t""#), Differs),
        (("turns", TURNS, turns(text("developer"), text("t"))), good(r#"System "t""#), Differs),
        (("turns", TURNS, turns(text("function"), text("t"))), good(r#"Tool "t""#), Differs),
        (("turns", bytes, turns(text("tool"), Bytes(b"t".to_vec()))), good(r#"Tool "t""#), Same),
        (("turns", nullable, swapped(tool, some(text("t")))), good(r#"Tool "t""#), Same),
        (
            ("turns", nullable, swapped(some(Value::Enum(0, "bot".into())), some(text("t")))),
            good(r#"User "t""#),
            Same,
        ),
        // The turn only calls a tool.
        (("turns", nullable, swapped(null(), null())), good(r#"User """#), Refuses),
    ];
    check(rows, (event_needs(), SCHEMAS[0].1), read_event, shown_event);
}

/// Errors in parts of a writer's schema that only readers use are ignored, since some tools write them.
#[test]
fn what_only_readers_use_does_not_matter_in_a_writer_s_schema() {
    let schema = r#"{"type":"record","name":"Chat","aliases":["not a name!"],"fields":[
        {"name":"own","type":["null","int"],"default":"x"},
        {"name":"conversation","type":["string","null"],"default":null},
        {"name":"id","type":{"type":"string","avro.java.string":"String"},"order":"ignore","default":3},
        {"name":"turns","type":{"type":"array","items":{"type":"record","name":"L","fields":[
            {"name":"role","type":{"type":"enum","name":"R","symbols":["user"],"default":"nobody"}},
            {"name":"text","type":"string","logicalType":"uuid"}]}},"aliases":["messages"]}]}"#;
    let datum = b"\0\x02\x06e-1\x02\0\x04hi\0";
    let event = read_event(schema, datum).unwrap();
    assert_eq!(
        (event.id.as_str(), event.conversation.as_str(), event.turns[0].text.as_str()),
        ("e-1", "e-1", "hi")
    );
}

/// The library copies the name of a field or a symbol with every value, so that a small datum could take gigabytes.
#[test]
fn names_that_would_fill_the_memory_are_refused() {
    let most = "n".repeat(1_024);
    let field = |name: &str| {
        format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"list","type":{{"type":"array","items":
                {{"type":"record","name":"I","fields":[{{"name":"{name}","type":"null"}}]}}}}}}]}}"#
        )
    };
    let symbol = |name: &str| format!(r#"["null",{{"type":"enum","name":"E","symbols":["a","{name}"]}}]"#);
    let named = |name: &str| format!(r#"{{"type":"fixed","name":"{name}","size":1}}"#);
    let spaced = |name: &str| format!(r#"{{"type":"fixed","name":"F","namespace":"{name}","size":1}}"#);
    for schema in [&field, &symbol, &named, &spaced] as [&dyn Fn(&str) -> String; 4] {
        assert!(Writer::avro(&schema(&most)).is_some(), "{:.80}", schema(&most));
        assert!(Writer::avro(&schema(&format!("{most}n"))).is_none(), "{:.80}", schema(&most));
    }
    // A documentation may be long.
    assert!(Writer::avro(&format!(r#"{{"type":"string","doc":"{}"}}"#, "d".repeat(100_000))).is_some());
}
