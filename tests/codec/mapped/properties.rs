//! Any event in another layout is the same event, and changed records do no harm.

use aegis::codec::{Encoding, encode_event};
use aegis::config::{EventFields, Pointer, Speaker, TimeUnit};
use aegis::core::event::{Event, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{defaults, read};
use crate::{event, strategies};

fn pointer(text: &str) -> Pointer {
    text.to_owned().try_into().unwrap()
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
