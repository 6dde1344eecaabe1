//! Dead letters: records that cannot be processed, as they are written to the dead-letter topic. The reason and the
//! original's position are in headers whose names are those of Kafka Connect.

mod commit;
mod rate;
mod truncate;

use std::sync::Arc;

pub use self::commit::{CommitOutcome, Outputs, commit, commit_with};
use crate::kafka::{Consumed, Produced};
pub use rate::DeadLetterRate;
use truncate::Part;

/// The prefix of the headers' names.
const PREFIX: &str = "__connect.errors.";

/// The reason why a record is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The error's name. It is a metric label, and tools group by it.
    pub name: &'static str,
    /// A message for the operator. It never holds text of a user.
    pub message: String,
}

/// The dead letter of a record: its key, value, timestamp and headers, and headers with the reason. If it is too large
/// for its topic, it is cut when it is [committed](commit).
#[must_use]
pub fn dead_letter(topic: &Arc<str>, stage: &str, record: Consumed, reason: &Reason) -> Produced {
    let Consumed { topic: from, partition, offset, key, payload, mut headers, timestamp } = record;
    let errors = [
        ("topic", from.to_string()),
        ("partition", partition.to_string()),
        ("offset", offset.to_string()),
        ("stage", stage.to_owned()),
        ("exception.class.name", reason.name.to_owned()),
        ("exception.message", reason.message.clone()),
    ];
    headers.extend(
        errors.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), Some(value.into_bytes()))),
    );
    Produced { topic: Arc::clone(topic), partition: None, key, payload, headers, timestamp }
}

/// Marks a dead letter whose original's value is no longer available.
pub fn without_value(letter: &mut Produced) {
    truncate::remove_value(letter, "unknown".to_owned());
}

/// The content of a dead letter's headers: the position of its original, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The original's topic.
    pub topic: String,
    /// The original's partition.
    pub partition: i32,
    /// The original's offset.
    pub offset: i64,
    /// The role in which it failed: `score` or `learn`.
    pub stage: String,
    /// The error's name.
    pub reason: String,
    /// The message for the operator.
    pub message: String,
}

impl Headers {
    /// Parses the headers of a record on the dead-letter topic. Returns `None` if they name no original. Of several
    /// headers with one name the last counts, because the original may have been a dead letter itself.
    #[must_use]
    pub fn of(headers: &[(String, Option<Vec<u8>>)]) -> Option<Self> {
        let text = |wanted: &str| {
            let (_, value) =
                headers.iter().rev().find(|(name, _)| name.strip_prefix(PREFIX) == Some(wanted))?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let owned = |wanted| text(wanted).unwrap_or_default().to_owned();
        Some(Self {
            topic: text("topic")?.to_owned(),
            partition: text("partition")?.parse().ok()?,
            offset: text("offset")?.parse().ok()?,
            stage: owned("stage"),
            reason: owned("exception.class.name"),
            message: owned("exception.message"),
        })
    }
}

/// The header with the number of times that a record has been replayed into its topic.
pub const REPLAYS: &str = "aegis.replays";

/// The reason why a dead letter cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotReplayable {
    /// It names no original, because another program wrote it.
    NoOriginal,
    /// It has a hash in place of its original's key, which was too large for the dead-letter topic.
    WithoutKey,
    /// Headers of its original were too large for the dead-letter topic and are not in it.
    WithoutHeaders,
    /// Its value was too large for the dead-letter topic and is not in it.
    WithoutValue,
}

impl NotReplayable {
    /// The reason, as a clause whose subject is the dead letter.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::NoOriginal => "names no original",
            Self::WithoutKey => "its key was too large to be kept",
            Self::WithoutHeaders => "its headers were too large to be kept",
            Self::WithoutValue => "its value was too large to be kept",
        }
    }
}

/// Returns the reason why a record with these headers cannot be replayed, or `None` if it can.
#[must_use]
pub fn not_replayable(headers: &[(String, Option<Vec<u8>>)]) -> Option<NotReplayable> {
    if Headers::of(headers).is_none() {
        return Some(NotReplayable::NoOriginal);
    }
    // The original may have had headers of the same names. They do not count.
    let (_, own) = headers.split_at(truncate::original_header_count(headers).unwrap_or(0));
    let part = Part::ALL.into_iter().find(|part| {
        let wanted = part.bytes_header();
        own.iter().any(|(name, _)| *name == wanted)
    });
    part.map(|part| match part {
        Part::Key => NotReplayable::WithoutKey,
        Part::Headers => NotReplayable::WithoutHeaders,
        Part::Value => NotReplayable::WithoutValue,
    })
}

/// The original of a dead letter, to be replayed into its partition, with the number of its replays. It has the
/// original's key, value, timestamp and headers, and one more header with that number.
///
/// # Errors
/// Returns the reason if the dead letter does not hold the whole record.
pub fn original(letter: Consumed) -> Result<(Produced, u32), NotReplayable> {
    let Consumed { key, payload, mut headers, timestamp, .. } = letter;
    if let Some(reason) = not_replayable(&headers) {
        return Err(reason);
    }
    let origin = Headers::of(&headers).ok_or(NotReplayable::NoOriginal)?;
    // From the last `topic` on, all headers are the dead letter's own.
    if let Some(count) = truncate::original_header_count(&headers) {
        headers.truncate(count);
    }
    let before = replays(&headers);
    headers.retain(|(name, _)| name != REPLAYS);
    let count = before.saturating_add(1);
    headers.push((REPLAYS.into(), Some(count.to_string().into_bytes())));
    // A conversation's events are all in one partition, which need not be that of the key.
    let partition = (origin.partition >= 0).then_some(origin.partition);
    Ok((Produced { topic: origin.topic.into(), partition, key, payload, headers, timestamp }, count))
}

/// The number of times that a record has been replayed.
#[must_use]
pub fn replays(headers: &[(String, Option<Vec<u8>>)]) -> u32 {
    let found = headers.iter().rev().find(|(name, _)| name == REPLAYS);
    let text = found.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Consumed {
        Consumed {
            topic: "events".into(),
            partition: 3,
            offset: 7,
            key: Some(b"k".to_vec()),
            payload: Some(b"{broken".to_vec()),
            headers: vec![("mine".into(), None)],
            timestamp: Some(5),
        }
    }

    #[test]
    fn the_record_is_unchanged_and_the_reason_is_in_headers() {
        let reason = Reason { name: "NotAvro", message: "the value is neither Avro nor JSON".into() };
        let letter = dead_letter(&"dlq".into(), "decode", record(), &reason);
        assert_eq!((letter.key, letter.payload, letter.timestamp), (record().key, record().payload, Some(5)));
        let header = |name: &str| {
            let found = letter.headers.iter().find(|(key, _)| key == name)?;
            found.1.clone().and_then(|value| String::from_utf8(value).ok())
        };
        assert_eq!(letter.headers.first(), Some(&("mine".into(), None)));
        assert_eq!(header("__connect.errors.topic").as_deref(), Some("events"));
        assert_eq!(header("__connect.errors.offset").as_deref(), Some("7"));
        assert_eq!(header("__connect.errors.exception.class.name").as_deref(), Some("NotAvro"));
        let read = Headers::of(&letter.headers).unwrap();
        assert_eq!((&*read.topic, read.partition, read.offset), ("events", 3, 7));
        assert_eq!((&*read.stage, &*read.reason), ("decode", "NotAvro"));
    }

    #[test]
    fn the_last_of_two_reasons_is_read() {
        let reason = Reason { name: "NotAvro", message: String::new() };
        let first = dead_letter(&"dlq".into(), "decode", record(), &reason);
        let again = Consumed { topic: "dlq".into(), offset: 9, headers: first.headers, ..record() };
        let second = dead_letter(&"dlq".into(), "decode", again, &reason);
        let read = Headers::of(&second.headers).unwrap();
        assert_eq!((&*read.topic, read.offset), ("dlq", 9));
        assert_eq!(Headers::of(&[("__connect.errors.topic".into(), None)]), None);
    }

    #[test]
    fn a_replay_is_the_record_and_a_count() {
        let reason = Reason { name: "NotAvro", message: String::new() };
        let as_read = |letter: Produced| Consumed { headers: letter.headers, ..record() };
        let letter = as_read(dead_letter(&"dlq".into(), "score", record(), &reason));
        let (back, count) = original(letter).unwrap();
        let Consumed { key, payload, timestamp, mut headers, .. } = record();
        headers.push((REPLAYS.into(), Some(b"1".to_vec())));
        assert_eq!((count, replays(&headers)), (1, 1));
        let expected =
            Produced { topic: "events".into(), partition: Some(3), headers, key, payload, timestamp };
        assert_eq!(back, expected);

        // After a second replay there is one count, and no header of the first dead letter.
        let came = Consumed { headers: back.headers, ..record() };
        let again = as_read(dead_letter(&"dlq".into(), "score", came, &reason));
        assert_eq!(replays(&again.headers), 1);
        let (back, count) = original(again).unwrap();
        assert_eq!((count, back.headers.len()), (2, 2));

        let mut huge = as_read(dead_letter(&"dlq".into(), "score", record(), &reason));
        huge.headers.push((Part::Value.bytes_header(), Some(b"9".to_vec())));
        assert_eq!(original(huge), Err(NotReplayable::WithoutValue));
        assert_eq!(original(record()), Err(NotReplayable::NoOriginal));
    }
}
