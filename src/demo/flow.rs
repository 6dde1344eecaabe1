//! Both roles on threads of this process.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::brokers::Brokers;
use super::plan::Plan;
use super::{DemoError, POLL_INTERVAL, io_error};
use crate::config::{self, Config, Policies};
use crate::experts::Panel;
use crate::kafka::Delivery;
use crate::learn::{self, Learn, LearnError};
use crate::ops::{Health, Shutdown, StopReason};
use crate::score::{PanelHandle, Score, ScoreError};

/// Both roles on threads of this process.
pub(super) struct Flow {
    score: JoinHandle<Result<(), ScoreError>>,
    learn: JoinHandle<Result<(), LearnError>>,
    shutdown: Shutdown,
    progress: Arc<learn::Progress>,
}

impl Flow {
    /// Starts both roles.
    pub(super) fn start(
        config: &Arc<Config>,
        policies: &Arc<Policies>,
        panel: &Arc<Panel>,
        brokers: &Brokers,
    ) -> Result<Self, DemoError> {
        // Signals stop the demo, and the demo stops the roles.
        let shutdown = Shutdown::new();
        let delivery = |id: String| match brokers.delivery {
            config::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            config::Delivery::ExactlyOnce => Delivery::ExactlyOnce {
                transactional_id: id,
                timeout: brokers.connection.transaction_timeout(),
            },
        };
        let score = Score {
            config: Arc::clone(config),
            policies: Arc::clone(policies).into(),
            panel: PanelHandle::in_force(Arc::clone(panel), &config.experts),
            connection: brokers.connection.clone(),
            delivery: delivery(format!("{}-1", config.score.group)),
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let progress = Arc::<learn::Progress>::default();
        let learn = Learn {
            config: Arc::clone(config),
            policies: Arc::clone(policies).into(),
            connection: brokers.connection.clone(),
            delivery: delivery(config.learn.group.clone()),
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::clone(&progress),
        };
        let spawn_error = || io_error(Path::new("threads"));
        Ok(Self {
            score: thread::Builder::new()
                .name("score".into())
                .spawn(move || score.run())
                .map_err(spawn_error())?,
            learn: thread::Builder::new()
                .name("learn".into())
                .spawn(move || learn.run())
                .map_err(spawn_error())?,
            shutdown,
            progress,
        })
    }

    /// Waits until everything of the plan is decided and learned, a role fails, or shutdown is requested.
    pub(super) fn wait_for(&self, plan: &Plan, shutdown: &Shutdown) {
        let labels = i64::try_from(plan.labels).unwrap_or(i64::MAX);
        let behind = || self.progress.labels() < labels || self.progress.decisions() < plan.events;
        while behind() && !shutdown.requested() && !self.failed() {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs both roles until shutdown is requested or one of them fails.
    pub(super) fn run_until(self, shutdown: &Shutdown) -> Result<(), DemoError> {
        while !shutdown.requested() && !self.failed() {
            thread::sleep(POLL_INTERVAL);
        }
        self.stop()
    }

    /// Returns `true` if a role has stopped on its own.
    pub(super) fn failed(&self) -> bool {
        self.score.is_finished() || self.learn.is_finished()
    }

    /// Stops both roles cleanly and waits for them.
    pub(super) fn stop(self) -> Result<(), DemoError> {
        self.shutdown.request(StopReason::Program);
        let score = self.score.join();
        let learn = self.learn.join();
        score.map_err(|_| DemoError::Panicked("score"))??;
        learn.map_err(|_| DemoError::Panicked("learn"))??;
        Ok(())
    }
}
