//! What the codec makes of records as people and tools send them, and every way it refuses.

mod codec_values;

use std::collections::BTreeSet;

use aegis::codec::{
    DecodeError, Defaults, EncodeError, Encoding, MAX_DEPTH, MAX_EVENT, MAX_LABEL, decode_decision, decode_event,
    decode_key, decode_label, decode_published, decode_record, default_label_id, encode_decision, encode_event,
    encode_key, encode_label, encode_published, encode_record,
};
use aegis::core::event::{Event, MAX_ID, MAX_TEXT, MAX_TURNS, Role};
use aegis::core::label::{DecisionRef, Finding, Label, Source};
use aegis::core::learners::{LearnerSpec, Name};
use aegis::core::ledger::{Key, Record, RoundId, Standing};
use codec_values::examples;
use serde_json::json;

fn defaults() -> Defaults {
    Defaults { tenant: "home".to_owned(), policy: "plain".to_owned() }
}

fn event(text: &str) -> Result<Event, DecodeError> {
    decode_event(text.as_bytes(), &defaults())
}

fn label(text: &str) -> Result<Label, DecodeError> {
    decode_label(text.as_bytes(), &defaults())
}

fn refused<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> String {
    let error = result.unwrap_err();
    match error {
        DecodeError::MissingField { field } | DecodeError::BadValue { field } => {
            format!("{} {field}", error.name())
        }
        _ => error.name().to_owned(),
    }
}

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
    let found = event(&format!(r#"{{"id":"e","turns":{turns},"subject":null,"other":[1,{{"a":2}}]}}"#)).unwrap();
    assert_eq!(found.judged, 2);
    assert_eq!(found.turns[1].role, Role::User);
    assert_eq!(event(&format!(r#"{{"id":"e","turns":{turns},"judged":0.0}}"#)).unwrap().judged, 0);
}

#[test]
fn times_are_milliseconds_or_rfc_3339() {
    let time = |value: &str| event(&format!(r#"{{"id":"e","text":"","time":{value}}}"#)).map(|event| event.time);
    assert_eq!(time("1772353800250"), Ok(Some(1_772_353_800_250)));
    assert_eq!(time("1.77235380025e12"), Ok(Some(1_772_353_800_250)));
    assert_eq!(time(r#""2026-03-01T09:30:00.25+01:00""#), Ok(Some(1_772_353_800_250)));
    assert_eq!(time(r#""2090-01-01T00:00:00Z""#), Ok(Some(3_786_912_000_000)));
    for bad in ["1.5", "1e300", "true", "[]", r#""yesterday""#, "9223372036854775807", "18446744073709551615"] {
        assert_eq!(refused(time(bad)), "BadValue time", "{bad}");
    }
}

#[test]
fn avro_events_take_the_defaults_too() {
    // Hand-made: id "e", five nulls, no turns but one (user, "hi"), null, no metadata.
    let header = encode_event(&examples::event(), Encoding::Avro).unwrap()[..10].to_vec();
    let datum = b"\x02e\0\0\0\0\0\x02\0\x04hi\0\0\0";
    let found = decode_event(&[&header[..], datum].concat(), &defaults()).unwrap();
    assert_eq!(found, event(r#"{"id":"e","text":"hi"}"#).unwrap());
    // The same in a block that says its size.
    let datum = b"\x02e\0\0\0\0\0\x01\x08\0\x04hi\0\0\0";
    assert_eq!(decode_event(&[&header[..], datum].concat(), &defaults()).unwrap(), found);
}

#[test]
fn events_that_are_refused() {
    let turn = |inner: &str| event(&format!(r#"{{"id":"e","turns":[{inner}]}}"#));
    for (result, expected) in [
        (event("{}"), "MissingField id"),
        (event(r#"{"id":"e"}"#), "MissingField turns"),
        (event(r#"{"id":null,"text":""}"#), "MissingField id"),
        (event(r#"{"id":5,"text":""}"#), "BadValue id"),
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
        (event(r#"{"id":"e","id":"e","text":""}"#), "BadJson"),
        (event(r#"{"id":"e","text":"\ud800"}"#), "BadJson"),
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
    let mut wide = examples::event();
    wide.turns.truncate(1);
    wide.judged = 0;
    let text = |bytes: usize| format!(r#"{{"id":"e","text":"{}"}}"#, "a".repeat(bytes));
    assert!(event(&text(MAX_TEXT)).is_ok());
    assert_eq!(refused(event(&text(MAX_TEXT + 1))), "TextTooLong");
    assert_eq!(refused(event(&text(MAX_EVENT - 40))), "TextTooLong");
    assert_eq!(refused(event(&text(MAX_EVENT))), "TooLarge");
    // Escaped as other languages' writers do, the greatest text still fits.
    let escaped = format!(r#"{{"id":"e","text":"{}"}}"#, "\\u0436".repeat(MAX_TEXT / 2));
    assert_eq!(event(&escaped).unwrap().judged_text().len(), MAX_TEXT);
    let turns = |count: usize| format!(r#"{{"id":"e","turns":[{}]}}"#, vec![r#"{"text":""}"#; count].join(","));
    assert!(event(&turns(MAX_TURNS)).is_ok());
    assert_eq!(event(&turns(300_000)).unwrap_err().to_string().split(' ').next(), Some("300000"));
    assert_eq!(refused(event(&turns(MAX_TURNS + 1))), "TooManyTurns");
    let id = format!(r#"{{"id":"{}","text":""}}"#, "i".repeat(MAX_ID + 1));
    assert_eq!(refused(event(&id)), "IdTooLong");
    let notes: Vec<_> = (0..1_000).map(|note| format!(r#""{note}":"""#)).collect();
    let notes = format!(r#"{{"id":"e","text":"","metadata":{{{}}}}}"#, notes.join(","));
    assert_eq!(refused(event(&notes)), "MetadataTooLarge");
}

/// Deep nesting, also where nothing would look.
#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!(r#"{{"id":"e","text":"[[[","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(event(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(refused(event(&nested(MAX_DEPTH))), "TooDeep");
    assert_eq!(refused(event(&nested(1_000_000))), "TooDeep");
    let quoted = format!(r#"{{"id":"e","text":"\\\"{}"}}"#, "[".repeat(1_000));
    assert!(event(&quoted).is_ok());
}

#[test]
fn length_prefixes_ask_for_nothing() {
    let header = |bytes: Vec<u8>| bytes[..10].to_vec();
    let headers = [
        header(encode_event(&examples::event(), Encoding::Avro).unwrap()),
        header(encode_label(&examples::label(), Encoding::Avro).unwrap()),
        header(encode_decision(&examples::decision(), Encoding::Avro).unwrap()),
        header(encode_record(&examples::judged(), Encoding::Avro).unwrap()),
        header(encode_published(&examples::published(), Encoding::Avro).unwrap()),
    ];
    let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let least = [0xFF; 9].iter().copied().chain([0x01]).collect::<Vec<u8>>();
    for [event, label, decision, record, published] in [headers] {
        for prefix in [&huge[..], &least, &[0xFF; 12], &[0xFE, 0xFF, 0xFF, 0x0F]] {
            let join = |header: &[u8], lead: &[u8]| [header, lead, prefix].concat();
            // As the id's length, and as the number of turns.
            assert_eq!(refused(decode_event(&join(&event, b""), &defaults())), "Malformed");
            assert_eq!(refused(decode_event(&join(&event, b"\x02e\0\0\0\0\0"), &defaults())), "Malformed");
            assert_eq!(refused(decode_label(&join(&label, b"\x02"), &defaults())), "Malformed");
            assert_eq!(refused(decode_decision(&join(&decision, b""))), "Malformed");
            assert_eq!(refused(decode_record(&join(&record, b"\x02"))), "Malformed");
            assert_eq!(refused(decode_published(&join(&published, b""))), "Malformed");
        }
    }
}

#[test]
fn another_kinds_record_is_of_the_wrong_schema() {
    let bytes = encode_label(&examples::label(), Encoding::Avro).unwrap();
    let error = decode_event(&bytes, &defaults()).unwrap_err();
    let DecodeError::WrongSchema { expected, found } = error else { panic!("{error:?}") };
    assert_eq!(found.to_le_bytes(), bytes[2..10]);
    assert_eq!(expected.to_le_bytes(), encode_event(&examples::event(), Encoding::Avro).unwrap()[2..10]);
    assert!(error.to_string().contains(&format!("{found:016x}")));
    assert!(error.to_string().contains(&format!("{expected:016x}")));
}

#[test]
fn avro_that_is_broken() {
    let mut longer = encode_event(&examples::event(), Encoding::Avro).unwrap();
    let mut odd = longer.clone();
    longer.push(0);
    assert_eq!(refused(decode_event(&longer, &defaults())), "Malformed");
    // The id's bytes are no UTF-8.
    odd[11] = 0xFF;
    assert_eq!(refused(decode_event(&odd, &defaults())), "Malformed");
}

#[test]
fn the_least_labels() {
    let found = label(r#"{"event_id":"e","unsafe":true}"#).unwrap();
    assert_eq!((found.id.as_str(), found.verdict, found.severity), ("e/", Some(Finding::Unsafe), None));
    assert_eq!((found.tenant.as_str(), found.policy.as_str()), ("home", "plain"));
    assert_eq!((found.time, found.source), (0, Source::Review));
    let found = label(r#"{"event_id":"e","annotator":"ann","unsafe":0.25,"decision":{"partition":1,"offset":2}}"#);
    let found = found.unwrap();
    assert_eq!((found.id.as_str(), found.verdict, found.severity), ("e/ann", None, Some(0.25)));
    assert_eq!(found.decision, Some(DecisionRef { partition: 1, offset: 2 }));
    let found = label(r#"{"event_id":"e","id":"l","retracts":"k","time":"1970-01-01T00:00:01Z"}"#).unwrap();
    assert_eq!((found.retracts.as_deref(), found.time), (Some("k"), 1_000));
    let found = label(r#"{"event_id":"e","verdict":"safe","unsafe":true,"severity":1,"source":"gold"}"#).unwrap();
    assert_eq!((found.verdict, found.severity), (Some(Finding::Safe), Some(1.0)));
}

#[test]
fn a_negative_zero_is_not_the_greatest_severity() {
    let found = label(r#"{"event_id":"e","severity":-0.0}"#).unwrap();
    assert_eq!(found.severity.map(f64::to_bits), Some(0));
}

#[test]
fn ids_made_for_labels_fit() {
    assert_eq!(default_label_id("e", None), "e/");
    let long = default_label_id(&"e".repeat(MAX_ID), Some("ann"));
    assert_eq!(long.len(), 64);
    assert_ne!(long, default_label_id(&"e".repeat(MAX_ID), Some("bob")));
    let text = json!({"event_id": "e".repeat(MAX_ID), "annotator": "a".repeat(MAX_ID), "unsafe": false});
    assert!(label(&text.to_string()).is_ok());
}

#[test]
fn labels_that_are_refused() {
    let given = |field: &str, value: &str| label(&format!(r#"{{"event_id":"e","unsafe":true,"{field}":{value}}}"#));
    let many = format!("[{}]", vec![r#""c""#; 65].join(","));
    for (result, expected) in [
        (label(r#"{"unsafe":true}"#), "MissingField event_id"),
        (label(r#"{"event_id":"e"}"#), "NoVerdict"),
        (label(r#"{"event_id":"e","corrects":"l"}"#), "NoVerdict"),
        (label(r#"{"event_id":"","unsafe":true}"#), "EmptyId"),
        (label(r#"{"event_id":"e","unsafe":"yes"}"#), "BadValue unsafe"),
        (label(r#"{"event_id":"e","unsafe":2}"#), "BadSeverity"),
        (given("annotator", r#""""#), "EmptyId"),
        (given("verdict", r#""bad""#), "BadValue verdict"),
        (given("severity", "1.01"), "BadSeverity"),
        (given("severity", "-0.1"), "BadSeverity"),
        (given("severity", r#""high""#), "BadSeverity"),
        (given("inclusion_probability", "0"), "BadInclusionProbability"),
        (given("inclusion_probability", "1.5"), "BadInclusionProbability"),
        (given("inclusion_probability", "[]"), "BadInclusionProbability"),
        (given("source", r#""rumour""#), "BadValue source"),
        (given("categories", r#""c""#), "BadValue categories"),
        (given("categories", "[1]"), "BadValue categories"),
        (given("categories", r#"[""]"#), "BadValue categories"),
        (given("categories", &many), "BadValue categories"),
        (given("decision", r#"{"partition":0}"#), "BadValue decision"),
        (given("decision", r#"{"partition":-1,"offset":0}"#), "BadValue decision"),
        (given("decision", r#"{"partition":4294967296,"offset":0}"#), "BadValue decision"),
        (given("decision", "7"), "BadValue decision"),
        (given("time", r#""now""#), "BadValue time"),
        (label(&" ".repeat(MAX_LABEL + 1)), "TooLarge"),
    ] {
        assert_eq!(refused(result), expected);
    }
    let mut odd = encode_label(&examples::label(), Encoding::Avro).unwrap();
    let severity = odd.windows(8).position(|bytes| bytes == 0.625_f64.to_le_bytes()).unwrap();
    odd[severity..severity + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    assert_eq!(refused(decode_label(&odd, &defaults())), "BadSeverity");
}

/// Changes a field of a record's JSON.
fn with(bytes: Vec<u8>, pointer: &str, value: serde_json::Value) -> Vec<u8> {
    let mut tree: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    *tree.pointer_mut(pointer).unwrap() = value;
    tree.to_string().into_bytes()
}

#[test]
fn decisions_records_and_predictors_that_are_refused() {
    let decision = |pointer, value| {
        refused(decode_decision(&with(encode_decision(&examples::decision(), Encoding::Json).unwrap(), pointer, value)))
    };
    assert_eq!(decision("/probability", json!(1.5)), "BadValue probability");
    assert_eq!(decision("/threshold", json!(-1)), "BadValue threshold");
    assert_eq!(decision("/votes/0/score", json!(2)), "BadValue votes.score");
    assert_eq!(decision("/votes/0/score", json!(null)), "BadValue votes");
    assert_eq!(decision("/votes/0/abstention", json!("failed")), "BadValue votes");
    assert_eq!(decision("/votes/0/expert", json!("zeal")), "BadValue votes");
    assert_eq!(decision("/votes/1/expert", json!("injection")), "BadValue votes");
    assert_eq!(decision("/predictor/rounds", json!(-1)), "BadValue predictor");
    assert_eq!(decision("/tenant", json!("")), "EmptyId");
    assert_eq!(decision("/action", json!("hide")), "BadJson");
    assert_eq!(decision("/predictor/state_hash", json!("c0")), "BadJson");
    assert_eq!(decision("/features/values", json!("AAAA")), "BadJson");
    assert_eq!(decision("/round_time", json!(i64::MIN)), "BadValue round_time");

    let record = |record: &Record, pointer, value| {
        refused(decode_record(&with(encode_record(record, Encoding::Json).unwrap(), pointer, value)))
    };
    assert_eq!(refused(decode_record(b"{}")), "BadValue judged, filed or edit");
    assert_eq!(record(&examples::judged(), "/judged/votes/2/score", json!(9)), "BadValue votes.score");
    assert_eq!(record(&examples::judged(), "/judged/votes/2/expert", json!("a")), "BadValue votes");
    assert_eq!(record(&examples::judged(), "/judged/decision/offset", json!(-1)), "BadValue decision");
    assert_eq!(record(&examples::filed(), "/filed/label/tenant", json!(null)), "EmptyId");
    assert_eq!(record(&examples::erasure(), "/edit/annotator", json!("x")), "BadValue edit");
    assert_eq!(record(&examples::erasure(), "/edit/subject", json!(null)), "BadValue edit");

    let published = |pointer, value| {
        let bytes = encode_published(&examples::published(), Encoding::Json).unwrap();
        refused(decode_published(&with(bytes, pointer, value)))
    };
    assert_eq!(published("/learner/name", json!("oracle")), "BadValue learner");
    assert_eq!(published("/learner/beta", json!(0.5)), "BadValue learner");
    assert_eq!(published("/learner/prior/0/mass", json!(5)), "BadValue learner");
    assert_eq!(published("/state", json!("AAAA")), "BadJson");
    assert_eq!(published("/experts/0", json!("z")), "BadValue experts");
    assert_eq!(published("/rounds", json!(-1)), "BadValue rounds");
}

#[test]
fn what_nobody_could_read_is_not_written() {
    let mut value = examples::decision();
    value.threshold = f64::NAN;
    let expected = EncodeError::Unreadable(DecodeError::BadValue { field: "threshold" });
    for encoding in [Encoding::Avro, Encoding::Json] {
        assert_eq!(encode_decision(&value, encoding), Err(expected.clone()));
    }
    let mut value = examples::event();
    value.judged = 99;
    assert_eq!(encode_event(&value, Encoding::Avro).unwrap_err().name(), "NoJudgedTurn");
    let mut value = examples::published();
    value.state = vec![0.0; 3 << 20];
    assert_eq!(encode_published(&value, Encoding::Avro).unwrap_err().name(), "TooLarge");
}

#[test]
fn a_seed_is_never_written() {
    let mut value = examples::published();
    value.learner = LearnerSpec::new(Name::Fpl);
    let plain = encode_published(&value, Encoding::Avro).unwrap();
    value.learner.seed = Some(b"secret".to_vec());
    assert_eq!(encode_published(&value, Encoding::Avro), Ok(plain));
}

#[test]
fn keys_are_readable() {
    let round = RoundId { tenant: "acme".to_owned(), policy: "p\"".to_owned(), event: "e,1".to_owned() };
    let text = |key: &Key| String::from_utf8(encode_key(key)).unwrap();
    assert_eq!(text(&Key::Judged(round.clone())), r#"["acme","p\"","e,1","judged"]"#);
    assert_eq!(text(&Key::Filed(round, "l".to_owned())), r#"["acme","p\"","e,1","label","l"]"#);
    assert_eq!(text(&Key::Edit("x".to_owned())), r#"["edit","x"]"#);
    for (bytes, expected) in [
        (&b""[..], "Empty"),
        (b"\xff", "NotJson"),
        (b"e", "BadJson"),
        (b"[1]", "BadJson"),
        (b"[]", "BadValue key"),
        (br#"["a","b","c","label"]"#, "BadValue key"),
        (br#"["a","b","c","judged","d"]"#, "BadValue key"),
        (br#"["edit",""]"#, "EmptyId"),
        (&[b'['; 9_000], "TooLarge"),
        (&[b'['; 99], "TooDeep"),
    ] {
        assert_eq!(refused(decode_key(bytes)), expected);
    }
}

#[test]
fn standings_keep_their_words() {
    for standing in Standing::ALL {
        let Record::Filed(mut filed) = examples::filed() else { panic!() };
        filed.standing = standing;
        let record = Record::Filed(filed);
        let bytes = encode_record(&record, Encoding::Json).unwrap();
        assert!(String::from_utf8(bytes.clone()).unwrap().contains(&format!(r#""standing":"{}""#, standing.word())));
        assert_eq!(decode_record(&bytes), Ok(record));
    }
}

/// No error tells what the record said.
#[test]
fn errors_quote_nothing() {
    let secret = "xyzzy";
    let texts = [
        r#"{"id":"xyzzy","turns":"xyzzy"}"#, r#"{"id":"e","text":"xyzzy"#, r#"{"id":"e","xyzzy":xyzzy}"#,
        r#"{"id":"e","turns":[{"role":"xyzzy","text":"xyzzy"}]}"#, r#"{"id":"e","text":"","time":"xyzzy"}"#,
        r#"{"event_id":"e","verdict":"xyzzy"}"#, r#"{"action":"xyzzy","event_id":"xyzzy"}"#, "xyzzy",
        r#"{"policy":"xyzzy","learner":{"name":"xyzzy"}}"#, r#"{"judged":{"tenant":"xyzzy"}}"#, r#"["xyzzy"]"#,
    ];
    let mut seen = BTreeSet::new();
    for text in texts {
        let bytes = text.as_bytes();
        for error in [
            event(text).err(),
            label(text).err(),
            decode_decision(bytes).err(),
            decode_record(bytes).err(),
            decode_published(bytes).err(),
            decode_key(bytes).err(),
        ] {
            let error = error.unwrap();
            assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
            seen.insert(error.name());
        }
    }
    assert!(seen.len() >= 5, "{seen:?}");
}
