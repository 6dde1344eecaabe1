//! Any value has a round trip in each encoding, and no bytes cause a panic.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::{event, examples, label, strategies};
use aegis::codec::{
    DecodeError, EncodeError, Encoding, decode_decision, decode_key, decode_pin, decode_published,
    decode_record, decode_review, encode_decision, encode_event, encode_key, encode_label, encode_pin,
    encode_published, encode_record, encode_review,
};
use proptest::prelude::*;

fn comes_back<T: PartialEq + Debug>(
    value: &T,
    encode: fn(&T, Encoding) -> Result<Vec<u8>, EncodeError>,
    decode: fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<(), TestCaseError> {
    for encoding in [Encoding::Avro, Encoding::Json] {
        let bytes =
            encode(value, encoding).map_err(|error| TestCaseError::fail(format!("{encoding:?}: {error}")))?;
        let back = decode(&bytes).map_err(|error| TestCaseError::fail(format!("{encoding:?}: {error}")))?;
        prop_assert_eq!(&back, value);
        prop_assert_eq!(encode(&back, encoding), Ok(bytes));
    }
    Ok(())
}

proptest! {
    #[test]
    fn events_come_back(value in strategies::event()) {
        comes_back(&value, encode_event, |bytes| event(bytes))?;
    }

    #[test]
    fn labels_come_back(value in strategies::label()) {
        comes_back(&value, encode_label, |bytes| label(bytes))?;
    }

    #[test]
    fn decisions_come_back(value in strategies::decision()) {
        comes_back(&value, encode_decision, decode_decision)?;
    }

    #[test]
    fn records_come_back(value in strategies::record()) {
        comes_back(&value, encode_record, decode_record)?;
    }

    #[test]
    fn review_requests_come_back(value in strategies::review()) {
        comes_back(&value, encode_review, decode_review)?;
    }

    #[test]
    fn predictors_come_back(value in strategies::published()) {
        comes_back(&value, encode_published, decode_published)?;
    }

    #[test]
    fn pins_come_back(value in strategies::pin()) {
        comes_back(&value, encode_pin, decode_pin)?;
    }

    #[test]
    fn keys_come_back_and_differ(keys in proptest::collection::btree_set(strategies::key(), 2..6)) {
        let written: BTreeSet<_> = keys.iter().map(encode_key).collect();
        prop_assert_eq!(written.len(), keys.len());
        for key in &keys {
            prop_assert_eq!(decode_key(&encode_key(key)), Ok(key.clone()));
        }
    }
}

/// Reads bytes as each kind of record. A value that is read can be written and read again.
fn read_as_all(bytes: &[u8]) {
    if let Ok(value) = event(bytes) {
        assert_eq!(event(encode_event(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    if let Ok(value) = label(bytes) {
        assert_eq!(label(encode_label(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    if let Ok(value) = decode_decision(bytes) {
        assert_eq!(decode_decision(&encode_decision(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    if let Ok(value) = decode_review(bytes) {
        assert_eq!(decode_review(&encode_review(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    if let Ok(value) = decode_record(bytes) {
        assert_eq!(decode_record(&encode_record(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    if let Ok(value) = decode_key(bytes) {
        assert_eq!(decode_key(&encode_key(&value)), Ok(value));
    }
    if let Ok(value) = decode_pin(bytes) {
        assert_eq!(decode_pin(&encode_pin(&value, Encoding::Avro).unwrap()), Ok(value));
    }
    // Bytes are compared, since a state may contain NaN, which only the learner refuses.
    if let Ok(value) = decode_published(bytes) {
        let written = encode_published(&value, Encoding::Avro).unwrap();
        let again = encode_published(&decode_published(&written).unwrap(), Encoding::Avro).unwrap();
        assert_eq!(again, written);
    }
}

fn all_examples() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for encoding in [Encoding::Avro, Encoding::Json] {
        found.push(encode_event(&examples::event(), encoding).unwrap());
        found.push(encode_label(&examples::label(), encoding).unwrap());
        found.push(encode_decision(&examples::decision(), encoding).unwrap());
        for record in [examples::judged(), examples::filed(), examples::quarantine(), examples::erasure()] {
            found.push(encode_record(&record, encoding).unwrap());
        }
        found.push(encode_published(&examples::published(), encoding).unwrap());
        found.push(encode_pin(&examples::pin(), encoding).unwrap());
        found.push(encode_review(&examples::review(), encoding).unwrap());
    }
    found
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_as_all(&bytes);
    }

    #[test]
    fn random_data_behind_a_right_header_do_no_harm(
        which in 0..10_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let example = all_examples().swap_remove(which);
        let mut forged = example.get(..10).unwrap().to_vec();
        forged.extend(bytes);
        read_as_all(&forged);
    }

    #[test]
    fn changed_records_do_no_harm(
        which in 0..20_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = all_examples().swap_remove(which);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_as_all(&bytes);
    }

    #[test]
    fn json_with_other_values_does_no_harm(
        which in 10..20_usize,
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(&["null", "true", "1e300", "-0.0", "[]", "{}", "\"\"", "[[[1]]]", "-1"][..]),
    ) {
        let text = String::from_utf8(all_examples().swap_remove(which)).unwrap();
        let mut tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields: Vec<String> = tree.as_object().unwrap().keys().cloned().collect();
        let field = &fields[place.index(fields.len())];
        tree[field] = serde_json::from_str(value).unwrap();
        read_as_all(tree.to_string().as_bytes());
    }
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for bytes in all_examples() {
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            assert!(event(cut).is_err() && label(cut).is_err() && decode_decision(cut).is_err());
            assert!(decode_record(cut).is_err() && decode_published(cut).is_err());
            assert!(decode_review(cut).is_err());
        }
    }
}
