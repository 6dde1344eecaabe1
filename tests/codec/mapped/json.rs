//! JSON that is broken, too large or framed, and Avro, to which the pointers do not apply.

use std::sync::Arc;

use aegis::codec::{
    DecodeError, Encoding, MAX_DEPTH, MAX_EVENT, Received, SchemaId, Schemas, Writer, encode_event,
};
use aegis::core::event::{MAX_TEXT, MAX_TURNS};

use super::{fields, read, refused};
use crate::examples;

/// One writer for every id.
struct One(Arc<Writer>);

impl Schemas for One {
    fn writer(&self, _: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        Ok(Arc::clone(&self.0))
    }
}

/// Half of an emoji does not prevent a decision, and values that no pointer leads to are not checked.
#[test]
fn what_json_cannot_hold_costs_no_event() {
    let defaults = fields("text = \"/message\"\nid = \"/id\"");
    let json = r#"{"id":"u1","message":"hello \ud83d","stats":{"score":NaN,"title":"cut \ud83d","a":1,"a":2,"n":01},"stats":null}"#;
    let received = Received::plain(json.as_bytes());
    let (found, replaced) = received.event_and_replaced(&defaults).unwrap();
    assert_eq!((found.judged_text(), replaced), ("hello \u{fffd}", 2));
    let marked = ["\u{feff}", r#"{"id":1,"message":"hi"}"#].concat();
    assert_eq!(read(&marked, &defaults).unwrap().judged_text(), "hi");
    let schemas = One(Arc::new(Writer::json()));
    let framed = [b"\0\0\0\0\x01", marked.as_bytes()].concat();
    let received = Received { schemas: Some(&schemas), ..Received::plain(&framed) };
    assert_eq!(received.event(&defaults).unwrap().id, "1");
    let twice = read(r#"{"id":1,"id":2,"message":"hi"}"#, &defaults).unwrap_err().to_string();
    assert!(twice.contains("/id, where event_fields.id points") && twice.contains("twice"), "{twice}");
}

/// The bounds are those of our own JSON and one on the number of values, since a tree is larger than its record.
#[test]
fn bounds_of_mapped_events() {
    let defaults = fields("turns = \"/messages\"\ntext = \"/prompt\"");
    let text = |bytes: usize| format!(r#"{{"prompt":"{}"}}"#, "a".repeat(bytes));
    assert!(read(text(MAX_TEXT), &defaults).is_ok());
    assert_eq!(refused(text(MAX_TEXT + 1), &defaults), "TextTooLong");
    assert_eq!(refused(text(MAX_EVENT), &defaults), "TooLarge");
    let turns = |count: usize| format!(r#"{{"messages":[{}]}}"#, vec![r#"{"content":""}"#; count].join(","));
    assert!(read(turns(MAX_TURNS), &defaults).is_ok());
    assert_eq!(refused(turns(MAX_TURNS + 1), &defaults), "TooManyTurns");
    assert_eq!(refused(turns(100_000), &defaults), "TooManyValues");
    // The total of all parts is bounded.
    let parts = format!(r#"{{"prompt":[{}]}}"#, vec![r#""a""#; 50_000].join(","));
    assert_eq!(read(parts, &defaults).unwrap().judged_text().len(), 99_999);
    let nested =
        |depth: usize| format!(r#"{{"prompt":"[[[","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(MAX_DEPTH - 1), &defaults).is_ok());
    assert_eq!(refused(nested(MAX_DEPTH), &defaults), "TooDeep");
    assert_eq!(refused(nested(1_000_000), &defaults), "TooDeep");
    for (json, expected) in [
        (&br#"{"prompt":"a","prompt":"b"}"#[..], "BadValue text /prompt"),
        (br#"{"prompt":[{"text":"a","text":"b"}]}"#, "BadValue text /prompt"),
        (br#"{"messages":[{"content":"a","content":"b"}]}"#, "BadValue turn_text /messages/0/content"),
        (
            br#"{"messages":[{"content":"a","role":"user","role":"user"}]}"#,
            "BadValue turn_role /messages/0/role",
        ),
        (br#"{"prompt":NaN}"#, "BadValue text /prompt"),
        (br#"{"prompt":"a"} x"#, "BadJson"),
        (br#"{"prompt":"a","x":{"y"}}"#, "BadJson"),
        (b"{\"prompt\":\"\xff\"}", "NotJson"),
        (br#"["a"]"#, "NotAvro"),
        (b"", "Empty"),
    ] {
        assert_eq!(refused(json, &defaults), expected);
    }
}

#[test]
fn only_json_is_mapped_and_framed_json_is_json() {
    let defaults = fields(r#"text = "/prompt""#);
    let sent = examples::event();
    assert_eq!(read(encode_event(&sent, Encoding::Avro).unwrap(), &defaults), Ok(sent.clone()));
    let own = encode_event(&sent, Encoding::Json).unwrap();
    assert_eq!(refused(own, &defaults), "MissingField text /prompt");
    let framed = |writer, payload: &[u8]| {
        let schemas = One(Arc::new(writer));
        let received = Received { schemas: Some(&schemas), ..Received::plain(payload) };
        received.at("chats", 0, 0).event(&defaults)
    };
    let datum = encode_event(&sent, Encoding::Confluent(1)).unwrap();
    assert_eq!(framed(Writer::avro(include_str!("../../../schemas/event.avsc")).unwrap(), &datum), Ok(sent));
    let json = [b"\0\0\0\0\x01", &br#"{"prompt":"hello"}"#[..]].concat();
    assert_eq!(framed(Writer::json(), &json).unwrap().judged_text(), "hello");
}
