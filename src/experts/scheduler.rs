//! The scheduler: texts wait here for workers, and runs in flight are watched.
//!
//! The state lies behind one lock. A worker takes a batch itself as soon as it is free, so none waits while there is
//! work, and the batch is formed from the texts that wait at that moment. Equal texts that wait or run at the same time
//! share one run, and later ones take its result from the cache.

mod memory;
mod model;
mod remote;
mod state;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory::MemoryUse;
use model::ModelExpert;
pub(super) use model::ModelSpec;
use state::SchedulerState;
use work::{Job, Request, RulesJob, RulesResult, Submission, Waiter, Work, WorkerRun};

use super::backend::ModelBackend;
use super::backend::remote::RemoteExpert;
use super::backend::result::TextResult;
use super::backend::run::{CANCEL_TIMEOUT, InFlightRun};
use super::cache::{RequestKey, ResultCache};
use super::cost::RunCost;
use super::loader::MissingParts;
use super::pending::outcome::Span;
use super::pending::{PartInfo, PendingAnswer};
use crate::core::vote::Abstention;

/// The scheduler of a panel.
pub(super) struct Scheduler {
    state: Mutex<SchedulerState>,
    /// Signals workers that there is work.
    work: Condvar,
    /// Signals the watchdog that there is an earlier deadline.
    watch: Condvar,
    /// Signals threads that pause that the scheduler closes.
    closing: Condvar,
    /// There are rules experts.
    has_rules: bool,
    cache: ResultCache,
    /// The remote experts, by model.
    remotes: BTreeMap<usize, Arc<RemoteExpert>>,
    /// Bytes that the process may have resident.
    memory_limit: Option<usize>,
}

/// Waits until `deadline`, or forever without one, or until the condition is signalled.
fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, SchedulerState>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, SchedulerState> {
    match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
        }
        None => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
    }
}

impl Scheduler {
    pub(super) fn new(
        models: impl IntoIterator<Item = ModelSpec>,
        has_rules: bool,
        cache: ResultCache,
        memory_limit: Option<usize>,
    ) -> Self {
        let state = SchedulerState::new(models.into_iter().map(ModelSpec::into_queue).collect());
        let (work, watch, closing) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (state, remotes) = (Mutex::new(state), BTreeMap::new());
        Self { state, work, watch, closing, has_rules, cache, remotes, memory_limit }
    }

    /// Sets the remote experts, by model. No worker runs these models.
    pub(super) fn with_remotes(mut self, remotes: BTreeMap<usize, Arc<RemoteExpert>>) -> Self {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        remotes.keys().for_each(|model| state.models[*model].breaker.tolerate_time_outs());
        Self { remotes, ..self }
    }

    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if there are rules experts.
    pub(super) fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// Adds texts. They run by `due`, or earlier in full batches.
    pub(super) fn submit(self: &Arc<Self>, submissions: Vec<Submission>, due: Instant) {
        let mut state = self.state();
        let (is_single, now) = (submissions.len() == 1, Instant::now());
        for Submission { answer, requests, rules_text } in submissions {
            // Without a worker nothing would run.
            if (requests.is_empty() && rules_text.is_none()) || state.workers == 0 {
                answer.close();
                continue;
            }
            for request in requests {
                self.submit_request(&mut state, &answer, request, due, now);
            }
            if let Some(text) = rules_text {
                state.rules_jobs.push_back(RulesJob { answer: Arc::clone(&answer), text });
            }
            if !answer.is_open() {
                continue;
            }
            state.last_number += 1;
            let number = state.last_number;
            self.wake_watchdog(&state, answer.deadline);
            state.open.insert((answer.deadline, number), answer);
        }
        drop(state);
        if is_single { self.work.notify_one() } else { self.work.notify_all() }
    }

    /// Answers a request from the cache, adds it to an equal one, or queues it.
    fn submit_request(
        self: &Arc<Self>,
        state: &mut SchedulerState,
        answer: &Arc<PendingAnswer>,
        Request { key, cost, span, gives_features, remote }: Request,
        due: Instant,
        now: Instant,
    ) {
        let waiter = Waiter { answer: Arc::clone(answer), span, gives_features };
        if let Some(result) = self.cache.get(&key) {
            waiter.add(&result, true, None);
            return;
        }
        if let Some(waiters) = state.waiters.get_mut(&key) {
            waiters.push(waiter);
            return;
        }
        let remote = self.remotes.get(&key.model).zip(remote);
        let deadline =
            remote.as_ref().map_or(answer.deadline, |(expert, _)| answer.deadline.min(now + expert.deadline));
        let model = &mut state.models[key.model];
        if let Err(reason) = model.breaker.admit(now, deadline) {
            waiter.add(&model.abstention(reason), false, None);
            return;
        }
        match remote {
            Some((expert, request)) => self.start_remote(state, &key, expert, request, deadline),
            None => model.queue.push(cost, due, key.clone()),
        }
        state.waiters.insert(key, vec![waiter]);
    }

    /// Wakes the watchdog if its next check would be after the deadline.
    fn wake_watchdog(&self, state: &SchedulerState, deadline: Instant) {
        if state.next_check.is_none_or(|next| deadline < next) {
            self.watch.notify_one();
        }
    }

    /// Registers a new worker and returns its number. `replaces`: it takes the place of one that hangs.
    pub(super) fn add_worker(&self, replaces: bool) -> usize {
        let mut state = self.state();
        state.workers += usize::from(!replaces);
        state.running.push(None);
        state.reloaded.push(Vec::new());
        state.running.len() - 1
    }

    /// A worker cannot be started, or not yet.
    pub(super) fn remove_worker(&self) {
        self.state().remove_worker();
    }

    /// A removed worker could be started after all.
    pub(super) fn restore_worker(&self) {
        self.state().workers += 1;
    }

    /// Waits for `pause`. Returns `true` as soon as the scheduler closes.
    pub(super) fn closes_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state();
        while !state.closed && Instant::now() < until {
            state = wait(&self.closing, state, Some(until));
        }
        state.closed
    }

    /// Waits for the worker's next job. Returns `None` if the scheduler closes.
    pub(super) fn next_job(&self, worker: usize) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            if let Some((work, deadline)) = state.take_work(now) {
                let job = self.start(&mut state, worker, work, now, deadline);
                drop(state);
                self.note_memory(worker);
                return Some(job);
            }
            let due = state.ready_models().map(|(due, _)| due).min();
            state = wait(&self.work, state, due);
        }
    }

    /// Records that the worker begins a run.
    fn start(
        &self,
        state: &mut SchedulerState,
        worker: usize,
        work: Work,
        now: Instant,
        deadline: Instant,
    ) -> Job {
        if state.ready_models().next().is_some() || !state.rules_jobs.is_empty() {
            self.work.notify_one();
        }
        let (keys, except, trial) = match &work {
            Work::Batch { model, keys, except, .. } => {
                let trial = state.models[*model].breaker.down().is_some();
                (keys.clone(), except.iter().map(|(expert, _)| *expert).collect(), trial)
            }
            Work::Rules { .. } => (Vec::new(), Vec::new(), false),
        };
        let run = Arc::new(InFlightRun::new(deadline, trial));
        self.wake_watchdog(state, deadline);
        let running =
            WorkerRun { run: Arc::clone(&run), keys, except, began: now, resident: None, cancelled: None };
        state.running[worker] = Some(running);
        Job { work, run, reloaded: std::mem::take(&mut state.reloaded[worker]) }
    }

    /// Notes the memory of the process at the start of a worker's run, if there is a limit.
    fn note_memory(&self, worker: usize) {
        let Some(memory) = MemoryUse::read(self.memory_limit) else {
            return;
        };
        let mut state = self.state();
        if let Some(run) = state.running[worker].as_mut() {
            run.resident = Some(memory.resident);
            self.wake_watchdog(&state, Instant::now() + memory::POLL_INTERVAL);
        }
    }

    /// Takes the results of a batch. Returns `false` if the worker was given up meanwhile and must end.
    pub(super) fn on_batch_done(
        &self,
        worker: usize,
        results: Vec<(RequestKey, TextResult)>,
        cost: RunCost,
    ) -> bool {
        let mut state = self.state();
        let Some(running) = state.running[worker].take() else {
            state.hung = state.hung.saturating_sub(1);
            return false;
        };
        if running.cancelled.is_some() {
            return true;
        }
        if let Some(first) = results.iter().find_map(|(key, _)| state.waiters.get(key)?.first()) {
            first.answer.sink.add_cost(cost);
        }
        let now = Instant::now();
        state.on_batch_done(&results, &running.except, running.began, now);
        let span = Some(running.span(now));
        for (key, result) in results {
            for (place, waiter) in state.waiters.remove(&key).unwrap_or_default().iter().enumerate() {
                waiter.add(&result, place > 0, span);
            }
            self.cache.insert(key, result);
        }
        state.drop_answered();
        true
    }

    /// Takes the results of a rules job. Returns `false` if the worker was given up meanwhile and must end.
    pub(super) fn on_rules_done(&self, worker: usize, results: Vec<RulesResult>, cost: RunCost) -> bool {
        let mut state = self.state();
        if let Some((first, _)) = results.first() {
            first.sink.add_cost(cost);
        }
        let running = state.running[worker].take();
        if running.is_none() {
            state.hung = state.hung.saturating_sub(1);
        }
        let run = running.as_ref().map(|running| running.span(Instant::now()));
        for (answer, result) in results {
            let part = PartInfo { truncated: result.truncated, run, ..PartInfo::default() };
            answer.add(&result, &Span::Turn, part);
        }
        state.drop_answered();
        running.is_some()
    }

    /// The experts that abstain whatever the text is, with the reasons: those whose breaker or whose model's breaker is
    /// open, and those that could not be loaded.
    pub(super) fn down(&self) -> Vec<(usize, Abstention)> {
        let mut down = Vec::new();
        for model in &self.state().models {
            down.extend(model.missing.experts.iter().map(|&expert| (expert, Abstention::NotLoaded)));
            let whole = model.breaker.down();
            let reason =
                |expert: &ModelExpert| Some((expert.expert_index, whole.or_else(|| expert.breaker.down())?));
            down.extend(model.experts.iter().filter_map(reason));
        }
        down
    }

    /// The experts that are disabled for as long as the panel lives, alone or with their model.
    pub(super) fn disabled(&self) -> Vec<usize> {
        let state = self.state();
        let experts =
            state.models.iter().flat_map(|model| model.experts.iter().map(move |expert| (model, expert)));
        let disabled =
            experts.filter(|(model, expert)| model.breaker.is_disabled() || expert.breaker.is_disabled());
        disabled.map(|(_, expert)| expert.expert_index).collect()
    }

    /// Returns `true` if no worker is left.
    pub(super) fn is_dead(&self) -> bool {
        self.state().workers == 0
    }

    /// By model: the parts that could not be loaded.
    pub(super) fn missing(&self) -> Vec<MissingParts> {
        self.state().models.iter().map(|model| model.missing.clone()).collect()
    }

    /// The number of workers so far, including those that hang.
    pub(super) fn worker_count(&self) -> usize {
        self.state().running.len()
    }

    /// Waits for `pause`, then returns the models that lack something, by number and name. Returns `None` as soon as no
    /// model lacks anything, or the scheduler closes.
    pub(super) fn wait_for_missing(&self, pause: Duration) -> Option<Vec<(usize, String, MissingParts)>> {
        if self.missing().iter().all(MissingParts::is_empty) || self.closes_within(pause) {
            return None;
        }
        let state = self.state();
        let models = state.models.iter().enumerate().filter(|(_, model)| !model.missing.is_empty());
        let missing: Vec<_> =
            models.map(|(number, model)| (number, model.name.clone(), model.missing.clone())).collect();
        (!missing.is_empty()).then_some(missing)
    }

    /// Hands out the backends of a model that was loaded again, one for each worker, which install them before their
    /// next run. Returns `false` if workers were added meanwhile, because one would lack the model forever.
    pub(super) fn install(&self, model: usize, backends: Vec<ModelBackend>, missing: MissingParts) -> bool {
        let mut state = self.state();
        if backends.len() != state.reloaded.len() {
            return false;
        }
        for (reloaded, backend) in state.reloaded.iter_mut().zip(backends) {
            reloaded.push((model, backend));
        }
        let model = &mut state.models[model];
        model.breaker.set_not_loaded(missing.whole_model);
        model.missing = missing;
        true
    }

    /// Closes the scheduler: workers and the watchdog end, and the runs in flight are cancelled.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let now = Instant::now();
        for running in state.running.iter_mut().flatten().filter(|run| run.cancelled.is_none()) {
            running.run.cancel();
            running.cancelled = Some(now);
        }
        state.remote_tasks.drain().for_each(|(_, task)| task.abort());
        drop(state);
        self.work.notify_all();
        self.watch.notify_all();
        self.closing.notify_all();
    }

    /// Watches deadlines: sends answers with what is known by then, and cancels runs. Returns the number of workers to
    /// replace, because their runs did not return, or `None` if the scheduler closes.
    pub(super) fn watch(&self) -> Option<usize> {
        loop {
            let memory = MemoryUse::read(self.memory_limit);
            let mut state = self.state();
            if state.closed {
                return None;
            }
            let now = Instant::now();
            state.expire(now);
            let hung = state.hung;
            let lost = state.check_runs(now, memory);
            if state.hung > hung {
                // The model of a run that hangs may have room again.
                self.work.notify_all();
            }
            if lost > 0 {
                return Some(lost);
            }
            let end = |run: &WorkerRun| {
                run.cancelled.map_or_else(|| run.run.deadline(), |cancelled| cancelled + CANCEL_TIMEOUT)
            };
            let polled = |run: &WorkerRun| run.resident.is_some() && run.cancelled.is_none();
            let running = || state.running.iter().flatten();
            let poll = running().any(polled).then(|| now + memory::POLL_INTERVAL);
            let answer = state.open.first_key_value().map(|((deadline, _), _)| *deadline);
            state.next_check = running().map(end).chain(answer).chain(poll).min();
            let next_check = state.next_check;
            // The lock is released before the memory is read again.
            drop(wait(&self.watch, state, next_check));
        }
    }
}

#[cfg(test)]
mod tests;
