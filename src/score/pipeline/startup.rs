//! Opens the clients of the pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{COMMITTING, ScorePipeline};
use crate::config::Policies;
use crate::dead_letter::DeadLetterRate;
use crate::experts::State;
use crate::kafka::{Follower, From, Outbox, Source, Start};
use crate::ops::{Health, Traces, metrics};
use crate::registry::{Encodings, Registry};
use crate::score::backlog::Backlog;
use crate::score::committer::{Committer, ReviewRequests};
use crate::score::event_scorer::EventScorer;
use crate::score::in_flight::InFlightEvents;
use crate::score::load_shedder::LoadShedder;
use crate::score::open_batch::OpenBatch;
use crate::score::outcome::Decider;
use crate::score::oversized::OversizedReplacer;
use crate::score::predictors::{PanelIdentity, Predictors};
use crate::score::reader::EventReader;
use crate::score::{IDLE_WAIT, PanelHandle, Score, ScoreError, now};

/// The time-out for opening the predictors' topic, if the brokers are near. Opening is repeated after it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

impl<'a> ScorePipeline<'a> {
    /// Reads the published predictors, opens the outbox and joins the consumer group. Returns `None` if shutdown was
    /// requested first.
    ///
    /// # Errors
    /// Returns an error if a part cannot be opened and retrying does not help.
    pub fn open(
        score: &'a Score,
        health: &'a Health,
        registry: Option<&'a Registry>,
        encodings: Encodings,
        traces: Traces,
    ) -> Result<Option<Self>, ScoreError> {
        let Score { config, connection, shutdown, .. } = score;
        let (policies, panel) = (score.policies.now(), score.panel.now());
        let Some(predictors) = open_predictors(score, health, &policies, &panel)? else { return Ok(None) };
        for expert in panel.panel.experts() {
            let loaded = f64::from(u8::from(expert.state == State::Loaded));
            metrics::EXPERT_LOADED.with([&expert.id]).set(loaded);
        }
        let open = || Ok(Outbox::open(connection, score.delivery.clone())?);
        let Some(outbox) = score.retry(open)? else { return Ok(None) };
        let (group, topics) = (&config.score.group, &config.topics);
        let source = Source::subscribe(connection, group, &[&topics.events], Start::Earliest)?;
        let (window, delay) = (config.score.window, config.experts.batch_delay());
        let in_flight = InFlightEvents::open(&panel.panel, &policies, window, delay, config.experts.explore)?;
        let reviews = ReviewRequests { topic: topics.review.as_str().into(), encoding: encodings.review };
        let oversized = OversizedReplacer::new(connection, topics);
        let member = source.membership().clone();
        let committer = Committer::start(outbox, member, reviews, oversized, shutdown.clone())?;
        let stalled_after = config.kafka.stalled_after().max(2 * config.score.commit_interval());
        health.waits(COMMITTING, None, stalled_after);
        let surge =
            DeadLetterRate::new(config.score.max_dead_letters_per_minute, config.score.max_dead_letter_share);
        Ok(Some(Self {
            committer,
            reader: EventReader::new(source, registry, config),
            batch: OpenBatch::new(config, connection),
            scorer: EventScorer {
                decider: Decider::new(config, &policies, &panel, encodings.decisions, traces),
                in_flight,
                predictors,
                policies,
                panel,
            },
            backlog: Backlog::default(),
            surge,
            surge_reason: None,
            load_shedder: LoadShedder::new((&config.score).into()),
            lag: metrics::Lag::new(group),
            events_read: metrics::EVENTS.with([]),
            stalled_after,
            reported_at: Instant::now(),
            score,
            health,
        }))
    }
}

/// Follows the predictors' topic until everything that was published before is read, and the one in use of each policy
/// fits the panel.
/// Until then this scorer does not join the group, so that it decides nothing with another predictor. Returns `None` if
/// shutdown was requested first.
pub fn open_predictors(
    score: &Score,
    health: &Health,
    policies: &Arc<Policies>,
    panel: &PanelHandle,
) -> Result<Option<Predictors>, ScoreError> {
    let (connection, weights) = (&score.connection, &score.config.topics.weights);
    let timeout = || connection.request_timeout(OPEN_TIMEOUT);
    let open = || Ok(Follower::open(connection, weights, &From::Beginning, timeout())?);
    let Some(follower) = score.retry(open)? else { return Ok(None) };
    let changes_encoder = score.config.experts.change_encoder;
    let identity = PanelIdentity { changes_encoder, ..panel.identity() };
    let mut predictors = Predictors::new(follower, policies, identity)?;
    let mut policies = Arc::clone(policies);
    while !predictors.is_ready() {
        if score.shutdown.requested() {
            return Ok(None);
        }
        predictors.follow(IDLE_WAIT)?;
        if score.policies.renew(&mut policies).is_some() {
            predictors.on_reload(&policies, panel.identity())?;
        }
        predictors.report(health, now());
    }
    health.set("weights followed", true);
    predictors.report(health, now());
    Ok(Some(predictors))
}
