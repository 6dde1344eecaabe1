//! Requests to remote experts. Each is a task of its own instead of a worker's run. Its request waits for an equal one,
//! comes from the cache, passes the breaker and is answered like one to a graph.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::Scheduler;
use super::state::SchedulerState;
use crate::core::vote::Abstention;
use crate::experts::backend::remote::{RemoteExpert, RemoteOutcome, RemoteRequest};
use crate::experts::backend::result::TextResult;
use crate::experts::cache::RequestKey;
use crate::experts::cost::RunCost;
use crate::experts::pending::RunSpan;
use crate::http;

/// A request that is waiting to be sent, or in flight.
pub(super) struct RemoteTask {
    /// Tells it from an earlier task with the same request, which was given up.
    number: u64,
    task: AbortHandle,
    /// It was sent.
    sent: Arc<AtomicBool>,
}

impl RemoteTask {
    /// Gives the request up. Its connection is closed if it was sent.
    pub(super) fn abort(&self) {
        self.task.abort();
    }

    /// Returns `true` if the request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}

/// The end of a task, whatever it is: a task that panics has failed.
struct TaskEnd {
    scheduler: Arc<Scheduler>,
    number: u64,
    key: RequestKey,
    began: Instant,
    outcome: Option<RemoteOutcome>,
}

impl TaskEnd {
    fn finish(mut self, outcome: RemoteOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for TaskEnd {
    fn drop(&mut self) {
        let failed = || RemoteOutcome {
            outcome: Err(Abstention::Failed),
            is_refused: false,
            truncated: false,
            revision: None,
            sent: Some(self.began),
        };
        let outcome = self.outcome.take().unwrap_or_else(failed);
        self.scheduler.on_remote_done(&self.key, self.number, outcome, self.began);
    }
}

impl Scheduler {
    /// Starts the task of a request.
    pub(super) fn start_remote(
        self: &Arc<Self>,
        state: &mut SchedulerState,
        key: &RequestKey,
        expert: &Arc<RemoteExpert>,
        request: RemoteRequest,
        deadline: Instant,
    ) {
        let runtime = match http::runtime() {
            Ok(runtime) => runtime,
            // A client of the expert has been made, so the runtime was started.
            Err(reason) => unreachable!("{reason}"),
        };
        let (expert, sent) = (Arc::clone(expert), Arc::new(AtomicBool::new(false)));
        state.last_task += 1;
        let end = TaskEnd {
            scheduler: Arc::clone(self),
            number: state.last_task,
            key: key.clone(),
            began: Instant::now(),
            outcome: None,
        };
        let is_sent = Arc::clone(&sent);
        let task = runtime.spawn(async move {
            let on_sent = || is_sent.store(true, Ordering::Relaxed);
            let outcome = expert.ask(request, deadline, on_sent).await;
            end.finish(outcome);
        });
        state
            .remote_tasks
            .insert(key.clone(), RemoteTask { number: state.last_task, task: task.abort_handle(), sent });
    }

    /// Takes the outcome of a request. A request that was given up has no waiters any more.
    fn on_remote_done(&self, key: &RequestKey, number: u64, outcome: RemoteOutcome, began: Instant) {
        let mut state = self.state();
        if state.remote_tasks.get(key).is_none_or(|task| task.number != number) {
            return;
        }
        state.remote_tasks.remove(key);
        let (now, expert) = (Instant::now(), self.remotes[&key.model].expert_index);
        let RemoteOutcome { outcome, is_refused, truncated, revision, sent } = outcome;
        if let Some(sent) = sent {
            let failure = outcome.as_ref().err().copied().filter(|_| !is_refused);
            state.on_remote_done(key.model, failure, sent, now);
        }
        let outcomes = vec![(expert, outcome)];
        let result = TextResult { outcomes, truncated, revision, ..TextResult::default() };
        let (began, time) = (sent.unwrap_or(began), sent.map_or(Duration::ZERO, |sent| now - sent));
        let span = RunSpan { began, ended: now };
        for (place, waiter) in state.waiters.remove(key).unwrap_or_default().iter().enumerate() {
            if place == 0 && sent.is_some() {
                waiter.answer.sink.add_cost(RunCost { experts: vec![(expert, time)], ..RunCost::default() });
            }
            waiter.answer.on_run_start(began);
            waiter.add(&result, place > 0, Some(span));
        }
        self.cache.insert(key.clone(), result);
        state.drop_answered();
    }
}

impl SchedulerState {
    /// Updates the breaker after a request that was sent. `failure`: the reason why there is no vote, unless the server
    /// answered that it does not take this text.
    fn on_remote_done(&mut self, model: usize, failure: Option<Abstention>, sent: Instant, now: Instant) {
        match failure {
            // The server answered; the guard's answer is no verdict.
            None | Some(Abstention::OffTemplate) => {
                let model = &mut self.models[model];
                if model.breaker.on_success(sent) {
                    tracing::info!(experts = model.name, "answers again");
                }
            }
            Some(reason) => self.on_model_failed(model, reason, sent, now),
        }
    }

    /// Gives up the requests without anyone waiting for them.
    pub(super) fn abort_unwanted(&mut self) {
        let waiters = &self.waiters;
        self.remote_tasks.retain(|key, task| {
            let is_wanted = waiters.contains_key(key);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
    }

    /// Gives up the requests to a model that were not sent yet, and returns their keys.
    pub(super) fn abort_unsent(&mut self, model: usize) -> Vec<RequestKey> {
        let unsent = |(key, task): (&RequestKey, &RemoteTask)| {
            (key.model == model && !task.is_sent()).then(|| key.clone())
        };
        let keys: Vec<RequestKey> = self.remote_tasks.iter().filter_map(unsent).collect();
        for key in &keys {
            if let Some(task) = self.remote_tasks.remove(key) {
                task.abort();
            }
        }
        keys
    }
}
