//! Events in JSON of another layout, read by the pointers of `[event_fields]`.

mod ids_and_times;
mod json;
mod properties;

use aegis::codec::{DecodeError, Defaults, Received, default_event_id};
use aegis::config::{Config, EventFields};
use aegis::core::event::{Event, MAX_ID, Role};
use serde_json::{Value, json};

use crate::event;

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
