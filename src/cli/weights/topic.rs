//! The records of the topic of predictors: versions of predictors, and pins.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::scan::scan;
use crate::codec::{self, PIN_BY_HEADER, PIN_REASON_HEADER, hex, time::format_millis};
use crate::config::Config;
use crate::core::predictor::{Pin, Published};
use crate::kafka::{Connection, Consumed};

/// One version of a policy's predictor on the topic.
#[derive(Clone)]
pub struct Version {
    /// The offset.
    pub offset: i64,
    /// The time of the record, in milliseconds since 1970.
    pub time: Option<i64>,
    /// The policy.
    pub policy: String,
    /// The predictor, or `None` if the learner has withdrawn it.
    pub published: Option<Published>,
}

impl Version {
    /// Returns the state hash in hexadecimal digits; empty if nothing is learned.
    pub fn hash(&self) -> String {
        self.published.as_ref().map_or_else(String::new, |published| hex(&published.state_hash))
    }

    pub fn json(&self) -> Value {
        let mut value = json!({
            "policy": self.policy,
            "offset": self.offset,
            "time": self.time.map(format_millis),
            "learned": self.published.is_some(),
        });
        if let (Some(published), Value::Object(fields)) = (&self.published, &mut value) {
            let weights: serde_json::Map<_, _> =
                published.masses.iter().map(|mass| (mass.member.clone(), json!(mass.mass))).collect();
            fields.insert("learner".into(), json!(published.learner.name.as_str()));
            fields.insert("mapping".into(), json!(published.mapping));
            fields.insert("experts".into(), json!(published.experts));
            fields.insert("encoder".into(), json!(published.encoder.map(|encoder| hex(&encoder))));
            fields.insert("rounds".into(), json!(published.rounds));
            fields.insert("ledger_offset".into(), json!(published.ledger_offset));
            fields.insert("state_hash".into(), json!(self.hash()));
            fields.insert("weights".into(), Value::Object(weights));
        }
        value
    }

    /// Describes the version in one line.
    pub fn summary(&self) -> String {
        let time = self.time.map_or_else(|| "-".into(), format_millis);
        match &self.published {
            None => format!("offset {}, {time}: nothing is learned", self.offset),
            Some(published) => format!(
                "offset {}, {time}: {}, {} rounds, ledger offset {}, state {}",
                self.offset,
                published.learner.name,
                published.rounds,
                published.ledger_offset,
                self.hash()
            ),
        }
    }
}

/// A pin on the topic, or the end of one.
#[derive(Clone)]
pub struct PinChange {
    /// The offset.
    pub offset: i64,
    /// The time of the record, in milliseconds since 1970.
    pub time: Option<i64>,
    /// The policy.
    pub policy: String,
    /// The person who changed it; empty if the record does not name one.
    pub by: String,
    /// The reason that the person gave.
    pub reason: String,
    /// The pinned predictor with the record that it was published in; `None` if the pin has ended, or cannot be read.
    pub pinned: Option<(Pin, Version)>,
    /// The reason for which the pin cannot be read. Scorers reject it and wait, so that it is in force until it is ended or
    /// replaced.
    pub unreadable: Option<String>,
}

impl PinChange {
    /// Returns `true` if the policy has a pin after this record, readable or not.
    pub fn is_in_force(&self) -> bool {
        self.pinned.is_some() || self.unreadable.is_some()
    }

    /// Returns the word for the change in JSON.
    pub fn kind(&self) -> &'static str {
        match (&self.pinned, &self.unreadable) {
            (Some(_), _) => "pin",
            (None, Some(_)) => "unreadable pin",
            (None, None) => "unpin",
        }
    }
}

/// A record of the topic.
#[expect(clippy::large_enum_variant, reason = "almost every entry is a version")]
pub enum Entry {
    /// A published predictor.
    Version(Version),
    /// A pin, or its end.
    Pin(Box<PinChange>),
}

/// Passes every record in the topic of predictors to `take`, oldest first. Returns the number of those that cannot be
/// decoded.
pub fn entries(
    connection: &Connection,
    config: &Config,
    take: &mut dyn FnMut(&Consumed, Entry),
) -> Result<usize, Failure> {
    let mut broken = 0;
    scan(connection, &config.topics.weights, &mut |record| {
        match read(&record) {
            Some(entry) => take(&record, entry),
            None => broken += 1,
        }
        Ok(())
    })?;
    Ok(broken)
}

/// Passes every version in the topic of predictors to `take`, oldest first. Returns the number of records that cannot be
/// decoded.
pub fn versions(
    connection: &Connection,
    config: &Config,
    take: &mut dyn FnMut(Version),
) -> Result<usize, Failure> {
    entries(connection, config, &mut |_, entry| {
        if let Entry::Version(version) = entry {
            take(version);
        }
    })
}

/// Returns the pins in force, by policy, also those that cannot be read.
pub fn pins(connection: &Connection, config: &Config) -> Result<BTreeMap<String, PinChange>, Failure> {
    let mut pins = BTreeMap::new();
    entries(connection, config, &mut |_, entry| {
        if let Entry::Pin(change) = entry {
            keep(&mut pins, *change);
        }
    })?;
    Ok(pins)
}

/// Keeps the newest pin of a policy if it is in force.
pub fn keep(pins: &mut BTreeMap<String, PinChange>, change: PinChange) {
    if change.is_in_force() {
        pins.insert(change.policy.clone(), change);
    } else {
        pins.remove(&change.policy);
    }
}

fn read(record: &Consumed) -> Option<Entry> {
    let key = record.key.as_deref().unwrap_or_default();
    let (offset, time) = (record.offset, record.timestamp);
    let Some(policy) = codec::pin_policy(key) else {
        let policy = String::from_utf8_lossy(key).into_owned();
        let published = record.payload.as_deref().map(codec::decode_published).transpose().ok()?;
        return Some(Entry::Version(Version { offset, time, policy, published }));
    };
    Some(Entry::Pin(Box::new(read_pin(record, policy.into_owned()))))
}

fn read_pin(record: &Consumed, policy: String) -> PinChange {
    let (by, reason) = (String::new(), String::new());
    let (offset, time) = (record.offset, record.timestamp);
    let change = PinChange { offset, time, policy, by, reason, pinned: None, unreadable: None };
    let Some(payload) = record.payload.as_deref() else {
        let header = |name: &str| {
            let value =
                record.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        return PinChange { by: header(PIN_BY_HEADER), reason: header(PIN_REASON_HEADER), ..change };
    };
    let pin = match codec::decode_pin(payload) {
        Ok(pin) => pin,
        Err(error) => return PinChange { unreadable: Some(error.to_string()), ..change },
    };
    let change = PinChange { by: pin.by.clone(), reason: pin.reason.clone(), ..change };
    let published = match codec::decode_published(&pin.predictor) {
        Ok(published) => published,
        Err(error) => return PinChange { unreadable: Some(error.to_string()), ..change },
    };
    if pin.policy != change.policy || published.policy != change.policy {
        let why = "it is of another policy than the key of its record".to_owned();
        return PinChange { unreadable: Some(why), ..change };
    }
    let version = Version {
        offset: pin.offset,
        time: pin.published,
        policy: pin.policy.clone(),
        published: Some(published),
    };
    PinChange { pinned: Some((pin, version)), ..change }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoding;

    fn record(policy: &str, payload: Option<Vec<u8>>) -> Consumed {
        Consumed {
            topic: "weights".into(),
            partition: 0,
            offset: 4,
            key: Some(codec::pin_key(policy)),
            payload,
            headers: vec![(PIN_BY_HEADER.into(), Some(b"ann".to_vec()))],
            timestamp: Some(5),
        }
    }

    fn pin(policy: &str, predictor: Vec<u8>) -> Vec<u8> {
        let pin = Pin {
            policy: policy.into(),
            predictor,
            offset: 3,
            published: None,
            by: "bob".into(),
            reason: "a test".into(),
            time: 9,
        };
        codec::encode_pin(&pin, Encoding::Avro).unwrap()
    }

    #[test]
    fn a_pin_that_cannot_be_read_is_in_force_until_it_is_ended() {
        let of_another = Published {
            policy: "other".into(),
            format: 1,
            learner: crate::core::learners::LearnerSpec::new(crate::core::learners::Name::Hedge),
            mapping: "m".into(),
            experts: vec!["a".into()],
            encoder: None,
            rounds: 0,
            last_key: None,
            ledger_offset: 0,
            state_hash: [3; 32],
            state: Vec::new(),
            masses: Vec::new(),
        };
        let of_another = codec::encode_published(&of_another, Encoding::Avro).unwrap();
        let mut pins = BTreeMap::new();
        for (payload, by) in [
            (b"garbage".to_vec(), ""),
            (pin("house", b"garbage".to_vec()), "bob"),
            (pin("other", of_another.clone()), "bob"),
            (pin("house", of_another), "bob"),
        ] {
            let Some(Entry::Pin(change)) = read(&record("house", Some(payload))) else {
                panic!("it is a pin")
            };
            assert_eq!((change.kind(), change.by.as_str()), ("unreadable pin", by));
            keep(&mut pins, *change);
            assert!(pins.contains_key("house"));
        }
        let Some(Entry::Pin(change)) = read(&record("house", None)) else { panic!("it ends a pin") };
        assert_eq!((change.kind(), change.by.as_str()), ("unpin", "ann"));
        keep(&mut pins, *change);
        assert!(pins.is_empty());
    }
}
