//! Records of every kind: those that are refused or never written, and that no error quotes a record.

use std::collections::BTreeSet;

use aegis::codec::{
    DecodeError, EncodeError, Encoding, decode_decision, decode_event, decode_key, decode_label, decode_pin,
    decode_published, decode_record, decode_review, encode_decision, encode_event, encode_key, encode_label,
    encode_pin, encode_published, encode_record, encode_review,
};
use aegis::core::learners::{LearnerSpec, Name};
use aegis::core::ledger::{Key, LabelStatus, Record, RoundId};
use aegis::core::predictor::Pin;
use serde_json::json;

use crate::{defaults, event, examples, label, refused};

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
            // The prefix is the length of the id, then the number of turns.
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
    // The bytes of the id are not UTF-8.
    odd[11] = 0xFF;
    assert_eq!(refused(decode_event(&odd, &defaults())), "Malformed");
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
        refused(decode_decision(&with(
            encode_decision(&examples::decision(), Encoding::Json).unwrap(),
            pointer,
            value,
        )))
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

    let review = |pointer, value| {
        let bytes = encode_review(&examples::review(), Encoding::Json).unwrap();
        refused(decode_review(&with(bytes, pointer, value)))
    };
    assert_eq!(review("/decision/offset", json!(-1)), "BadValue decision");
    assert_eq!(review("/decision", json!(null)), "BadJson");
    assert_eq!(review("/reasons", json!([])), "BadValue reasons");
    assert_eq!(review("/reasons", json!(vec!["flagged"; 65])), "BadValue reasons");
    assert_eq!(review("/reasons/0", json!("whim")), "BadJson");
    assert_eq!(review("/inclusion_probability", json!(0)), "BadInclusionProbability");
    assert_eq!(review("/inclusion_probability", json!(1.1)), "BadInclusionProbability");
    assert_eq!(review("/probability", json!(2)), "BadValue probability");
    assert_eq!(review("/event_id", json!("")), "EmptyId");

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
fn pins_that_are_refused() {
    let pin = |pointer, value| {
        let bytes = encode_pin(&examples::pin(), Encoding::Json).unwrap();
        refused(decode_pin(&with(bytes, pointer, value)))
    };
    assert_eq!(pin("/policy", json!("")), "EmptyId");
    assert_eq!(pin("/by", json!("x".repeat(257))), "IdTooLong");
    assert_eq!(pin("/reason", json!("")), "BadValue reason");
    assert_eq!(pin("/reason", json!("x".repeat(1001))), "BadValue reason");
    assert_eq!(pin("/offset", json!(-1)), "BadValue offset");
    assert_eq!(pin("/published", json!(i64::MAX)), "BadValue published");
    assert_eq!(pin("/time", json!(i64::MIN)), "BadValue time");
    assert_eq!(pin("/predictor", json!("no base64!")), "BadJson");
    let large = Pin { predictor: vec![0; (16 << 20) + 4_096], ..examples::pin() };
    let refused = encode_pin(&large, Encoding::Avro).map(|bytes| bytes.len());
    assert_eq!(refused.unwrap_err().name(), "TooLarge");
}

#[test]
fn unreadable_records_are_not_written() {
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
    value.state = vec![1.0, f64::NAN];
    let expected = EncodeError::Unreadable(DecodeError::BadValue { field: "state" });
    assert_eq!(encode_published(&value, Encoding::Avro), Err(expected));
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
    assert_eq!(text(&Key::Round(round.clone())), r#"["acme","p\"","e,1","judged"]"#);
    let label = |annotator: Option<&str>| Key::Label(round.clone(), "l".into(), annotator.map(str::to_owned));
    assert_eq!(text(&label(None)), r#"["acme","p\"","e,1","label","l"]"#);
    assert_eq!(text(&label(Some("ann"))), r#"["acme","p\"","e,1","label","l","ann"]"#);
    assert_eq!(text(&Key::Edit("x".to_owned())), r#"["edit","x"]"#);
    for (bytes, expected) in [
        (&b""[..], "Empty"),
        (b"\xff", "NotJson"),
        (b"e", "BadJson"),
        (b"[1]", "BadJson"),
        (b"[]", "BadValue key"),
        (br#"["a","b","c","label"]"#, "BadValue key"),
        (br#"["a","b","c","judged","d"]"#, "BadValue key"),
        (br#"["a","b","c","label","d",""]"#, "EmptyId"),
        (br#"["a","b","c","label","d","e","f"]"#, "BadValue key"),
        (br#"["edit",""]"#, "EmptyId"),
        (&[b'['; 9_000], "TooLarge"),
        (&[b'['; 99], "TooDeep"),
    ] {
        assert_eq!(refused(decode_key(bytes)), expected);
    }
}

#[test]
fn standings_keep_their_words() {
    for standing in LabelStatus::ALL {
        let Record::Label(mut filed) = examples::filed() else { panic!() };
        filed.status = standing;
        let record = Record::Label(filed);
        let bytes = encode_record(&record, Encoding::Json).unwrap();
        assert!(
            String::from_utf8(bytes.clone())
                .unwrap()
                .contains(&format!(r#""standing":"{}""#, standing.word()))
        );
        assert_eq!(decode_record(&bytes), Ok(record));
    }
}

/// No error quotes the record.
#[test]
fn errors_quote_nothing() {
    let secret = "xyzzy";
    let texts = [
        r#"{"id":"xyzzy","turns":"xyzzy"}"#,
        r#"{"id":"e","text":"xyzzy"#,
        r#"{"id":"e","xyzzy":xyzzy}"#,
        r#"{"id":"e","turns":[{"role":"xyzzy","text":"xyzzy"}]}"#,
        r#"{"id":"e","text":"","time":"xyzzy"}"#,
        r#"{"event_id":"e","verdict":"xyzzy"}"#,
        r#"{"action":"xyzzy","event_id":"xyzzy"}"#,
        "xyzzy",
        r#"{"policy":"xyzzy","learner":{"name":"xyzzy"}}"#,
        r#"{"judged":{"tenant":"xyzzy"}}"#,
        r#"["xyzzy"]"#,
    ];
    let mut seen = BTreeSet::new();
    for text in texts {
        let bytes = text.as_bytes();
        for error in [
            event(text).err(),
            label(text).err(),
            decode_decision(bytes).err(),
            decode_record(bytes).err(),
            decode_review(bytes).err(),
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
