//! Folding and publishing: the predictor of each policy, at most once an interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LearnError;
use super::ledger::Ledger;
use crate::codec;
use crate::core::predictor::StateHash;
use crate::crash;
use crate::kafka::{Outbox, Produced};
use crate::ops::metrics;

/// Rounds folded between two looks at the labels: some tens of milliseconds.
const STRETCH: usize = 20_000;

/// Rounds over which experts are scored one by one, at each publishing: a millisecond or two.
const NEWEST: usize = 10_000;

const AVRO: codec::Encoding = codec::Encoding::Avro;

/// All that is known is published. When that began; `None`: there was nothing new.
pub struct Publishing(pub Option<Instant>);

/// Publishes predictors.
pub struct Publisher {
    topic: Arc<str>,
    interval: Duration,
    last: Option<Instant>,
    /// What was published last, by policy; `None`: that nothing is learned.
    published: BTreeMap<String, Option<StateHash>>,
}

impl Publisher {
    /// Publishes to `topic`, at most every `interval_ms`.
    #[must_use]
    pub fn new(topic: &str, interval_ms: u64) -> Self {
        Self {
            topic: topic.into(),
            interval: Duration::from_millis(interval_ms),
            last: None,
            published: BTreeMap::new(),
        }
    }

    /// Folds a stretch, and publishes what is current if the interval is over; then, whether anything was new.
    ///
    /// # Errors
    /// Where a learner refuses its experts, or publishing fails.
    pub fn advance(
        &mut self,
        ledger: &mut Ledger,
        outbox: &mut Outbox,
    ) -> Result<Option<Publishing>, LearnError> {
        let (book, folds) = ledger.folds();
        let mut current = true;
        for (policy, fold) in folds.iter_mut() {
            let started = Instant::now();
            let steps = fold.settle(book)?;
            current &= fold.advance(book, STRETCH)?;
            if steps > 0 {
                metrics::folded(policy, steps, started.elapsed());
            }
        }
        if current && self.last.is_none_or(|last| last.elapsed() >= self.interval) {
            return self.publish(ledger, outbox).map(Some);
        }
        Ok(None)
    }

    /// Folds everything and publishes it, unless that is given up between two stretches.
    ///
    /// # Errors
    /// Where a learner refuses its experts, or publishing fails.
    pub fn finish(
        &mut self,
        ledger: &mut Ledger,
        outbox: &mut Outbox,
        given_up: impl Fn() -> bool,
    ) -> Result<Publishing, LearnError> {
        let (book, folds) = ledger.folds();
        for fold in folds.values_mut() {
            while !given_up() && !fold.advance(book, STRETCH)? {}
        }
        if given_up() {
            return Ok(Publishing(None));
        }
        self.publish(ledger, outbox)
    }

    fn publish(&mut self, ledger: &mut Ledger, outbox: &mut Outbox) -> Result<Publishing, LearnError> {
        let began = Instant::now();
        let offset = ledger.offset();
        let (book, folds) = ledger.folds();
        let mut records = Vec::new();
        let mut hashes = Vec::new();
        for (policy, fold) in folds.iter() {
            let published = fold.published(book, offset);
            let hash = published.as_ref().map(|published| published.state_hash);
            if self.published.get(policy) == Some(&hash) {
                continue;
            }
            hashes.push((policy.clone(), hash));
            // Without a round there is no state: a tombstone takes back what was published before.
            let payload =
                published.as_ref().map(|published| codec::encode_published(published, AVRO)).transpose()?;
            if let Some(published) = &published {
                metrics::predictor(published, fold.experts(), fold.tally());
            }
            if let Some(rounds) = book.find(policy).and_then(|at| book.rounds(at)) {
                metrics::expert_brier(policy, &rounds.brier(&fold.settings().mapping, book.edits(), NEWEST));
            }
            if let Some(certificate) = fold.certificate() {
                metrics::certificate(policy, &certificate);
            }
            records.push(Produced {
                topic: Arc::clone(&self.topic),
                partition: Some(0),
                key: Some(policy.clone().into_bytes()),
                payload,
                headers: Vec::new(),
                timestamp: None,
            });
        }
        let anything = !records.is_empty();
        if anything {
            crash::point("learn.publish");
            outbox.commit(&records, None)?;
            crash::point("learn.published");
            self.published.extend(hashes);
            self.last = Some(Instant::now());
        }
        Ok(Publishing(anything.then_some(began)))
    }
}
