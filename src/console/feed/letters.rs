//! Dead letters: their reasons, counts and positions. Their payload is dropped unread.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::core::event::Millis;
use crate::dead_letter::{Headers, not_replayable};
use crate::kafka::Consumed;

/// The number of dead letters that are listed.
const MAX_NEWEST: usize = 200;
/// The number of different reasons that are counted. Further ones are counted as `other`.
const MAX_REASONS: usize = 64;
/// The greatest length of a text of a header, in characters. Any program can write to the topic.
const MAX_TEXT: usize = 300;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The time of the original.
    pub time: Option<Millis>,
    /// The role in which the record failed.
    pub stage: String,
    /// The error's name.
    pub reason: String,
    /// The message for the operator.
    pub message: String,
    /// The position of the original: topic, partition, offset.
    pub origin: Option<(String, i32, i64)>,
    /// `true` if it can be replayed.
    pub replayable: bool,
}

/// The counts of a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The role in which records fail.
    pub stage: String,
    /// The error's name.
    pub reason: String,
    /// The dead letters since the console began to read.
    pub count: u64,
    /// The time of the newest one.
    pub newest: Option<Millis>,
}

/// The dead letters. Its memory is bounded.
#[derive(Debug, Default)]
pub struct Letters {
    newest: VecDeque<Letter>,
    reasons: BTreeMap<(String, String), (u64, Option<Millis>)>,
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

impl Letters {
    /// Adds a record of the dead-letter topic.
    pub fn add(&mut self, record: &Consumed) {
        let headers = Headers::of(&record.headers);
        let text = |of: fn(&Headers) -> &String| {
            headers.as_ref().map_or_else(|| "unknown".into(), |all| cut(of(all)))
        };
        let letter = Letter {
            partition: record.partition,
            offset: record.offset,
            time: record.timestamp,
            stage: text(|headers| &headers.stage),
            reason: text(|headers| &headers.reason),
            message: headers.as_ref().map_or_else(String::new, |headers| cut(&headers.message)),
            origin: headers.as_ref().map(|headers| (cut(&headers.topic), headers.partition, headers.offset)),
            replayable: not_replayable(&record.headers).is_none(),
        };
        let mut key = (letter.stage.clone(), letter.reason.clone());
        if self.reasons.len() >= MAX_REASONS && !self.reasons.contains_key(&key) {
            key = ("other".into(), "other".into());
        }
        let (count, newest) = self.reasons.entry(key).or_default();
        *count += 1;
        *newest = (*newest).max(letter.time);
        self.newest.push_front(letter);
        self.newest.truncate(MAX_NEWEST);
    }

    /// Returns the newest ones, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Letter> {
        self.newest.iter()
    }

    /// Returns the reasons, the most frequent first.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let reason = |((stage, reason), (count, newest)): (&(String, String), &(u64, Option<Millis>))| {
            Reason { stage: stage.clone(), reason: reason.clone(), count: *count, newest: *newest }
        };
        let mut reasons: Vec<Reason> = self.reasons.iter().map(reason).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Reason as Why, dead_letter};

    fn record(name: &str, offset: i64) -> Consumed {
        Consumed {
            topic: "dlq".into(),
            partition: 0,
            offset,
            key: None,
            payload: Some(b"a secret text".to_vec()),
            headers: [("topic", "t"), ("partition", "0"), ("offset", "1"), ("exception.class.name", name)]
                .map(|(name, value)| (format!("__connect.errors.{name}"), Some(value.as_bytes().to_vec())))
                .into(),
            timestamp: Some(offset),
        }
    }

    #[test]
    fn reasons_are_counted_in_bounded_memory_and_payloads_dropped() {
        let mut letters = Letters::default();
        let why = Why { name: "NotAvro", message: "m".repeat(1_000) };
        let written = dead_letter(&"dlq".into(), "score", record("", 1), &why);
        letters.add(&Consumed { headers: written.headers, ..record("", 7) });
        for number in 0..500 {
            letters.add(&record(&format!("Reason{number}"), number));
        }
        let reasons = letters.reasons();
        assert_eq!((reasons.len(), &*reasons[0].reason), (MAX_REASONS + 1, "other"));
        assert_eq!(reasons.iter().map(|reason| reason.count).sum::<u64>(), 501);
        assert_eq!(letters.newest().count(), MAX_NEWEST);
        let all = serde_json::to_string(&letters.newest().collect::<Vec<_>>()).unwrap();
        assert!(!all.contains("secret"));
    }

    #[test]
    fn a_letter_names_its_original() {
        let mut letters = Letters::default();
        let why = Why { name: "NotAvro", message: "m".repeat(1_000) };
        let written = dead_letter(&"dlq".into(), "score", record("", 3), &why);
        letters.add(&Consumed { headers: written.headers, ..record("", 7) });
        let letter = letters.newest().next().unwrap();
        assert_eq!((&*letter.stage, &*letter.reason, letter.message.len()), ("score", "NotAvro", MAX_TEXT));
        assert_eq!(letter.origin, Some(("dlq".into(), 0, 3)));
        assert!(letter.replayable);
    }
}
