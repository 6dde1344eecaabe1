//! Dead letters: the outcome of a record that cannot be used, with the reason and without its text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::{CommitError, Consumed, Membership, Offsets, Outbox, Place, Produced};

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

/// The dead letter of a record: key, value, timestamp and headers as they were, the reason in headers.
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
    /// Its value was too large for the dead-letter topic and is not in it.
    WithoutValue,
}

/// The record that a dead letter was, as it is to be put back where it came from: key, value, timestamp and its
/// own headers, and one more that counts the replays. With that count.
///
/// # Errors
/// Where the letter does not hold the record.
pub fn original(letter: Consumed) -> Result<(Produced, u32), Stays> {
    let Consumed { key, payload, mut headers, timestamp, .. } = letter;
    let of = Headers::of(&headers).ok_or(Stays::Nameless)?;
    if headers.iter().any(|(name, _)| name == LEFT_OUT) {
        return Err(Stays::WithoutValue);
    }
    // From the last of these on all headers are the letter's.
    let first = format!("{PREFIX}topic");
    if let Some(at) = headers.iter().rposition(|(name, _)| *name == first) {
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

/// The header of a letter that goes without its value.
const LEFT_OUT: &str = "__connect.errors.value.left.out.bytes";

/// Commits outputs among which are dead letters. One that is too large for its topic goes without its value:
/// a poison record must not stop its partition, and where the value lies is in the headers.
///
/// # Errors
/// What the outbox says, where it is no dead letter's size.
pub fn commit(
    outbox: &mut Outbox,
    records: Vec<Produced>,
    consumed: Option<(&Membership, &Offsets)>,
    given_up: impl Fn() -> bool,
) -> Result<Vec<Place>, CommitError> {
    commit_with(outbox, records, consumed, |_, _| Ok(Vec::new()), given_up)
}

/// The same with records that say where the outputs lie: `further` makes them, once all outputs are in their
/// topics, of the outputs and their places, and they go into the same unit. Where a dead letter is sent again
/// without its value, so is everything else, and `further` is asked anew with the new places. Where `given_up` says so
/// before the commit is asked for, nothing counts.
///
/// # Errors
/// What the outbox or `further` says, where it is no dead letter's size; [`CommitError::Aborted`] of what was given up.
pub fn commit_with<E: From<CommitError>>(
    outbox: &mut Outbox,
    mut records: Vec<Produced>,
    consumed: Option<(&Membership, &Offsets)>,
    further: impl Fn(&[Produced], &[Place]) -> Result<Vec<Produced>, E>,
    given_up: impl Fn() -> bool,
) -> Result<Vec<Place>, E> {
    let go_on = |stage| match given_up() {
        true => Err(CommitError::Aborted { stage, reason: "this process was told to give it up".into() }),
        false => Ok(()),
    };
    loop {
        go_on("begin")?;
        let mut unit = outbox.unit();
        match unit.send(&records) {
            Ok(places) => {
                unit.send(&further(&records, &places)?)?;
                go_on("commit")?;
                unit.commit(consumed)?;
                return Ok(places);
            }
            Err(CommitError::TooLarge { index, bytes, topic }) => match records.get_mut(index) {
                Some(record) if is_letter(record) && record.payload.is_some() => {
                    record.payload = None;
                    let size = bytes.to_string().into_bytes();
                    record.headers.push((LEFT_OUT.into(), Some(size)));
                }
                _ => return Err(CommitError::TooLarge { index, bytes, topic }.into()),
            },
            Err(other) => return Err(other.into()),
        }
    }
}

fn is_letter(record: &Produced) -> bool {
    record.headers.iter().any(|(name, _)| name == "__connect.errors.exception.class.name")
}

/// Counts dead letters of the last minute: too many mean that something upstream broke, and going on
/// would only move the whole stream into the dead-letter topic.
#[derive(Debug)]
pub struct Surge {
    limit: u64,
    seen: VecDeque<Instant>,
}

impl Surge {
    /// At most `limit` dead letters a minute.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, seen: VecDeque::new() }
    }

    /// Counts one at `now`; false where it is one too many.
    pub fn count(&mut self, now: Instant) -> bool {
        while self.seen.front().is_some_and(|first| now.duration_since(*first) > Duration::from_secs(60)) {
            self.seen.pop_front();
        }
        self.seen.push_back(now);
        self.seen.len() as u64 <= self.limit
    }
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
        huge.headers.push((LEFT_OUT.into(), Some(b"9".to_vec())));
        assert_eq!(original(huge), Err(Stays::WithoutValue));
        assert_eq!(original(record()), Err(Stays::Nameless));
    }

    #[test]
    fn a_surge_is_a_minute_long() {
        let mut surge = Surge::new(2);
        let start = Instant::now();
        assert!(surge.count(start) && surge.count(start));
        assert!(!surge.count(start + Duration::from_secs(30)));
        assert!(surge.count(start + Duration::from_secs(91)));
    }
}
