//! The state of the scheduler: texts that wait, runs in flight, their waiters, and the condition of each model. The
//! scheduler changes it under its lock; times are passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::MemoryUse;
use super::model::ModelQueue;
use super::remote::RemoteTask;
use super::work::{RulesJob, Waiter, Work, WorkerRun};
use crate::core::vote::Abstention;
use crate::experts::backend::ModelBackend;
use crate::experts::backend::result::TextResult;
use crate::experts::backend::run::{CANCEL_TIMEOUT, Overrun};
use crate::experts::cache::RequestKey;
use crate::experts::pending::PendingAnswer;
use crate::experts::scores::ExpertScore;

/// Workers that hang at the same time, from which on an expert that costs one more is disabled. Each keeps the memory
/// of its sessions.
const MAX_HUNG: usize = 8;
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

    /// Sends the answers whose deadline has passed, and drops the requests for which no other answer waits.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut any = false;
        while let Some(first) = self.open.first_entry()
            && first.key().0 <= now
        {
            first.remove().close();
            any = true;
        }
        if !any {
            return;
        }
        self.waiters.retain(|_, waiters| waiters.iter().any(|waiter| waiter.answer.is_open()));
        let waiters = &self.waiters;
        for model in &mut self.models {
            model.queue.retain(|key| waiters.contains_key(key));
        }
        self.abort_unwanted();
        self.rules_jobs.retain(|job| job.answer.is_open());
    }

    /// Cancels runs whose deadline has passed and runs that take too much memory. Of heads that hang only the heads are
    /// cancelled. Returns the number of workers to replace, because their cancelled runs did not return.
    pub(super) fn check_runs(&mut self, now: Instant, memory: Option<MemoryUse>) -> usize {
        let (mut lost, mut failed, mut hung_heads) = (Vec::new(), Vec::new(), Vec::new());
        // One run at a time, because the memory that it frees may be enough.
        let mut greedy = memory.and_then(|memory| self.greediest(memory));
        for (worker, place) in self.running.iter_mut().enumerate() {
            let Some(running) = place else { continue };
            let is_greedy = greedy.take_if(|greedy| *greedy == worker).is_some();
            let overrun = match running.cancelled {
                None if is_greedy => Overrun::Run,
                None if running.run.deadline() <= now => running.run.on_deadline(now),
                Some(cancelled) if cancelled + CANCEL_TIMEOUT <= now => Overrun::Lost,
                _ => Overrun::Wait,
            };
            let (model, began) = (running.model(), running.began);
            if let Overrun::Head(expert_index) = overrun {
                hung_heads.extend(model.map(|model| (model, expert_index, began)));
            }
            if matches!(overrun, Overrun::Run | Overrun::Stuck) {
                running.run.cancel();
                running.cancelled = Some(now);
                let reason = if is_greedy { Abstention::OutOfMemory } else { Abstention::TimedOut };
                let encoder_done = answer_cancelled(running, &self.models, &mut self.waiters, reason, now);
                // A model whose encoder has run is well, and a head that hangs was reported before.
                if !encoder_done || is_greedy {
                    failed.extend(model.map(|model| (model, reason, began)));
                }
            }
            if matches!(overrun, Overrun::Stuck | Overrun::Lost) {
                lost.push((model, running.run.current_head(), began));
                *place = None;
            }
        }
        self.drop_answered();
        hung_heads
            .into_iter()
            .for_each(|(model, expert, began)| self.on_head_hung(model, expert, began, now));
        failed.into_iter().for_each(|(model, reason, began)| self.on_model_failed(model, reason, began, now));
        let replaced = |(model, head, began)| self.on_worker_lost(model, head, began, now);
        lost.into_iter().map(replaced).filter(|replaced| *replaced).count()
    }

    /// A worker is lost in a run of that model, in that head of it, or in a run of rules (`None`). Returns `true` if the
    /// worker is to be replaced. The number of replacements is bounded because an expert that costs too many workers is
    /// disabled.
    pub(super) fn on_worker_lost(
        &mut self,
        model: Option<usize>,
        head: Option<usize>,
        began: Instant,
        now: Instant,
    ) -> bool {
        self.hung += 1;
        let short = self.hung >= MAX_HUNG;
        let Some(number) = model else {
            tracing::error!(replaced = !short, "a worker hangs in rules");
            if short {
                self.remove_worker();
            }
            return !short;
        };
        let model = &mut self.models[number];
        let head = head.and_then(|head| model.experts.iter_mut().find(|expert| expert.expert_index == head));
        let (name, disabled) = match head {
            Some(expert) => (&expert.id, expert.breaker.on_worker_lost(began, now, short)),
            None => (&model.name, model.breaker.on_worker_lost(began, now, short)),
        };
        tracing::error!(experts = name, "a worker hangs in a run that does not stop; another replaces it");
        if disabled {
            tracing::error!(
                experts = name,
                "disabled, abstains from now on: its runs hang and cannot be stopped; replace the model, then send SIGHUP or restart"
            );
        }
        if let (true, Some(reason)) = (model.breaker.is_disabled(), model.breaker.down()) {
            self.answer_queued(number, reason);
        }
        true
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

    /// The worker whose run is to be stopped because the process has too much memory: of the runs that may have taken
    /// it, the one with the most tokens.
    fn greediest(&self, memory: MemoryUse) -> Option<usize> {
        let grew = |run: &WorkerRun| run.resident.is_some_and(|before| memory.is_exceeded_since(before));
        let tokens = |run: &WorkerRun| run.keys.iter().map(|key| key.ids.len()).sum::<usize>();
        let running =
            self.running.iter().enumerate().filter_map(|(worker, run)| Some((worker, run.as_ref()?)));
        let candidates = running.filter(|(_, run)| run.cancelled.is_none() && grew(run));
        // The first of several with equally many tokens.
        candidates.rev().max_by_key(|(_, run)| tokens(run)).map(|(worker, _)| worker)
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
    fn answer_queued(&mut self, number: usize, reason: Abstention) {
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

    /// A head hangs. Only it is not asked for a while.
    fn on_head_hung(&mut self, number: usize, expert_index: usize, began: Instant, now: Instant) {
        for expert in &mut self.models[number].experts {
            if expert.expert_index == expert_index
                && let Some(pause) = expert.breaker.on_failure(Abstention::TimedOut, began, now)
            {
                log_down(&expert.id, Abstention::TimedOut, pause);
            }
        }
    }

    /// Drops the answers that were sent.
    pub(super) fn drop_answered(&mut self) {
        self.open.retain(|_, answer| answer.is_open());
    }
}

/// Answers the waiters of a cancelled run with what is known of their texts. Returns `true` if anything is known.
fn answer_cancelled(
    running: &WorkerRun,
    models: &[ModelQueue],
    waiters: &mut HashMap<RequestKey, Vec<Waiter>>,
    reason: Abstention,
    now: Instant,
) -> bool {
    let (known, span) = (running.run.take_results(), running.span(now));
    // A batch that failed is run again text by text. Then it is not known to which text the result belongs.
    let of_text = |row: usize| known.get(row).filter(|_| known.len() == running.keys.len());
    for (row, key) in running.keys.iter().enumerate() {
        let result = models[key.model].complete(of_text(row), reason);
        for waiter in waiters.remove(key).unwrap_or_default() {
            waiter.add(&result, false, Some(span));
        }
    }
    !known.is_empty()
}

/// The failure of a batch without any vote, if it is the graph's. One text may well lead to numbers that are not finite;
/// a graph that gives no others fails all the same, because failures count only in a row.
fn failure<'a>(outcomes: impl Iterator<Item = &'a Result<ExpertScore, Abstention>>) -> Option<Abstention> {
    let is_failure = |reason: &Abstention| {
        matches!(reason, Abstention::Failed | Abstention::WrongShape | Abstention::NotFinite)
    };
    outcomes.filter_map(|outcome| outcome.as_ref().err().copied()).find(is_failure)
}

fn log_down(experts: &str, reason: Abstention, pause: Duration) {
    let (reason, seconds) = (reason.word(), pause.as_secs());
    tracing::error!(experts, reason, seconds, "left alone for a while; abstains meanwhile");
}

#[cfg(test)]
mod tests;
