//! Events in JSON of another layout, read by the pointers of `[event_fields]`.

use std::sync::Arc;

use aegis::codec::{
    DecodeError, Defaults, Encoding, MAX_DEPTH, MAX_EVENT, Received, SchemaId, Schemas, Writer,
    default_event_id, encode_event,
};
use aegis::config::{Config, EventFields, Pointer, Speaker, TimeUnit};
use aegis::core::event::{Event, MAX_ID, MAX_TEXT, MAX_TURNS, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{event, examples, strategies};

fn pointer(text: &str) -> Pointer {
    text.to_owned().try_into().unwrap()
}

fn defaults(event_fields: EventFields) -> Defaults {
    let mut config = Config { event_fields, ..Config::default() };
    config.defaults.tenant = "home".into();
    config.defaults.policy = "plain".into();
    config.record_defaults()
}

/// Returns the defaults with these lines of `[event_fields]`.
pub fn fields(lines: &str) -> Defaults {
    defaults(toml::from_str(lines).unwrap())
}

/// The request of the documentation's example.
const REQUEST: &str = r#"
    turns = "/messages"
    turn_role = "/author"
    id = "/request/uuid"
    conversation = "/request/session"
    tenant = "/meta/org"
    policy = "/meta/policy"
    subject = "/meta/user"
    time = "/meta/ts"
    judged = "/meta/judged"
    roles = { human = "user", bot = "assistant" }
    metadata = { channel = "/meta/channel" }
"#;

pub fn read(json: impl AsRef<[u8]>, defaults: &Defaults) -> Result<Event, DecodeError> {
    Received::plain(json.as_ref()).at("chats", 3, 1042).event(defaults)
}

/// Returns the error's name, with the field and the pointer that it is about.
pub fn refused(json: impl AsRef<[u8]>, defaults: &Defaults) -> String {
    let error = read(json, defaults).unwrap_err();
    match &error {
        DecodeError::MissingAt { field, pointer, .. } | DecodeError::InvalidAt { field, pointer, .. } => {
            let said = error.to_string();
            assert!(said.contains(pointer) && said.contains(&format!("event_fields.{field}")), "{said}");
            format!("{} {field} {pointer}", error.name())
        }
        _ => error.name().to_owned(),
    }
}

#[test]
fn an_event_of_another_shape_is_the_event_in_our_own() {
    let theirs = r#"{
        "request": {"uuid": "e-1", "session": "s-9", "region": "eu"},
        "meta": {"org": "acme", "user": 71, "ts": "2026-03-01T09:30:00.25+01:00", "channel": true},
        "messages": [
            {"author": "human", "content": "hi", "at": 5},
            {"author": "bot", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}},
                                          {"type": "output_text", "text": "b"}, "c"]},
            {"author": "tool", "content": null},
            {"content": "and then?"}
        ]}"#;
    let ours = r#"{"id":"e-1","conversation":"s-9","tenant":"acme","subject":"71","time":1772353800250,
        "turns":[{"text":"hi"},{"role":"assistant","text":"a\nb\nc"},{"role":"tool","text":""},
        {"text":"and then?"}],"metadata":{"channel":"true"}}"#;
    let defaults = fields(REQUEST);
    let found = read(theirs, &defaults).unwrap();
    assert_eq!(found, event(ours).unwrap());
    assert_eq!((found.judged, found.policy.as_str()), (3, "plain"));
    let judged = theirs.replace(r#""org""#, r#""judged": 1.0, "policy": "strict", "org""#);
    let found = read(judged, &defaults).unwrap();
    assert_eq!((found.judged_text(), found.policy.as_str()), ("a\nb\nc", "strict"));
}

#[test]
fn a_text_alone_has_its_place_for_an_id() {
    let defaults = fields(r#"text = "/prompt""#);
    let found = read(r#"{"prompt":"hello","id":"theirs"}"#, &defaults).unwrap();
    assert_eq!((found.id.as_str(), found.conversation.as_str()), ("chats-3-1042", "chats-3-1042"));
    assert_eq!((found.tenant.as_str(), found.policy.as_str()), ("home", "plain"));
    assert_eq!((found.turns[0].role, found.judged_text()), (Role::User, "hello"));
    assert_eq!((found.subject, found.time, found.metadata.len()), (None, None, 0));
    // A record that is passed without its position has no id.
    let placeless = Received::plain(br#"{"prompt":"hello"}"#).event(&defaults);
    assert_eq!(placeless, Err(DecodeError::MissingField { field: "id" }));
    let answers = fields("text = \"/answer\"\nrole = \"assistant\"");
    assert_eq!(read(r#"{"answer":["a",{"text":"b"}]}"#, &answers).unwrap().turns[0].role, Role::Assistant);
    // The longest topic name that Kafka allows also gives a different id for each offset.
    let long = "t".repeat(249);
    let ids = [default_event_id(&long, 0, i64::MAX - 1), default_event_id(&long, 0, i64::MAX)];
    assert!(ids.iter().all(|id| id.len() <= MAX_ID) && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn turns_go_before_the_text_and_may_be_texts() {
    let both = fields("turns = \"/log/0/lines\"\ntext = \"/prompt\"\nturn_role = \"\"\nturn_text = \"\"");
    let found = read(r#"{"log":[{"lines":["a","b"]}],"prompt":"c"}"#, &both).unwrap();
    assert_eq!((found.turns.len(), found.judged_text(), found.turns[0].role), (2, "b", Role::User));
    assert_eq!(read(r#"{"log":null,"prompt":"c"}"#, &both).unwrap().judged_text(), "c");
    assert_eq!(refused(r#"{"log":[],"prompt":null}"#, &both), "MissingField turns /log/0/lines");
    let escaped = fields(r#"text = "/a~1b/m~0n/ /""#);
    assert_eq!(read(r#"{"a/b":{"m~n":{" ":{"":"deep"}}}}"#, &escaped).unwrap().judged_text(), "deep");
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_pointer() {
    let defaults = fields(REQUEST);
    let whole: Value = json!({
        "request": {"uuid": "e-1"}, "meta": {"org": "acme", "secret": "hunter2"},
        "messages": [{"author": "human", "content": "hunter2"}, {"author": "bot", "content": "hunter2"}],
    });
    assert!(read(whole.to_string(), &defaults).is_ok());
    let gone = Value::String("gone".into());
    for (place, value, expected) in [
        ("/request/uuid", &gone, "MissingField id /request/uuid"),
        ("/request", &json!("hunter2"), "MissingField id /request/uuid"),
        ("/request/uuid", &json!(null), "MissingField id /request/uuid"),
        ("/request/uuid", &json!(1.5), "BadValue id /request/uuid"),
        ("/request/uuid", &json!(["hunter2"]), "BadValue id /request/uuid"),
        ("/request/uuid", &json!(""), "EmptyId"),
        ("/request/session", &json!({}), "BadValue conversation /request/session"),
        ("/meta/org", &json!(true), "BadValue tenant /meta/org"),
        ("/meta/policy", &json!(-0.0), "BadValue policy /meta/policy"),
        ("/meta/user", &json!([1]), "BadValue subject /meta/user"),
        ("/meta/ts", &json!("hunter2"), "BadValue time /meta/ts"),
        ("/meta/ts", &json!(u64::MAX), "BadValue time /meta/ts"),
        ("/meta/judged", &json!("1"), "BadValue judged /meta/judged"),
        ("/meta/judged", &json!(2), "NoJudgedTurn"),
        ("/meta/judged", &json!(-1), "BadValue judged /meta/judged"),
        ("/meta/ts", &json!(i64::MAX), "BadValue time /meta/ts"),
        ("/meta/channel", &json!({"hunter2": 1}), "BadValue metadata /meta/channel"),
        ("/meta/channel", &json!("c".repeat(2_000)), "MetadataTooLarge"),
        ("/messages", &gone, "MissingField turns /messages"),
        ("/messages", &json!({"content": "hunter2"}), "BadValue turns /messages"),
        ("/messages", &json!([]), "NoJudgedTurn"),
        ("/messages/1", &json!("hunter2"), "MissingField turn_text /messages/1/content"),
        ("/messages/1", &json!(null), "MissingField turn_text /messages/1/content"),
        ("/messages/1/content", &gone, "MissingField turn_text /messages/1/content"),
        ("/messages/1/content", &json!(5), "BadValue turn_text /messages/1/content"),
        ("/messages/1/content", &json!({"text": "hunter2"}), "BadValue turn_text /messages/1/content"),
        ("/messages/1/content", &json!([{"text": {"value": 1}}]), "BadValue turn_text /messages/1/content"),
        ("/messages/1/content", &json!([["hunter2"]]), "BadValue turn_text /messages/1/content"),
        ("/messages/0/author", &json!("hunter2"), "BadValue turn_role /messages/0/author"),
        ("/messages/0/author", &json!(0), "BadValue turn_role /messages/0/author"),
    ] {
        let mut record = whole.clone();
        put(&mut record, place, value, &gone);
        let json = record.to_string();
        assert_eq!(refused(&json, &defaults), expected, "{place} {value}");
        let said = read(&json, &defaults).unwrap_err().to_string();
        assert!(!said.contains("hunter2") && !said.contains("acme"), "{said}");
    }
}

/// Sets the value at the pointer to `value`, or removes it if `value` is `gone`.
fn put(record: &mut Value, place: &str, value: &Value, gone: &Value) {
    let (parent, name) = place.rsplit_once('/').unwrap();
    match record.pointer_mut(parent).unwrap() {
        Value::Object(entries) if value == gone => drop(entries.remove(name)),
        Value::Object(entries) => drop(entries.insert(name.into(), value.clone())),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn ids_may_be_numbers_and_times_seconds() {
    let id = |value: &str| {
        read(format!(r#"{{"n":{value},"t":""}}"#), &fields("id = \"/n\"\ntext = \"/t\""))
            .map(|event| event.id)
    };
    assert_eq!(id("18446744073709551615").unwrap(), "18446744073709551615");
    assert_eq!(id("-7").unwrap(), "-7");
    let exact = "340282366920938463463374607431768211455";
    assert_eq!(id(exact).unwrap(), exact);
    for odd in ["1.0", "1e3", "340282366920938463463374607431768211456", "-0", "true", "NaN"] {
        assert!(id(odd).is_err(), "{odd}");
    }
    let time = |unit: &str, value: &str| {
        let lines = format!("text = \"/t\"\ntime = \"/at\"\ntime_unit = \"{unit}\"");
        read(format!(r#"{{"t":"","at":{value}}}"#), &fields(&lines)).map(|event| event.time)
    };
    assert_eq!(time("milliseconds", "1772353800250").unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", "1772353800").unwrap(), Some(1_772_353_800_000));
    assert_eq!(time("seconds", "1772353800.25").unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", r#""2026-03-01T08:30:00.25Z""#).unwrap(), Some(1_772_353_800_250));
    assert_eq!(time("seconds", "null").unwrap(), None);
    for bad in ["9223372036854775807", "1e300", "true", r#""soon""#, "-1e17"] {
        assert!(time("seconds", bad).is_err(), "{bad}");
    }
}

#[test]
fn times_are_read_as_tools_write_them() {
    let with = |lines: &str, value: &str| {
        let lines = format!("text = \"/t\"\ntime = \"/at\"\n{lines}");
        Received::plain(format!(r#"{{"t":"","at":{value}}}"#).as_bytes())
            .at("chats", 0, 0)
            .event(&fields(&lines))
            .map(|event| event.time)
    };
    let noon = Ok(Some(1_772_366_400_000));
    for value in [
        r#""2026-03-01T12:00:00+0000""#,
        r#""2026-03-01 12:00:00 UTC""#,
        r#""2026-03-01T13:00:00.000+01:00[Europe/Berlin]""#,
        "1772366400",
        "1772366400.0",
        "1772366400000",
        "1772366400000000",
        "1772366400000000000",
        r#""1772366400000""#,
    ] {
        assert_eq!(with("", value), noon, "{value}");
    }
    for (unit, value) in [
        ("seconds", r#""1772366400""#),
        ("milliseconds", "1772366400000"),
        ("microseconds", "1772366400000000"),
        ("nanoseconds", "1772366400000000000"),
    ] {
        assert_eq!(with(&format!("time_unit = \"{unit}\""), value), noon, "{unit}");
    }
    // A unit that is set applies to a number of any size.
    assert_eq!(with("time_unit = \"milliseconds\"", "1772366400"), Ok(Some(1_772_366_400)));
    for zone in ["UTC", "+00:00", "Africa/Abidjan"] {
        assert_eq!(with(&format!("time_zone = \"{zone}\""), r#""2026-03-01 12:00:00""#), noon, "{zone}");
    }
    for (lines, value, why) in [
        ("", r#""2026-03-01 12:00:00""#, "time_zone in the same section is not set"),
        ("time_zone = \"Europe/Berlin\"", r#""2026-10-25 02:30:00""#, "only an offset says which is meant"),
        ("", r#""2026030112""#, "a number as time_unit says"),
        ("", r#""yesterday""#, "a number as time_unit says"),
        ("", "NaN", "a number as time_unit says"),
    ] {
        let error = with(lines, value).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("/at, where event_fields.time points") && said.contains(why), "{said}");
        assert!(!said.contains("02:30") && !said.contains("yesterday"), "{said}");
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

#[test]
fn settings_without_effect_are_refused() {
    let check = |lines: &str| toml::from_str::<EventFields>(lines).unwrap().check();
    for (lines, named) in [
        ("text = \"/t\"\nturn_role = \"/r\"", "event_fields.turn_role"),
        ("text = \"/t\"\nturn_text = \"/r\"", "event_fields.turn_text"),
        ("text = \"/t\"\nroles = { human = \"user\" }", "event_fields.roles"),
        ("turns = \"/t\"\nturn_role = \"\"\nroles = { human = \"user\" }", "event_fields.roles"),
        ("text = \"/t\"\ntime_zone = \"UTC\"", "event_fields.time_zone"),
    ] {
        let refused = check(lines).unwrap_err();
        assert!(refused.starts_with(named) && refused.contains("leave it out"), "{refused}");
    }
    // The example configuration of earlier versions had this line.
    assert_eq!(check("time_unit = \"milliseconds\""), Ok(()));
    assert_eq!(
        check("turns = \"/t\"\nroles = { human = \"user\" }\ntime = \"/at\"\ntime_zone = \"+02:00\""),
        Ok(())
    );
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

/// One writer for every id.
struct One(Arc<Writer>);

impl Schemas for One {
    fn writer(&self, _: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        Ok(Arc::clone(&self.0))
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
    assert_eq!(framed(Writer::avro(include_str!("../../schemas/event.avsc")).unwrap(), &datum), Ok(sent));
    let json = [b"\0\0\0\0\x01", &br#"{"prompt":"hello"}"#[..]].concat();
    assert_eq!(framed(Writer::json(), &json).unwrap().judged_text(), "hello");
}

/// Returns the event in another layout, and the pointers to its fields.
fn foreign(event: &Event, parts: bool) -> (Value, EventFields) {
    let word = |role: Role| match role {
        Role::User => "human",
        Role::Assistant => "bot",
        other => other.word(),
    };
    let content = |text: &str| {
        if !parts {
            return Value::from(text);
        }
        let part = |line: &str| [json!({"type": "text", "text": line}), json!({"type": "image_url"})];
        text.split('\n').flat_map(part).collect()
    };
    let turns: Vec<_> = event
        .turns
        .iter()
        .map(|turn| json!({"from": {"who": word(turn.role)}, "said": content(&turn.text), "n": [1, 2]}))
        .collect();
    let record = json!({
        "request": {"uuid": event.id, "session": event.conversation},
        "meta": {"org": event.tenant, "pol": event.policy, "user": event.subject, "ts": event.time},
        "notes": [event.metadata],
        "chat": turns,
        "at": event.judged,
    });
    let note = |name: &String| {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        (name.clone(), pointer(&format!("/notes/0/{escaped}")))
    };
    let fields = EventFields {
        turns: pointer("/chat"),
        turn_role: pointer("/from/who"),
        turn_text: pointer("/said"),
        roles: [("human".into(), Speaker::User), ("bot".into(), Speaker::Assistant)].into(),
        id: pointer("/request/uuid"),
        conversation: pointer("/request/session"),
        tenant: pointer("/meta/org"),
        policy: pointer("/meta/pol"),
        subject: pointer("/meta/user"),
        time: pointer("/meta/ts"),
        // Any time is possible, including the days of 1970 whose milliseconds are the seconds of other days.
        time_unit: TimeUnit::Milliseconds,
        judged: pointer("/at"),
        metadata: event.metadata.keys().map(note).collect(),
        ..EventFields::default()
    };
    (record, fields)
}

proptest! {
    #[test]
    fn any_event_reads_the_same_from_another_shape(value in strategies::event(), parts in any::<bool>()) {
        let (record, fields) = foreign(&value, parts);
        let ours = encode_event(&value, Encoding::Json).unwrap();
        prop_assert_eq!(read(record.to_string(), &defaults(fields)), event(ours));
    }

    /// A record with one value or one byte changed gives an event that can be written again, or an error.
    #[test]
    fn changed_records_do_no_harm(
        value in strategies::event(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
        other in prop::sample::select(&["null", "1e300", "-0.0", "[]", "{}", "\"\"", "[{\"text\":1}]", "[[[1]]]"][..]),
    ) {
        let (record, fields) = foreign(&value, true);
        let defaults = defaults(fields);
        let mut names: Vec<String> = ["/at", "/chat", "/chat/0", "/chat/0/said", "/chat/0/from/who", "/meta",
            "/meta/ts", "/meta/org", "/notes/0", "/request", "/request/uuid"].map(String::from).into();
        let mut changed = record.clone();
        *changed.pointer_mut(&names.swap_remove(place.index(names.len()))).unwrap() = serde_json::from_str(other).unwrap();
        let mut bytes = record.to_string().into_bytes();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        for bytes in [bytes, changed.to_string().into_bytes()] {
            if let Ok(found) = read(&bytes, &defaults) {
                prop_assert_eq!(event(encode_event(&found, Encoding::Avro).unwrap()), Ok(found));
            }
        }
    }
}
