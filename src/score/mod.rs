//! The scoring flow: events in, decisions out.
//!
//! One thread runs the stages below; the panel works on a thread of its own behind bounded channels. A
//! unit is everything decided since the last commit: its decisions, its dead letters and the offsets that
//! they let go. The watermark keeps the committed offset from passing an event without its outcome.

mod asking;
mod intake;
mod predictors;
mod unit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::codec::{self, EncodeError};
use crate::config::{Config, Policies};
use crate::core::event::Millis;
use crate::core::predictor::PredictorError;
use crate::dead_letter::Surge;
use crate::experts::{Panel, State};
use crate::kafka::{
    CommitError, Connection, Delivery, Follower, From, Outbox, Polled, Source, SourceError, Start,
};
use crate::ops::{Health, Shutdown, metrics};
use crate::registry::RegistryError;
use crate::schemas;
use asking::Asking;
use intake::{Accepted, Refused, Waiting};
use predictors::Predictors;
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
    /// A decision cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The schema registry is of no help.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The system has no thread to give.
    #[error("no thread for the panel: {0}")]
    Thread(#[from] std::io::Error),
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
        let encoding = match schemas::encoding(&config, registry.as_ref(), &|| shutdown.requested()) {
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
        let mut source =
            Source::subscribe(&connection, &config.score.group, &[&config.topics.events], Start::Earliest)?;
        let mut asking = Asking::start(panel)?;
        let defaults = codec::Defaults {
            tenant: config.defaults.tenant.clone(),
            policy: config.defaults.policy.clone(),
        };
        let mut unit = Unit::new(&config, Arc::clone(&policies), encoding);
        let mut window: Vec<Accepted> = Vec::new();
        let mut told = Instant::now();
        // Records whose schema has not come yet; each holds up the outcomes after it in its partition only.
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut surge = Surge::new(config.score.max_dead_letters_per_minute);

        while !shutdown.aborted() {
            let stopping = shutdown.requested();
            if stopping && window.is_empty() && asking.is_idle() {
                break;
            }
            // 1. Predictors: the newest that have been published.
            predictors.follow(Duration::ZERO)?;

            // 2. Intake: records become events or dead letters, until a window is full or nothing comes.
            let mut come: VecDeque<Waiting> = std::mem::take(&mut waiting).into();
            while !stopping && window.len() < config.score.window {
                let (ticket, record) = match come.pop_front() {
                    Some(again) => again,
                    None if unit.is_full() => break,
                    None => {
                        let quiet = asking.is_idle() && window.is_empty();
                        let patience = match (quiet, unit.is_empty(), waiting.is_empty()) {
                            (true, true, _) => IDLE,
                            (true, false, false) => BUSY,
                            _ => Duration::ZERO,
                        };
                        match source.poll(patience)? {
                            Polled::Record(record) => match unit.read(&record) {
                                Some(ticket) => {
                                    metrics::EVENTS.with([]).increment(1);
                                    (ticket, record)
                                }
                                None => continue,
                            },
                            Polled::Assigned(partitions) => {
                                tracing::info!(partitions = partitions.len(), "partitions assigned");
                                unit.assigned(&partitions);
                                health.set("partitions assigned", true);
                                continue;
                            }
                            Polled::Revoked { partitions, lost } => {
                                tracing::info!(partitions = partitions.len(), lost, "partitions revoked");
                                // What is decided commits while the partitions are still this member's; what
                                // is not goes to their next owner.
                                if !lost {
                                    unit.commit(&mut outbox, &mut source)?;
                                }
                                unit.revoked(&partitions);
                                waiting.retain(|(ticket, _)| {
                                    partitions.iter().all(|(_, gone)| *gone != ticket.partition)
                                });
                                continue;
                            }
                            Polled::Idle => break,
                        }
                    }
                };
                let schemas = schemas::of(registry.as_ref());
                match intake::accept(record, ticket, &defaults, &policies, schemas, now()) {
                    Ok(accepted) => window.push(accepted),
                    Err(Refused::Waiting(again)) => waiting.push(*again),
                    Err(Refused::Unavailable(reason)) => {
                        return Err(RegistryError::Unavailable { reason }.into());
                    }
                    Err(Refused::Dead(refused)) => {
                        let (ticket, record, reason) = *refused;
                        metrics::dead_letter("event", reason.name);
                        if !surge.count(Instant::now()) {
                            let limit = config.score.max_dead_letters_per_minute;
                            return Err(ScoreError::Surge { limit, reason: reason.name });
                        }
                        unit.dead_letter(&ticket, record, &reason);
                    }
                }
            }
            waiting.extend(come);

            // 3. Asking: the panel gets the next window as soon as it has room.
            if !window.is_empty() && asking.has_room() {
                asking.offer(std::mem::take(&mut window));
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
                unit.commit(&mut outbox, &mut source)?;
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                tell(&source, &unit, &health, &config.score.group);
            }
        }
        if !shutdown.aborted() {
            unit.commit(&mut outbox, &mut source)?;
        }
        source.close(Duration::from_secs(5));
        Ok(())
    }
}

fn tell(source: &Source, unit: &Unit, health: &Health, group: &str) {
    let seen = source.health();
    health.set("broker seen", seen.connected);
    metrics::partitions("score", source.assigned().len());
    metrics::queue(unit.held());
    for ((topic, partition), messages) in seen.lag {
        metrics::lag(group, &topic, partition, messages, None);
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
