//! One active time of a learner, stage by stage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index::Index;
use super::join::{Join, JoinOutput, ReadLabel};
use super::label_batch::LabelBatch;
use super::ledger::Ledger;
use super::publish::{Publisher, Publishing};
use super::{End, Learn, LearnError, REQUEST_TIMEOUT, now};
use crate::codec::{self, Schemas};
use crate::config::Policies;
use crate::core::ledger::RoundRecord;
use crate::crash;
use crate::dead_letter::DeadLetterRate;
use crate::kafka::{Lookup, Outbox, Polled, Source, Start};
use crate::ops::traces::{Labelled, Unpublished};
use crate::ops::{Traces, metrics};
use crate::registry::{Registry, RegistryError};
use crate::store::Store;

/// The time between two reports to health and metrics.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two searches for labels that have waited too long, and for days of the index past the horizon.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// The time for which a tick reads what has come about the election.
const ELECTION_WAIT: Duration = Duration::from_millis(1);

/// The outcome of a tick.
pub(super) enum Control {
    /// The learner stays active.
    Continue,
    /// The active time is over.
    End(End),
}

/// An early exit of a stage.
enum Exit {
    End(End),
    Failed(LearnError),
}

/// Decides which errors end the active time, and which ones the caller handles.
impl<E: Into<LearnError>> From<E> for Exit {
    fn from(error: E) -> Self {
        match error.into() {
            LearnError::Registry(RegistryError::Interrupted) => Self::End(End::Stopped),
            LearnError::Commit(error) if error.is_retryable() => Self::End(End::after(&error)),
            error => Self::Failed(error),
        }
    }
}

/// A learner that is elected, with the state of its active time.
pub(super) struct ActiveLearner<'a> {
    pub(super) learn: &'a Learn,
    pub(super) registry: Option<&'a Registry>,
    /// The registry as a source of schemas that waits for pending answers.
    pub(super) schemas: Option<&'a dyn Schemas>,
    traces: &'a Traces,
    pub(super) policies: Arc<Policies>,
    pub(super) labels: Source,
    /// The values of the fields that a label does not have.
    pub(super) defaults: codec::Defaults,
    /// The greatest number of records of a batch. It grows with the distance of the brokers.
    pub(super) batch_limit: usize,
    index: Index,
    lookup: Lookup,
    ledger: Ledger,
    store: Store,
    publisher: Publisher,
    pub(super) outbox: Outbox,
    surge: DeadLetterRate,
    /// The reason of the last dead letter.
    last_refused: Option<&'static str>,
    /// `true` once the decisions of labels that waited at the start have been looked up.
    searched: bool,
    lag: metrics::Lag,
    /// The age of the oldest label of the last batch, by partition.
    ages: BTreeMap<i32, Duration>,
    /// The spans of commits that no published predictor reflects yet.
    unpublished: Unpublished,
    last_expiry: Instant,
    last_report: Instant,
}

impl<'a> ActiveLearner<'a> {
    /// Takes over from the previous learner, restores the ledger, and subscribes to the labels. Returns `None` if
    /// shutdown was requested first.
    pub(super) fn restore(
        learn: &'a Learn,
        registry: Option<&'a Registry>,
        schemas: Option<&'a dyn Schemas>,
        traces: &'a Traces,
    ) -> Result<Option<Self>, LearnError> {
        let (topics, settings) = (&learn.config.topics, &learn.config.learn);
        // Taking over the transactional id fences a learner that has not noticed yet that it lost the election.
        let outbox = Outbox::open(&learn.connection, learn.delivery.clone())?;
        let policies = learn.policies.now();
        let Some((store, ledger, index)) = learn.restore(&policies)? else { return Ok(None) };
        learn.health.set("ledger restored", true);
        let lookup = Lookup::open(&learn.connection, &topics.decisions, REQUEST_TIMEOUT)?;
        crash::point("learn.restored");
        let labels =
            Source::subscribe(&learn.connection, &settings.group, &[&topics.labels], Start::Earliest)?;
        Ok(Some(Self {
            learn,
            registry,
            schemas,
            traces,
            policies,
            labels,
            defaults: learn.config.record_defaults(),
            batch_limit: settings.commit_records,
            index,
            lookup,
            ledger,
            store,
            publisher: Publisher::new(&topics.weights, settings.publish_interval_ms),
            outbox,
            surge: DeadLetterRate::new(settings.max_dead_letters_per_minute, settings.max_dead_letter_share),
            last_refused: None,
            searched: false,
            lag: metrics::Lag::new(&settings.group),
            ages: BTreeMap::new(),
            unpublished: Unpublished::default(),
            last_expiry: Instant::now(),
            last_report: Instant::now(),
        }))
    }

    /// Runs all stages once.
    ///
    /// # Errors
    /// Returns an error that ends the active time and that the caller must judge.
    pub(super) fn tick(&mut self, election: &mut Source) -> Result<Control, LearnError> {
        match self.run_stages(election) {
            Ok(()) => Ok(Control::Continue),
            Err(Exit::End(end)) => Ok(Control::End(end)),
            Err(Exit::Failed(error)) => Err(error),
        }
    }

    fn run_stages(&mut self, election: &mut Source) -> Result<(), Exit> {
        if self.learn.shutdown.requested() {
            return Err(Exit::End(End::Stopped));
        }
        // With a wait the poll takes everything that has come meanwhile, and without one a single event.
        if matches!(election.poll(ELECTION_WAIT)?, Polled::Revoked { .. }) {
            return Err(Exit::End(End::Superseded));
        }
        self.reload_policies();
        let decisions = self.read_decisions()?;
        let indexed = decisions.len();
        let mut batch = self.read_labels()?;
        let spans = batch.traced(self.traces);
        let expire = self.last_expiry.elapsed() > EXPIRY_INTERVAL;
        let joined = self.join(decisions, std::mem::take(&mut batch.labels), expire)?;
        let surge = self.commit(batch, joined, spans)?;
        self.apply(indexed, expire)?;
        self.fold_and_publish()?;
        // The dead letters are committed, so that the next start continues behind them.
        if let Some(error) = surge {
            return Err(Exit::Failed(error));
        }
        if self.last_report.elapsed() > REPORT_INTERVAL {
            self.last_report = Instant::now();
            self.report();
        }
        Ok(())
    }

    /// Puts changed policies in force. Only the folds of policies with another learner or mapping are built again.
    fn reload_policies(&mut self) {
        if self.learn.policies.renew(&mut self.policies).is_some() {
            for policy in self.ledger.set_policies(&self.policies) {
                tracing::info!(policy, "the learner or the mapping has changed: the policy is folded again");
            }
        }
    }

    /// Stage 1: reads decisions for the index. Those of labelled rounds are compared with the ledger later.
    fn read_decisions(&mut self) -> Result<Vec<RoundRecord>, Exit> {
        let decisions = self.index.read(self.batch_limit * 4, self.schemas)?;
        let ready = self.index.is_ready();
        let note = if ready { String::new() } else { self.index.progress() };
        self.learn.health.note("decisions indexed", ready, &note);
        Ok(decisions)
    }

    /// Stage 2: reads labels until the batch is full or its interval is over. Waits for the first label only if no
    /// decisions and no rounds are left to process.
    fn read_labels(&mut self) -> Result<LabelBatch, Exit> {
        let wait = !self.index.has_moved() && self.ledger.is_current();
        let batch = self.gather(wait)?;
        if batch.count > 0 {
            self.learn.set_uncommitted(true);
            self.ages = batch.ages(now());
        }
        Ok(batch)
    }

    /// Stage 3: turns each label into a ledger record or a dead letter. With `expire`, also ends the wait of labels
    /// whose decision did not come in time.
    fn join(
        &mut self,
        decisions: Vec<RoundRecord>,
        labels: Vec<ReadLabel>,
        expire: bool,
    ) -> Result<JoinOutput, Exit> {
        self.index.write_entries(&mut self.store)?;
        let mut join = Join {
            state: self.ledger.state(),
            store: &self.store,
            lookup: &mut self.lookup,
            schemas: self.schemas,
            horizon: self.learn.config.learn.horizon(),
            output: JoinOutput::default(),
        };
        decisions.into_iter().for_each(|round| join.decision(round));
        if !self.searched {
            join.search(self.ledger.foreign())?;
            self.searched = true;
        }
        join.labels(labels)?;
        if expire {
            join.expire(now());
            self.last_expiry = Instant::now();
        }
        Ok(join.output)
    }

    /// Stage 4: commits ledger records, dead letters and label offsets together, and reads the ledger records back, which
    /// applies them to the state in memory. Returns an error to report later if there are too many dead letters.
    fn commit(
        &mut self,
        batch: LabelBatch,
        mut joined: JoinOutput,
        mut spans: Vec<Labelled>,
    ) -> Result<Option<LearnError>, Exit> {
        let learn = self.learn;
        joined.refused.extend(batch.refused);
        self.surge.add_records(batch.count as u64, Instant::now());
        let committed = self.commit_outputs(&mut joined, &batch.offsets, &mut spans)?;
        let refused = committed.as_ref().map_or(&[][..], |committed| &committed.refused);
        refused.iter().for_each(|reason| metrics::dead_letter("label", reason));
        metrics::skipped("label", batch.skipped.values().sum());
        let surge = self.check_surge(refused);
        if let Some(committed) = &committed {
            if let Some(since) = batch.since {
                let (began, records) = (committed.began, committed.records);
                self.traces.learned(&spans, since, began, records, &mut self.unpublished);
            }
            if let Some(next) = committed.next {
                crash::point("learn.committed");
                if !self.ledger.read_until(next, || learn.shutdown.aborted())? {
                    return Err(Exit::End(End::Stopped));
                }
                crash::point("learn.read-back");
            }
        }
        // Labels whose commit was given up earlier may have been deleted since.
        if batch.count > 0 || (learn.health.waits_since().is_some() && has_read_all(&self.labels)) {
            learn.set_uncommitted(false);
        }
        if let Some(committed) = committed {
            let records = learn.config.learn.commit_records;
            self.batch_limit = learn.connection.round_trip.scaled_batch(records, committed.began.elapsed());
        }
        Ok(surge)
    }

    /// Counts dead letters. Returns an error if they exceed the configured limit and share.
    fn check_surge(&mut self, reasons: &[&'static str]) -> Option<LearnError> {
        self.last_refused = reasons.last().copied().or(self.last_refused);
        if self.surge.add_dead_letters(reasons.len() as u64, Instant::now()) {
            return None;
        }
        let limit = self.learn.config.learn.max_dead_letters_per_minute;
        self.last_refused.map(|reason| LearnError::Surge { limit, reason })
    }

    /// Stage 5: reads edits that operators have written, and writes everything that was read back to the store. `indexed`
    /// is the number of decisions that this tick has read. With `expire`, also drops days of the index past the horizon,
    /// and compares the topics' ids with those in the store.
    fn apply(&mut self, indexed: usize, expire: bool) -> Result<(), Exit> {
        // Everything that was read so far is this learner's own commit. Rounds that follow it are another learner's.
        self.ledger.clear_foreign();
        self.ledger.read_new()?;
        if !self.ledger.foreign().is_empty() {
            tracing::warn!("another learner writes to the ledger: beginning again from what is committed");
            return Err(Exit::End(End::Again));
        }
        self.ledger.write(&mut self.store, self.index.take_positions())?;
        crash::point("learn.kept");
        self.learn.progress.add_decisions(indexed);
        if expire {
            let horizon = self.learn.config.learn.horizon();
            self.store.remove_days_before(now().saturating_sub(horizon))?;
            if self.learn.topics_differ(&self.store) {
                tracing::warn!(
                    "a topic was deleted and created again: beginning again from what is committed"
                );
                return Err(Exit::End(End::Again));
            }
        }
        Ok(())
    }

    /// Stage 6: folds a number of rounds and publishes the predictors, in a transaction of their own.
    fn fold_and_publish(&mut self) -> Result<(), Exit> {
        if let Some(Publishing(began)) = self.publisher.advance(&mut self.ledger, &mut self.outbox)? {
            self.traces.published(began, &mut self.unpublished);
        }
        Ok(())
    }

    /// Reports lag, sizes and waiting labels to health and metrics.
    fn report(&mut self) {
        let brokers = self.learn.report_brokers(&self.labels);
        metrics::partitions("learn", self.labels.assigned().len());
        let ages = &self.ages;
        self.lag.report(brokers.lag.iter().map(|((topic, partition), messages)| {
            let age = if *messages == 0 { Some(Duration::ZERO) } else { ages.get(partition).copied() };
            (&**topic, *partition, *messages, age)
        }));
        let sizes = self.store.sizes();
        metrics::store(sizes.ledger_records, sizes.index_entries, sizes.index_runs, sizes.disk_bytes);
        for rounds in self.ledger.state().policies() {
            metrics::waiting(rounds.policy(), rounds.counts().waiting);
        }
    }

    /// Ends the active time. After a request to stop, publishes what is still unpublished; then leaves the labels' group.
    pub(super) fn finish(mut self, end: End) -> Result<End, LearnError> {
        let mut published = Ok(());
        if matches!(end, End::Stopped) {
            let aborted = || self.learn.shutdown.aborted();
            let finished = self.publisher.finish(&mut self.ledger, &mut self.outbox, aborted);
            published = finished.map(|Publishing(began)| self.traces.published(began, &mut self.unpublished));
        }
        // After an error too: dropping the source would wait for the group without a limit.
        self.labels.close(self.learn.leave_timeout());
        published.map(|()| end)
    }
}

/// Returns `true` if this member has read its partitions to their ends.
fn has_read_all(source: &Source) -> bool {
    let lag = source.health().lag;
    !lag.is_empty() && lag.iter().all(|(_, left)| *left == 0)
}
