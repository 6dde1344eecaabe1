//! Records and their headers. A value that is read can be written, and is equal when it is read again.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use aegis::codec::{
    self, DecodeError, Defaults, EncodeError, Encoding, Received, SCHEMA_ID_HEADER, SchemaId, Schemas, Writer,
};
use aegis::config::Config;
use aegis::dead_letter::{self, Headers};
use aegis::kafka::Consumed;

use super::corpus::hash;

fn defaults() -> Defaults {
    Defaults { tenant: "home".to_owned(), policy: "plain".to_owned(), ..Defaults::default() }
}

/// Returns the outcome of a decoder as a number. Errors quote only sizes, lines and columns of the input.
fn ending<T>(read: &Result<T, DecodeError>) -> u64 {
    match read {
        Ok(_) => 0,
        Err(error) => {
            let words = error.to_string();
            assert!(words.len() < 400, "an error of {} bytes", words.len());
            hash(words.replace(|c: char| c.is_ascii_digit(), ""))
        }
    }
}

fn comes_back<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: fn(&T, Encoding) -> Result<Vec<u8>, EncodeError>,
) -> u64 {
    let read = decode(bytes);
    if let Ok(value) = &read {
        for encoding in [Encoding::Avro, Encoding::Json] {
            let again = decode(&encode(value, encoding).expect("what was read can be written"));
            assert!(again.as_ref() == Ok(value), "read again as something else");
        }
    }
    ending(&read)
}

pub fn event(bytes: &[u8]) -> u64 {
    comes_back(bytes, |bytes| codec::decode_event(bytes, &defaults()), codec::encode_event)
}

/// Reads an event with the headers of a CloudEvent in structured mode, in binary mode with JSON or text, or with a piece of
/// the record as its time.
pub fn cloud_event(bytes: &[u8]) -> u64 {
    let (which, record) = match bytes {
        [which @ 0..=3, record @ ..] => (*which, record),
        record => (0, record),
    };
    let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
    let mut headers = vec![header("content-type", b"application/cloudevents+json")];
    if which > 0 {
        let kind: &[u8] = if which == 1 { b"application/json" } else { b"text/plain" };
        headers = vec![header("content-type", kind)];
        let required = [("ce_specversion", "1.0"), ("ce_id", "e"), ("ce_source", "s"), ("ce_type", "t")];
        headers.extend(required.map(|(name, value)| header(name, value.as_bytes())));
    }
    let (time, record) = if which == 3 { record.split_at(record.len().min(24)) } else { (&[][..], record) };
    if which == 3 {
        headers.push(header("ce_time", time));
    }
    let read = Received::new(Some(record), &headers, None).event(&defaults());
    if let Ok(event) = &read {
        assert!(!event.id.is_empty());
        let again = codec::decode_event(&codec::encode_event(event, Encoding::Avro).unwrap(), &defaults());
        assert!(again.as_ref() == Ok(event), "read again as something else");
    }
    ending(&read)
}

/// The pointers to events in other layouts: our own layout, a request with all fields, one text, and a chat.
static MAPPED: LazyLock<[Defaults; 4]> = LazyLock::new(|| {
    let lines = [
        "turns = '/turns'\ntext = '/text'\nturn_text = '/text'\nid = '/id'\nconversation = '/conversation'\n\
         tenant = '/tenant'\npolicy = '/policy'\nsubject = '/subject'\ntime = '/time'\ntime_unit = 'milliseconds'\n\
         judged = '/judged'",
        "turns = '/messages'\nturn_role = '/author'\nid = '/request/uuid'\nconversation = '/request/session'\n\
         tenant = '/meta/org'\npolicy = '/meta/policy'\nsubject = '/meta/user'\ntime = '/meta/ts'\n\
         time_unit = 'seconds'\njudged = '/meta/judged'\nroles = { human = 'user', bot = 'assistant' }\n\
         metadata = { channel = '/meta/channel', first = '/messages/0/author' }",
        "text = '/prompt'",
        "turns = '/input'\nid = '/items/name=a/id'\ntime = '/created'\ntime_zone = 'Europe/Berlin'\n\
         roles = { true = 'assistant', 1 = 'tool' }",
    ];
    lines.map(|lines| {
        let event_fields = toml::from_str(lines).unwrap();
        let config = Config { event_fields, ..Config::default() };
        Defaults { event_fields: config.record_defaults().event_fields, ..defaults() }
    })
});

/// Reads an event by pointers. An event that our own reader and the pointers both read is the same for both.
pub fn mapped(bytes: &[u8]) -> u64 {
    let (which, record) = match bytes {
        [which @ 0..=3, record @ ..] => (usize::from(*which), record),
        record => (0, record),
    };
    let read = Received::plain(record).at("chats", 0, 7).event_and_replaced(&MAPPED[which]);
    if let Ok((event, replaced)) = &read {
        assert!(*replaced <= record.len(), "more escapes than bytes");
        let again = codec::encode_event(event, Encoding::Avro).expect("what was read can be written");
        let again = codec::decode_event(&again, &MAPPED[which]);
        assert!(again.as_ref() == Ok(event), "read again as something else");
    }
    if let (0, Ok((event, _)), Ok(mut own)) = (which, &read, codec::decode_event(record, &defaults())) {
        // These pointers do not include metadata, and pointers do not apply to Avro.
        own.metadata.clone_from(&event.metadata);
        assert!(own == *event, "our own shape is read by pointers as something else");
    }
    ending(&read)
}

/// The pointers to labels in other layouts: our own layout, a tool's, and one with several annotations in a record.
static MAPPED_LABELS: LazyLock<[Defaults; 3]> = LazyLock::new(|| {
    let lines = [
        "event_id = '/event_id'\nid = '/id'\ntenant = '/tenant'\npolicy = '/policy'\nannotator = '/annotator'\n\
         verdict = '/verdict'\nseverity = '/severity'\ncategories = '/categories'\ntime = '/time'\n\
         time_unit = 'milliseconds'\nsource = '/source'\ninclusion_probability = '/inclusion_probability'\ndecision = '/decision'\n\
         corrects = '/corrects'\nretracts = '/retracts'",
        "event_id = '/task/event'\nverdict = '/result'\nverdicts = { toxic = 'unsafe' }\nseverity = '/grade'\n\
         categories = '/tags'\ntime = '/at'\ntime_unit = 'seconds'\nsource = '/queue'\n\
         sources = { complaints = 'report' }",
        "event_id = '/data/event_id'\nannotations = '/annotations'\nannotator = '/annotations/*/completed_by'\n\
         skip_if = { '/annotations/*/was_cancelled' = true, '/annotations/*/result' = '', '/answer' = ['ignore', 1] }\n\
         verdict = '/annotations/*/result/from_name=verdict/value/choices'\ntime = '/annotations/*/at'\n\
         verdicts = { true = 'safe', 0 = 'unsafe' }\ntime_zone = '+01:00'",
    ];
    lines.map(|lines| {
        let label_fields = toml::from_str(lines).unwrap();
        let config = Config { label_fields, ..Config::default() };
        Defaults { label_fields: config.record_defaults().label_fields, ..defaults() }
    })
});

/// Reads a label by pointers. A label that our own reader and the pointers both read is the same for both.
pub fn mapped_label(bytes: &[u8]) -> u64 {
    let (which, record) = match bytes {
        [which @ 0..=2, record @ ..] => (usize::from(*which), record),
        record => (0, record),
    };
    let read = Received::plain(record).labels(&MAPPED_LABELS[which]);
    for label in read.iter().flatten() {
        let again = codec::encode_label(label, Encoding::Avro).expect("what was read can be written");
        let again = codec::decode_label(&again, &MAPPED_LABELS[which]);
        assert!(again.as_ref() == Ok(label), "read again as something else");
    }
    if let (0, Ok([label]), Ok(mut own)) = (which, read.as_deref(), codec::decode_label(record, &defaults()))
    {
        // The field `unsafe` has no pointer, and our own reader may read nothing else.
        (own.verdict, own.severity) = (label.verdict, label.severity);
        assert!(own == *label, "our own shape is read by pointers as something else");
    }
    let count = read.as_ref().map_or(0, Vec::len);
    hash((ending(&read), count.min(3)))
}

pub fn label(bytes: &[u8]) -> u64 {
    comes_back(bytes, |bytes| codec::decode_label(bytes, &defaults()), codec::encode_label)
}

pub fn decision(bytes: &[u8]) -> u64 {
    comes_back(bytes, codec::decode_decision, codec::encode_decision)
}

pub fn review(bytes: &[u8]) -> u64 {
    comes_back(bytes, codec::decode_review, codec::encode_review)
}

pub fn ledger(bytes: &[u8]) -> u64 {
    comes_back(bytes, codec::decode_record, codec::encode_record)
}

pub fn predictor(bytes: &[u8]) -> u64 {
    comes_back(bytes, codec::decode_published, codec::encode_published)
}

pub fn pin(bytes: &[u8]) -> u64 {
    comes_back(bytes, codec::decode_pin, codec::encode_pin)
}

pub fn key(bytes: &[u8]) -> u64 {
    let read = codec::decode_key(bytes);
    if let Ok(key) = &read {
        assert!(codec::decode_key(&codec::encode_key(key)).as_ref() == Ok(key), "read again as another key");
    }
    ending(&read)
}

/// Writers with our schemas, with earlier and other ones, and of JSON. The lowest bits of the id select one.
struct Known(Vec<Arc<Writer>>);

impl Schemas for Known {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        let number = match id {
            SchemaId::Number(number) => number as usize,
            SchemaId::Guid(guid) => usize::from(guid[15]),
        };
        Ok(Arc::clone(&self.0[number % self.0.len()]))
    }
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let paths = [
        "fixtures/records/v1/event.avsc",
        "fixtures/records/v1/decision.avsc",
        "fixtures/records/v1/label.avsc",
        "codec/fuzz/corpus/registry/record.avsc",
    ];
    let read = |path: &&str| Writer::avro(&fs::read_to_string(tests.join(path)).unwrap()).unwrap();
    let avro = paths.iter().map(read);
    let ours = codec::SCHEMAS.iter().map(|(_, text)| Writer::avro(text).unwrap());
    // The corpus refers to them by index, so new ones are added at the end.
    let logical = read(&"codec/fuzz/corpus/registry/logical.avsc");
    Known(avro.chain(ours).chain([Writer::json(), logical]).map(Arc::new).collect())
});

/// Reads a record with a header or a framing. The first byte selects the writer, the second the position of its id: in
/// a header, before the datum as a number or a GUID, or in the bytes that follow.
pub fn framed(bytes: &[u8]) -> u64 {
    let &[writer, how, ref datum @ ..] = bytes else { return 0 };
    // The first bytes of a single-object record are not part of a datum.
    let datum = datum.get(8..).filter(|_| how & 4 != 0).unwrap_or(datum);
    let id = [0, 0, 0, 0, writer];
    let guid = [&[1; 16][..], &[writer]].concat();
    let (payload, header) = match how & 3 {
        0 => (datum.to_vec(), Some(id.to_vec())),
        1 => ([&id[..], datum].concat(), None),
        2 => ([&guid[..], datum].concat(), None),
        _ => (bytes.to_vec(), datum.get(..5).map(<[u8]>::to_vec)),
    };
    let headers: Vec<_> = header.map(|id| (SCHEMA_ID_HEADER.to_owned(), Some(id))).into_iter().collect();
    let received = Received::new(Some(&payload), &headers, Some(&*KNOWN));
    let defaults = defaults();
    let endings = [
        ending(&received.event(&defaults)),
        ending(&received.label(&defaults)),
        ending(&received.decision()),
        ending(&received.review()),
    ];
    hash(endings)
}

/// Reads a schema of a registry, and a short datum of it.
pub fn schema(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 1 };
    let Some(writer) = Writer::avro(text) else { return 2 };
    let known = Known(vec![Arc::new(writer)]);
    let datum = &[&[0; 5][..], &bytes[bytes.len().saturating_sub(40)..], &[0; 40]].concat();
    let received = Received { schemas: Some(&known), ..Received::plain(datum) };
    hash([ending(&received.event(&defaults())), ending(&received.decision())])
}

/// Reads the headers of a dead letter, from lines of `name=value`.
pub fn headers(bytes: &[u8]) -> u64 {
    let header = |line: &[u8]| {
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], Some(line[at + 1..].to_vec())),
            None => (line, None),
        };
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    let headers: Vec<_> = bytes.split(|byte| *byte == b'\n').map(header).collect();
    let read = Headers::of(&headers);
    let replays = dead_letter::replays(&headers);
    let letter = Consumed {
        topic: "dlq".into(),
        partition: 0,
        offset: 0,
        key: None,
        payload: Some(bytes.to_vec()),
        headers,
        timestamp: None,
    };
    let back = dead_letter::original(letter).map(|(record, count)| {
        assert_eq!(dead_letter::replays(&record.headers), count, "the count is not the one that was written");
        assert!(record.partition.is_none_or(|partition| partition >= 0));
        record.headers.len()
    });
    hash((read.is_some(), replays.min(3), back.map_err(|stays| stays as u8)))
}
