//! Commits the outputs of a transaction so that each of them fits its topic.
//!
//! A topic's limit holds for what the client sends, which is compressed, so the only proof that a record is too large is
//! the broker's refusal. Therefore outputs are sent as they are, and cut only after a refusal: then all outputs of the
//! transaction for that topic that exceed the topic's limit are cut, and everything is sent again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::truncate::{fit, fit_letter};
use crate::kafka::{CommitError, Membership, Offsets, Outbox, Produced, RecordPosition};

/// The limit of a topic that no one has changed, and the first one that is tried if the brokers do not tell.
const USUAL: usize = 1_048_588;
/// Records of a refused batch are sent in batches of this size: a larger one is alone in its batch.
const SMALL: usize = 16_384;
/// No smaller limit is tried again: nothing fits there.
const LEAST: usize = 512;

/// The outputs of a transaction.
#[derive(Debug)]
pub struct Outputs {
    records: Vec<Produced>,
    /// The topic of dead letters: the headers of a record do not tell, for other outputs pass on those of their inputs.
    dlq: Arc<str>,
    /// Of the records that were cut, the whole ones by their index.
    whole: BTreeMap<usize, Produced>,
    /// The limits of topics that have refused a record of this transaction.
    limits: BTreeMap<Arc<str>, usize>,
}

/// The outcome of committing outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// All outputs are committed; where each of them lies.
    Committed(Vec<RecordPosition>),
    /// Nothing is committed: these outputs are larger than their topics accept, and cannot be cut. Indexes past the
    /// outputs are those of further records.
    Unfit(Vec<usize>),
}

impl Outputs {
    /// Outputs to be committed; those for `dlq` are dead letters.
    #[must_use]
    pub fn new(records: Vec<Produced>, dlq: &Arc<str>) -> Self {
        Self { records, dlq: Arc::clone(dlq), whole: BTreeMap::new(), limits: BTreeMap::new() }
    }

    /// The outputs, as far as they have been cut.
    #[must_use]
    pub fn records(&self) -> &[Produced] {
        &self.records
    }

    /// Puts another record in the place of the one at `index`.
    pub fn replace(&mut self, index: usize, record: Produced) {
        self.whole.remove(&index);
        self.set(index, record);
    }

    /// Takes all outputs out, whole.
    pub fn take(&mut self) -> Vec<Produced> {
        for (index, whole) in std::mem::take(&mut self.whole) {
            if let Some(record) = self.records.get_mut(index) {
                *record = whole;
            }
        }
        std::mem::take(&mut self.records)
    }

    /// Puts other outputs in; what topics refused before still counts.
    pub fn put(&mut self, records: Vec<Produced>) {
        self.whole.clear();
        self.records = records;
    }

    /// The greatest size of a record for `topic` of which it is not known that it is refused.
    fn limit(&self, topic: &str, largest: usize) -> usize {
        self.limits.get(topic).map_or(largest, |limit| largest.min(*limit))
    }

    /// Cuts the outputs that are too large. Returns those that cannot be cut.
    fn fit(&mut self, largest: usize) -> Result<Vec<usize>, CommitError> {
        let mut unfit = Vec::new();
        for index in 0..self.records.len() {
            let Some(record) = self.records.get(index) else { break };
            let limit = self.limit(&record.topic, largest);
            if record.wire_size() <= limit {
                continue;
            }
            let whole = self.whole.remove(&index).unwrap_or_else(|| record.clone());
            let letter = whole.topic == self.dlq;
            match if letter { fit_letter(&whole, limit) } else { fit(&whole, limit) } {
                Some(cut) => self.set(index, cut),
                None if letter => return Err(too_large(index, &whole)),
                None => unfit.push(index),
            }
            self.whole.insert(index, whole);
        }
        Ok(unfit)
    }

    fn set(&mut self, index: usize, record: Produced) {
        if let Some(place) = self.records.get_mut(index) {
            *place = record;
        }
    }

    /// Cuts further records that are too large. Returns those that cannot be cut.
    fn fit_further(&self, further: &mut [Produced], largest: usize) -> Vec<usize> {
        let mut unfit = Vec::new();
        for (index, record) in (self.records.len()..).zip(further) {
            let limit = self.limit(&record.topic, largest);
            if record.wire_size() <= limit {
                continue;
            }
            match fit(record, limit) {
                Some(cut) => *record = cut,
                None => unfit.push(index),
            }
        }
        unfit
    }

    /// Takes in that a topic has refused a record, or a batch whose largest record it is.
    ///
    /// # Errors
    /// Returns [`CommitError::TooLarge`] if nothing is small enough for the topic.
    fn refused(&mut self, outbox: &mut Outbox, refused: Refused) -> Result<(), CommitError> {
        let Refused { index, bytes, topic } = refused;
        let before = self.limit(&topic, outbox.max_record_size());
        match next(outbox.max_batch_size_of(&topic), before, bytes, outbox.batch_size()) {
            Next::Batch(size) => outbox.limit_batch_size(size),
            Next::Limit(limit) => {
                tracing::debug!(topic = &*topic, limit, "outputs are cut to the size that the topic accepts");
                outbox.limit_batch_size(limit);
                self.limits.insert(topic, limit);
            }
            Next::Nothing => return Err(CommitError::TooLarge { index, bytes, topic }),
        }
        Ok(())
    }
}

/// What is tried after a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Batches of this size.
    Batch(usize),
    /// Records cut to this limit, in batches of that size.
    Limit(usize),
    /// Nothing is small enough.
    Nothing,
}

/// What is tried after a batch was refused whose largest record has `bytes`. `told` is the topic's limit, as far as it is
/// known, `before` the limit that the record has been cut to, and `batch` the size of batches: a larger record was
/// alone in its batch.
fn next(told: Option<usize>, before: usize, bytes: usize, batch: usize) -> Next {
    let size = before.min(bytes);
    match told {
        _ if before < LEAST => Next::Nothing,
        Some(told) if told < before => Next::Limit(told),
        _ if bytes <= batch && batch > 1 => Next::Batch(SMALL.min(batch / 2)),
        // The estimate of the record's size is off by a little.
        Some(_) => Next::Limit(size - size / 64 - 1),
        None if size > USUAL => Next::Limit(USUAL),
        None => Next::Limit(size / 4 * 3),
    }
}

/// A record that was refused for its size.
struct Refused {
    index: usize,
    bytes: usize,
    topic: Arc<str>,
}

enum Attempt {
    Sent(Sent),
    Refused(Refused),
}

fn too_large(index: usize, record: &Produced) -> CommitError {
    CommitError::TooLarge { index, bytes: record.wire_size(), topic: Arc::clone(&record.topic) }
}

/// Commits outputs; each that its topic does not accept is cut until it fits.
///
/// # Errors
/// Returns the outbox's error, or [`CommitError::TooLarge`] if not even a dead letter without its original fits.
pub fn commit(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    given_up: impl Fn() -> bool,
) -> Result<Sent, CommitError> {
    commit_with(outbox, outputs, consumed, |_, _| Ok(Vec::new()), given_up)
}

/// Commits outputs together with records that say where the outputs lie: `further` makes them, once all outputs are in
/// their topics, of the outputs and their places. If anything is sent again, `further` is called again with the new
/// places. Nothing is committed if `given_up` returns `true` before the commit is requested.
///
/// # Errors
/// Returns the error of `further`, and those of [`commit`]; [`CommitError::Aborted`] if it was given up.
pub fn commit_with<E: From<CommitError>>(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    further: impl Fn(&[Produced], &[RecordPosition]) -> Result<Vec<Produced>, E>,
    given_up: impl Fn() -> bool,
) -> Result<Sent, E> {
    loop {
        match attempt(outbox, outputs, consumed, &further, &given_up)? {
            Attempt::Sent(sent) => return Ok(sent),
            Attempt::Refused(refused) => outputs.refused(outbox, refused)?,
        }
    }
}

fn attempt<E: From<CommitError>>(
    outbox: &mut Outbox,
    outputs: &mut Outputs,
    consumed: Option<(&Membership, &Offsets)>,
    further: &impl Fn(&[Produced], &[RecordPosition]) -> Result<Vec<Produced>, E>,
    given_up: &impl Fn() -> bool,
) -> Result<Attempt, E> {
    let go_on = |stage| match given_up() {
        true => Err(CommitError::Aborted { stage, reason: "this process was told to give it up".into() }),
        false => Ok(()),
    };
    go_on("begin")?;
    let largest = outbox.max_record_size();
    let unfit = outputs.fit(largest)?;
    if !unfit.is_empty() {
        return Ok(Attempt::Sent(Sent::Unfit(unfit)));
    }
    let mut unit = outbox.transaction();
    let places = match unit.send(&outputs.records) {
        Ok(places) => places,
        Err(error) => return refused(error, &outputs.records, 0),
    };
    let mut more = further(&outputs.records, &places)?;
    let unfit = outputs.fit_further(&mut more, largest);
    if !unfit.is_empty() {
        return Ok(Attempt::Sent(Sent::Unfit(unfit)));
    }
    if let Err(error) = unit.send(&more) {
        return refused(error, &more, outputs.records.len());
    }
    go_on("commit")?;
    unit.commit(consumed)?;
    Ok(Attempt::Sent(Sent::Committed(places)))
}

/// The record that was refused for its size, of `records` whose first has the index `first`; else the error.
fn refused<E: From<CommitError>>(
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

    /// Sends records of these sizes until a topic with this limit accepts them. Returns the limit that they were cut to,
    /// and the refusals.
    fn send(sizes: &[usize], accepts: usize, told: Option<usize>) -> (usize, usize) {
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
            match next(told, limit, *refused.iter().max().unwrap(), batch) {
                Next::Batch(size) => batch = batch.min(size),
                Next::Limit(size) => (limit, batch) = (size, batch.min(size)),
                Next::Nothing => panic!("{limit} is too small"),
            }
        }
        panic!("no end");
    }

    #[test]
    fn what_the_brokers_tell_is_taken_at_once() {
        assert_eq!(send(&[10, 2_000_000, 1_500_000], 1_048_588, Some(1_048_588)), (1_048_588, 1));
        // Many small records are too large a batch: none of them is cut.
        assert_eq!(send(&[2_000; 400], 100_000, Some(100_000)), (100_000, 1));
    }

    #[test]
    fn small_records_are_not_cut_if_the_brokers_tell_nothing() {
        let (limit, _) = send(&[2_000; 400], 10_000, None);
        assert!(limit >= 2_000, "{limit}");
    }

    /// Decisions pass on the headers of their events, whoever wrote these.
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
        assert_eq!(outputs.fit(2_000).ok(), Some(vec![]));
        let cut = outputs.records().first().unwrap();
        assert_eq!((&cut.key, &cut.payload), (&decision.key, &decision.payload));
        assert!(cut.wire_size() <= 2_000 && cut.headers.iter().all(|(name, _)| name != "noise"));
    }

    proptest! {
        /// Whatever a topic accepts, few refusals show it, and not much less than that is sent.
        #[test]
        fn a_limit_that_is_not_told_is_found(
            sizes in prop::collection::vec(1_usize..3_000_000, 1..20), accepts in 2_000_usize..2_000_000,
        ) {
            let (limit, refusals) = send(&sizes, accepts, None);
            prop_assert!(refusals < 40, "{refusals}");
            let largest = sizes.iter().copied().max().unwrap();
            prop_assert!(limit >= accepts.min(largest).min(USUAL) / 4 * 3, "{limit} of {accepts}");
        }
    }
}
