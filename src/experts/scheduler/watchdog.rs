//! The watchdog: answers are sent at their deadlines, runs that take too much time or memory are cancelled, and workers
//! whose runs do not return are given up.

use std::collections::HashMap;
use std::time::Instant;

use super::memory::{self, MemoryUse};
use super::model::ModelQueue;
use super::state::{SchedulerState, log_down};
use super::work::{Waiter, WorkerRun};
use super::{Scheduler, wait};
use crate::core::vote::Abstention;
use crate::experts::backend::run::{CANCEL_TIMEOUT, Overrun};
use crate::experts::cache::RequestKey;

/// Workers that hang at the same time, from which on an expert that costs one more is disabled. Each keeps the memory
/// of its sessions.
pub(super) const MAX_HUNG: usize = 8;

impl Scheduler {
    /// Watches deadlines: sends answers with what is known by then, and cancels runs. Returns the number of workers to
    /// replace, because their runs did not return, or `None` if the scheduler closes.
    pub(in crate::experts) fn watch(&self) -> Option<usize> {
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
            state.next_check = state.next_deadline(now);
            let next_check = state.next_check;
            // The lock is released before the memory is read again.
            drop(wait(&self.watch, state, next_check));
        }
    }

    /// Wakes the watchdog if its next check would be after the deadline.
    pub(super) fn wake_watchdog(&self, state: &SchedulerState, deadline: Instant) {
        if state.next_check.is_none_or(|next| deadline < next) {
            self.watch.notify_one();
        }
    }

    /// Notes the memory of the process at the start of a worker's run, if there is a limit.
    pub(super) fn note_memory(&self, worker: usize) {
        let Some(memory) = MemoryUse::read(self.memory_limit) else {
            return;
        };
        let mut state = self.state();
        if let Some(run) = state.running[worker].as_mut() {
            run.resident = Some(memory.resident);
            self.wake_watchdog(&state, Instant::now() + memory::POLL_INTERVAL);
        }
    }
}

impl SchedulerState {
    /// Sends the answers whose deadline has passed, and drops the requests for which no other answer waits.
    fn expire(&mut self, now: Instant) {
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

    /// The time of the next check: the first deadline of an answer or a run, or earlier, if the memory is watched.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let end = |run: &WorkerRun| {
            run.cancelled.map_or_else(|| run.run.deadline(), |cancelled| cancelled + CANCEL_TIMEOUT)
        };
        let polled = |run: &WorkerRun| run.resident.is_some() && run.cancelled.is_none();
        let running = || self.running.iter().flatten();
        let poll = running().any(polled).then(|| now + memory::POLL_INTERVAL);
        let answer = self.open.first_key_value().map(|((deadline, _), _)| *deadline);
        running().map(end).chain(answer).chain(poll).min()
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
                "disabled, abstains from now on: its runs hang and cannot be stopped; remove the cause and send SIGHUP, or change the configuration or the model and restart"
            );
        }
        if let (true, Some(reason)) = (model.breaker.is_disabled(), model.breaker.down()) {
            self.answer_queued(number, reason);
        }
        true
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
