//! Worker threads. Each owns a session of every backend and takes work from the scheduler, so that one that hangs holds
//! up no other. A worker that does not return is replaced; the scheduler disables an expert that costs too many.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::backend::result::{RunTimes, TextResult};
use super::backend::rules::RulesBackend;
use super::backend::run::InFlightRun;
use super::backend::{Backend, Form, Wanted};
use super::breaker::next_pause;
use super::cache::RequestKey;
use super::cost::RunCost;
use super::error::PanelError;
use super::loader::{Backends, MissingParts, ModelLoader, WorkerLoader};
use super::reload::reload_missing;
use super::scheduler::Scheduler;
use super::scheduler::work::{Job, RulesJob, RulesResult, Work};
use crate::core::vote::Abstention;
use crate::{crash, panics};

/// The role that ends if a thread of a panel panics, because the texts that the thread held would never be answered.
pub(super) const ROLE: &str = "score";
/// The time that the end of a panel waits for workers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The threads that have been started.
type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// The threads of a panel: its workers, the watchdog, and the one that loads missing models.
pub(super) struct Workers {
    scheduler: Arc<Scheduler>,
    /// Disconnected when the last thread ends.
    ended: Receiver<()>,
    threads: Threads,
}

/// Starts threads.
#[derive(Clone)]
struct Starter {
    scheduler: Arc<Scheduler>,
    rules: RulesBackend,
    /// Held by every thread until it ends.
    alive: Sender<()>,
    threads: Threads,
}

impl Workers {
    /// Starts a thread for each set of backends, the watchdog, and a thread that loads what could not be loaded.
    /// `pause`: the time before it tries for the first time.
    pub(super) fn start(
        scheduler: Arc<Scheduler>,
        backends: Vec<Backends>,
        rules: RulesBackend,
        load_worker: WorkerLoader,
        pause: Duration,
        load_model: ModelLoader,
    ) -> Result<Self, PanelError> {
        let (alive, ended) = bounded::<()>(0);
        let threads = Threads::default();
        // If something fails from here on, dropping this ends the threads that were started.
        let workers = Self { scheduler: Arc::clone(&scheduler), ended, threads: Arc::clone(&threads) };
        let starter = Starter { scheduler, rules, alive, threads };
        for backends in backends {
            starter.start_worker(false, move || Ok(backends))?;
        }
        if !starter.scheduler.missing().iter().all(MissingParts::is_empty) {
            let scheduler = Arc::clone(&starter.scheduler);
            starter.spawn("expert-reload", move || reload_missing(&scheduler, pause, &load_model))?;
        }
        let load_worker = Arc::new(load_worker);
        let watchdog = starter.clone();
        starter.spawn("expert-watch", move || watchdog.watch(&load_worker, pause))?;
        Ok(workers)
    }
}

impl Drop for Workers {
    /// Ends the threads. If one hangs in a run, the threads are left behind.
    fn drop(&mut self) {
        self.scheduler.close();
        if self.ended.recv_timeout(JOIN_TIMEOUT) != Err(RecvTimeoutError::Disconnected) {
            return;
        }
        // All work is done, but the runtime frees what it keeps for each thread after that. A process that ended
        // meanwhile could unload the runtime under it.
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

impl Starter {
    /// Starts a thread whose panic ends the role.
    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), PanelError> {
        let alive = self.alive.clone();
        let run = move || {
            panics::mark_fatal(ROLE);
            let _alive = alive;
            work();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|error| PanelError::Threads { reason: error.to_string() })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Starts a worker. It loads its backends itself, so that no other thread waits for it. `replaces`: it takes the
    /// place of one that hangs.
    fn start_worker(
        &self,
        replaces: bool,
        load: impl FnOnce() -> Result<Backends, PanelError> + Send + 'static,
    ) -> Result<(), PanelError> {
        let (scheduler, rules) = (Arc::clone(&self.scheduler), self.rules.clone());
        let number = scheduler.add_worker(replaces);
        self.spawn(&format!("expert-{number}"), move || {
            let backends = match load() {
                Ok(backends) => backends,
                Err(error) => return tracing::error!(%error, "a worker could not load its experts"),
            };
            let mut worker = Worker { scheduler: &scheduler, number, backends, rules };
            while let Some(job) = scheduler.next_job(number) {
                if !worker.serve(job) {
                    return;
                }
            }
        })
    }

    /// Runs the watchdog, and replaces workers that are lost.
    fn watch(&self, load_worker: &Arc<WorkerLoader>, pause: Duration) {
        while let Some(lost) = self.scheduler.watch() {
            for _ in 0..lost {
                let (load_worker, scheduler) = (Arc::clone(load_worker), Arc::clone(&self.scheduler));
                if let Err(error) =
                    self.start_worker(true, move || load_replacement(&scheduler, &load_worker, pause))
                {
                    tracing::error!(%error, "a worker could not be replaced");
                    self.scheduler.remove_worker();
                }
            }
        }
    }
}

/// Loads the backends of a worker that replaces another. Loading is repeated while it fails, because memory may be short
/// only temporarily. Meanwhile there is one worker less.
fn load_replacement(
    scheduler: &Scheduler,
    load_worker: &WorkerLoader,
    mut pause: Duration,
) -> Result<Backends, PanelError> {
    let mut error = match load_worker(&scheduler.missing()) {
        Ok(backends) => return Ok(backends),
        Err(error) => error,
    };
    scheduler.remove_worker();
    loop {
        let seconds = pause.as_secs();
        tracing::error!(%error, seconds, "a worker could not load its experts; tried again later");
        if scheduler.closes_within(pause) {
            return Err(error);
        }
        pause = next_pause(pause);
        match load_worker(&scheduler.missing()) {
            Ok(backends) => {
                scheduler.restore_worker();
                return Ok(backends);
            }
            Err(again) => error = again,
        }
    }
}

/// A worker with its sessions.
struct Worker<'a> {
    scheduler: &'a Scheduler,
    number: usize,
    /// By model.
    backends: Backends,
    rules: RulesBackend,
}

impl Worker<'_> {
    /// Does a job. Returns `false` if the worker was given up meanwhile and must end.
    fn serve(&mut self, job: Job) -> bool {
        crash::point("expert.serve");
        let Job { work, run, reloaded } = job;
        for (model, backend) in reloaded {
            self.backends[model] = backend;
        }
        match work {
            Work::Batch { model, keys, padded, except } => {
                let (results, cost) = self.run_batch(model, keys, padded, &except, &run);
                self.scheduler.on_batch_done(self.number, results, cost)
            }
            Work::Rules { jobs } => {
                let (results, cost) = self.run_rules(jobs, &run);
                self.scheduler.on_rules_done(self.number, results, cost)
            }
        }
    }

    fn run_batch(
        &mut self,
        model: usize,
        keys: Vec<RequestKey>,
        padded: usize,
        except: &[(usize, Abstention)],
        run: &InFlightRun,
    ) -> (Vec<(RequestKey, TextResult)>, RunCost) {
        let backend = &mut self.backends[model];
        let mut times = RunTimes::default();
        let ids: Vec<&[u32]> = keys.iter().map(|key| key.ids.as_ref()).collect();
        let votes = keys.iter().any(|key| key.votes);
        let wanted = if votes { Wanted::Votes { except } } else { Wanted::Features };
        let results = backend.run(&ids, wanted, run, &mut times);
        let mut cost = RunCost {
            texts: keys.len(),
            encoder: times.encoder,
            experts: times.experts,
            ..RunCost::default()
        };
        let profile = backend.profile();
        if profile.reads == Form::TokenIds {
            cost.real_tokens = ids.iter().map(|ids| profile.prefix + ids.len()).sum();
            cost.padded_tokens = padded;
        }
        (keys.into_iter().zip(results).collect(), cost)
    }

    fn run_rules(&mut self, jobs: Vec<RulesJob>, run: &InFlightRun) -> (Vec<RulesResult>, RunCost) {
        let mut times = RunTimes::default();
        let texts: Vec<_> = jobs.iter().map(|job| &job.text).collect();
        let results = self.rules.run(&texts, Wanted::Votes { except: &[] }, run, &mut times);
        let answers = jobs.into_iter().map(|job| job.answer);
        (answers.zip(results).collect(), RunCost { experts: times.experts, ..RunCost::default() })
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::experts::backend::Profile;
    use crate::experts::backend::run::Cancel;
    use crate::experts::batcher::Limits;
    use crate::experts::cache::ResultCache;
    use crate::experts::pending::outcome::Span;
    use crate::experts::pending::{AnswerSink, PartialAnswer, PendingAnswer};
    use crate::experts::scheduler::ModelSpec;
    use crate::experts::scheduler::work::{Request, Submission};

    /// A backend like a remote endpoint: a run waits for a reply, and only a cancellation ends it.
    struct Waits {
        began: Sender<()>,
        cancelled: Receiver<()>,
        cancel: Arc<SendsCancel>,
    }

    struct SendsCancel(Sender<()>);

    impl Cancel for SendsCancel {
        fn cancel(&self) {
            self.0.send(()).unwrap();
        }

        fn reset(&self) {}
    }

    impl Backend for Waits {
        type Text = [u32];

        fn profile(&self) -> Profile {
            Profile { reads: Form::Characters, padded_to: None, prefix: 0, max_in_flight: Some(1) }
        }

        fn run(
            &mut self,
            texts: &[&[u32]],
            _: Wanted<'_>,
            run: &InFlightRun,
            _: &mut RunTimes,
        ) -> Vec<TextResult> {
            run.on_cancel(Arc::clone(&self.cancel) as Arc<dyn Cancel>);
            self.began.send(()).unwrap();
            self.cancelled.recv().unwrap();
            texts.iter().map(|_| TextResult::abstained([0].into_iter(), Abstention::TimedOut)).collect()
        }
    }

    /// The scheduler cancels a run through the means that its backend registers, and the worker ends with the panel.
    #[test]
    fn a_backend_of_another_kind_is_run_and_cancelled() {
        let ((began, has_begun), (cancel, cancelled)) = (unbounded(), unbounded());
        let backend = Waits { began, cancelled, cancel: Arc::new(SendsCancel(cancel)) };
        let spec = ModelSpec {
            limits: Limits { tokens: 256, rows: 32, overhead: 8 },
            profile: backend.profile(),
            experts: vec![(0, "remote".to_owned())],
            pause: Duration::from_secs(1),
            missing: MissingParts::default(),
        };
        let scheduler = Arc::new(Scheduler::new([spec], false, ResultCache::new(0), None));
        let never = || PanelError::Refused;
        let workers = Workers::start(
            Arc::clone(&scheduler),
            vec![vec![Box::new(backend)]],
            RulesBackend::new(Vec::new()),
            Box::new(move |_| Err(never())),
            Duration::from_secs(1),
            Box::new(move |_, _| Err(never())),
        )
        .unwrap();
        let (sink, answers) = AnswerSink::new();
        let answer = PartialAnswer::new(1, Abstention::TimedOut);
        // The answer is sent after twice this time at the latest, which must not come before the run begins.
        let answer = Arc::new(PendingAnswer::new(&sink, 7, Duration::from_secs(1), answer, 1));
        let key = RequestKey { model: 0, ids: [1, 2].into(), votes: true };
        let requests = vec![Request { key, cost: 2, span: Span::Turn, gives_features: false, remote: None }];
        let submission = Submission { answer, requests, rules_text: None };
        scheduler.submit(vec![submission], std::time::Instant::now());
        has_begun.recv().unwrap();
        let (key, answer) = answers.recv().unwrap();
        let (outcome, _) = answer.experts[0].clone().finish(Abstention::Failed);
        assert_eq!((key, outcome), (7, Err(Abstention::TimedOut)));
        assert_eq!(scheduler.down(), [(0, Abstention::TimedOut)]);
        drop(workers);
    }
}
