use proptest::prelude::*;

use super::*;
use crate::dead_letter::{Headers, NotReplayable, Reason, dead_letter, not_replayable, original};
use crate::kafka::Consumed;

type Header = (String, Option<Vec<u8>>);

fn record(key: usize, value: usize, headers: Vec<Header>) -> Consumed {
    Consumed {
        topic: "events".into(),
        partition: 3,
        offset: 7,
        key: Some(vec![b'k'; key]),
        payload: Some(vec![b'v'; value]),
        headers,
        timestamp: Some(5),
    }
}

fn letter(record: Consumed) -> Produced {
    let reason = Reason { name: "NotAvro", message: "the value is neither Avro nor JSON".into() };
    dead_letter(&"dlq".into(), "score", record, &reason)
}

fn as_read(letter: Produced) -> Consumed {
    let Produced { topic, key, payload, headers, timestamp, .. } = letter;
    Consumed { topic, partition: 0, offset: 0, key, payload, headers, timestamp }
}

fn header(name: &str, bytes: usize) -> Header {
    (name.into(), Some(vec![b'h'; bytes]))
}

fn number(record: &Produced, name: &str) -> Option<usize> {
    let (_, value) = record.headers.iter().find(|(header, _)| header == name)?;
    std::str::from_utf8(value.as_deref()?).ok()?.parse().ok()
}

#[test]
fn a_dead_letter_loses_the_least_that_makes_it_fit() {
    let cut =
        |key, value, headers| truncate_dead_letter(&letter(record(key, value, headers)), 4_000).unwrap();
    let lost = |letter: &Produced| not_replayable(&letter.headers);
    let whole = cut(100, 2_000, vec![header("a", 100)]);
    assert_eq!((whole.payload.unwrap().len(), not_replayable(&whole.headers)), (2_000, None));

    let large_value = cut(100, 4_000, vec![header("a", 100)]);
    assert_eq!((large_value.payload.as_ref(), lost(&large_value)), (None, Some(NotReplayable::WithoutValue)));
    assert_eq!(number(&large_value, "__connect.errors.value.left.out.bytes"), Some(4_000));
    assert_eq!(large_value.headers[0], header("a", 100));

    let large_header = cut(100, 200, vec![header("a", 9_000), header("b", 10)]);
    assert_eq!(lost(&large_header), Some(NotReplayable::WithoutHeaders));
    assert_eq!(large_header.payload.as_ref().map(Vec::len), Some(200));
    assert_eq!(large_header.headers[0], header("b", 10));
    assert_eq!(number(&large_header, "__connect.errors.headers.left.out.count"), Some(1));
    assert_eq!(number(&large_header, "__connect.errors.headers.left.out.bytes"), Some(9_001));

    let large_key = cut(9_000, 200, vec![header("a", 100)]);
    assert_eq!(lost(&large_key), Some(NotReplayable::WithoutKey));
    let hash = hex(&Sha256::digest([b'k'; 9_000]).into());
    assert_eq!((large_key.key, large_key.payload.map(|value| value.len())), (Some(hash.into()), Some(200)));
    assert_eq!(large_key.headers[0], header("a", 100));

    let all = cut(9_000, 9_000, vec![header("a", 9_000)]);
    assert_eq!((all.payload.as_ref(), all.key.as_ref().map(Vec::len)), (None, Some(64)));
    assert_eq!(Headers::of(&all.headers).unwrap().offset, 7);
}

#[test]
fn other_outputs_lose_headers_only_the_largest_first() {
    let output =
        |key, headers| Produced { headers, topic: "decisions".into(), ..letter(record(key, 500, vec![])) };
    let headers = vec![header("a", 10), header("twice", 600), header("b", 1_000), header("twice", 600)];
    let cut = truncate_headers(&output(10, headers.clone()), 2_200).unwrap();
    let names: Vec<_> = cut.headers.iter().map(|(name, _)| &**name).collect();
    let own = ["count", "bytes", "sha256"].map(|figure| format!("aegis.headers.left.out.{figure}"));
    assert_eq!(names, [&["a", "b"][..], &own.each_ref().map(|name| &**name)[..]].concat());
    assert_eq!(number(&cut, "aegis.headers.left.out.count"), Some(2));
    assert_eq!(number(&cut, "aegis.headers.left.out.bytes"), Some(1_210));
    assert_eq!(cut.payload.as_ref().map(Vec::len), Some(500));
    assert_eq!(truncate_headers(&output(9_000, headers), 2_200), None);

    // The trace stays, however small the other headers are.
    let trace = header("traceparent", 55);
    let mut many: Vec<_> = (0..500).map(|number| header(&format!("{number}"), 1)).collect();
    many.push(trace.clone());
    let cut = truncate_headers(&output(10, many), 2_200).unwrap();
    assert!(cut.headers.contains(&trace) && cut.headers.len() > 50, "{}", cut.headers.len());
}

#[test]
fn headers_of_the_original_do_not_count() {
    let forged = vec![("__connect.errors.value.left.out.bytes".to_owned(), Some(b"9".to_vec()))];
    let came = as_read(letter(record(1, 1, forged.clone())));
    assert_eq!(not_replayable(&came.headers), None);
    assert_eq!(original(came).unwrap().0.headers[0], forged[0]);
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3_000));
    prop::collection::vec(("[a-c]{0,2}", value), 0..8)
}

proptest! {
    /// A dead letter always fits and keeps its reason. It can be replayed whole, or names the part that it lacks.
    #[test]
    fn a_dead_letter_always_fits(
        key in 0_usize..3_000, value in 0_usize..3_000, headers in headers(), limit in 1_500_usize..6_000,
    ) {
        let from = record(key, value, headers);
        let whole = letter(from.clone());
        let cut = truncate_dead_letter(&whole, limit).unwrap();
        prop_assert!(cut.wire_size() <= limit);
        prop_assert_eq!(Headers::of(&cut.headers), Headers::of(&whole.headers));
        prop_assert_eq!(cut == whole, whole.wire_size() <= limit);
        let lost = not_replayable(&cut.headers);
        prop_assert_eq!(lost.is_none(), cut == whole);
        match original(as_read(cut)) {
            Ok((back, _)) => prop_assert_eq!(
                (back.key, back.payload, &back.headers[..from.headers.len()]),
                (from.key, from.payload, &from.headers[..])
            ),
            Err(stays) => prop_assert_eq!(Some(stays), lost),
        }
    }

    /// The remaining headers keep their order, and the number and size of the others are given.
    #[test]
    fn headers_stay_in_order(headers in headers(), limit in 600_usize..6_000) {
        let whole = Produced { topic: "decisions".into(), headers: headers.clone(), ..letter(record(9, 9, vec![])) };
        let Some(cut) = truncate_headers(&whole, limit) else { return Ok(()) };
        let count = number(&cut, "aegis.headers.left.out.count").unwrap_or(0);
        let kept = &cut.headers[..headers.len() - count];
        let kept_bytes: usize = kept.iter().map(|(name, value)| size(name, value.as_ref())).sum();
        let all: usize = headers.iter().map(|(name, value)| size(name, value.as_ref())).sum();
        prop_assert_eq!(kept_bytes + number(&cut, "aegis.headers.left.out.bytes").unwrap_or(0), all);
        let names: BTreeSet<_> = kept.iter().map(|(name, _)| name).collect();
        let expected: Vec<_> = headers.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        prop_assert_eq!(kept, &expected[..]);
    }
}
