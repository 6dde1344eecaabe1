//! The start of an active time: restores the ledger from the store and its topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index::Index;
use super::ledger::{Ledger, SILENCE_TIMEOUT};
use super::{Learn, LearnError, REQUEST_TIMEOUT};
use crate::codec;
use crate::config::Policies;
use crate::kafka::{Followed, Follower, From, SourceError, topics};
use crate::ops::metrics;
use crate::store::{Opened, Store, StoreError, TopicId, TopicIds};

/// The time that the brokers have to return a topic's id while the learner is at work.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(2);

/// Replaces the id of a ledger topic that has lost its end. No topic has this id, so that the store stays refused.
const LOST: TopicId = [0; 16];

impl Learn {
    /// Opens the store and reads the rest of the ledger from its topic. If the store cannot be trusted, reads all of it
    /// from the topic. Returns `None` if shutdown was requested first.
    ///
    /// # Errors
    /// Returns an error if neither can be read, or if the topic is not the one that the store was filled from.
    pub(super) fn restore(&self, policies: &Policies) -> Result<Option<(Store, Ledger, Index)>, LearnError> {
        let shutdown = self.shutdown.clone();
        let stop = Arc::new(move || shutdown.requested());
        let (mut store, opened) = Store::open_until(&self.config.learn.store, stop)?;
        if let Opened::Rebuilt { why } = &opened {
            report_rebuild(why);
        }
        self.compare_topics(&mut store)?;
        let ledger = match self.read_ledger(&mut store, policies) {
            Err(LearnError::Store(error @ StoreError::Corrupt { .. })) => {
                let why = error.to_string();
                metrics::STORE_ERRORS.with([error.name()]).increment(1);
                report_rebuild(&why);
                let ids = *store.topic_ids();
                store = store.rebuild(&why)?.0;
                store.set_topic_ids(ids)?;
                self.read_ledger(&mut store, policies)?
            }
            Err(LearnError::Source(SourceError::Truncated { position, end, .. })) => {
                // The topic may grow past the position later, so that the loss is noted now.
                store.set_topic_ids(TopicIds { ledger: Some(LOST), ..*store.topic_ids() })?;
                return Err(
                    self.other_ledger(format!("ends at {end}, before offset {position} of the store"))
                );
            }
            result => result?,
        };
        let Some(ledger) = ledger else { return Ok(None) };
        let waits = ledger.state().policies().iter().any(|rounds| rounds.counts().waiting > 0);
        let decisions = &self.config.topics.decisions;
        let index = match Index::follow(&self.connection, decisions, &mut store, waits) {
            Err(LearnError::Source(error @ SourceError::Truncated { .. })) => {
                self.reindex(&mut store, &error.to_string())?;
                Index::follow(&self.connection, decisions, &mut store, waits)?
            }
            result => result?,
        };
        Ok(Some((store, ledger, index)))
    }

    /// Loads the ledger from the store and reads its topic to the end. Returns `None` if shutdown was requested first.
    fn read_ledger(&self, store: &mut Store, policies: &Policies) -> Result<Option<Ledger>, LearnError> {
        let memory = self.config.learn.checkpoint_mib << 20;
        let topic = &self.config.topics.rounds;
        let mut ledger = Ledger::restore(&self.connection, topic, store, policies, memory)?;
        let complete = ledger.read_to_end(store, |progress| {
            self.health.note("ledger restored", false, progress);
            self.shutdown.requested()
        })?;
        Ok(complete.then_some(ledger))
    }

    /// Compares the topics with those that the store was filled from, and notes their ids.
    ///
    /// # Errors
    /// Returns [`LearnError::OtherLedger`] if the ledger topic is another: continuing would lose what the store holds.
    fn compare_topics(&self, store: &mut Store) -> Result<(), LearnError> {
        let (then, now) =
            (*store.topic_ids(), self.topic_ids(self.connection.request_timeout(REQUEST_TIMEOUT))?);
        if then.ledger == Some(LOST) {
            return Err(self.other_ledger("was found to end before an offset of the store".to_owned()));
        }
        if differs(then.ledger, now.ledger) {
            return Err(self.other_ledger("was deleted and created again".to_owned()));
        }
        if then.ledger.is_none() && store.ledger_offset().is_none() {
            match self.compare_predictors() {
                Err(LearnError::Source(error @ SourceError::Denied { .. })) => {
                    tracing::info!(%error, "the ledger topic is not compared with the predictors published before");
                }
                result => result?,
            }
        }
        if differs(then.decisions, now.decisions) {
            self.reindex(store, "the topic was deleted and created again")?;
        }
        if differs(then.labels, now.labels) {
            tracing::warn!(
                topic = self.config.topics.labels,
                "the topic of labels was deleted and created again: its labels are read from the group's offset, and from \
                 the first one kept if the brokers have dropped that with the topic"
            );
        }
        let ledger = now.ledger.or(then.ledger);
        let (decisions, labels) = (now.decisions.or(then.decisions), now.labels.or(then.labels));
        Ok(store.set_topic_ids(TopicIds { ledger, decisions, labels })?)
    }

    /// Returns `true` if a topic was deleted and created again since the store was opened. Returns `false` if the brokers do
    /// not answer; the check is repeated later.
    pub(super) fn topics_differ(&self, store: &Store) -> bool {
        let then = store.topic_ids();
        self.topic_ids(self.connection.request_timeout(TOPIC_ID_TIMEOUT)).is_ok_and(|now| {
            differs(then.ledger, now.ledger)
                || differs(then.decisions, now.decisions)
                || differs(then.labels, now.labels)
        })
    }

    fn topic_ids(&self, timeout: Duration) -> Result<TopicIds, SourceError> {
        let id = |topic: &str| topics::id(&self.connection, topic, timeout);
        let topics = &self.config.topics;
        Ok(TopicIds {
            ledger: id(&topics.rounds)?,
            decisions: id(&topics.decisions)?,
            labels: id(&topics.labels)?,
        })
    }

    fn reindex(&self, store: &mut Store, why: &str) -> Result<(), LearnError> {
        let topic = &self.config.topics.decisions;
        tracing::warn!(topic, why, "the index of decisions is filled again from the first decision kept");
        metrics::STORE_REBUILDS.with([]).increment(1);
        Ok(store.clear_index()?)
    }

    fn other_ledger(&self, why: String) -> LearnError {
        let (topic, store) =
            (self.config.topics.rounds.clone(), self.config.learn.store.display().to_string());
        LearnError::OtherLedger { topic, why, store }
    }

    /// Compares the ledger topic of an empty store with the predictors on their topic. If the ledger ends before an
    /// offset that a predictor reflects, it has lost records, and another machine's store may have them.
    fn compare_predictors(&self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        let reflected = self.reflected_offset(&topics.weights)?;
        let ledger = Follower::open(&self.connection, &topics.rounds, &From::Beginning, REQUEST_TIMEOUT)?;
        let end = ledger.ends().values().sum();
        match reflected {
            Some(reflected) if reflected > end => Err(self.other_ledger(format!(
                "ends at {end}, and a predictor was made of it up to offset {reflected}"
            ))),
            _ => Ok(()),
        }
    }

    /// The greatest ledger offset that a predictor on this topic reflects.
    fn reflected_offset(&self, topic: &str) -> Result<Option<i64>, LearnError> {
        let mut weights = Follower::open(&self.connection, topic, &From::Beginning, REQUEST_TIMEOUT)?;
        let mut offsets: BTreeMap<Option<Vec<u8>>, i64> = BTreeMap::new();
        let mut last_read = Instant::now();
        loop {
            match weights.poll(Duration::from_millis(100))? {
                Followed::Record(record) => {
                    last_read = Instant::now();
                    // A tombstone takes a predictor back. One that cannot be decoded is ignored.
                    match record.payload.as_deref().map(codec::decode_published) {
                        Some(Ok(published)) => offsets.insert(record.key, published.ledger_offset),
                        _ => offsets.remove(&record.key),
                    };
                }
                Followed::End => break,
                _ if self.shutdown.requested() => break,
                _ if last_read.elapsed() > SILENCE_TIMEOUT => {
                    let next = weights.positions().values().sum();
                    return Err(LearnError::Silent { next });
                }
                _ => {}
            }
        }
        Ok(offsets.into_values().max())
    }
}

fn report_rebuild(why: &str) {
    tracing::warn!(why, "the store is rebuilt from the ledger topic");
    metrics::STORE_REBUILDS.with([]).increment(1);
}

/// Returns `true` if both ids are known and differ.
fn differs(one: Option<TopicId>, other: Option<TopicId>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
