//! The state of the scheduler: texts that wait, runs in flight, their waiters, and the condition of each model. The
//! scheduler changes it under its lock; times are passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::model::ModelQueue;
use super::remote::RemoteTask;
use super::work::{RulesJob, Waiter, Work, WorkerRun};
use crate::core::vote::Abstention;
use crate::experts::backend::ModelBackend;
use crate::experts::backend::result::TextResult;
use crate::experts::cache::RequestKey;
use crate::experts::pending::PendingAnswer;
use crate::experts::scores::ExpertScore;

/// The greatest number of texts in a job for the rules.
const RULES_BATCH: usize = 32;

/// The state of the scheduler.
pub(super) struct SchedulerState {
    pub(super) models: Vec<ModelQueue>,
    pub(super) rules_jobs: VecDeque<RulesJob>,
    /// The answers that wait for each request, queued or in flight.
    pub(super) waiters: HashMap<RequestKey, Vec<Waiter>>,
    /// Requests to remote experts that wait to be sent or are in flight.
    pub(super) remote_tasks: HashMap<RequestKey, RemoteTask>,
    /// The number of the last of these tasks.
    pub(super) last_task: u64,
    /// Open answers by deadline, then by number.
    pub(super) open: BTreeMap<(Instant, u64), Arc<PendingAnswer>>,
    /// The number of the last open answer.
    pub(super) last_number: u64,
    /// By worker.
    pub(super) running: Vec<Option<WorkerRun>>,
    /// By worker: backends of models that were loaded later, which it has not installed yet.
    pub(super) reloaded: Vec<Vec<(usize, ModelBackend)>>,
    /// Workers, including those that are being replaced.
    pub(super) workers: usize,
    /// Workers that hang. They end when they return.
    pub(super) hung: usize,
    /// The time of the watchdog's next check; `None` if it waits for a notification.
    pub(super) next_check: Option<Instant>,
    pub(super) closed: bool,
}

impl SchedulerState {
    pub(super) fn new(models: Vec<ModelQueue>) -> Self {
        Self {
            models,
            rules_jobs: VecDeque::new(),
            waiters: HashMap::new(),
            remote_tasks: HashMap::new(),
            last_task: 0,
            open: BTreeMap::new(),
            last_number: 0,
            running: Vec::new(),
            reloaded: Vec::new(),
            workers: 0,
            hung: 0,
            next_check: None,
            closed: false,
        }
    }

    /// Returns the models with queued texts that may run now, each with the time at which the first of its texts is due.
    pub(super) fn ready_models(&self) -> impl Iterator<Item = (Instant, usize)> {
        let in_flight =
            |model: usize| self.running.iter().flatten().filter(|run| run.model() == Some(model)).count();
        self.models.iter().enumerate().filter_map(move |(number, model)| {
            let due = model.queue.due()?;
            model.profile.has_room(|| in_flight(number)).then_some((due, number))
        })
    }

    /// Takes the next work, with the deadline of its run.
    pub(super) fn take_work(&mut self, now: Instant) -> Option<(Work, Instant)> {
        if !self.rules_jobs.is_empty() {
            let jobs: Vec<_> = self.rules_jobs.drain(..self.rules_jobs.len().min(RULES_BATCH)).collect();
            jobs.iter().for_each(|job| job.answer.on_run_start(now));
            let timeout = jobs.iter().map(|job| job.answer.timeout).max()?;
            return Some((Work::Rules { jobs }, now + timeout));
        }
        let mut ready: Vec<_> = self.ready_models().collect();
        ready.sort_unstable();
        for (_, number) in ready {
            let model = &mut self.models[number];
            let Some(batch) = model.queue.take(now) else {
                continue;
            };
            let waiters = batch.items.iter().filter_map(|key| self.waiters.get(key)).flatten();
            waiters.clone().for_each(|waiter| waiter.answer.on_run_start(now));
            let timeout = waiters.map(|waiter| waiter.answer.timeout).max()?;
            let except = model.refused(now, now + timeout);
            let padded = batch.padded();
            return Some((Work::Batch { model: number, padded, keys: batch.items, except }, now + timeout));
        }
        None
    }

    /// There is one worker less. Without any worker, everything that waits is answered at once.
    pub(super) fn remove_worker(&mut self) {
        self.workers = self.workers.saturating_sub(1);
        if self.workers > 0 {
            return;
        }
        tracing::error!("no worker is left, every expert abstains; the lines before say why");
        std::mem::take(&mut self.open).into_values().for_each(|answer| answer.close());
        self.waiters.clear();
        self.abort_unwanted();
        self.rules_jobs.clear();
        self.models.iter_mut().for_each(|model| drop(model.queue.clear()));
    }

    /// Updates the breakers after a batch. A vote or features show that the model works, and then each expert counts for
    /// itself; without any, the model has failed. `except`: the experts that were not asked. `began`: the run's start.
    pub(super) fn on_batch_done(
        &mut self,
        results: &[(RequestKey, TextResult)],
        except: &[usize],
        began: Instant,
        now: Instant,
    ) {
        let Some((RequestKey { model: number, .. }, _)) = results.first() else {
            return;
        };
        let outcomes = || results.iter().flat_map(|(_, result)| &result.outcomes);
        let works = outcomes().any(|(_, outcome)| outcome.is_ok())
            || results.iter().any(|(_, result)| result.features.is_some());
        if !works {
            if let Some(reason) = failure(outcomes().map(|(_, outcome)| outcome)) {
                self.on_model_failed(*number, reason, began, now);
            }
            return;
        }
        let model = &mut self.models[*number];
        if model.breaker.on_success(began) {
            tracing::info!(experts = model.name, "answers again");
        }
        for expert in model.experts.iter_mut().filter(|expert| !except.contains(&expert.expert_index)) {
            let own = || outcomes().filter(|(index, _)| *index == expert.expert_index).map(|(_, own)| own);
            if own().any(Result::is_ok) {
                if expert.breaker.on_success(began) {
                    tracing::info!(experts = expert.id, "answers again");
                }
            } else if let Some(reason) = failure(own())
                && let Some(pause) = expert.breaker.on_failure(reason, began, now)
            {
                log_down(&expert.id, reason, pause);
            }
        }
    }

    /// A model has failed. If that opens its breaker, its queued texts are answered.
    pub(super) fn on_model_failed(
        &mut self,
        number: usize,
        reason: Abstention,
        began: Instant,
        now: Instant,
    ) {
        let model = &mut self.models[number];
        let Some(pause) = model.breaker.on_failure(reason, began, now) else {
            return;
        };
        log_down(&model.name, reason, pause);
        self.answer_queued(number, reason);
    }

    /// Answers the queued texts of a model that is down.
    pub(super) fn answer_queued(&mut self, number: usize, reason: Abstention) {
        let unsent = self.abort_unsent(number);
        let model = &mut self.models[number];
        let result = model.abstention(reason);
        for key in model.queue.clear().chain(unsent) {
            for waiter in self.waiters.remove(&key).unwrap_or_default() {
                waiter.add(&result, false, None);
            }
        }
        self.drop_answered();
    }

    /// Drops the answers that were sent.
    pub(super) fn drop_answered(&mut self) {
        self.open.retain(|_, answer| answer.is_open());
    }
}

/// The failure of a batch without any vote, if it is the graph's. One text may well lead to numbers that are not finite;
/// a graph that gives no others fails all the same, because failures count only in a row.
fn failure<'a>(outcomes: impl Iterator<Item = &'a Result<ExpertScore, Abstention>>) -> Option<Abstention> {
    let is_failure = |reason: &Abstention| {
        matches!(reason, Abstention::Failed | Abstention::WrongShape | Abstention::NotFinite)
    };
    outcomes.filter_map(|outcome| outcome.as_ref().err().copied()).find(is_failure)
}

/// Logs that experts are not asked for a while.
pub(super) fn log_down(experts: &str, reason: Abstention, pause: Duration) {
    let (reason, seconds) = (reason.word(), pause.as_secs());
    tracing::error!(experts, reason, seconds, "left alone for a while; abstains meanwhile");
}

#[cfg(test)]
mod tests;
