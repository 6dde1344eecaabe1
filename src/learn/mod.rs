//! The learning role: indexes decisions, joins labels to them, commits the ledger, folds it and publishes predictors.
//!
//! # Election
//!
//! One learner is active at a time: the member that owns the single partition of the election topic. The others stand
//! by. The time from winning the election to the `End` is an *active time*. Only in it does a learner read and write the
//! other topics, and each begins with `ActiveLearner::restore`, from what is committed.
//!
//! # The path of a label
//!
//! One thread runs all stages in turn, in `ActiveLearner::tick`:
//!
//! | stage | result | file |
//! |---|---|---|
//! | 1. read decisions | the place of each decision, in the `Index` | `index` |
//! | 2. read labels | a `LabelBatch` | `label_batch` |
//! | 3. join | a `JoinOutput`: ledger records, and the labels that become dead letters | `join` |
//! | 4. commit | ledger records, dead letters and label offsets, in one transaction; the `Ledger` then reads its records back | `commit`, `ledger` |
//! | 5. apply | everything that was read back, in the store | `ledger` |
//! | 6. publish | folds up to date, and a predictor for each policy that has changed | `publish` |
//!
//! The records that are committed are read back before they are applied, so that the state in memory is always that of
//! the topic (see `docs/decisions/0002-read-back-what-was-committed.md`).

mod active;
mod commit;
mod error;
mod index;
mod join;
mod label_batch;
mod ledger;
mod progress;
mod publish;
mod restore;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec;
use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::kafka::{self, CommitError, Connection, Delivery, Polled, Source, SourceError, Start};
use crate::ops::traces;
use crate::ops::{Health, Shutdown, Traces, lower_priority, metrics};
use crate::registry::Registry;
use active::{ActiveLearner, Control};
pub use error::LearnError;
pub use ledger::load_ledger;
pub use progress::Progress;

/// The learner role and the parts that it needs.
pub struct Learn {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The connection to the brokers.
    pub connection: Connection,
    /// The delivery guarantee of commits.
    pub delivery: Delivery,
    /// The readiness conditions, which the flow updates.
    pub health: Health,
    /// The request to stop.
    pub shutdown: Shutdown,
    /// The progress of the flow, for a driver in the same process.
    pub progress: Arc<Progress>,
}

/// The reason why an active time ended.
enum End {
    /// Shutdown was requested.
    Stopped,
    /// Another learner is active now.
    Superseded,
    /// The state in memory is void. This learner is still elected, and its next active time restores the last commit.
    Again,
    /// The state in memory is void, and another learner may have been elected: this one leaves the election and joins it
    /// again first.
    Unsure,
}

impl End {
    /// The end after a commit that failed.
    fn after(error: &CommitError) -> Self {
        tracing::warn!(name = error.name(), %error, "a batch is repeated");
        metrics::aborted("learn", error.name());
        if matches!(error, CommitError::Outlived { .. }) { Self::Unsure } else { Self::Again }
    }
}

/// The name of this role in conditions and metrics.
const ROLE: &str = "learn";
/// The log message of a learner whose election has ended.
const STANDS_BY: &str = "another learner is active now; this one stands by";
/// The conditions of the active learner. A standby is ready without them.
const ACTIVE_CONDITIONS: [&str; 3] = ["ledger restored", "labels assigned", "decisions indexed"];
/// The condition that labels that were read are committed in time.
const COMMITTING: &str = "committing";
/// The time that a poll waits for a record while there is nothing else to do.
const IDLE_WAIT: Duration = Duration::from_millis(200);
/// The time that leaving a group may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that leaving a group may take after an abort was requested.
const ABORT_LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
/// The time that the brokers have to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that the brokers have to answer a request at the start. A request to stop waits for it.
const STARTUP_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which the brokers count as unreachable if they were not seen.
const BROKER_SEEN_TIMEOUT: Duration = Duration::from_secs(10);

impl Learn {
    /// Runs until shutdown is requested: stands by until elected, then learns. This thread and those that it starts run
    /// at a low priority, so that scoring on the same machine has the processor first.
    ///
    /// # Errors
    /// Returns an error if continuing would lose data, or if retrying cannot succeed.
    pub fn run(mut self) -> Result<(), LearnError> {
        lower_priority();
        let _metrics = metrics::RoleMetrics(ROLE);
        self.health = self.health.of(ROLE);
        let registry = Registry::from_config(&self.config.registry)?;
        let spans = traces::Settings {
            group: self.config.learn.group.clone(),
            ..traces::Settings::from_config(&self.config)
        };
        let traces = Traces::open(&spans)?;
        self.await_topics()?;
        let mut election = self.stand_for_election()?;
        metrics::active(false);
        self.set_uncommitted(false);
        while !self.shutdown.requested() {
            if !self.is_elected(&mut election)? {
                continue;
            }
            match self.active_time(&mut election, registry.as_ref(), &traces) {
                Ok(End::Stopped) => break,
                Ok(End::Superseded) => tracing::warn!("{STANDS_BY}"),
                Ok(End::Again) => {}
                Ok(End::Unsure) => {
                    tracing::warn!("another may be active by now: this one stands for election again");
                    election.close(LEAVE_TIMEOUT);
                    election = self.stand_for_election()?;
                }
                Err(error) => {
                    if let Err(error) = self.recover(error) {
                        election.close(self.leave_timeout());
                        return Err(error);
                    }
                }
            }
        }
        election.close(self.leave_timeout());
        Ok(())
    }

    /// Checks the topics that must have one partition, and retries until the brokers answer or shutdown is requested.
    fn await_topics(&self) -> Result<(), LearnError> {
        while !self.shutdown.requested() {
            match self.check_partitions() {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "waiting for the brokers");
                    // The check also measures the round trip, which may be longer than was known.
                    if let Err(error) = kafka::check_auth(&self.connection, &|| self.shutdown.requested()) {
                        tracing::warn!(%error, "waiting for the brokers");
                    }
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Returns an error if a topic that must have one partition has more.
    fn check_partitions(&self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        let single = [&*topics.election, &*topics.rounds, &*topics.weights];
        let timeout = self.connection.request_timeout(STARTUP_REQUEST_TIMEOUT);
        let counts = kafka::topics::partitions_of(&self.connection, &single, timeout)?;
        for (topic, count) in single.into_iter().zip(counts) {
            if count != 1 {
                return Err(LearnError::Partitions { topic: topic.to_owned(), count });
            }
        }
        Ok(())
    }

    fn stand_for_election(&self) -> Result<Source, SourceError> {
        let group = format!("{}-election", self.config.learn.group);
        Source::subscribe(&self.connection, &group, &[&self.config.topics.election], Start::Latest)
    }

    /// Polls the election. Returns `true` if this learner owns the election's partition.
    fn is_elected(&self, election: &mut Source) -> Result<bool, LearnError> {
        self.health.set("elected or standing by", true);
        self.report_brokers(election);
        match election.poll(IDLE_WAIT)? {
            Polled::Assigned(_) => Ok(true),
            // Until the next poll the partition is still listed as assigned, so the arms below would be wrong.
            Polled::Revoked { .. } => {
                tracing::warn!("{STANDS_BY}");
                Ok(false)
            }
            _ if election.assigned().is_empty() => {
                // Labels that this learner has read are committed by the one that is active now.
                self.set_uncommitted(false);
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// One active time: restores the state, then learns until the end.
    fn active_time(
        &self,
        election: &mut Source,
        registry: Option<&Registry>,
        traces: &Traces,
    ) -> Result<End, LearnError> {
        tracing::info!("this learner is active");
        metrics::active(true);
        ACTIVE_CONDITIONS.iter().for_each(|name| self.health.set(name, false));
        let end = self.learn(election, registry, traces);
        ACTIVE_CONDITIONS.iter().for_each(|name| self.health.forget(name));
        metrics::active(false);
        // After `Again` and after an error the labels are still to be committed by this learner.
        if !matches!(end, Ok(End::Again) | Err(_)) {
            self.set_uncommitted(false);
        }
        end
    }

    fn learn(
        &self,
        election: &mut Source,
        registry: Option<&Registry>,
        traces: &Traces,
    ) -> Result<End, LearnError> {
        let stop = || self.shutdown.requested();
        let schemas = registry.map(|registry| registry.waiting(&stop));
        let schemas = schemas.as_ref().map(|schemas| schemas as &dyn codec::Schemas);
        let Some(mut active) = ActiveLearner::restore(self, registry, schemas, traces)? else {
            return Ok(End::Stopped);
        };
        loop {
            match active.tick(election) {
                Ok(Control::Continue) => {}
                Ok(Control::End(end)) => return active.finish(end),
                Err(error) => {
                    // Dropping the source would wait for the group without a limit.
                    active.labels.close(self.leave_timeout());
                    return Err(error);
                }
            }
        }
    }

    /// Decides what follows an error of an active time: another attempt, or the end of the process.
    ///
    /// # Errors
    /// Returns the error if another attempt cannot succeed.
    fn recover(&self, error: LearnError) -> Result<(), LearnError> {
        match error {
            error if error.is_retryable() => {
                tracing::warn!(%error, "beginning again from what is committed");
                self.health.set("broker seen", false);
            }
            // The next restore names the topic and says how to recover it.
            LearnError::Source(error @ SourceError::Truncated { .. }) => {
                tracing::warn!(%error, "beginning again from what is committed");
            }
            error => {
                if let LearnError::Store(error) = &error {
                    metrics::STORE_ERRORS.with([error.name()]).increment(1);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reports if labels that were read are not committed yet. The time of the first such report is kept.
    fn set_uncommitted(&self, uncommitted: bool) {
        let since = uncommitted.then(|| self.health.waits_since().unwrap_or_else(Instant::now));
        self.health.waits(COMMITTING, since, self.config.kafka.stalled_after());
    }

    /// The time that leaving a group may take.
    fn leave_timeout(&self) -> Duration {
        if self.shutdown.aborted() { ABORT_LEAVE_TIMEOUT } else { LEAVE_TIMEOUT }
    }

    /// Reports if the brokers are reachable.
    fn report_brokers(&self, source: &Source) -> kafka::Health {
        let health = source.health();
        let until = health.seen.map(|at| at + self.connection.request_timeout(BROKER_SEEN_TIMEOUT));
        self.health.set_until("broker seen", until);
        health
    }
}

/// The time by this machine's clock.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
