//! The start of an active time: the ledger from sled and its topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index::Index;
use super::ledger::{Ledger, SILENCE};
use super::{ANSWER, Learn, LearnError};
use crate::codec;
use crate::config::Policies;
use crate::kafka::{Followed, Follower, From, SourceError, topics};
use crate::ops::metrics;
use crate::store::{Opened, Store, StoreError, TopicId, TopicIds};

/// How long the brokers may take to tell a topic's id while the learner is at work.
const GLANCE: Duration = Duration::from_secs(2);

/// Stands for the id of a ledger topic whose end was lost: no topic has it, so that a store with it stays refused.
const LOST: TopicId = [0; 16];

impl Learn {
    /// sled and the rest from the ledger topic; where sled cannot be trusted, all of it from the topic. None: it
    /// was to stop before that.
    ///
    /// # Errors
    /// Where neither can be had, or the topic is not the one that sled was filled from.
    pub(super) fn restore(&self, policies: &Policies) -> Result<Option<(Store, Ledger, Index)>, LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let shutdown = self.shutdown.clone();
        let (mut store, opened) = Store::open_until(&settings.store, Arc::new(move || shutdown.requested()))?;
        if let Opened::Rebuilt { why } = &opened {
            tracing::warn!(why, "the store is rebuilt from the ledger topic");
            metrics::STORE_REBUILDS.with([]).increment(1);
        }
        self.compare(&mut store)?;
        let memory = settings.checkpoint_mib << 20;
        let attempt = |store: &mut Store| -> Result<Option<Ledger>, LearnError> {
            let mut ledger = Ledger::restore(&self.connection, &topics.rounds, store, policies, memory)?;
            let whole = ledger.read_to_end(store, |read| {
                self.health.note("ledger restored", false, read);
                self.shutdown.requested()
            })?;
            Ok(whole.then_some(ledger))
        };
        let ledger = match attempt(&mut store) {
            Ok(ledger) => ledger,
            Err(LearnError::Store(error @ StoreError::Corrupt { .. })) => {
                let why = error.to_string();
                tracing::warn!(why, "the store is rebuilt from the ledger topic");
                metrics::STORE_ERRORS.with([error.name()]).increment(1);
                metrics::STORE_REBUILDS.with([]).increment(1);
                let origins = *store.topic_ids();
                store = store.rebuild(&why)?.0;
                store.set_topic_ids(origins)?;
                attempt(&mut store)?
            }
            Err(LearnError::Source(SourceError::Truncated { position, end, .. })) => {
                // It may grow past that.
                store.set_topic_ids(TopicIds { ledger: Some(LOST), ..*store.topic_ids() })?;
                return Err(
                    self.other_ledger(format!("ends at {end}, before offset {position} of the store"))
                );
            }
            Err(error) => return Err(error),
        };
        let Some(ledger) = ledger else { return Ok(None) };
        let waits = ledger.book().policies().iter().any(|rounds| rounds.counts().waiting > 0);
        let index = match Index::follow(&self.connection, &topics.decisions, &mut store, waits) {
            Err(LearnError::Source(error @ SourceError::Truncated { .. })) => {
                self.reindex(&mut store, &error.to_string())?;
                Index::follow(&self.connection, &topics.decisions, &mut store, waits)?
            }
            other => other?,
        };
        Ok(Some((store, ledger, index)))
    }

    /// Compares the topics with those that the store was filled from.
    ///
    /// # Errors
    /// Returns [`LearnError::OtherLedger`] if the ledger topic is another: continuing would lose what the store holds.
    fn compare(&self, store: &mut Store) -> Result<(), LearnError> {
        let (then, now) = (*store.topic_ids(), self.origins(self.connection.answer(ANSWER))?);
        if then.ledger == Some(LOST) {
            return Err(self.other_ledger("was found to end before an offset of the store".to_owned()));
        }
        if differs(then.ledger, now.ledger) {
            return Err(self.other_ledger("was deleted and made again".to_owned()));
        }
        if then.ledger.is_none() && store.ledger_offset().is_none() {
            match self.reaches_predictors() {
                Err(LearnError::Source(error @ SourceError::Denied { .. })) => {
                    tracing::info!(%error, "the ledger topic is not compared with the predictors published before");
                }
                done => done?,
            }
        }
        if differs(then.decisions, now.decisions) {
            self.reindex(store, "the topic was deleted and made again")?;
        }
        if differs(then.labels, now.labels) {
            tracing::warn!(
                topic = self.config.topics.labels,
                "the topic of labels was deleted and made again: its labels are read from the group's offset, and from \
                 the first one kept if the brokers have dropped that with the topic"
            );
        }
        let ledger = now.ledger.or(then.ledger);
        let (decisions, labels) = (now.decisions.or(then.decisions), now.labels.or(then.labels));
        Ok(store.set_topic_ids(TopicIds { ledger, decisions, labels })?)
    }

    /// Returns `true` if a topic was deleted and made again since the store was opened. Brokers that do not answer are
    /// asked again later.
    pub(super) fn topics_differ(&self, store: &Store) -> bool {
        let then = store.topic_ids();
        self.origins(self.connection.answer(GLANCE)).is_ok_and(|now| {
            differs(then.ledger, now.ledger)
                || differs(then.decisions, now.decisions)
                || differs(then.labels, now.labels)
        })
    }

    fn origins(&self, timeout: Duration) -> Result<TopicIds, SourceError> {
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

    /// Compares an empty store's ledger topic with what was published: a topic that ends before what a predictor was
    /// made of has lost records, and another machine's store may have them.
    fn reaches_predictors(&self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        let reflected = self.predictors_reflect(&topics.weights)?;
        let ledger = Follower::open(&self.connection, &topics.rounds, &From::Beginning, ANSWER)?;
        let end = ledger.ends().values().sum();
        match reflected {
            Some(reflected) if reflected > end => Err(self.other_ledger(format!(
                "ends at {end}, and a predictor was made of it up to offset {reflected}"
            ))),
            _ => Ok(()),
        }
    }

    /// The greatest ledger offset that a predictor on this topic reflects.
    fn predictors_reflect(&self, topic: &str) -> Result<Option<i64>, LearnError> {
        let mut weights = Follower::open(&self.connection, topic, &From::Beginning, ANSWER)?;
        let mut newest: BTreeMap<Option<Vec<u8>>, i64> = BTreeMap::new();
        let mut heard = Instant::now();
        loop {
            match weights.poll(Duration::from_millis(100))? {
                Followed::Record(record) => {
                    heard = Instant::now();
                    // One that cannot be read says nothing; a tombstone takes back what was published.
                    match record.payload.as_deref().map(codec::decode_published) {
                        Some(Ok(published)) => newest.insert(record.key, published.ledger_offset),
                        _ => newest.remove(&record.key),
                    };
                }
                Followed::End => break,
                _ if self.shutdown.requested() => break,
                _ if heard.elapsed() > SILENCE => {
                    let next = weights.positions().values().sum();
                    return Err(LearnError::Silent { next });
                }
                _ => {}
            }
        }
        Ok(newest.into_values().max())
    }
}

/// Returns `true` if both ids are known and differ.
fn differs(one: Option<TopicId>, other: Option<TopicId>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
