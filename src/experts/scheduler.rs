//! The scheduler: texts wait here for workers, and runs in flight are watched.
//!
//! The state lies behind one lock. A worker takes a batch itself as soon as it is free, so none waits while there is
//! work, and the batch is formed from the texts that wait at that moment. Equal texts that wait or run at the same time
//! share one run, and later ones take its result from the cache.

mod condition;
mod memory;
mod model;
mod remote;
mod state;
mod watchdog;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use model::ModelSpec;
use state::SchedulerState;
use work::{Job, Request, RulesJob, RulesResult, Submission, Waiter, Work, WorkerRun};

use super::backend::remote::RemoteExpert;
use super::backend::result::TextResult;
use super::backend::run::InFlightRun;
use super::cache::{RequestKey, ResultCache};
use super::cost::RunCost;
use super::pending::outcome::Span;
use super::pending::{PartInfo, PendingAnswer};

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
            // It may be one with a head start.
            state.models[key.model].queue.hasten(&key, due);
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

    /// Returns `true` if no worker is left.
    pub(super) fn is_dead(&self) -> bool {
        self.state().workers == 0
    }

    /// The number of workers so far, including those that hang.
    pub(super) fn worker_count(&self) -> usize {
        self.state().running.len()
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
}

#[cfg(test)]
mod tests;
