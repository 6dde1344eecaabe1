//! The learning flow: decisions indexed, labels joined, the ledger committed and folded, predictors
//! published.
//!
//! One learner is active at a time: the member that owns the one partition of the election topic. All
//! else it reads and writes only then. What it commits it reads back before it applies it (see
//! `docs/decisions/0002-read-back-what-was-committed.md`).

mod active;
mod commit;
mod error;
mod gather;
mod index;
mod join;
mod kept;
mod ledger;
mod progress;
mod publish;
mod restore;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::kafka::{self, CommitError, Connection, Delivery, Polled, Source, SourceError, Start};
use crate::ops::traces;
use crate::ops::{Health, Shutdown, Traces, lower_priority, metrics};
use crate::schemas;
pub use error::LearnError;
pub use kept::kept;
pub use progress::Progress;

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

/// The name of this role in conditions and metrics.
const ROLE: &str = "learn";
/// What a learner says whose election has ended.
const STANDS_BY: &str = "another learner is active now; this one stands by";
/// Conditions of the active learner: a standby is ready without them.
const ACTIVE: [&str; 3] = ["ledger restored", "labels assigned", "decisions indexed"];
/// The condition that what is read is committed.
const COMMITTING: &str = "committing";
/// How long a stage waits where there is nothing to do.
const IDLE: Duration = Duration::from_millis(200);
/// How long leaving a group may take, and how long where all is given up.
const LEAVE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);
/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the brokers may take to answer before the start; stopping waits for that.
const LOOK: Duration = Duration::from_secs(5);
/// How long the brokers count as there after they were last seen.
const SEEN: Duration = Duration::from_secs(10);
impl Learn {
    /// Runs until shutdown is requested: stands by until elected, then learns. Whatever it does, this thread and those
    /// that it starts leave the processor to scoring, where that wants it.
    ///
    /// # Errors
    /// Where going on would lose something or help nobody.
    pub fn run(mut self) -> Result<(), LearnError> {
        lower_priority();
        let _metrics = metrics::RoleMetrics(ROLE);
        self.health = self.health.of(ROLE);
        let topics = &self.config.topics;
        let registry = schemas::open(&self.config.registry)?;
        let spans = traces::Settings {
            group: self.config.learn.group.clone(),
            ..traces::Settings::from_config(&self.config)
        };
        let traces = Traces::open(&spans)?;
        let group = format!("{}-election", self.config.learn.group);
        let stand = || Source::subscribe(&self.connection, &group, &[&topics.election], Start::Latest);
        while !self.shutdown.requested() {
            match self.single() {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "waiting for the brokers");
                    // They may be farther away than was known.
                    if let Err(error) = kafka::check_auth(&self.connection, &|| self.shutdown.requested()) {
                        tracing::warn!(%error, "waiting for the brokers");
                    }
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        let mut election = stand()?;
        metrics::active(false);
        self.waits(false);
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
                _ if election.assigned().is_empty() => {
                    // Whatever waited here is another learner's to commit.
                    self.waits(false);
                    continue;
                }
                _ => {}
            }
            tracing::info!("this learner is active");
            metrics::active(true);
            ACTIVE.iter().for_each(|name| self.health.set(name, false));
            let end = self.learn(&mut election, registry.as_ref(), &traces);
            ACTIVE.iter().for_each(|name| self.health.forget(name));
            metrics::active(false);
            if !matches!(end, Ok(End::Again) | Err(_)) {
                self.waits(false);
            }
            match end {
                Ok(End::Stopped) => break,
                Ok(End::Superseded) => tracing::warn!("{STANDS_BY}"),
                Ok(End::Again) => {}
                Ok(End::Unsure) => {
                    tracing::warn!("another may be active by now: this one stands for election again");
                    election.close(LEAVE);
                    election = stand()?;
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "beginning again from what is committed");
                    self.health.set("broker seen", false);
                }
                // Restoring says which topic it is, and what to do.
                Err(LearnError::Source(error @ SourceError::Truncated { .. })) => {
                    tracing::warn!(%error, "beginning again from what is committed");
                }
                Err(error) => {
                    if let LearnError::Store(error) = &error {
                        metrics::STORE_ERRORS.with([error.name()]).increment(1);
                    }
                    return Err(error);
                }
            }
        }
        election.close(self.leave());
        Ok(())
    }

    /// Whether the topics that must have one partition have no more.
    fn single(&self) -> Result<(), LearnError> {
        let topics = &self.config.topics;
        let single = [&*topics.election, &*topics.rounds, &*topics.weights];
        let patience = self.connection.answer(LOOK);
        let counts = kafka::topics::partitions_of(&self.connection, &single, patience)?;
        for (topic, count) in single.into_iter().zip(counts) {
            if count != 1 {
                return Err(LearnError::Partitions { topic: topic.to_owned(), count });
            }
        }
        Ok(())
    }

    /// Says whether labels that were read wait for their commit, or go on waiting for it.
    fn waits(&self, waits: bool) {
        let since = waits.then(|| self.health.waits_since().unwrap_or_else(Instant::now));
        self.health.waits(COMMITTING, since, self.config.kafka.stalled_after());
    }

    /// How long leaving a group may take.
    fn leave(&self) -> Duration {
        if self.shutdown.aborted() { HASTE } else { LEAVE }
    }

    /// Tells whether the brokers are there.
    fn seen(&self, source: &Source) -> kafka::Health {
        let health = source.health();
        self.health.set_until("broker seen", health.seen.map(|at| at + self.connection.answer(SEEN)));
        health
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
