//! Events as people and tools send them.

use aegis::codec::{DecodeError, Encoding, MAX_DEPTH, MAX_EVENT, Received, decode_event, encode_event};
use aegis::core::event::{MAX_ID, MAX_TEXT, MAX_TURNS, Role};

use crate::{defaults, event, examples, refused};

#[test]
fn the_least_event() {
    let found = event(r#"  {"id":"e","text":"hello"}"#).unwrap();
    assert_eq!((found.id.as_str(), found.conversation.as_str()), ("e", "e"));
    assert_eq!((found.tenant.as_str(), found.policy.as_str()), ("home", "plain"));
    assert_eq!((found.turns[0].role, found.judged_text()), (Role::User, "hello"));
    assert_eq!((found.subject, found.time, found.metadata.len()), (None, None, 0));
}

#[test]
fn an_event_with_turns_judges_the_last() {
    let turns = r#"[{"role":"system","text":"a"},{"text":"b"},{"role":"assistant","text":"","x":[{}]}]"#;
    let found =
        event(format!(r#"{{"id":"e","turns":{turns},"subject":null,"other":[1,{{"a":2}}]}}"#)).unwrap();
    assert_eq!(found.judged, 2);
    assert_eq!(found.turns[1].role, Role::User);
    assert_eq!(event(format!(r#"{{"id":"e","turns":{turns},"judged":0.0}}"#)).unwrap().judged, 0);
}

#[test]
fn a_turn_without_words_is_empty() {
    let found = event(r#"{"id":"e","turns":[{"role":"assistant","text":null},{"text":"and?"}]}"#).unwrap();
    assert_eq!((found.turns[0].text.as_str(), found.judged_text()), ("", "and?"));
    assert_eq!(event(r#"{"id":"e","turns":[{"text":"a"},{"text":null}]}"#).unwrap().judged_text(), "");
}

#[test]
fn times_are_milliseconds_or_rfc_3339() {
    let time =
        |value: &str| event(format!(r#"{{"id":"e","text":"","time":{value}}}"#)).map(|event| event.time);
    assert_eq!(time("1772353800250"), Ok(Some(1_772_353_800_250)));
    assert_eq!(time("1.77235380025e12"), Ok(Some(1_772_353_800_250)));
    assert_eq!(time(r#""2026-03-01T09:30:00.25+01:00""#), Ok(Some(1_772_353_800_250)));
    assert_eq!(time(r#""2090-01-01T00:00:00Z""#), Ok(Some(3_786_912_000_000)));
    // Times as Python, pandas, Java and Debezium write them.
    for same in [
        "1772353800.25",
        "1772353800250123",
        "1772353800250123456",
        r#""1772353800250""#,
        r#""2026-03-01T08:30:00.250123+0000""#,
        r#""2026-03-01 08:30:00.250 UTC""#,
        r#""2026-03-01T09:30:00.250123456+01:00[Europe/Berlin]""#,
    ] {
        assert_eq!(time(same), Ok(Some(1_772_353_800_250)), "{same}");
    }
    let zoneless = time(r#""2026-03-01T08:30:00""#).unwrap_err();
    assert_eq!(zoneless, DecodeError::NoZone { field: "time" });
    assert!(zoneless.to_string().contains("time has no zone") && zoneless.name() == "BadValue", "{zoneless}");
    for bad in ["1.5", "1e300", "true", "[]", r#""yesterday""#, "9223372036854775807", "18446744073709551615"]
    {
        assert_eq!(refused(time(bad)), "BadValue time", "{bad}");
    }
}

#[test]
fn ids_may_be_numbers() {
    let found = event(
        r#"{"id":17,"conversation":18446744073709551616,"tenant":-7,"policy":340282366920938463463374607431768211455,
            "subject":0,"text":""}"#,
    )
    .unwrap();
    let ids = [&found.id, &found.conversation, &found.tenant, &found.policy];
    assert_eq!(ids, ["17", "18446744073709551616", "-7", "340282366920938463463374607431768211455"]);
    assert_eq!(found.subject.as_deref(), Some("0"));
    for odd in ["1.0", "1e3", "-0", "true", "340282366920938463463374607431768211456"] {
        assert_eq!(refused(event(format!(r#"{{"id":{odd},"text":""}}"#))), "BadValue id", "{odd}");
    }
}

/// Half of an emoji does not prevent a decision, and values that are not read are not checked.
#[test]
fn what_json_cannot_hold_costs_no_event() {
    let read = |json: &[u8]| Received::plain(json).event_and_replaced(&defaults()).unwrap();
    let (found, replaced) = read(br#"{"id":"s1","text":"I know where you live \ud83d"}"#);
    assert_eq!((found.judged_text(), replaced), ("I know where you live \u{fffd}", 1));
    let (found, replaced) = read(br#"{"id":"s1","turns":[{"text":"\udc00\ud83d\ude00"}],"x":"\ud83d"}"#);
    assert_eq!((found.judged_text(), replaced), ("\u{fffd}\u{1f600}", 2));
    let stats =
        br#"{"id":"u1","text":"hi","stats":{"score":NaN,"low":-Infinity,"a":1,"a":2,"n":1e999},"stats":007}"#;
    assert_eq!(read(stats).0.judged_text(), "hi");
    // Windows tools begin a file with a byte order mark.
    assert_eq!(read(b"\xEF\xBB\xBF \n{\"id\":\"b\",\"text\":\"hi\"}").0.id, "b");
    assert_eq!(refused(event(b"\xEF\xBB\xBF")), "NotAvro");
    let twice = event(r#"{"id":"e","text":"a","text":"b"}"#).unwrap_err();
    assert!(twice.to_string().contains("two fields named text"), "{twice}");
}

#[test]
fn roles_are_those_of_chats() {
    let role = |word: &str| {
        event(format!(r#"{{"id":"e","turns":[{{"role":"{word}","text":""}}]}}"#)).unwrap().turns[0].role
    };
    for (word, expected) in [
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("model", Role::Assistant),
        ("system", Role::System),
        ("developer", Role::System),
        ("tool", Role::Tool),
        ("function", Role::Tool),
    ] {
        assert_eq!(role(word), expected, "{word}");
    }
}

#[test]
fn avro_events_take_the_defaults_too() {
    // Written by hand: id "e", five nulls, one turn (user, "hi"), null, no metadata.
    let header = encode_event(&examples::event(), Encoding::Avro).unwrap()[..10].to_vec();
    let datum = b"\x02e\0\0\0\0\0\x02\0\x04hi\0\0\0";
    let found = decode_event(&[&header[..], datum].concat(), &defaults()).unwrap();
    assert_eq!(found, event(r#"{"id":"e","text":"hi"}"#).unwrap());
    // The same in a block with its size.
    let datum = b"\x02e\0\0\0\0\0\x01\x08\0\x04hi\0\0\0";
    assert_eq!(decode_event(&[&header[..], datum].concat(), &defaults()).unwrap(), found);
}

/// Bytes that fastavro wrote as docs/records.md describes.
#[test]
fn other_libraries_avro_is_read() {
    let bytes = b"\xc3\x01\xac\xee\x0e\x27\x8e\xd4\x4c\xdf\x06e-1\0\0\0\0\0\x02\0\x0ahello\0\0\0";
    assert_eq!(decode_event(bytes, &defaults()), event(r#"{"id":"e-1","text":"hello"}"#));
}

#[test]
fn events_that_are_refused() {
    let turn = |inner: &str| event(format!(r#"{{"id":"e","turns":[{inner}]}}"#));
    for (result, expected) in [
        (event("{}"), "MissingField id"),
        (event(r#"{"id":"e"}"#), "MissingField turns"),
        (event(r#"{"id":null,"text":""}"#), "MissingField id"),
        (event(r#"{"id":5.5,"text":""}"#), "BadValue id"),
        (event(r#"{"id":NaN,"text":""}"#), "BadValue id"),
        (event(r#"{"id":"e","text":NaN}"#), "BadValue text"),
        (event(r#"{"id":"e","text":"","time":Infinity}"#), "BadValue time"),
        (event(r#"{"id":"","text":""}"#), "EmptyId"),
        (event(r#"{"id":"e","text":"","tenant":""}"#), "EmptyId"),
        (event(r#"{"id":"e","text":"","subject":[]}"#), "BadValue subject"),
        (event(r#"{"id":"e","text":{}}"#), "BadValue text"),
        (event(r#"{"id":"e","turns":"x"}"#), "BadValue turns"),
        (event(r#"{"id":"e","turns":[]}"#), "NoJudgedTurn"),
        (turn("1"), "BadValue turns"),
        (turn("null"), "BadValue turns"),
        (turn(r#"["user","x"]"#), "BadValue turns"),
        (turn("{}"), "MissingField turns.text"),
        (turn(r#"{"text":1}"#), "BadValue turns.text"),
        (turn(r#"{"text":"","role":"boss"}"#), "BadValue turns.role"),
        (event(r#"{"id":"e","text":"","judged":1}"#), "NoJudgedTurn"),
        (event(r#"{"id":"e","text":"","judged":-1}"#), "BadValue judged"),
        (event(r#"{"id":"e","text":"","metadata":{"a":1}}"#), "BadValue metadata"),
        (event(r#"{"id":"e","text":"","metadata":[]}"#), "BadValue metadata"),
        (event(r#"{"id":"e","text":"","metadata":{"a":"1","a":"2"}}"#), "BadJson"),
        (event(r#"{"id":"e","id":"e","text":""}"#), "BadJson"),
        (event(r#"{"id":"e","text":"a","text":"b"}"#), "BadJson"),
        (event(r#"{"id":"e","text":"a" "b"}"#), "BadJson"),
        (event(r#"{"id":"e","text":""} x"#), "BadJson"),
        (event(""), "Empty"),
        (event("   "), "NotAvro"),
        (event("hello"), "NotAvro"),
        (event("[]"), "NotAvro"),
        (decode_event(b"{\"id\":\"\xff\"}", &defaults()), "NotJson"),
        (decode_event(b"\xc3\x01", &defaults()), "Malformed"),
        (decode_event(b"\xc3\x02abc", &defaults()), "NotAvro"),
    ] {
        assert_eq!(refused(result), expected);
    }
}

#[test]
fn bounds_of_events() {
    let text = |bytes: usize| format!(r#"{{"id":"e","text":"{}"}}"#, "a".repeat(bytes));
    assert!(event(text(MAX_TEXT)).is_ok());
    assert_eq!(refused(event(text(MAX_TEXT + 1))), "TextTooLong");
    assert_eq!(refused(event(text(MAX_EVENT - 40))), "TextTooLong");
    assert_eq!(refused(event(text(MAX_EVENT))), "TooLarge");
    // The longest text also fits if all characters are escaped, as writers in other languages do.
    let escaped = format!(r#"{{"id":"e","text":"{}"}}"#, "\\u0436".repeat(MAX_TEXT / 2));
    assert_eq!(event(&escaped).unwrap().judged_text().len(), MAX_TEXT);
    let turns =
        |count: usize| format!(r#"{{"id":"e","turns":[{}]}}"#, vec![r#"{"text":""}"#; count].join(","));
    assert!(event(turns(MAX_TURNS)).is_ok());
    assert_eq!(event(turns(300_000)).unwrap_err().to_string().split(' ').next(), Some("300000"));
    assert_eq!(refused(event(turns(MAX_TURNS + 1))), "TooManyTurns");
    let id = format!(r#"{{"id":"{}","text":""}}"#, "i".repeat(MAX_ID + 1));
    assert_eq!(refused(event(&id)), "IdTooLong");
    let notes: Vec<_> = (0..1_000).map(|note| format!(r#""{note}":"""#)).collect();
    let notes = format!(r#"{{"id":"e","text":"","metadata":{{{}}}}}"#, notes.join(","));
    assert_eq!(refused(event(&notes)), "MetadataTooLarge");
}

/// Deep nesting is refused, also in fields that are not read.
#[test]
fn nesting_is_bounded() {
    let nested =
        |depth: usize| format!(r#"{{"id":"e","text":"[[[","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(event(nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(refused(event(nested(MAX_DEPTH))), "TooDeep");
    assert_eq!(refused(event(nested(1_000_000))), "TooDeep");
    let quoted = format!(r#"{{"id":"e","text":"\\\"{}"}}"#, "[".repeat(1_000));
    assert!(event(&quoted).is_ok());
}
