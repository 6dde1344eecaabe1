//! CloudEvents as records of Kafka, in both modes.

use aegis::codec::{DecodeError, Encoding, MAX_EVENT, Received, encode_event, remove_cloud_event_headers};
use aegis::core::event::{Event, Role};

use crate::{defaults, event, refused};

type Header = (String, Option<Vec<u8>>);

fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec()))).collect()
}

fn read(payload: impl AsRef<[u8]>, headers: &[Header]) -> Result<Event, DecodeError> {
    Received::new(Some(payload.as_ref()), headers, None).at("events", 3, 14).event(&defaults())
}

/// The headers of binary mode, of which `without` is left out, and further ones.
fn binary(without: &str, more: &[(&str, &str)]) -> Vec<Header> {
    let all = [
        ("ce_specversion", "1.0"),
        ("ce_id", "A-17"),
        ("ce_source", "/chat/eu"),
        ("ce_type", "com.example.message"),
        ("ce_time", "2026-03-01T09:30:00.25+01:00"),
    ];
    let kept: Vec<_> =
        all.into_iter().filter(|(name, _)| *name != without).chain(more.iter().copied()).collect();
    headers(&kept)
}

fn structured() -> Vec<Header> {
    headers(&[("content-type", "application/cloudevents+json; charset=UTF-8")])
}

/// A structured event with these further members.
fn envelope(members: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"A-17","source":"/chat/eu","type":"com.example.message",{members}}}"#
    )
}

#[test]
fn binary_mode_gives_an_event_the_id_and_time_that_its_data_lacks() {
    let json = binary("", &[("content-type", "application/json"), ("ce_comexampleextension", "x")]);
    let found = read(r#"{"turns":[{"role":"user","text":"hello"}],"tenant":"acme"}"#, &json).unwrap();
    assert_eq!((found.id.as_str(), found.conversation.as_str()), ("A-17", "A-17"));
    assert_eq!((found.time, found.tenant.as_str()), (Some(1_772_353_800_250), "acme"));
    assert_eq!(found.judged_text(), "hello");
    // The fields of the data take precedence: such records were read before CloudEvents were.
    let own = read(r#"{"id":"mine","text":"hello","time":5}"#, &json).unwrap();
    assert_eq!((own.id.as_str(), own.time), ("mine", Some(5)));
    // Without ce_time, the time is the record's timestamp, as for every event.
    assert_eq!(read(r#"{"text":"hello"}"#, &binary("ce_time", &[])).unwrap().time, None);
}

#[test]
fn binary_mode_reads_avro_and_text() {
    let own = event(r#"{"id":"mine","text":"hello"}"#).unwrap();
    let avro = encode_event(&own, Encoding::Avro).unwrap();
    assert_eq!(read(&avro, &binary("", &[("content-type", "application/avro")])).unwrap(), own);
    let text = binary("", &[("Content-Type", "Text/Plain; charset=utf-8")]);
    let found = read(r#"{"text": "read as it is"}"#, &text).unwrap();
    assert_eq!((found.id.as_str(), found.turns.len(), found.turns[0].role), ("A-17", 1, Role::User));
    assert_eq!(found.judged_text(), r#"{"text": "read as it is"}"#);
    assert_eq!(refused(read([0xFF, b'a'], &text)), "BadCloudEvent");
    assert_eq!(refused(read("", &text)), "Empty");
    assert_eq!(refused(read(vec![b'a'; MAX_EVENT + 1], &text)), "TooLarge");
    assert_eq!(refused(read(vec![b'a'; 1_000_001], &text)), "TextTooLong");
}

#[test]
fn an_incomplete_binary_event_is_refused_by_the_name_of_the_header() {
    let data = r#"{"id":"mine","text":"hello"}"#;
    for name in ["ce_id", "ce_source", "ce_type"] {
        assert_eq!(refused(read(data, &binary(name, &[]))), format!("MissingField {name}"));
        assert_eq!(refused(read(data, &binary(name, &[(name, "")]))), format!("MissingField {name}"));
    }
    for version in ["0.3", "2.0", "1.0.2", ""] {
        let error = read(data, &binary("ce_specversion", &[("ce_specversion", version)])).unwrap_err();
        assert_eq!(error.name(), "BadCloudEvent", "{version}");
        assert!(error.to_string().contains("another specversion than 1.0"), "{error}");
    }
    let mut broken = binary("ce_id", &[]);
    broken.push(("ce_id".to_owned(), Some(vec![0xFF])));
    assert_eq!(refused(read(data, &broken)), "BadValue ce_id");
    // The time of the envelope is read only if the data has none.
    let late = binary("ce_time", &[("ce_time", "yesterday")]);
    assert_eq!(refused(read(r#"{"text":"hello"}"#, &late)), "BadValue ce_time");
    assert_eq!(read(r#"{"text":"hello","time":5}"#, &late).unwrap().time, Some(5));
    // Without ce_specversion a record is no CloudEvent, and is read as before.
    assert_eq!(read(data, &binary("ce_specversion", &[])).unwrap().id, "mine");
    assert_eq!(refused(read(r#"{"text":"hello"}"#, &binary("ce_specversion", &[]))), "MissingField id");
}

#[test]
fn structured_mode_reads_json_text_and_base64() {
    let json = envelope(r#""time":"2026-03-01T08:30:00Z","subject":null,"ext":5,"data":{"text":"hello"}"#);
    let found = read(&json, &structured()).unwrap();
    assert_eq!((found.id.as_str(), found.time), ("A-17", Some(1_772_353_800_000)));
    assert_eq!((found.judged_text(), found.subject.as_deref()), ("hello", None));
    let typed =
        envelope(r#""datacontenttype":"application/vnd.chat+json","data":{"id":"mine","text":"hello"}"#);
    assert_eq!(read(&typed, &structured()).unwrap().id, "mine");
    // The data may stand before the attributes.
    let early = r#"{"data":{"text":"hello"},"id":9,"type":"t","source":"s","specversion":"1.0"}"#;
    assert_eq!(read(early, &structured()).unwrap().id, "9");
    let text = envelope(r#""datacontenttype":"text/plain","data":"I say \"hello\"""#);
    assert_eq!(read(&text, &structured()).unwrap().judged_text(), "I say \"hello\"");
    // {"text":"hello"}, the text itself, and Avro.
    let base64 = envelope(r#""datacontenttype":"application/json","data_base64":"eyJ0ZXh0IjoiaGVsbG8ifQ==""#);
    assert_eq!(read(&base64, &structured()).unwrap().judged_text(), "hello");
    let base64 = envelope(r#""datacontenttype":"text/plain","data_base64":"aGVsbG8=","data":null"#);
    assert_eq!(read(&base64, &structured()).unwrap().judged_text(), "hello");
    let own = event(r#"{"id":"mine","text":"hello"}"#).unwrap();
    let avro = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        encode_event(&own, Encoding::Avro).unwrap(),
    );
    let avro = envelope(&format!(r#""datacontenttype":"application/avro","data_base64":"{avro}""#));
    assert_eq!(read(&avro, &structured()).unwrap(), own);
    // A file or a bridge may have no headers. The attribute specversion says what the object is.
    assert_eq!(event(&json).unwrap(), read(&json, &structured()).unwrap());
    assert_eq!(event(r#"{"specversion":"7","id":"e","text":"hello"}"#).unwrap().id, "e");
}

#[test]
fn a_bad_structured_event_is_refused_and_never_read_as_something_else() {
    for (members, expected) in [
        (r#""data":"{\"text\":\"hello\"}""#, "BadCloudEvent"),
        (r#""datacontenttype":"application/json","data":"hello""#, "BadCloudEvent"),
        (r#""datacontenttype":"application/xml","data":"<a/>""#, "BadCloudEvent"),
        (r#""data":[1]"#, "BadValue data"),
        (r#""data":{"text":"a"},"data_base64":"YQ==""#, "BadCloudEvent"),
        (r#""datacontenttype":"application/json""#, "MissingField data"),
        (r#""data":null"#, "MissingField data"),
        (r#""data_base64":"%%%""#, "BadValue data_base64"),
        (r#""data_base64":"aGVsbG8=""#, "NotAvro"),
        (r#""datacontenttype":7,"data":{"text":"a"}"#, "BadValue datacontenttype"),
        (r#""data":{}"#, "MissingField turns"),
        (r#""time":"2026-03-01T08:30:00","data":{"text":"a"}"#, "BadValue"),
        (r#""data":{"text":"a"},"data":{"text":"b"}"#, "BadJson"),
        (r#""data":{"specversion":"1.0","data":{"text":"a"}}"#, "MissingField turns"),
    ] {
        assert_eq!(refused(read(envelope(members), &structured())), expected, "{members}");
    }
    let data = r#""data":{"text":"a"}"#;
    for (object, expected) in [
        (format!(r#"{{"specversion":"1.0","id":"a","source":"s",{data}}}"#), "MissingField type"),
        (format!(r#"{{"specversion":"1.0","source":"s","type":"t",{data}}}"#), "MissingField id"),
        (format!(r#"{{"specversion":"1.0","id":"a","source":"","type":"t",{data}}}"#), "MissingField source"),
        (format!(r#"{{"specversion":"0.3","id":"a","source":"s","type":"t",{data}}}"#), "BadCloudEvent"),
        (format!(r#"{{"specversion":1.0,"id":"a","source":"s","type":"t",{data}}}"#), "BadValue specversion"),
        (format!(r#"{{"id":"a","source":"s","type":"t",{data}}}"#), "BadCloudEvent"),
        (r#"{"specversion":"1.0","data":{"text":"a""#.to_owned(), "BadJson"),
        ("[]".to_owned(), "NotAvro"),
    ] {
        assert_eq!(refused(read(&object, &structured())), expected, "{object}");
    }
    let own = encode_event(&event(r#"{"id":"mine","text":"hello"}"#).unwrap(), Encoding::Avro).unwrap();
    assert_eq!(refused(read(own, &structured())), "BadCloudEvent");
    for other in
        ["application/cloudevents+avro", "application/cloudevents-batch+json", "application/cloudevents"]
    {
        let headers = headers(&[("content-type", other)]);
        assert_eq!(refused(read(envelope(data), &headers)), "BadCloudEvent", "{other}");
    }
    let deep = format!(r#""data":{{"text":"a","more":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    assert_eq!(refused(read(envelope(&deep), &structured())), "TooDeep");
}

/// A decision is no CloudEvent, and its value is not what the event's content-type says.
#[test]
fn the_headers_of_a_cloud_event_are_not_passed_on() {
    let more = [
        ("content-type", "application/json"),
        ("traceparent", "00-a"),
        ("center", "kept"),
        ("CE_other", "x"),
    ];
    let mut all = binary("", &more);
    remove_cloud_event_headers(&mut all);
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["traceparent", "center"]);
    let mut all = structured();
    remove_cloud_event_headers(&mut all);
    assert_eq!(all, []);
    let plain = headers(&[("content-type", "application/json"), ("ce_id", "no CloudEvent")]);
    let mut all = plain.clone();
    remove_cloud_event_headers(&mut all);
    assert_eq!(all, plain);
}
