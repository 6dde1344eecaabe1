//! The scoring role: reads events, and writes decisions, review requests and dead letters.
//!
//! # The path of an event
//!
//! | stage | type | file |
//! |---|---|---|
//! | 1. read | `Record`: a consumed record and its ticket, decoded into an `InputEvent` | `reader` |
//! | 2. submit | `InFlightEvents`: the events that the panel's threads work on, at most `score.window` | `in_flight` |
//! | 3. decide | `AnsweredEvent`: the event and its votes, which become an `Outcome`, unless another expert is needed | `event_scorer`, `outcome`, `deferral` |
//! | 4. commit | `Batch`: outcomes and the offsets of their records, in one transaction; then a `FinishedBatch` | `open_batch`, `committer`, `pipeline/commits` |
//! | 5. report | the figures of the stages, every half second | `pipeline/report` |
//!
//! So a record becomes an event, an answered event, an outcome, and is committed. A record that cannot be decoded becomes
//! an outcome at once: a dead letter.
//!
//! One thread runs all stages: `ScorePipeline`, which owns their state. The panel works on threads of its own, and so does
//! the `Committer`, which commits one batch while the next one is read and decided.
//!
//! An event that was decided for a request is read with the decision that was answered (`attached`), which becomes its
//! outcome at once. Requests are decided by `requests`: the second and third stage (`EventScorer`), without topics.
//!
//! # Where an event waits
//!
//! * While the panel or the open batch is full, nothing is read: `InFlightEvents::room` is 0 or `OpenBatch::is_full`
//!   returns `true`, and records stay in the consumer and on the brokers. After a second the consumer is paused.
//! * A record whose schema is not known yet waits in the `EventReader`, and is decoded again by the next `read`.
//! * An event that was submitted waits in `InFlightEvents` until the panel answers it. If an expert that was not asked
//!   could change the decision, the event is submitted again, for that expert alone.
//! * An outcome waits in the `OpenBatch` until all earlier records of its partition have one.
//!
//! # Nothing is lost, and nothing is committed twice
//!
//! The watermark of the `OpenBatch` holds every record from the poll that returned it until a batch takes its outcome.
//! Outcomes leave it in the order of their partition, so a committed offset never passes a record without an outcome. Each
//! stage either passes an event on or ends the role with an error. An event or its outcome is discarded in four cases. In
//! each of them the record's offset is not committed, so the record is read and decided again:
//!
//! * The partition was revoked (`ScorePipeline::on_revoked`): its next owner reads the record. The panel still answers an
//!   event in flight, and the outcome is discarded.
//! * A batch failed (`ScorePipeline::on_commit`): this process reads everything after the committed offsets again.
//! * There are too many dead letters ([`ScoreError::Surge`]): the record at which that is noticed gets no outcome, the role
//!   ends, and its next start reads the record.
//! * A second signal ended the process: its next start reads the record.
//!
//! This holds if the delivery is exactly-once. With at-least-once delivery, a crash between outputs and offsets repeats
//! outputs.

mod attached;
mod backlog;
mod commit_waits;
mod committer;
mod deferral;
mod error;
mod event_scorer;
mod file;
mod in_flight;
mod load_shedder;
mod open_batch;
mod outcome;
mod oversized;
mod panel_handle;
mod pipeline;
mod predictors;
mod reader;
mod requests;
mod review_budget;
mod spans;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::kafka::{Connection, Delivery, check_auth};
use crate::ops::{Health, Shutdown, Traces, metrics};
use crate::registry::{Encodings, Registry, RegistryError};
pub use attached::RecordKey;
pub use error::ScoreError;
pub use file::{FileOutcome, FileScorer};
pub use panel_handle::{PanelHandle, in_shadow};
use pipeline::ScorePipeline;
pub use requests::{Answer, Request, RequestScorer};

/// The name of this role in conditions and metrics.
const ROLE: &str = "score";
/// The longest wait if there is nothing to do. A wait for records costs up to a millisecond of processor time, because the
/// client spins at its end, so waits are long.
const IDLE_WAIT: Duration = Duration::from_millis(250);

/// The scoring role.
pub struct Score {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The experts in use, and which of them run in shadow mode.
    pub panel: Live<PanelHandle>,
    /// The brokers.
    pub connection: Connection,
    /// The delivery guarantee of outputs and offsets.
    pub delivery: Delivery,
    /// The readiness conditions.
    pub health: Health,
    /// The request to stop.
    pub shutdown: Shutdown,
}

impl Score {
    /// Runs until shutdown is requested.
    ///
    /// # Errors
    /// Returns an error if continuing would lose data, or if retrying cannot succeed.
    pub fn run(self) -> Result<(), ScoreError> {
        let (health, _metrics) = (self.health.of(ROLE), metrics::RoleMetrics(ROLE));
        let traces = Traces::open(&crate::ops::traces::Settings::from_config(&self.config))?;
        let registry = Registry::from_config(&self.config.registry)?;
        let stop = || self.shutdown.requested();
        let encodings = match Encodings::negotiate(&self.config, registry.as_ref(), &stop) {
            Err(RegistryError::Interrupted) => return Ok(()),
            other => other?,
        };
        match ScorePipeline::open(&self, &health, registry.as_ref(), encodings, traces)? {
            Some(pipeline) => pipeline.run(),
            None => Ok(()),
        }
    }

    /// Calls `open` until it does not fail for brokers that are not reachable. Returns `None` if shutdown was requested
    /// first.
    fn retry<T>(&self, open: impl Fn() -> Result<T, ScoreError>) -> Result<Option<T>, ScoreError> {
        let (shutdown, brokers) = (&self.shutdown, &self.connection.brokers);
        while !shutdown.requested() {
            match open() {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(brokers, %error, "waiting for the brokers");
                    // This measures the round trip again, which the time-outs follow.
                    if let Err(error) = check_auth(&self.connection, &|| shutdown.requested()) {
                        tracing::warn!(brokers, %error, "waiting for the brokers");
                    }
                }
                done => return done.map(Some),
            }
        }
        Ok(None)
    }
}

/// Returns the time in milliseconds since the Unix epoch.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
