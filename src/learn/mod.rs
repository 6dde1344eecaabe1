//! The learning flow: decisions indexed, labels joined, the ledger committed and folded, predictors
//! published.
//!
//! One learner is active at a time: the member that owns the one partition of the election topic. All
//! else it reads and writes only then. What it commits it reads back before it applies it (see
//! `docs/decisions/0002-read-back-what-was-committed.md`).

mod error;
mod gather;
mod index;
mod join;
mod kept;
mod ledger;
mod progress;
mod publish;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec::{self, Schemas};
use crate::config::{Config, Live, Policies};
use crate::core::book::Book;
use crate::core::event::Millis;
use crate::crash;
use crate::dead_letter::{self, Surge, dead_letter};
use crate::kafka::{
    self, CommitError, Connection, Delivery, Lookup, Offsets, Outbox, Polled, Produced, Source, Start,
};
use crate::ops::traces::{self, Unpublished};
use crate::ops::{Health, Shutdown, Traces, give_way, metrics};
use crate::registry::{Registry, RegistryError};
use crate::schemas;
use crate::store::Store;
use crate::traced;
pub use error::LearnError;
use index::Index;
use join::{Join, Joined};
pub use kept::kept;
pub use progress::Progress;
use publish::{Publisher, Publishing};

/// What the flow is made of.
pub struct Learn {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
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

/// How an active time ended.
enum End {
    /// Shutdown was requested.
    Stopped,
    /// Another learner is active now.
    Superseded,
    /// What was in hand is void: begin again from what is committed.
    Again,
    /// The same, and another may have taken over: stand for election first.
    Unsure,
}

impl End {
    /// After a unit that was given up.
    fn after(error: &CommitError) -> Self {
        tracing::warn!(name = error.name(), %error, "a unit is done again");
        metrics::aborted("learn", error.name());
        if matches!(error, CommitError::Outlived { .. }) { Self::Unsure } else { Self::Again }
    }
}

/// A unit that was committed.
struct Committed {
    /// When that began.
    began: Instant,
    /// Its records.
    records: usize,
    /// The ledger's offset after it, if it wrote to the ledger.
    next: Option<i64>,
}

/// What a learner says whose election has ended.
const STANDS_BY: &str = "another learner is active now; this one stands by";
/// Conditions of the active learner: a standby is ready without them.
const ACTIVE: [&str; 3] = ["ledger restored", "labels assigned", "decisions indexed"];
/// How long a stage waits where there is nothing to do.
const IDLE: Duration = Duration::from_millis(200);
/// How long leaving a group may take, and how long where all is given up.
const LEAVE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);
/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the brokers may take to answer before the start; stopping waits for that.
const LOOK: Duration = Duration::from_secs(5);
/// How often the state of things is told to health and metrics.
const TELL: Duration = Duration::from_millis(500);
/// How long the brokers count as there after they were last seen.
const SEEN: Duration = Duration::from_secs(10);
/// How often labels that have waited too long are looked for, and days of the index past the horizon.
const EXPIRY: Duration = Duration::from_secs(60);

impl Learn {
    /// Runs until shutdown is requested: stands by until elected, then learns. Whatever it does, this thread and those
    /// that it starts leave the processor to scoring, where that wants it.
    ///
    /// # Errors
    /// Where going on would lose something or help nobody.
    pub fn run(self) -> Result<(), LearnError> {
        give_way();
        let topics = &self.config.topics;
        let registry = schemas::open(&self.config.registry)?;
        let spans =
            traces::Settings { group: self.config.learn.group.clone(), ..traced::settings(&self.config) };
        let traces = Traces::open(&spans)?;
        let group = format!("{}-election", self.config.learn.group);
        let stand = || Source::subscribe(&self.connection, &group, &[&topics.election], Start::Latest);
        while !self.shutdown.requested() {
            match self.single() {
                Err(error) if error.passes() => tracing::warn!(%error, "waiting for the brokers"),
                done => {
                    done?;
                    break;
                }
            }
        }
        let mut election = stand()?;
        metrics::active(false);
        while !self.shutdown.requested() {
            self.health.set("elected or standing by", true);
            self.seen(&election);
            match election.poll(IDLE)? {
                Polled::Assigned(_) => {}
                // It is still among the assigned, and goes at the next poll.
                Polled::Revoked { .. } => {
                    tracing::warn!("{STANDS_BY}");
                    continue;
                }
                _ if election.assigned().is_empty() => continue,
                _ => {}
            }
            tracing::info!("this learner is active");
            metrics::active(true);
            ACTIVE.iter().for_each(|name| self.health.set(name, false));
            let end = self.learn(&mut election, registry.as_ref(), &traces);
            ACTIVE.iter().for_each(|name| self.health.forget(name));
            metrics::active(false);
            match end {
                Ok(End::Stopped) => break,
                Ok(End::Superseded) => tracing::warn!("{STANDS_BY}"),
                Ok(End::Again) => {}
                Ok(End::Unsure) => {
                    tracing::warn!("another may be active by now: this one stands for election again");
                    election.close(LEAVE);
                    election = stand()?;
                }
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "beginning again from what is committed");
                    self.health.set("broker seen", false);
                }
                Err(error) => return Err(error),
            }
        }
        election.close(self.leave());
        Ok(())
    }

    /// Whether the topics that must have one partition have no more.
    fn single(&self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        for topic in [&topics.election, &topics.rounds, &topics.weights] {
            let count = kafka::topics::partitions(&self.connection, topic, LOOK)?;
            if count != 1 {
                return Err(LearnError::Partitions { topic: topic.clone(), count });
            }
        }
        Ok(())
    }

    /// How long leaving a group may take.
    fn leave(&self) -> Duration {
        if self.shutdown.aborted() { HASTE } else { LEAVE }
    }

    /// One active time, from restoring to its end.
    fn learn(
        &self,
        election: &mut Source,
        registry: Option<&Registry>,
        traces: &Traces,
    ) -> Result<End, LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let (stop, given_up) = (|| self.shutdown.requested(), || self.shutdown.aborted());
        let patient = registry.map(|registry| registry.waiting(&stop));
        let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
        // Taking the transactional id over fences a learner that does not know yet that it lost.
        let mut outbox = Outbox::open(&self.connection, self.delivery.clone())?;
        let mut policies = self.policies.now();
        let Some((mut store, mut ledger)) = self.restore(&policies)? else { return Ok(End::Stopped) };
        self.health.set("ledger restored", true);
        let mut index = Index::follow(&self.connection, &topics.decisions, &store)?;
        let mut lookup = Lookup::open(&self.connection, &topics.decisions, ANSWER)?;
        crash::point("learn.restored");
        let mut publisher = Publisher::new(&topics.weights, settings.publish_interval_ms);
        let mut labels =
            Source::subscribe(&self.connection, &settings.group, &[&topics.labels], Start::Earliest)?;
        let defaults = schemas::defaults(&self.config);
        let mut surge = Surge::new(settings.max_dead_letters_per_minute);
        let (mut expired, mut told) = (Instant::now(), Instant::now());
        let mut searched = false;
        let mut lag = metrics::Lag::new(&settings.group);
        // How old the oldest label of the last unit was, by partition.
        let mut ages = BTreeMap::new();
        let mut unpublished = Unpublished::default();

        let end = loop {
            if self.shutdown.requested() {
                break End::Stopped;
            }
            if matches!(election.poll(Duration::ZERO)?, Polled::Revoked { .. }) {
                break End::Superseded;
            }
            if let Some(before) = self.policies.renew(&mut policies)
                && learns_otherwise(&before, &policies)
            {
                tracing::info!("a policy learns otherwise from now on: the ledger is folded anew");
                break End::Again;
            }
            let mut joined = Joined::default();

            // 1. Decisions: where each one lies; those of labelled rounds are compared.
            let decisions = match index.read(settings.commit_records * 4, patient) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };
            let done = index.is_ready();
            let note = if done { String::new() } else { index.progress() };
            self.health.note("decisions indexed", done, &note);

            // 2. Labels, until the unit is full or its interval is over. Nobody waits for them while rounds wait.
            let idle = !index.has_moved() && ledger.is_current();
            let gathered = match self.gather(&mut labels, &defaults, &policies, registry, idle) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };

            ages = if gathered.is_empty() { ages } else { gathered.ages(now()) };

            let (mut spans, read) = (gathered.traced(traces), gathered.since());

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
            let indexed = decisions.len();
            for judged in decisions {
                join.decision(judged);
            }
            if !searched {
                match join.search(ledger.foreign()) {
                    Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                    other => other?,
                }
                searched = true;
            }
            match join.labels(gathered.labels) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            }
            let sweep = expired.elapsed() > EXPIRY;
            if sweep {
                join.expire(now());
                expired = Instant::now();
            }

            // 4. Committing: ledger records, dead letters and label offsets together.
            let refused = joined.refused.drain(..).chain(gathered.refused);
            let (mut letters, mut reasons) = (Vec::new(), Vec::new());
            for (record, reason) in refused {
                let at = (record.partition, record.offset);
                if !surge.count(Instant::now()) {
                    let limit = settings.max_dead_letters_per_minute;
                    return Err(LearnError::Surge { limit, reason: reason.name });
                }
                letters.push(dead_letter(&topics.dlq.as_str().into(), "learn", record, &reason));
                reasons.push(reason.name);
                spans
                    .iter_mut()
                    .filter(|label| label.is_at(at.0, at.1))
                    .for_each(|label| label.refuse(reason.name));
            }
            let committed = match self.commit(&mut outbox, &labels, &joined, letters, &gathered.offsets) {
                Err(LearnError::Commit(error)) if error.passes() => break End::after(&error),
                other => other?,
            };
            reasons.into_iter().for_each(|reason| metrics::dead_letter("label", reason));
            if let (Some(Committed { began, records, .. }), Some(read)) = (&committed, read) {
                traces.learned(&spans, read, *began, *records, &mut unpublished);
            }
            if let Some(next) = committed.and_then(|committed| committed.next) {
                crash::point("learn.committed");
                if !ledger.read_until(next, given_up)? {
                    break End::Stopped;
                }
                crash::point("learn.read-back");
            }

            // 5. The ledger as committed: memory, folds, sled.
            ledger.joined();
            ledger.read_new()?;
            if !ledger.foreign().is_empty() {
                tracing::warn!(
                    "another learner writes to the ledger: beginning again from what is committed"
                );
                break End::Again;
            }
            ledger.keep(&mut store, index.covered())?;
            crash::point("learn.kept");
            self.progress.note_decisions(indexed);
            if sweep {
                store.forget_before(now().saturating_sub(settings.horizon()))?;
            }

            // 6. Folding and publishing, outside of any unit.
            let published = match publisher.advance(&mut ledger, &mut outbox) {
                Err(LearnError::Commit(error)) if error.passes() => break End::after(&error),
                other => other?,
            };
            if let Some(Publishing(began)) = published {
                traces.published(began, &mut unpublished);
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                self.tell(&labels, &store, ledger.book(), &mut lag, &ages);
            }
        };
        if matches!(end, End::Stopped) {
            let Publishing(began) = publisher.finish(&mut ledger, &mut outbox, given_up)?;
            traces.published(began, &mut unpublished);
        }
        labels.close(self.leave());
        Ok(end)
    }

    /// Tells whether the brokers are there.
    fn seen(&self, source: &Source) -> kafka::Health {
        let health = source.health();
        self.health.set_until("broker seen", health.seen.map(|at| at + SEEN));
        health
    }

    fn tell(
        &self,
        labels: &Source,
        store: &Store,
        book: &Book,
        lag: &mut metrics::Lag,
        ages: &BTreeMap<i32, Duration>,
    ) {
        let seen = self.seen(labels);
        metrics::partitions("learn", labels.assigned().len());
        lag.tell(seen.lag.iter().map(|((topic, partition), messages)| {
            let age = if *messages == 0 { Some(Duration::ZERO) } else { ages.get(partition).copied() };
            (&**topic, *partition, *messages, age)
        }));
        let sizes = store.sizes();
        metrics::store(sizes.ledger_records, sizes.index_entries, sizes.index_runs, sizes.disk_bytes);
        for rounds in book.policies() {
            metrics::waiting(rounds.policy(), rounds.counts().waiting);
        }
    }

    /// Commits a unit, if there is anything in it.
    fn commit(
        &self,
        outbox: &mut Outbox,
        labels: &Source,
        joined: &Joined,
        letters: Vec<Produced>,
        offsets: &Offsets,
    ) -> Result<Option<Committed>, LearnError> {
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
        let began = Instant::now();
        let consumed = (!offsets.is_empty()).then_some((labels.membership(), offsets));
        let places = dead_letter::commit(outbox, records, consumed, || self.shutdown.aborted())?;
        metrics::commit("learn", places.len(), began.elapsed());
        self.progress.note(offsets);
        let last = places.get(..joined.records().len()).and_then(<[_]>::last);
        Ok(Some(Committed { began, records: places.len(), next: last.map(|(_, offset)| offset + 1) }))
    }
}

/// Whether any policy is new, or has another learner or target mapping: that is a new learner. Thresholds and
/// costs never touch it.
fn learns_otherwise(before: &Policies, after: &Policies) -> bool {
    after.policies.iter().any(|(name, policy)| {
        before
            .get(name)
            .is_none_or(|before| before.learner != policy.learner || before.mapping != policy.mapping)
    })
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
