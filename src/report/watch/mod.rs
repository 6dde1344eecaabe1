//! The watch: follows decisions and the ledger, and keeps the gauges of the headlines and the alarms.
//!
//! It runs in the learning role on a thread of its own and cannot stop it: an error, or a panic, is logged and counted, and
//! the watch begins again after a pause. Until then its gauges keep the last values, and `aegis_report_current` is 0.

mod alarms;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use self::window::{DAY, PolicyAlarm, Window};
use super::figures::{Counts, Figures};
use super::headline::Headline;
use super::positions::beginning;
use crate::codec::{self, Received, Schemas};
use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::kafka::{Connection, Followed, Follower, From, SourceError};
use crate::ops::{Shutdown, lower_priority, metrics};
use crate::registry::{Registry, RegistryError};

/// The time that the brokers have to answer a request. A stop of the process waits for the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after an error.
const RETRY_PAUSE: Duration = Duration::from_secs(30);
/// The pause while both topics have nothing new.
const IDLE_PAUSE: Duration = Duration::from_millis(200);
/// The time between two checks for new partitions.
const GROWTH_INTERVAL: Duration = Duration::from_secs(60);
/// The number of records that are read from one topic before it is the other's turn.
const TURN: usize = 1_000;

/// The errors that make the watch begin again.
#[derive(Debug, Error)]
enum WatchError {
    /// A topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry does not provide the schema of a decision.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl WatchError {
    /// The name of the error, as a metric label.
    fn name(&self) -> &'static str {
        match self {
            Self::Source(error) => error.name(),
            Self::Registry(_) => "Registry",
        }
    }
}

/// The watch and the parts that it needs.
pub struct Watch {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The connection to the brokers.
    pub connection: Connection,
    /// The request to stop.
    pub shutdown: Shutdown,
}

/// The topics that are followed, and what was read of them.
struct Following<'a> {
    ledger: Follower,
    decisions: Follower,
    window: Window,
    schemas: Option<&'a dyn Schemas>,
    /// `true` once both topics were read to their ends.
    is_complete: bool,
    last_growth_check: Instant,
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

impl Watch {
    /// Runs until shutdown is requested. Never fails: see the module.
    pub fn run(self) {
        if self.config.report.window_days == 0 {
            return;
        }
        metrics::REPORT_CURRENT.with([]).set(0.0);
        let watch = Arc::new(self);
        while !watch.shutdown.requested() {
            let name = match watch.attempt() {
                Ok(()) => break,
                Err(name) => name,
            };
            metrics::REPORT_FAILURES.with([name]).increment(1);
            metrics::REPORT_CURRENT.with([]).set(0.0);
            if watch.shutdown.wait_for(RETRY_PAUSE) {
                break;
            }
        }
        metrics::REPORT_CURRENT.with([]).set(0.0);
    }

    /// Follows the topics until shutdown is requested. Returns the name of the error that prevents it.
    fn attempt(self: &Arc<Self>) -> Result<(), &'static str> {
        let watch = Arc::clone(self);
        isolated(move || watch.follow())
    }

    fn follow(&self) -> Result<(), WatchError> {
        lower_priority();
        let registry = Registry::from_config(&self.config.registry)?;
        let stop = || self.shutdown.requested();
        let schemas = registry.as_ref().map(|registry| registry.waiting(&stop));
        let mut following = self.open(schemas.as_ref().map(|schemas| schemas as &dyn Schemas))?;
        let interval = Duration::from_millis(self.config.report.interval_ms);
        let mut last_update: Option<Instant> = None;
        while !self.shutdown.requested() {
            let read = following.read(self)?;
            let is_due = last_update.is_none_or(|last| last.elapsed() >= interval);
            if following.is_complete && is_due {
                self.update(&mut following.window);
                last_update = Some(Instant::now());
            }
            if !read {
                let _ = self.shutdown.wait_for(IDLE_PAUSE);
            }
        }
        Ok(())
    }

    fn open<'a>(&self, schemas: Option<&'a dyn Schemas>) -> Result<Following<'a>, WatchError> {
        let window = Window::new(self.config.report.window_days, now());
        let topics = &self.config.topics;
        let begin = beginning(&self.connection, &topics.decisions, Some(window.start()), REQUEST_TIMEOUT)?;
        Ok(Following {
            ledger: Follower::open(&self.connection, &topics.rounds, &From::Beginning, REQUEST_TIMEOUT)?,
            decisions: Follower::open(&self.connection, &topics.decisions, &begin, REQUEST_TIMEOUT)?,
            window,
            schemas,
            is_complete: false,
            last_growth_check: Instant::now(),
        })
    }

    /// Computes the headlines and sets the gauges. Returns the headlines.
    fn update(&self, window: &mut Window) -> Vec<Headline> {
        let (now, policies) = (now(), self.policies.now());
        for policy in window.advance(now) {
            tracing::warn!(policy, "the report covers fewer days: the policy has too many review requests");
        }
        for policy in window.remove_policies(&policies) {
            metrics_of(&empty(policy));
        }
        let (headlines, alarms) = window.headlines(&policies, now);
        alarms.iter().for_each(|alarm| report_alarm(alarm, now));
        headlines.iter().for_each(metrics_of);
        metrics::REPORT_CURRENT.with([]).set(1.0);
        headlines
    }
}

/// Runs `work` on a thread that may panic without ending the process. Returns the name of its error.
fn isolated(work: impl FnOnce() -> Result<(), WatchError> + Send + 'static) -> Result<(), &'static str> {
    let spawned = thread::Builder::new().name("report-watch".into()).spawn(work);
    match spawned.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => {
            tracing::warn!(name = error.name(), %error, "the report is not kept up to date; it begins again");
            Err(error.name())
        }
        // The hook has logged the panic.
        Ok(Err(_)) => Err("Panic"),
        Err(error) => {
            tracing::warn!(%error, "the report is not kept up to date: the system refuses a thread");
            Err("Thread")
        }
    }
}

impl Following<'_> {
    /// Reads what both topics have, up to a turn of each. Returns `false` if they have nothing.
    fn read(&mut self, watch: &Watch) -> Result<bool, WatchError> {
        if self.last_growth_check.elapsed() >= GROWTH_INTERVAL {
            self.last_growth_check = Instant::now();
            self.decisions.grow(REQUEST_TIMEOUT)?;
        }
        let read = self.read_ledger()? + self.read_decisions(watch)?;
        self.is_complete |= self.ledger.at_end() && self.decisions.at_end();
        Ok(read > 0)
    }

    fn read_ledger(&mut self) -> Result<usize, WatchError> {
        for read in 0..TURN {
            match self.ledger.poll(Duration::ZERO)? {
                Followed::Record(record) => {
                    // A record that cannot be read stops the learner, which says so.
                    if let Some(Ok(record)) = record.payload.as_deref().map(codec::decode_record) {
                        self.window.add_record(&record);
                    }
                }
                Followed::Skipped { .. } => {}
                Followed::End | Followed::Idle => return Ok(read),
            }
        }
        Ok(TURN)
    }

    fn read_decisions(&mut self, watch: &Watch) -> Result<usize, WatchError> {
        let policies = watch.policies.now();
        for read in 0..TURN {
            let record = match self.decisions.poll(Duration::ZERO)? {
                Followed::Record(record) => record,
                Followed::Skipped { .. } => continue,
                Followed::End | Followed::Idle => return Ok(read),
            };
            let decoded = Received::new(record.payload.as_deref(), &record.headers, self.schemas).decision();
            let decision = match decoded.map_err(RegistryError::of) {
                Ok(decision) => decision,
                Err(Ok(error)) => return Err(error.into()),
                // The learner counts decisions that cannot be read.
                Err(Err(_)) => continue,
            };
            if policies.get(&decision.id.policy).is_some() {
                let now = now();
                self.window.add_decision(&decision).iter().for_each(|alarm| report_alarm(alarm, now));
            }
        }
        Ok(TURN)
    }
}

/// Counts and logs an alarm. Those of decisions that are older than a day were reported before this process began.
fn report_alarm(alarm: &PolicyAlarm, now: Millis) {
    if now.saturating_sub(alarm.time) >= DAY {
        return;
    }
    let (policy, watched) = (&alarm.policy, &alarm.raised.watched);
    let (before, after, since) =
        (alarm.raised.alarm.before, alarm.raised.alarm.after, alarm.raised.alarm.since);
    metrics::REPORT_ALARMS.with([policy, watched.word(), watched.expert()]).increment(1);
    tracing::warn!(
        policy,
        watched = watched.word(),
        expert = watched.expert(),
        before,
        after,
        since,
        "the mean of a watched value has changed: see docs/runbook.md#aegisdrift"
    );
}

/// The headline of a policy without decisions: no figure is a number, and there is no target to miss.
fn empty(policy: String) -> Headline {
    Headline {
        policy,
        counts: Counts::default(),
        response_rate: None,
        recall_target: None,
        figures: Figures::default(),
        alarms: Vec::new(),
    }
}

/// Sets the gauges of a headline.
fn metrics_of(headline: &Headline) {
    let policy = headline.policy.as_str();
    let figures = &headline.figures;
    for (name, figure) in [
        ("prevalence", figures.prevalence),
        ("precision", figures.precision),
        ("recall", figures.recall),
        ("false_positive_rate", figures.false_positive_rate),
        ("error_rate", figures.error_rate),
    ] {
        // A figure without a label is not a number, and compares with nothing.
        let values = figure.map_or([f64::NAN; 3], |figure| [figure.value, figure.low, figure.high]);
        for (bound, value) in ["value", "low", "high"].into_iter().zip(values) {
            metrics::REPORT_ESTIMATE.with([policy, name, bound]).set(value);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of decisions are far below 2^52")]
    let number = |count: u64| count as f64;
    metrics::REPORT_DECISIONS.with([policy]).set(number(headline.counts.decisions));
    metrics::REPORT_REQUESTS.with([policy]).set(number(headline.counts.requests));
    metrics::REPORT_LABELS.with([policy]).set(number(headline.counts.answered));
    metrics::REPORT_RECALL_TARGET.with([policy]).set(headline.recall_target.unwrap_or(0.0));
    for watched in ["block_rate", "mean_p", "disagreement", "expert_error"] {
        let raised = headline.alarms.iter().any(|alarm| alarm.split(' ').next() == Some(watched));
        metrics::REPORT_ALARM.with([policy, watched]).set(if raised { 1.0 } else { 0.0 });
    }
}
