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
    /// Rounds folded at a stretch.
    stretch: usize,
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
            stretch: STRETCH,
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
            let steps = fold.reorder(book)?;
            current &= fold.advance(book, self.stretch)?;
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
            while !given_up() && !fold.advance(book, self.stretch)? {}
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::Policies;
    use crate::core::label::{DecisionRef, Finding, Label, Source};
    use crate::core::ledger::{LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};
    use crate::kafka::embedded::Embedded;
    use crate::kafka::{Connection, Delivery, Followed, Follower, From};
    use crate::store::Store;

    const ROUNDS: usize = 30;

    /// A round and its label.
    fn round(number: usize) -> [Record; 2] {
        let event = format!("e{number:02}");
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: event.clone() };
        let (at, votes) = (i64::try_from(number).unwrap(), vec![("a", 0.8), ("b", 0.3)]);
        let vote =
            |(name, score): (&str, f64)| RoundVote { expert: name.into(), score: Some(score), shadow: false };
        let label = Label {
            id: format!("l{number}"),
            tenant: id.tenant.clone(),
            policy: id.policy.clone(),
            event,
            annotator: None,
            verdict: Some(Finding::Unsafe),
            severity: None,
            categories: Vec::new(),
            time: at,
            source: Source::Review,
            inclusion_probability: None,
            decision: None,
            corrects: None,
            retracts: None,
        };
        let judged = RoundRecord {
            id,
            subject: None,
            round_time: at,
            decision: DecisionRef { partition: 0, offset: at },
            votes: votes.into_iter().map(vote).collect(),
            features: None,
        };
        [
            Record::Round(judged),
            Record::Label(LabelRecord { label, received: at, status: LabelStatus::Accepted }),
        ]
    }

    fn written(record: &Record) -> Produced {
        Produced {
            topic: "rounds".into(),
            partition: Some(0),
            key: Some(codec::encode_key(&record.key())),
            payload: Some(codec::encode_record(record, AVRO).unwrap()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    fn published(connection: &Connection) -> usize {
        let patience = Duration::from_secs(30);
        let mut weights = Follower::open(connection, "weights", &From::Beginning, patience).unwrap();
        let mut count = 0;
        while !matches!(weights.poll(patience).unwrap(), Followed::End) {
            count += 1;
        }
        count
    }

    /// Whoever gives it up while it folds waits for one stretch, and of what is half folded nothing is published.
    #[test]
    fn what_is_given_up_between_two_stretches_is_not_published() {
        let broker = Embedded::start(&[("rounds", 1), ("weights", 1)]).unwrap();
        let connection = Connection::new(broker.bootstrap());
        let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
        let records: Vec<_> = (0..ROUNDS).flat_map(round).collect();
        outbox.commit(&records.iter().map(written).collect::<Vec<_>>(), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(&folder.path().join("store")).unwrap();
        let policies = Policies::default();
        let mut ledger = Ledger::restore(&connection, "rounds", &mut store, &policies, 1 << 20).unwrap();
        assert!(ledger.read_to_end(&mut store, |_| false).unwrap());

        let mut publisher = Publisher { stretch: ROUNDS / 3, ..Publisher::new("weights", 0) };
        let asked = Cell::new(0);
        let given_up = || asked.replace(asked.get() + 1) > 0;
        let Publishing(began) = publisher.finish(&mut ledger, &mut outbox, given_up).unwrap();
        assert_eq!(began, None, "it was given up");
        assert_eq!(ledger.folds().1["default"].progress().folded, ROUNDS / 3, "after one stretch");
        assert_eq!(published(&connection), 0);

        let Publishing(began) = publisher.finish(&mut ledger, &mut outbox, || false).unwrap();
        assert!(began.is_some(), "all is known now");
        assert_eq!(ledger.folds().1["default"].progress().folded, ROUNDS);
        assert_eq!(published(&connection), 1);
    }
}
