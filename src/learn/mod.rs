//! The learning flow: decisions indexed, labels joined, the ledger committed and folded, predictors
//! published.
//!
//! One learner is active at a time: the member that owns the one partition of the election topic. All
//! else it reads and writes only then. What it commits it reads back before it applies it (see
//! `docs/decisions/0002-read-back-what-was-committed.md`).

mod index;
mod join;
mod ledger;
mod publish;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec::{self, DecodeError, EncodeError, Received, Schemas};
use crate::config::{Config, Policies};
use crate::core::book::{Book, BookError};
use crate::core::event::Millis;
use crate::core::fold::FoldError;
use crate::dead_letter::{self, Reason, Surge, dead_letter};
use crate::kafka::{
    CommitError, Connection, Consumed, Delivery, Lookup, Offsets, Outbox, Polled, Produced, Source,
    SourceError, Start, TopicPartition,
};
use crate::ops::{Health, Shutdown, metrics};
use crate::registry::{Registry, RegistryError};
use crate::schemas;
use crate::store::{Opened, Store, StoreError};
use index::Index;
use join::{Join, Joined, Read};
use ledger::Ledger;
use publish::Publisher;

/// What the flow is made of.
pub struct Learn {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies.
    pub policies: Arc<Policies>,
    /// The brokers.
    pub connection: Connection,
    /// What a unit is worth there.
    pub delivery: Delivery,
    /// Where readiness is told.
    pub health: Health,
    /// When to stop.
    pub shutdown: Shutdown,
    /// How far labels have been taken, for a driver in the same process.
    pub progress: Arc<Progress>,
}

/// Labels taken: the committed offset of each partition.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Offsets>);

impl Progress {
    fn note(&self, offsets: &Offsets) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, next) in &offsets.0 {
            all.advance(partition.clone(), *next);
        }
    }

    /// The sum of the committed offsets over all partitions.
    #[must_use]
    pub fn taken(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.values().sum()
    }
}

/// Why learning stopped.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Reading failed in a way that waiting does not mend.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A unit cannot be committed, now or later. One that is fenced stops: to go on, it would have to take
    /// over from the one that has just taken over from it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The schema registry is of no help.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// sled failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ledger record cannot be read.
    #[error(
        "a record of the ledger topic cannot be read: {0}. Was it written by another program or version?"
    )]
    Decode(#[from] DecodeError),
    /// A record cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A ledger record's numbers are out of range.
    #[error("a record of the ledger topic cannot be: {0}")]
    Book(#[from] BookError),
    /// A learner refuses its experts.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The ledger topic says nothing although it holds more.
    #[error(
        "the ledger topic has been silent for a minute before its end, at offset {next}: are its brokers up?"
    )]
    Silent {
        /// Offset of the record that does not come.
        next: i64,
    },
    /// The ledger topic has lost records.
    #[error(
        "the ledger topic has lost its records from offset {asked} to {from}: it must be compacted and never \
         deleted (cleanup.policy=compact). What is lost there is lost to the learner: replay what you have, or \
         start a new ledger topic"
    )]
    Lost {
        /// First offset lost.
        asked: i64,
        /// First offset kept.
        from: i64,
    },
    /// Too many dead letters.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}: something upstream is \
         wrong. Nothing is lost: mend it, or raise learn.max_dead_letters_per_minute, and start again"
    )]
    Surge {
        /// The limit.
        limit: u64,
        /// Name of the last reason.
        reason: &'static str,
    },
}

/// How an active time ended.
enum End {
    /// Shutdown was requested.
    Stopped,
    /// Another learner is active now.
    Superseded,
    /// What was in hand is void: begin again from what is committed.
    Again,
}

/// How long a stage waits where there is nothing to do.
const IDLE: Duration = Duration::from_millis(20);
/// How long leaving a group may take.
const LEAVE: Duration = Duration::from_secs(5);
/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often the state of things is told to health and metrics.
const TELL: Duration = Duration::from_millis(500);
/// How often labels that have waited too long are looked for.
const EXPIRY: Duration = Duration::from_secs(60);

impl Learn {
    /// Runs until shutdown is requested: stands by until elected, then learns.
    ///
    /// # Errors
    /// Where going on would lose something or help nobody.
    pub fn run(self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        let registry = schemas::open(&self.config.registry)?;
        let group = format!("{}-election", self.config.learn.group);
        let mut election = Source::subscribe(&self.connection, &group, &[&topics.election], Start::Latest)?;
        while !self.shutdown.requested() {
            self.health.set("elected or standing by", true);
            match election.poll(Duration::from_millis(100))? {
                Polled::Assigned(_) => {}
                _ if election.assigned().is_empty() => continue,
                _ => {}
            }
            tracing::info!("this learner is active");
            metrics::active(true);
            let end = self.learn(&mut election, registry.as_ref());
            metrics::active(false);
            match end? {
                End::Stopped => break,
                End::Superseded => tracing::warn!("another learner is active now; this one stands by"),
                End::Again => {}
            }
        }
        election.close(LEAVE);
        Ok(())
    }

    /// One active time, from restoring to its end.
    fn learn(&self, election: &mut Source, registry: Option<&Registry>) -> Result<End, LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let stop = || self.shutdown.requested();
        let patient = registry.map(|registry| registry.waiting(&stop));
        let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
        // Taking the transactional id over fences a learner that does not know yet that it lost.
        let mut outbox = Outbox::open(&self.connection, self.delivery.clone())?;
        let (mut store, mut ledger) = self.restore()?;
        self.health.set("ledger restored", true);
        let mut index = Index::follow(&self.connection, &topics.decisions, &store)?;
        let mut lookup = Lookup::open(&self.connection, &topics.decisions, ANSWER)?;
        let mut publisher = Publisher::new(&topics.weights, settings.publish_interval_ms);
        let mut labels =
            Source::subscribe(&self.connection, &settings.group, &[&topics.labels], Start::Earliest)?;
        let defaults = codec::Defaults {
            tenant: self.config.defaults.tenant.clone(),
            policy: self.config.defaults.policy.clone(),
        };
        let mut surge = Surge::new(settings.max_dead_letters_per_minute);
        let (mut expired, mut told) = (Instant::now(), Instant::now());

        let end = loop {
            if self.shutdown.requested() {
                break End::Stopped;
            }
            if matches!(election.poll(Duration::ZERO)?, Polled::Revoked { .. }) {
                break End::Superseded;
            }
            let mut joined = Joined::default();

            // 1. Decisions: where each one lies; those of labelled rounds are compared.
            let decisions = match index.read(settings.commit_records * 4, patient) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };
            self.health.set("decisions indexed", index.is_ready());

            // 2. Labels, until the unit is full or its interval is over.
            let gathered = match self.gather(&mut labels, &defaults, registry, decisions.is_empty()) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };

            // 3. Joining: each label becomes a ledger record or a dead letter.
            index.keep(&mut store)?;
            let mut join = Join {
                book: ledger.book(),
                store: &store,
                lookup: &mut lookup,
                schemas: patient,
                horizon: settings.horizon(),
                joined: &mut joined,
            };
            for judged in decisions {
                join.decision(judged);
            }
            match join.labels(gathered.labels) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            }
            if expired.elapsed() > EXPIRY {
                join.expire(now());
                expired = Instant::now();
            }

            // 4. Committing: ledger records, dead letters and label offsets together.
            let refused = joined.refused.drain(..).chain(gathered.refused);
            let mut letters = Vec::new();
            for (record, reason) in refused {
                metrics::dead_letter("label", reason.name);
                if !surge.count(Instant::now()) {
                    let limit = settings.max_dead_letters_per_minute;
                    return Err(LearnError::Surge { limit, reason: reason.name });
                }
                letters.push(dead_letter(&topics.dlq.as_str().into(), "learn", record, &reason));
            }
            let committed = self.commit(&mut outbox, &labels, &joined, letters, &gathered.offsets);
            match committed {
                Ok(Some(next)) => ledger.read_until(next)?,
                Ok(None) => {}
                Err(LearnError::Commit(error)) if error.passes() => {
                    tracing::warn!(name = error.name(), %error, "a unit is done again");
                    metrics::aborted("learn", error.name());
                    break End::Again;
                }
                Err(error) => return Err(error),
            }

            // 5. The ledger as committed: memory, folds, sled.
            ledger.read_new()?;
            ledger.keep(&mut store, index.covered())?;

            // 6. Folding and publishing, outside of any unit.
            match publisher.advance(&mut ledger, &mut outbox) {
                Err(LearnError::Commit(error)) if error.passes() => break End::Again,
                other => other?,
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                self.tell(&labels, &store, ledger.book());
            }
        };
        if matches!(end, End::Stopped) && !self.shutdown.aborted() {
            publisher.finish(&mut ledger, &mut outbox)?;
        }
        labels.close(LEAVE);
        Ok(end)
    }

    fn tell(&self, labels: &Source, store: &Store, book: &Book) {
        let seen = labels.health();
        self.health.set("broker seen", seen.connected);
        metrics::partitions("learn", labels.assigned().len());
        for ((topic, partition), messages) in seen.lag {
            metrics::lag(&self.config.learn.group, &topic, partition, messages, None);
        }
        let sizes = store.sizes();
        metrics::store(sizes.ledger_records, sizes.index_entries, sizes.index_runs, sizes.disk_bytes);
        metrics::waiting(book.policies().iter().map(|rounds| rounds.counts().waiting).sum());
    }

    /// sled and the rest from the ledger topic; where sled cannot be trusted, all of it from the topic.
    fn restore(&self) -> Result<(Store, Ledger), LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let (mut store, opened) = Store::open(&settings.store)?;
        if let Opened::Rebuilt { why } = &opened {
            tracing::warn!(why, "the store is rebuilt from the ledger topic");
            metrics::STORE_REBUILDS.with([]).increment(1);
        }
        let memory = settings.checkpoint_mib << 20;
        let attempt = |store: &mut Store| -> Result<Ledger, LearnError> {
            let mut ledger =
                Ledger::restore(&self.connection, &topics.rounds, store, &self.policies, memory)?;
            ledger.read_to_end(store)?;
            Ok(ledger)
        };
        let why = match attempt(&mut store) {
            Ok(ledger) => return Ok((store, ledger)),
            Err(LearnError::Store(error @ StoreError::Corrupt { .. })) => {
                metrics::STORE_ERRORS.with([error.name()]).increment(1);
                error.to_string()
            }
            // The topic is shorter than what sled reflects: it was made anew.
            Err(LearnError::Source(error @ SourceError::Truncated { .. })) => error.to_string(),
            Err(error) => return Err(error),
        };
        tracing::warn!(why, "the store is rebuilt from the ledger topic");
        metrics::STORE_REBUILDS.with([]).increment(1);
        let (mut store, _) = store.rebuild(&why)?;
        let ledger = attempt(&mut store)?;
        Ok((store, ledger))
    }

    fn gather(
        &self,
        source: &mut Source,
        defaults: &codec::Defaults,
        registry: Option<&Registry>,
        wait: bool,
    ) -> Result<Gathered, LearnError> {
        let settings = &self.config.learn;
        let mut gathered = Gathered::default();
        let mut patience = if wait { IDLE } else { Duration::ZERO };
        let started = Instant::now();
        while gathered.count < settings.commit_records
            && started.elapsed() < Duration::from_millis(settings.commit_interval_ms)
        {
            match source.poll(patience)? {
                Polled::Record(record) => {
                    gathered.count += 1;
                    gathered.take(record, defaults, &self.policies, schemas::of(registry))?;
                }
                Polled::Assigned(_) => self.health.set("labels assigned", true),
                // Nothing of this unit has been written: the partitions' next owner reads it again.
                Polled::Revoked { partitions, .. } => gathered.forget(&partitions),
                Polled::Idle => break,
            }
            patience = Duration::ZERO;
        }
        // Their schemas have been asked for together: all of them take no longer than one.
        let stop = || self.shutdown.requested();
        let patient = registry.map(|registry| registry.waiting(&stop));
        let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
        for record in std::mem::take(&mut gathered.waiting) {
            gathered.take(record, defaults, &self.policies, patient)?;
        }
        if !gathered.waiting.is_empty() {
            return Err(RegistryError::Interrupted.into());
        }
        Ok(gathered)
    }

    /// Commits a unit; the ledger's offset after it, if it wrote to the ledger.
    fn commit(
        &self,
        outbox: &mut Outbox,
        labels: &Source,
        joined: &Joined,
        letters: Vec<Produced>,
        offsets: &Offsets,
    ) -> Result<Option<i64>, LearnError> {
        let rounds: Arc<str> = self.config.topics.rounds.as_str().into();
        let mut records = Vec::with_capacity(joined.records().len() + letters.len());
        for record in joined.records() {
            records.push(Produced {
                topic: Arc::clone(&rounds),
                partition: Some(0),
                key: Some(codec::encode_key(&record.key())),
                payload: Some(codec::encode_record(record, codec::Encoding::Avro)?),
                headers: Vec::new(),
                timestamp: None,
            });
        }
        records.extend(letters);
        if records.is_empty() && offsets.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let consumed = (!offsets.is_empty()).then_some((labels, offsets));
        let places = dead_letter::commit(outbox, records, consumed)?;
        metrics::commit("learn", places.len(), started.elapsed());
        self.progress.note(offsets);
        let last = places.get(..joined.records().len()).and_then(<[_]>::last);
        Ok(last.map(|(_, offset)| offset + 1))
    }
}

/// Labels read for one unit.
#[derive(Default)]
struct Gathered {
    count: usize,
    labels: Vec<Read>,
    refused: Vec<(Consumed, Reason)>,
    /// Labels whose schema has not come yet.
    waiting: Vec<Consumed>,
    offsets: Offsets,
}

impl Gathered {
    fn take(
        &mut self,
        record: Consumed,
        defaults: &codec::Defaults,
        policies: &Policies,
        schemas: Option<&dyn Schemas>,
    ) -> Result<(), RegistryError> {
        self.offsets.advance((Arc::clone(&record.topic), record.partition), record.offset + 1);
        match Received::new(record.payload.as_deref(), &record.headers, schemas).label(defaults) {
            Ok(label) if policies.get(&label.policy).is_none() => {
                let message = "the label names a policy that the policies file does not have".to_owned();
                self.refused.push((record, Reason { name: "UnknownPolicy", message }));
            }
            Ok(label) => {
                let received = record.timestamp.unwrap_or_else(now).min(now());
                self.labels.push(Read { record, label, received });
            }
            Err(DecodeError::SchemaPending { .. }) => self.waiting.push(record),
            Err(DecodeError::RegistryUnavailable { reason, .. }) => {
                return Err(RegistryError::Unavailable { reason });
            }
            Err(error) => {
                let reason = Reason { name: error.name(), message: error.to_string() };
                self.refused.push((record, reason));
            }
        }
        Ok(())
    }

    fn forget(&mut self, gone: &[TopicPartition]) {
        let is_gone = |record: &Consumed| gone.iter().any(|(_, partition)| *partition == record.partition);
        self.labels.retain(|read| !is_gone(&read.record));
        self.refused.retain(|(record, _)| !is_gone(record));
        self.waiting.retain(|record| !is_gone(record));
        self.offsets.0.retain(|place, _| !gone.contains(place));
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
