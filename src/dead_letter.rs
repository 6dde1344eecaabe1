//! Dead letters: the outcome of a record that cannot be used, with the reason and without its text.

mod commit;
mod rate;
mod truncate;

use std::sync::Arc;

pub use self::commit::{Outputs, Sent, commit, commit_with};
use crate::kafka::{Consumed, Produced};
pub use rate::Surge;
use truncate::Part;

/// What the names of the headers begin with.
const PREFIX: &str = "__connect.errors.";

/// Why a record is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The error's name: a metric label, and what tools group by.
    pub name: &'static str,
    /// For the operator; never holds what a user wrote.
    pub message: String,
}

/// The dead letter of a record: key, value, timestamp and headers as they were, the reason in headers. Where it is too
/// large for its topic it is cut when it is [committed](commit).
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

/// Marks a dead letter as one whose original's value is not available any more.
pub fn without_value(letter: &mut Produced) {
    truncate::leave_value(letter, "unknown".to_owned());
}

/// What a dead letter says of itself: its original and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The original's topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Where it failed: `score` or `learn`.
    pub stage: String,
    /// The error's name.
    pub reason: String,
    /// What happened, for the operator.
    pub message: String,
}

impl Headers {
    /// Reads the headers of a record on the dead-letter topic; none where it names no original. Of a header
    /// that stands twice the last counts: the original may have been a dead letter of another's.
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

/// The header that counts how often a record has been put back.
pub const REPLAYS: &str = "aegis.replays";

/// Why a dead letter cannot be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stays {
    /// It names no original: another program wrote it.
    Nameless,
    /// It has a hash in place of its original's key, which was too large for the dead-letter topic.
    WithoutKey,
    /// Headers of its original were too large for the dead-letter topic and are not in it.
    WithoutHeaders,
    /// Its value was too large for the dead-letter topic and is not in it.
    WithoutValue,
}

impl Stays {
    /// The reason, as a clause whose subject is the dead letter.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Nameless => "names no original",
            Self::WithoutKey => "its key was too large to be kept",
            Self::WithoutHeaders => "its headers were too large to be kept",
            Self::WithoutValue => "its value was too large to be kept",
        }
    }
}

/// Returns why a record with these headers cannot be put back, or `None` if it can be.
#[must_use]
pub fn stays(headers: &[(String, Option<Vec<u8>>)]) -> Option<Stays> {
    if Headers::of(headers).is_none() {
        return Some(Stays::Nameless);
    }
    // What an original says of itself does not count.
    let own = headers.get(truncate::foreign(headers).unwrap_or(0)..).unwrap_or_default();
    let part = Part::ALL.into_iter().find(|part| {
        let wanted = part.bytes_header();
        own.iter().any(|(name, _)| *name == wanted)
    });
    part.map(|part| match part {
        Part::Key => Stays::WithoutKey,
        Part::Headers => Stays::WithoutHeaders,
        Part::Value => Stays::WithoutValue,
    })
}

/// The record that a dead letter was, as it is to be put back where it came from: key, value, timestamp and its
/// own headers, and one more that counts the replays. With that count.
///
/// # Errors
/// Where the letter does not hold the record.
pub fn original(letter: Consumed) -> Result<(Produced, u32), Stays> {
    let Consumed { key, payload, mut headers, timestamp, .. } = letter;
    if let Some(stays) = stays(&headers) {
        return Err(stays);
    }
    let of = Headers::of(&headers).ok_or(Stays::Nameless)?;
    // From the last `topic` on all headers are the letter's.
    if let Some(at) = truncate::foreign(&headers) {
        headers.truncate(at);
    }
    let before = replays(&headers);
    headers.retain(|(name, _)| name != REPLAYS);
    let count = before.saturating_add(1);
    headers.push((REPLAYS.into(), Some(count.to_string().into_bytes())));
    // An event's partition is its conversation's, whatever its key says now.
    let partition = (of.partition >= 0).then_some(of.partition);
    Ok((Produced { topic: of.topic.into(), partition, key, payload, headers, timestamp }, count))
}

/// How often a record has been put back.
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
    fn the_record_is_untouched_and_the_reason_stands_in_headers() {
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
    fn of_two_dead_letters_in_one_the_last_is_read() {
        let reason = Reason { name: "NotAvro", message: String::new() };
        let first = dead_letter(&"dlq".into(), "decode", record(), &reason);
        let again = Consumed { topic: "dlq".into(), offset: 9, headers: first.headers, ..record() };
        let second = dead_letter(&"dlq".into(), "decode", again, &reason);
        let read = Headers::of(&second.headers).unwrap();
        assert_eq!((&*read.topic, read.offset), ("dlq", 9));
        assert_eq!(Headers::of(&[("__connect.errors.topic".into(), None)]), None);
    }

    #[test]
    fn what_is_put_back_is_the_record_and_a_count() {
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

        // Dead again and put back again: one count, and none of the first letter's headers.
        let came = Consumed { headers: back.headers, ..record() };
        let again = as_read(dead_letter(&"dlq".into(), "score", came, &reason));
        assert_eq!(replays(&again.headers), 1);
        let (back, count) = original(again).unwrap();
        assert_eq!((count, back.headers.len()), (2, 2));

        let mut huge = as_read(dead_letter(&"dlq".into(), "score", record(), &reason));
        huge.headers.push((Part::Value.bytes_header(), Some(b"9".to_vec())));
        assert_eq!(original(huge), Err(Stays::WithoutValue));
        assert_eq!(original(record()), Err(Stays::Nameless));
    }
}
