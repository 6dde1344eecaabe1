//! Commits the outputs of a transaction so that each of them fits its topic.
//!
//! A topic's limit is for the compressed bytes that the client sends, so only the broker's refusal shows that a record is
//! too large. Outputs are therefore first sent whole. After a refusal all outputs of the transaction that exceed the limit
//! of that topic are truncated, and everything is sent again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::truncate::{truncate_dead_letter, truncate_headers};
use crate::kafka::{CommitError, Membership, Offsets, Outbox, Produced, RecordPosition};

/// Kafka's default limit of a topic, in bytes. It is tried first if the topic's own limit is unknown.
const DEFAULT_LIMIT: usize = 1_048_588;
/// The size of batches, in bytes, after a batch was refused. A larger record is alone in its batch.
const SMALL_BATCH: usize = 16_384;
/// The least limit that is tried, in bytes. No output fits below it.
const MIN_LIMIT: usize = 512;

/// The outputs of a transaction.
#[derive(Debug)]
pub struct Outputs {
    records: Vec<Produced>,
    /// The topic of dead letters. Headers cannot identify them, because other outputs have the headers of their inputs.
    dlq: Arc<str>,
    /// The originals of records that were truncated, by index.
    whole: BTreeMap<usize, Produced>,
    /// The limits of topics that have refused a record of this transaction.
    limits: BTreeMap<Arc<str>, usize>,
}

/// The outcome of committing outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// All outputs are committed, at these positions.
    Committed(Vec<RecordPosition>),
    /// Nothing is committed, because the outputs with these indexes are larger than their topics accept and cannot be
    /// truncated. Indexes past the outputs are those of further records.
    TooLarge(Vec<usize>),
}

impl Outputs {
    /// Outputs to be committed; those for `dlq` are dead letters.
    #[must_use]
    pub fn new(records: Vec<Produced>, dlq: &Arc<str>) -> Self {
        Self { records, dlq: Arc::clone(dlq), whole: BTreeMap::new(), limits: BTreeMap::new() }
    }

    /// The outputs, truncated where necessary.
    #[must_use]
    pub fn records(&self) -> &[Produced] {
        &self.records
    }

    /// Replaces the output at `index`.
    ///
    /// # Panics
    /// Panics if there is no such output.
    pub fn replace(&mut self, index: usize, record: Produced) {
        self.whole.remove(&index);
        self.records[index] = record;
    }

    /// Removes all outputs and returns them whole.
    pub fn take(&mut self) -> Vec<Produced> {
        for (index, whole) in std::mem::take(&mut self.whole) {
            self.records[index] = whole;
        }
        std::mem::take(&mut self.records)
    }

    /// Replaces all outputs. Limits that are known from refusals stay.
    pub fn put(&mut self, records: Vec<Produced>) {
        self.whole.clear();
        self.records = records;
    }

    /// The greatest size of a record that `topic` has not refused.
    fn limit(&self, topic: &str, largest: usize) -> usize {
        self.limits.get(topic).map_or(largest, |limit| largest.min(*limit))
    }

    /// Truncates outputs that are too large. Returns the indexes of those that cannot be truncated.
    ///
    /// # Errors
    /// Returns [`CommitError::TooLarge`] if a dead letter cannot be truncated.
    fn truncate(&mut self, largest: usize) -> Result<Vec<usize>, CommitError> {
        let mut unfit = Vec::new();
        for index in 0..self.records.len() {
            let record = &self.records[index];
            let limit = self.limit(&record.topic, largest);
            if record.wire_size() <= limit {
                continue;
            }
            let whole = self.whole.remove(&index).unwrap_or_else(|| record.clone());
            let is_dead_letter = whole.topic == self.dlq;
            match if is_dead_letter {
                truncate_dead_letter(&whole, limit)
            } else {
                truncate_headers(&whole, limit)
            } {
                Some(cut) => self.records[index] = cut,
                None if is_dead_letter => return Err(too_large(index, &whole)),
                None => unfit.push(index),
            }
            self.whole.insert(index, whole);
        }
        Ok(unfit)
    }

    /// Truncates further records that are too large. Returns the indexes of those that cannot be truncated.
    fn truncate_further(&self, further: &mut [Produced], largest: usize) -> Vec<usize> {
        let mut unfit = Vec::new();
        for (index, record) in (self.records.len()..).zip(further) {
            let limit = self.limit(&record.topic, largest);
            if record.wire_size() <= limit {
                continue;
            }
            match truncate_headers(record, limit) {
                Some(cut) => *record = cut,
                None => unfit.push(index),
            }
        }
        unfit
    }

    /// Chooses a smaller limit after a topic has refused a record, or a batch whose largest record it is.
    ///
    /// # Errors
    /// Returns [`CommitError::TooLarge`] if nothing is small enough for the topic.
    fn on_refused(&mut self, outbox: &mut Outbox, refused: Refused) -> Result<(), CommitError> {
        let Refused { index, bytes, topic } = refused;
        let before = self.limit(&topic, outbox.max_record_size());
        match retry(outbox.max_batch_size_of(&topic), before, bytes, outbox.batch_size()) {
            Retry::Batch(size) => outbox.limit_batch_size(size),
            Retry::Limit(limit) => {
                tracing::debug!(
                    topic = &*topic,
                    limit,
                    "outputs are truncated to the size that the topic accepts"
                );
                outbox.limit_batch_size(limit);
                self.limits.insert(topic, limit);
            }
            Retry::Impossible => return Err(CommitError::TooLarge { index, bytes, topic }),
        }
        Ok(())
    }
}

/// The next attempt after a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Retry {
    /// Batches of this size.
    Batch(usize),
    /// Records truncated to this limit, in batches of that size.
    Limit(usize),
    /// No smaller limit is worth an attempt.
    Impossible,
}

/// The next attempt after a batch was refused whose largest record has `bytes`. `configured` is the topic's limit if it is
/// known, `before` the limit to which the record has been truncated, and `batch` the size of batches: a larger record was
/// alone in its batch.
fn retry(configured: Option<usize>, before: usize, bytes: usize, batch: usize) -> Retry {
    let size = before.min(bytes);
    match configured {
        _ if before < MIN_LIMIT => Retry::Impossible,
        Some(limit) if limit < before => Retry::Limit(limit),
        _ if bytes <= batch && batch > 1 => Retry::Batch(SMALL_BATCH.min(batch / 2)),
        // The record's size is an estimate, slightly too small.
        Some(_) => Retry::Limit(size - size / 64 - 1),
        None if size > DEFAULT_LIMIT => Retry::Limit(DEFAULT_LIMIT),
        None => Retry::Limit(size / 4 * 3),
    }
}

/// A record that was refused because of its size.
struct Refused {
    index: usize,
    bytes: usize,
    topic: Arc<str>,
}

enum Attempt {
    Done(CommitOutcome),
    Refused(Refused),
}

fn too_large(index: usize, record: &Produced) -> CommitError {
    CommitError::TooLarge { index, bytes: record.wire_size(), topic: Arc::clone(&record.topic) }
}

/// Commits outputs. An output that its topic does not accept is truncated until it fits.
///
/// # Errors
/// Returns the outbox's error, or [`CommitError::TooLarge`] if a dead letter does not fit even without its original.
pub fn commit(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    is_aborted: impl Fn() -> bool,
) -> Result<CommitOutcome, CommitError> {
    commit_with(outbox, outputs, consumed, |_, _| Ok(Vec::new()), is_aborted)
}

/// Commits outputs together with further records that refer to the outputs' positions. `further` makes these records when
/// all outputs have been sent. If the outputs are sent again, it is called again with the new positions. Nothing is
/// committed if `is_aborted` returns `true` before the commit is requested.
///
/// # Errors
/// Returns the error of `further`, those of [`commit`], and [`CommitError::Aborted`] if `is_aborted` returned `true`.
pub fn commit_with<E: From<CommitError>>(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    further: impl Fn(&[Produced], &[RecordPosition]) -> Result<Vec<Produced>, E>,
    is_aborted: impl Fn() -> bool,
) -> Result<CommitOutcome, E> {
    loop {
        match attempt(outbox, outputs, consumed, &further, &is_aborted)? {
            Attempt::Done(sent) => return Ok(sent),
            Attempt::Refused(refused) => outputs.on_refused(outbox, refused)?,
        }
    }
}

fn attempt<E: From<CommitError>>(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    further: &impl Fn(&[Produced], &[RecordPosition]) -> Result<Vec<Produced>, E>,
    is_aborted: &impl Fn() -> bool,
) -> Result<Attempt, E> {
    let check_aborted = |stage| match is_aborted() {
        true => Err(CommitError::Aborted { stage, reason: "this process was asked to abort it".into() }),
        false => Ok(()),
    };
    check_aborted("begin")?;
    let largest = outbox.max_record_size();
    let unfit = outputs.truncate(largest)?;
    if !unfit.is_empty() {
        return Ok(Attempt::Done(CommitOutcome::TooLarge(unfit)));
    }
    let mut unit = outbox.transaction();
    let places = match unit.send(&outputs.records) {
        Ok(places) => places,
        Err(error) => return refused_record(error, &outputs.records, 0),
    };
    let mut more = further(&outputs.records, &places)?;
    let unfit = outputs.truncate_further(&mut more, largest);
    if !unfit.is_empty() {
        return Ok(Attempt::Done(CommitOutcome::TooLarge(unfit)));
    }
    if let Err(error) = unit.send(&more) {
        return refused_record(error, &more, outputs.records.len());
    }
    check_aborted("commit")?;
    unit.commit(consumed)?;
    Ok(Attempt::Done(CommitOutcome::Committed(places)))
}

/// Returns the record that was refused because of its size, or the error if it has another cause. The first of `records` has
/// the index `first`.
fn refused_record<E: From<CommitError>>(
    error: CommitError,
    records: &[Produced],
    first: usize,
) -> Result<Attempt, E> {
    match error {
        CommitError::TooLarge { index, bytes, topic } => {
            let bytes = records.get(index).map_or(bytes, Produced::wire_size);
            Ok(Attempt::Refused(Refused { index: first + index, bytes, topic }))
        }
        other => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends records of these sizes until a topic with the limit `accepts` accepts them. Returns the limit to which they
    /// were truncated, and the number of refusals.
    fn send(sizes: &[usize], accepts: usize, configured: Option<usize>) -> (usize, usize) {
        let (mut limit, mut batch) = (8 << 20, 1_000_000);
        for refusals in 0..100 {
            let cut: Vec<_> = sizes.iter().map(|size| (*size).min(limit)).collect();
            let mut batches: Vec<Vec<usize>> = Vec::new();
            for size in cut {
                match batches.last_mut() {
                    Some(last) if last.iter().sum::<usize>() + size <= batch => last.push(size),
                    _ => batches.push(vec![size]),
                }
            }
            let Some(refused) = batches.iter().find(|batch| batch.iter().sum::<usize>() > accepts) else {
                return (limit, refusals);
            };
            match retry(configured, limit, *refused.iter().max().unwrap(), batch) {
                Retry::Batch(size) => batch = batch.min(size),
                Retry::Limit(size) => (limit, batch) = (size, batch.min(size)),
                Retry::Impossible => panic!("{limit} is too small"),
            }
        }
        panic!("no end");
    }

    #[test]
    fn a_known_limit_is_used_at_once() {
        assert_eq!(send(&[10, 2_000_000, 1_500_000], 1_048_588, Some(1_048_588)), (1_048_588, 1));
        // Many small records are too large a batch, and none of them is truncated.
        assert_eq!(send(&[2_000; 400], 100_000, Some(100_000)), (100_000, 1));
    }

    #[test]
    fn small_records_are_not_truncated_if_the_limit_is_unknown() {
        let (limit, _) = send(&[2_000; 400], 10_000, None);
        assert!(limit >= 2_000, "{limit}");
    }

    /// A decision has the headers of its event, which can be any.
    #[test]
    fn a_decision_with_the_headers_of_a_dead_letter_keeps_its_value() {
        let headers = vec![
            ("__connect.errors.topic".to_owned(), Some(b"x".to_vec())),
            ("noise".to_owned(), Some(vec![7; 5_000])),
        ];
        let (key, payload) = (Some(b"k".to_vec()), Some(vec![1; 500]));
        let topic = "decisions".into();
        let decision = Produced { topic, partition: Some(0), key, payload, headers, timestamp: None };
        let mut outputs = Outputs::new(vec![decision.clone()], &"dlq".into());
        assert_eq!(outputs.truncate(2_000).ok(), Some(vec![]));
        let cut = outputs.records().first().unwrap();
        assert_eq!((&cut.key, &cut.payload), (&decision.key, &decision.payload));
        assert!(cut.wire_size() <= 2_000 && cut.headers.iter().all(|(name, _)| name != "noise"));
    }

    proptest! {
        /// Few refusals find the limit of any topic, and the records are not truncated much below it.
        #[test]
        fn an_unknown_limit_is_found(
            sizes in prop::collection::vec(1_usize..3_000_000, 1..20), accepts in 2_000_usize..2_000_000,
        ) {
            let (limit, refusals) = send(&sizes, accepts, None);
            prop_assert!(refusals < 40, "{refusals}");
            let largest = sizes.iter().copied().max().unwrap();
            prop_assert!(limit >= accepts.min(largest).min(DEFAULT_LIMIT) / 4 * 3, "{limit} of {accepts}");
        }
    }
}
