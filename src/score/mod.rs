//! The scoring flow: events in, decisions and review requests out.
//!
//! One thread runs the stages below; the panel works on a thread of its own behind bounded channels. A
//! unit is everything decided since the last commit: its decisions, the review requests that name them, its
//! dead letters and the offsets that they let go. The watermark keeps the committed offset from passing an event without its outcome.

mod asking;
mod intake;
mod predictors;
mod reading;
mod unit;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec::EncodeError;
use crate::config::{Config, Policies};
use crate::core::event::Millis;
use crate::core::predictor::PredictorError;
use crate::experts::{Panel, State};
use crate::kafka::{CommitError, Connection, Delivery, Follower, From, Outbox, Source, SourceError, Start};
use crate::ops::{Health, Shutdown, metrics};
use crate::registry::RegistryError;
use crate::schemas;
use asking::Asking;
use predictors::Predictors;
use reading::Reading;
use unit::Unit;

/// What the flow is made of.
pub struct Score {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies.
    pub policies: Arc<Policies>,
    /// The panel, opened.
    pub panel: Arc<Panel>,
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
    /// The system has no thread to give.
    #[error("no thread for the panel: {0}")]
    Thread(#[from] std::io::Error),
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
    /// Too many dead letters.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}: something upstream is \
         wrong. Nothing is lost: mend it, or raise score.max_dead_letters_per_minute, and start again"
    )]
    Surge {
        /// The limit.
        limit: u64,
        /// Name of the last reason.
        reason: &'static str,
    },
}

/// How long a stage waits where there is something else to do, and where there is not.
const BUSY: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(50);
/// How often the state of things is told to health and metrics.
const TELL: Duration = Duration::from_millis(500);
/// How long the brokers may take to answer at the start.
const ANSWER: Duration = Duration::from_secs(30);

impl Score {
    /// Runs until shutdown is requested.
    ///
    /// # Errors
    /// Where going on would lose something or help nobody.
    pub fn run(self) -> Result<(), ScoreError> {
        let Self { config, policies, panel, connection, delivery, health, shutdown } = self;
        let registry = schemas::open(&config.registry)?;
        let encodings = match schemas::encodings(&config, registry.as_ref(), &|| shutdown.requested()) {
            Err(RegistryError::Interrupted) => return Ok(()),
            other => other?,
        };
        let experts: Vec<String> = panel.experts().iter().map(|expert| expert.id.clone()).collect();
        let follower = Follower::open(&connection, &config.topics.weights, &From::Beginning, ANSWER)?;
        let mut predictors = Predictors::new(follower, &policies, experts)?;
        while !predictors.is_ready() && !shutdown.requested() {
            predictors.follow(IDLE)?;
        }
        health.set("weights followed", true);
        for expert in panel.experts() {
            let loaded = f64::from(u8::from(expert.state == State::Loaded));
            metrics::EXPERT_LOADED.with([&expert.id]).set(loaded);
        }
        let mut outbox = Outbox::open(&connection, delivery)?;
        let source =
            Source::subscribe(&connection, &config.score.group, &[&config.topics.events], Start::Earliest)?;
        let mut asking = Asking::start(panel)?;
        let mut unit = Unit::new(&config, Arc::clone(&policies), encodings);
        let mut reading = Reading::new(source, registry.as_ref(), &config, &policies, &health);
        let mut told = Instant::now();

        while !shutdown.aborted() {
            let stopping = shutdown.requested();
            if stopping && reading.window.is_empty() && asking.is_idle() {
                break;
            }
            // 1. Predictors: the newest that have been published.
            predictors.follow(Duration::ZERO)?;

            // 2. Intake: records become events or dead letters, until a window is full or nothing comes.
            if !stopping {
                reading.fill(&mut unit, &mut outbox, asking.is_idle())?;
            }

            // 3. Asking: the panel gets the next window as soon as it has room.
            if !reading.window.is_empty() && asking.has_room() {
                asking.offer(std::mem::take(&mut reading.window));
            }

            // 4. Deciding: answered events meet their policy's predictor.
            let patience = if asking.is_idle() { Duration::ZERO } else { BUSY };
            if let Some(judged) = asking.take(patience) {
                for judged in judged {
                    if let Some(predictor) = predictors.of(&judged.accepted.event.policy) {
                        unit.decide(judged, predictor)?;
                    }
                }
            }

            // 5. Committing: outputs and offsets together.
            if unit.is_due() {
                unit.commit(&mut outbox, &mut reading.source)?;
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                tell(&reading.source, &unit, &health, &config.score.group);
            }
        }
        if !shutdown.aborted() {
            unit.commit(&mut outbox, &mut reading.source)?;
        }
        reading.source.close(Duration::from_secs(5));
        Ok(())
    }
}

fn tell(source: &Source, unit: &Unit, health: &Health, group: &str) {
    let seen = source.health();
    health.set("broker seen", seen.connected);
    metrics::partitions("score", source.assigned().len());
    metrics::queue(unit.held());
    for ((topic, partition), messages) in seen.lag {
        metrics::lag(group, &topic, partition, messages, unit.age(partition));
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
