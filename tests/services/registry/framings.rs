//! Confluent's framing, with any source of schemas.

use std::collections::HashMap;
use std::sync::Arc;

use aegis::codec::{
    DecodeError, Encoding, Received, SCHEMA_ID_HEADER, SCHEMAS, SchemaId, Schemas, Writer, decode_event,
    encode_event, encode_label,
};
use aegis::core::event::Role;
use aegis::core::label::Finding;
use proptest::prelude::*;

use super::{EVENT, FOREIGN, FOREIGN_DATUM, defaults, event, framed};
use crate::support::flow;

const GUID: [u8; 16] = *b"\x89\x79\x17\x62\x23\x36\x41\x86\x96\x74\x29\x9b\x90\xa8\x02\xe2";

struct Fixed(HashMap<SchemaId, Arc<Writer>>);

impl Schemas for Fixed {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        self.0.get(&id).cloned().ok_or(DecodeError::UnknownSchemaId { id })
    }
}

/// Returns schemas by id: 1 and the GUID are our schema, 2 is another writer's, and 3 is JSON.
fn fixed() -> Fixed {
    let avro = |text: &str| Arc::new(Writer::avro(text).unwrap());
    Fixed(HashMap::from([
        (SchemaId::Number(1), avro(EVENT)),
        (SchemaId::Number(2), avro(FOREIGN)),
        (SchemaId::Number(3), Arc::new(Writer::json())),
        (SchemaId::Guid(GUID), avro(EVENT)),
    ]))
}

/// Returns the datum of our event, without the single-object header.
fn datum() -> Vec<u8> {
    encode_event(&flow::event(3, "hello"), Encoding::Avro).unwrap().split_off(10)
}

fn headed(payload: &[u8], header: &[u8], schemas: Option<&dyn Schemas>) -> Result<String, &'static str> {
    let headers = [(SCHEMA_ID_HEADER.to_owned(), Some(header.to_vec()))];
    let read = Received::new(Some(payload), &headers, schemas).event(&defaults());
    read.map(|event| event.id).map_err(|error| error.name())
}

#[test]
fn each_framing_gives_the_same_event() {
    let (schemas, datum, expected) = (fixed(), datum(), flow::event(3, "hello"));
    assert_eq!(event(&schemas, &framed(1, &datum)), Ok(expected.clone()));
    assert_eq!(event(&schemas, &[&[1][..], &GUID, &datum].concat()), Ok(expected.clone()));
    assert_eq!(encode_event(&expected, Encoding::Confluent(1)).unwrap(), framed(1, &datum));
    let id = Ok(expected.id);
    assert_eq!(headed(&datum, &[&[1][..], &GUID].concat(), Some(&schemas)), id);
    assert_eq!(headed(&datum, b"\0\0\0\0\x01", Some(&schemas)), id);
    // The other framings are read as well.
    assert_eq!(headed(br#"{"id":"e00003","text":"a"}"#, b"\0\0\0\0\x03", Some(&schemas)), id);
    assert_eq!(event(&schemas, &framed(3, br#"{"id":"j","text":"a"}"#)).unwrap().id, "j");
    assert_eq!(event(&schemas, br#"{"id":"j","text":"a"}"#).unwrap().id, "j");
}

#[test]
fn without_a_registry_what_needs_none_is_read() {
    assert_eq!(decode_event(&framed(1, &datum()), &defaults()), Err(DecodeError::NoRegistry));
    assert_eq!(headed(&datum(), b"\0\0\0\0\x01", None), Err("NoRegistry"));
    assert_eq!(headed(br#"{"id":"j","text":"a"}"#, b"\0\0\0\0\x01", None), Ok("j".into()));
    let ours = encode_event(&flow::event(3, "hello"), Encoding::Avro).unwrap();
    assert_eq!(headed(&ours, b"\0\0\0\0\x01", None), Ok("e00003".into()));
}

#[test]
fn a_stranger_s_schema_resolves_to_ours() {
    let read = event(&fixed(), &framed(2, FOREIGN_DATUM)).unwrap();
    assert_eq!((read.id.as_str(), read.time, read.tenant.as_str()), ("e-1", Some(7), "t"));
    let turns: Vec<_> = read.turns.iter().map(|turn| (turn.role, turn.text.as_str())).collect();
    // "bot" is a role that we do not have, and "user" has another number in that schema.
    assert_eq!(turns, [(Role::User, "a"), (Role::User, "bc")]);
    assert_eq!(read.judged, 1);
}

#[test]
fn what_cannot_be_read_says_why() {
    let schemas = fixed();
    let name = |payload: &[u8]| event(&schemas, payload).unwrap_err().name();
    assert_eq!(name(&framed(77, &datum())), "UnknownSchemaId");
    assert_eq!(name(b"\0\0\0"), "Malformed");
    assert_eq!(name(b"\0\0\0\0\x01"), "Malformed");
    assert_eq!(name(&framed(2, b"\x02")), "Malformed");
    assert_eq!(name(&framed(2, &[FOREIGN_DATUM, b"\0"].concat())), "Malformed");
    assert_eq!(name(&framed(3, b"\xff")), "NotJson");
    assert_eq!(headed(&datum(), b"\0\0\0\0", Some(&schemas)), Err("Malformed"));
    assert_eq!(headed(&datum(), b"\0\0\0\0\x01\0", Some(&schemas)), Err("Malformed"));
    // There is no id and no default for it.
    for lacking in [
        r#"{"type":"record","name":"Event","namespace":"aegis.v1","fields":[{"name":"a","type":"null"}]}"#,
        r#"{"type":"record","name":"E","fields":[{"name":"id","type":"boolean"}]}"#,
        r#""null""#,
    ] {
        let writer = Arc::new(Writer::avro(lacking).unwrap());
        let schemas = Fixed(HashMap::from([(SchemaId::Number(5), writer)]));
        let datum: &[u8] = if lacking.contains("boolean") { b"\x01" } else { b"" };
        assert_eq!(event(&schemas, &framed(5, datum)).unwrap_err().name(), "Incompatible", "{lacking}");
    }
}

/// The limit on the number of values refuses the datum. Ten billion of them could neither be counted nor held in the
/// test's time and memory.
#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let bomb = r#"{"type":"record","name":"E","fields":[
        {"name":"id","type":"string"},
        {"name":"many","type":{"type":"array","items":{"type":"array","items":"null"}}}]}"#;
    let writer = Arc::new(Writer::avro(bomb).unwrap());
    let schemas = Fixed(HashMap::from([(SchemaId::Number(5), writer)]));
    // Each array has 100,000 nulls in five bytes.
    let datum = [b"\x02e\xc0\x9a\x0c".to_vec(), b"\xc0\x9a\x0c\0".repeat(100_000), vec![0]].concat();
    let error = event(&schemas, &framed(5, &datum)).unwrap_err();
    assert_eq!(error.name(), "Malformed");
    assert!(error.to_string().contains("holds too many values"), "{error}");
}

/// Figures for docs/registry.md: `cargo test --release --test services speed -- --ignored --nocapture`.
#[test]
#[ignore = "figures"]
fn speed() {
    let mut sent = flow::event(1, &"word ".repeat(200));
    sent.time = Some(1);
    let datum = encode_event(&sent, Encoding::Avro).unwrap().split_off(10);
    let renamed = Arc::new(Writer::avro(&EVENT.replacen("\"Event\"", "\"Chat\"", 1)).unwrap());
    let mut schemas = fixed();
    schemas.0.insert(SchemaId::Number(9), renamed);
    for (what, id) in [("our schema", 1), ("another schema", 9)] {
        let payload = framed(id, &datum);
        let started = std::time::Instant::now();
        for _ in 0..10_000 {
            event(&schemas, &payload).unwrap();
        }
        println!("event of 1 KiB, {what}: {:.1} us", started.elapsed().as_secs_f64() * 100.0);
    }
}

/// The committed records of version 1 are read with their schemas, which later got further fields.
#[test]
fn earlier_versions_resolve_to_this_one() {
    let label = flow::label("l", "e", Finding::Unsafe);
    let datum = encode_label(&label, Encoding::Avro).unwrap().split_off(10);
    for schema in [SCHEMAS[1].1, include_str!("../../fixtures/records/v1/label.avsc")] {
        // A schema with the same layout and another name is resolved by the library.
        let renamed = schema.replacen("\"Label\"", "\"Verdict\"", 1);
        for text in [schema, &renamed] {
            let writer = Arc::new(Writer::avro(text).unwrap());
            let schemas = Fixed(HashMap::from([(SchemaId::Number(1), writer)]));
            let payload = framed(1, &datum);
            let read = Received { schemas: Some(&schemas), ..Received::plain(&payload) };
            assert_eq!(read.label(&defaults()), Ok(label.clone()));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_of_a_stranger_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = event(&fixed(), &framed(2, &bytes));
    }

    #[test]
    fn any_event_goes_the_long_way_round_unchanged(number in 0_usize..1_000, text in ".{0,40}", at in any::<Option<u32>>()) {
        let mut sent = flow::event(number, &text);
        sent.time = at.map(i64::from);
        let datum = encode_event(&sent, Encoding::Avro).unwrap().split_off(10);
        let renamed = Arc::new(Writer::avro(&EVENT.replacen("\"Event\"", "\"Chat\"", 1)).unwrap());
        let schemas = Fixed(HashMap::from([(SchemaId::Number(1), renamed)]));
        prop_assert_eq!(event(&schemas, &framed(1, &datum)), Ok(sent));
    }
}
