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
    /// The pinned predictor with the record that it was published in; `None` if the pin has ended.
    pub pinned: Option<(Pin, Version)>,
}

/// A record of the topic.
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

/// Returns the pins in force, by policy.
pub fn pins(connection: &Connection, config: &Config) -> Result<BTreeMap<String, PinChange>, Failure> {
    let mut pins = BTreeMap::new();
    entries(connection, config, &mut |_, entry| {
        if let Entry::Pin(change) = entry {
            keep(&mut pins, *change);
        }
    })?;
    Ok(pins)
}

/// Keeps the pin of a policy if it is in force.
pub fn keep(pins: &mut BTreeMap<String, PinChange>, change: PinChange) {
    if change.pinned.is_some() {
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
    let policy = policy.into_owned();
    let Some(payload) = record.payload.as_deref() else {
        let header = |name: &str| {
            let value =
                record.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        let (by, reason) = (header(PIN_BY_HEADER), header(PIN_REASON_HEADER));
        return Some(Entry::Pin(Box::new(PinChange { offset, time, policy, by, reason, pinned: None })));
    };
    let pin = codec::decode_pin(payload).ok()?;
    let published = codec::decode_published(&pin.predictor).ok()?;
    let version = Version {
        offset: pin.offset,
        time: pin.published,
        policy: pin.policy.clone(),
        published: Some(published),
    };
    let (by, reason) = (pin.by.clone(), pin.reason.clone());
    let pinned = Some((pin, version));
    Some(Entry::Pin(Box::new(PinChange { offset, time, policy, by, reason, pinned })))
}
