//! Workers that hang, and models with a bound on runs in flight.

use super::*;
use crate::experts::backend::run::{CANCEL_TIMEOUT, InFlightRun};
use crate::experts::backend::{Form, Profile};
use crate::experts::batcher::Limits;
use crate::experts::batcher::queue::BatchQueue;
use crate::experts::breaker::CircuitBreaker;
use crate::experts::loader::MissingParts;
use crate::experts::pending::outcome::Span;
use crate::experts::pending::{AnswerSink, PartialAnswer};
use crate::experts::scheduler::model::ModelExpert;
use crate::experts::scheduler::watchdog::MAX_HUNG;

const SECOND: Duration = Duration::from_secs(1);

/// A model with one expert for each id, and two workers.
fn state(experts: &[&str]) -> SchedulerState {
    let model = |(expert_index, id): (usize, &&str)| ModelQueue {
        name: (*id).to_owned(),
        experts: vec![expert(expert_index, id)],
        profile: Profile { reads: Form::TokenIds, padded_to: None, prefix: 0, max_in_flight: None },
        queue: BatchQueue::new(Limits { tokens: 256, rows: 32, overhead: 8 }),
        breaker: CircuitBreaker::new(SECOND),
        missing: MissingParts::default(),
    };
    let mut state = SchedulerState::new(experts.iter().enumerate().map(model).collect());
    (state.running, state.workers) = (vec![None, None], 2);
    state
}

fn expert(expert_index: usize, id: &str) -> ModelExpert {
    ModelExpert { expert_index, id: id.to_owned(), breaker: CircuitBreaker::new(SECOND) }
}

fn key(model: usize) -> RequestKey {
    RequestKey { model, ids: vec![1].into(), votes: true }
}

fn running(model: usize, run: InFlightRun, began: Instant) -> WorkerRun {
    let (run, keys, except) = (Arc::new(run), vec![key(model)], Vec::new());
    WorkerRun { run, keys, except, began, resident: None, cancelled: None }
}

fn answer() -> Arc<PendingAnswer> {
    let (sink, _) = AnswerSink::new();
    Arc::new(PendingAnswer::new(&sink, 0, SECOND, PartialAnswer::new(1, Abstention::TimedOut), 1))
}

/// Queues a text for a model.
fn queue(state: &mut SchedulerState, model: usize, now: Instant) -> Arc<PendingAnswer> {
    let answer = answer();
    state.models[model].queue.push(1, now, key(model));
    state.waiters.insert(
        key(model),
        vec![Waiter { answer: Arc::clone(&answer), span: Span::Turn, gives_features: true }],
    );
    answer
}

/// Lets a run of the model hang in each of these workers. Returns the number of replaced workers, and the time.
fn hang(state: &mut SchedulerState, model: usize, workers: &[usize], began: Instant) -> (usize, Instant) {
    for &worker in workers {
        state.running[worker] = Some(running(model, InFlightRun::new(began + SECOND, false), began));
    }
    assert_eq!(state.check_runs(began + SECOND, None), 0, "they are cancelled");
    let end = began + SECOND + CANCEL_TIMEOUT;
    let replaced = state.check_runs(end, None);
    assert!(workers.iter().all(|&worker| state.running[worker].is_none()));
    (replaced, end)
}

fn disabled(state: &SchedulerState) -> Vec<bool> {
    state.models.iter().map(|model| model.breaker.is_disabled()).collect()
}

/// The first hangs in all workers and then in its trials; the second still has workers.
#[test]
fn a_model_that_cannot_be_stopped_is_disabled_and_another_has_workers() {
    let mut state = state(&["stuck", "well"]);
    let (mut replaced, mut now) = hang(&mut state, 0, &[0, 1], Instant::now());
    assert_eq!((replaced, state.workers, disabled(&state)), (2, 2, vec![false, false]));
    for trial in [2, 3] {
        now += 90 * SECOND;
        assert_eq!(state.models[0].breaker.admit(now, now), Ok(()), "trial {trial}");
        (replaced, now) = hang(&mut state, 0, &[0], now);
        assert_eq!((replaced, state.workers), (1, 2));
    }
    assert_eq!((disabled(&state), state.hung), (vec![true, false], 4));
    assert_eq!(state.models[0].breaker.admit(now + 9_000 * SECOND, now), Err(Abstention::TimedOut));
    assert_eq!(state.models[1].breaker.admit(now, now), Ok(()));
    queue(&mut state, 1, now);
    assert!(matches!(state.take_work(now), Some((Work::Batch { model: 1, .. }, _))));
}

#[test]
fn models_that_hang_are_disabled_and_workers_remain() {
    let mut state = state(&["one", "two", "three", "four", "five"]);
    let mut now = Instant::now();
    for model in 0..4 {
        let (replaced, end) = hang(&mut state, model, &[0, 1], now + SECOND);
        assert_eq!((replaced, state.workers), (2, 2), "model {model}");
        now = end;
    }
    // Eight workers hang, so nothing is tried a second time.
    assert_eq!((disabled(&state), state.hung), (vec![false, false, false, true, false], 8));
    for model in [0, 1, 2, 4] {
        let (replaced, end) = hang(&mut state, model, &[0], now + 90 * SECOND);
        assert_eq!((replaced, state.workers), (1, 2), "model {model}");
        now = end;
    }
    assert_eq!(disabled(&state), [true; 5]);
}

/// The other heads of the encoder go on.
#[test]
fn a_head_that_cannot_be_stopped_is_disabled_alone() {
    let mut state = state(&["stuck"]);
    state.models[0].experts.push(expert(1, "well"));
    let mut now = Instant::now();
    for incident in 1..=3 {
        now += 90 * SECOND;
        let run = InFlightRun::new(now + SECOND, false);
        run.on_encoder_start();
        run.on_encoder_done(vec![TextResult::default()]);
        assert!(run.on_head_start(0));
        state.running[0] = Some(running(0, run, now));
        assert_eq!(state.check_runs(now + SECOND, None), 0, "the head is cancelled");
        now += SECOND + CANCEL_TIMEOUT;
        assert_eq!((state.check_runs(now, None), state.workers), (1, 2));
        let experts = state.models[0].experts.iter().map(|expert| expert.breaker.is_disabled());
        assert_eq!(experts.collect::<Vec<_>>(), [incident == 3, false]);
    }
    assert_eq!(disabled(&state), [false], "the encoder itself works");
    let later = now + 9_000 * SECOND;
    assert_eq!(state.models[0].refused(later, later), [(0, Abstention::TimedOut)]);
}

#[test]
fn queued_texts_of_a_disabled_model_are_answered() {
    let mut state = state(&["stuck"]);
    state.hung = MAX_HUNG;
    let now = Instant::now();
    let answer = queue(&mut state, 0, now);
    state.on_worker_lost(Some(0), None, now, now);
    assert!(!answer.is_open() && state.models[0].queue.due().is_none());
}

/// Rules cannot be disabled, so the workers that they cost are not replaced without end.
#[test]
fn without_a_worker_nothing_waits() {
    let mut state = state(&["well"]);
    let now = Instant::now();
    let answer = answer();
    state.open.insert((now + SECOND, 1), Arc::clone(&answer));
    for hung in 1..MAX_HUNG {
        assert!(state.on_worker_lost(None, None, now, now), "{hung}");
    }
    assert!(!state.on_worker_lost(None, None, now, now) && answer.is_open());
    assert!(!state.on_worker_lost(None, None, now, now) && !answer.is_open());
    assert_eq!(state.workers, 0);
}

#[test]
fn a_model_has_at_most_as_many_runs_in_flight_as_its_backend_allows() {
    let (mut state, now) = (state(&["bounded", "free"]), Instant::now());
    state.models[0].profile.max_in_flight = Some(1);
    state.running[0] = Some(running(0, InFlightRun::new(now + SECOND, false), now));
    queue(&mut state, 0, now);
    assert!(state.ready_models().next().is_none() && state.take_work(now).is_none());
    queue(&mut state, 1, now);
    assert!(matches!(state.take_work(now), Some((Work::Batch { model: 1, .. }, _))));
    state.running[0] = None;
    assert!(matches!(state.take_work(now), Some((Work::Batch { model: 0, .. }, _))));
}
