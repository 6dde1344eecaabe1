//! The scoring flow: events in, decisions and review requests out.
//!
//! One thread runs the stages below; the panel works on threads of its own behind a bounded stream, and so does the
//! committing of one unit. A unit is everything decided since the last one: its decisions, the review requests that
//! name them, its dead letters and the offsets that they let go. The watermark keeps the committed offset from passing an
//! event without its outcome.

mod asking;
mod committing;
mod intake;
mod predictors;
mod reading;
mod seats;
mod shed;
mod traced;
mod unfit;
mod unit;
mod waits;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec::EncodeError;
use crate::config::{self, Config, Live};
use crate::core::event::Millis;
use crate::core::predictor::PredictorError;
use crate::crash;
use crate::experts::{PanelError, State};
use crate::kafka::{
    CommitError, Connection, Delivery, Follower, From, Outbox, Source, SourceError, Start, check_auth,
};
use crate::ops::{Health, Shutdown, Traces, TracesError, metrics};
use crate::registry::RegistryError;
use crate::schemas;
use asking::Asking;
use committing::{Committing, Requests};
use predictors::Predictors;
use reading::Reading;
pub use seats::PanelHandle;
use shed::{Limits, Shed};
use unfit::Originals;
use unit::Unit;

/// What the flow is made of.
pub struct Score {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The panel in force, and who of it is in shadow.
    pub seats: Live<PanelHandle>,
    /// The brokers.
    pub connection: Connection,
    /// What a unit is worth there.
    pub delivery: Delivery,
    /// Where readiness is told.
    pub health: Health,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Why scoring stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// Reading failed in a way that waiting does not mend.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A unit cannot be committed, now or later.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A policy's learner refuses the panel's experts.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
    /// A decision or a review request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The schema registry is of no help.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The events' topic has grown beyond a topic of outputs.
    #[error(
        "{events} has a partition {partition}, and {topic} only {count} partitions: what comes of an event goes \
         where its event lay. Nothing is lost: add the missing partitions with `aegis topics --create`, and \
         start again"
    )]
    Partitions {
        /// The topic of events.
        events: String,
        /// Its partition.
        partition: i32,
        /// The topic of outputs.
        topic: String,
        /// How many partitions that has.
        count: i32,
    },
    /// The panel cannot go on.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// No thread to commit on.
    #[error("no thread could be started to commit on: {reason}; allow this process more threads")]
    Thread {
        /// The system's reason.
        reason: String,
    },
    /// Spans cannot be sent as the configuration says.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// Too many dead letters.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}, and more than \
         score.max_dead_letter_share of what was read: something upstream is wrong. What was read before is \
         committed, so `aegis dlq list` shows it: fix the producer, or raise score.max_dead_letters_per_minute or \
         score.max_dead_letter_share, and start again"
    )]
    Surge {
        /// The limit.
        limit: u64,
        /// Name of the last reason.
        reason: &'static str,
    },
}

impl ScoreError {
    /// Whether the same can succeed later without anyone's doing.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// The name of this role in conditions and metrics.
const ROLE: &str = "score";
/// How long a stage waits where there is something else to do, and where there is not. A wait for records costs
/// up to a millisecond of a core, which the client spins through at its end: the second is long.
const BUSY: Duration = Duration::from_millis(2);
/// How long an answer is waited for where nothing can be read before it.
const FULL: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// Events that are read in one go, so that the panel has the first of them soon.
const STEP: usize = 32;
/// How long leaving the group may take, and how long where all is given up.
const LEAVE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);
/// How often the state of things is told to health and metrics.
const TELL: Duration = Duration::from_millis(500);
/// How long the brokers count as there after they were last seen.
const SEEN: Duration = Duration::from_secs(10);
/// How long the brokers may take to answer at the start before they are asked again; stopping waits for that.
const ANSWER: Duration = Duration::from_secs(5);
/// The condition that what is read is committed.
const COMMITTING: &str = "committing";

impl Score {
    /// Runs until shutdown is requested.
    ///
    /// # Errors
    /// Where going on would lose something or help nobody.
    pub fn run(self) -> Result<(), ScoreError> {
        let Self { config, policies: live, seats: seated, connection, delivery, health, shutdown } = self;
        let (health, _metrics) = (health.of(ROLE), metrics::RoleMetrics(ROLE));
        let (mut policies, mut seats) = (live.now(), seated.now());
        let traces = Traces::open(&crate::ops::traces::Settings::from_config(&config))?;
        let registry = schemas::open(&config.registry)?;
        let encodings = match schemas::encodings(&config, registry.as_ref(), &|| shutdown.requested()) {
            Err(RegistryError::Interrupted) => return Ok(()),
            other => other?,
        };
        let weights = &config.topics.weights;
        let open = || Ok(Follower::open(&connection, weights, &From::Beginning, connection.answer(ANSWER))?);
        let Some(follower) = patiently(&shutdown, &connection, open)? else { return Ok(()) };
        let mut predictors = Predictors::new(follower, &policies, seats.experts())?;
        while !predictors.is_ready() && !shutdown.requested() {
            predictors.follow(IDLE)?;
        }
        health.set("weights followed", true);
        predictors.tell(&health, now());
        for expert in seats.panel.experts() {
            let loaded = f64::from(u8::from(expert.state == State::Loaded));
            metrics::EXPERT_LOADED.with([&expert.id]).set(loaded);
        }
        let open = || Ok(Outbox::open(&connection, delivery.clone())?);
        let Some(outbox) = patiently(&shutdown, &connection, open)? else { return Ok(()) };
        let source =
            Source::subscribe(&connection, &config.score.group, &[&config.topics.events], Start::Earliest)?;
        let mut asking = Asking::start(&seats.panel, config.score.window, config.experts.batch_delay())?;
        asking.adopt(&policies)?;
        let mut unit = Unit::new(&config, Arc::clone(&policies), encodings.decisions, traces, &connection);
        unit.seat(&seats);
        let mut reading = Reading::new(source, registry.as_ref(), &config, Arc::clone(&policies), &health);
        let requests = Requests { topic: config.topics.review.as_str().into(), encoding: encodings.review };
        let member = reading.source.membership().clone();
        let originals = Originals::new(&connection, &config.topics);
        let mut committing = Committing::start(outbox, member, requests, originals, shutdown.clone())?;
        let mut shed = Shed::new(limits(&config.score));
        let stalled = config.kafka.stalled_after().max(2 * config.score.commit_interval());
        health.waits(COMMITTING, None, stalled);
        let mut told = Instant::now();
        let mut lag = metrics::Lag::new(&config.score.group);

        while !shutdown.aborted() {
            // At a surge, too, what was read before is decided and committed: the next start goes on from there.
            let stopping = shutdown.requested() || unit.surge().is_some();
            if stopping && asking.is_idle() {
                break;
            }
            // 1. Policies and panel: the newest there are. Policies may name a newer panel's experts, so these are looked
            // at first and taken last.
            let changed = live.renew(&mut policies).is_some();
            let reseated = seated.renew(&mut seats).is_some();
            if reseated {
                unit.seat(&seats);
                predictors.seat(seats.experts());
                asking.seat(&seats.panel)?;
            }
            if changed || reseated {
                unit.adopt(&policies);
                reading.adopt(&policies);
                predictors.adopt(&policies);
                asking.adopt(&policies)?;
            }

            // 2. Intake: records become events or dead letters, as many as the panel has room for.
            if stopping {
                reading.hold(&mut unit, &mut committing)?;
            } else {
                reading.fill(&mut unit, &mut committing, asking.is_idle(), asking.room().min(STEP))?;
            }

            // 3. Asking: the panel gets them at once.
            for accepted in reading.events.drain(..) {
                asking.offer(accepted)?;
            }

            // 4. Deciding: answered events meet the newest predictor of their policy.
            predictors.follow(Duration::ZERO)?;
            let behind = reading.behind;
            let mut patience = match (asking.is_idle(), asking.room()) {
                (true, _) => Duration::ZERO,
                (false, 0) => unit.due_in(behind).unwrap_or(FULL).min(FULL),
                (false, _) => BUSY,
            };
            while let Some(judged) = asking.take(std::mem::take(&mut patience)) {
                if let Some(predictor) = predictors.of(&judged.accepted.event.policy) {
                    unit.decide(judged, predictor)?;
                    crash::point("score.decided");
                }
            }

            // 5. Committing: outputs and offsets together, while the next are read.
            let patience = if asking.is_idle() && unit.is_due(behind) { FULL } else { Duration::ZERO };
            if let Some(ended) = committing.ended(patience) {
                unit.ended(ended, &mut reading.source)?;
            }
            if unit.is_due(behind) {
                unit.hand_over(&mut committing);
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                asking.tell(&health, &seats.shadow);
                predictors.tell(&health, now());
                let behind = tell(&reading.source, &unit, &health, &mut lag, connection.answer(SEEN));
                health.waits(COMMITTING, unit.waits(&reading.source.health().lag), stalled);
                let age = asking.oldest().map_or(0, |came| now().saturating_sub(came));
                let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
                if let Some(shrunk) = shed.update(behind, age, Instant::now()) {
                    asking.shrink(shrunk);
                    tracing::warn!(
                        shrunk,
                        lag = behind,
                        age_ms = age.as_millis(),
                        "load: whether the panel is shrunk"
                    );
                }
            }
        }
        if !shutdown.aborted() {
            unit.finish(&mut committing, &mut reading.source)?;
        }
        // The last to hold the membership leaves the group.
        drop(committing);
        reading.source.close(if shutdown.aborted() { HASTE } else { LEAVE });
        unit.surge().map_or(Ok(()), Err)
    }
}

/// Tries again while the brokers are away; none: it is to stop.
fn patiently<T>(
    shutdown: &Shutdown,
    connection: &Connection,
    open: impl Fn() -> Result<T, ScoreError>,
) -> Result<Option<T>, ScoreError> {
    while !shutdown.requested() {
        match open() {
            Err(error) if error.is_retryable() => {
                tracing::warn!(brokers = connection.brokers, %error, "waiting for the brokers");
                // They may be farther away than was known.
                if let Err(error) = check_auth(connection, &|| shutdown.requested()) {
                    tracing::warn!(brokers = connection.brokers, %error, "waiting for the brokers");
                }
            }
            done => return done.map(Some),
        }
    }
    Ok(None)
}

/// What is too much load, as the configuration says it.
fn limits(score: &config::Score) -> Limits {
    let age = Duration::from_millis(score.shed_age_ms);
    Limits {
        lag: (score.shed_lag > 0).then_some(score.shed_lag),
        age: (!age.is_zero()).then_some(age),
        calm: Duration::from_millis(score.shed_calm_ms),
    }
}

/// Tells the state of things; gives the lag over all partitions.
fn tell(source: &Source, unit: &Unit, health: &Health, lag: &mut metrics::Lag, silence: Duration) -> i64 {
    let seen = source.health();
    health.set_until("broker seen", seen.seen.map(|at| at + silence));
    metrics::partitions("score", source.assigned().len());
    metrics::queue(unit.held());
    lag.report(seen.lag.iter().map(|((topic, partition), messages)| {
        let age = match unit.oldest(*partition) {
            Some(came) => u64::try_from(now().saturating_sub(came)).ok().map(Duration::from_millis),
            None => (*messages == 0).then_some(Duration::ZERO),
        };
        (&**topic, *partition, *messages, age)
    }));
    seen.lag.iter().fold(0_i64, |sum, (_, messages)| sum.saturating_add(*messages))
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
