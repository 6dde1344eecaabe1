//! Supervises the threads of `aegis run`: if one ends, all end within a bounded time.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Failure;
use crate::ops::{Exit, Health, Shutdown, StopReason, metrics};
use crate::panics;
use crate::score::ScoreError;
use crate::serve::ModerationError;

/// The time that threads have to finish after one of them has failed, before they are asked to abort.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that threads have to abort. The brokers end open transactions at their timeout.
const ABORT_TIMEOUT: Duration = Duration::from_millis(1500);
// docs/guarantees.md: the process ends within two seconds of the second signal.
const _: () = assert!(ABORT_TIMEOUT.as_millis() + ABORT_POLL_INTERVAL.as_millis() < 2_000);
/// The interval at which threads are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The interval at which threads are polled after they are asked to abort.
const ABORT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The threads of a process.
pub struct Supervisor {
    shutdown: Shutdown,
    health: Health,
    running: Vec<Running>,
    failed: Option<Failure>,
    finish: Duration,
    abort: Duration,
}

struct Running {
    name: &'static str,
    /// `true` for a role, which has conditions and metrics.
    role: bool,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Supervisor {
    /// Creates a supervisor without threads. A failure asks `shutdown` to finish.
    pub fn new(shutdown: Shutdown, health: Health) -> Self {
        Self {
            shutdown,
            health,
            running: Vec::new(),
            failed: None,
            finish: FINISH_TIMEOUT,
            abort: ABORT_TIMEOUT,
        }
    }

    /// Starts a role on a thread of its own.
    ///
    /// # Errors
    /// Returns `Unavailable` if the system refuses the thread.
    pub fn role(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Result<(), Failure> {
        self.health.of(name).set("running", true);
        self.spawn(name, true, work)
    }

    /// Starts a helper of all roles on a thread of its own.
    ///
    /// # Errors
    /// Returns `Unavailable` if the system refuses the thread.
    pub fn helper(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        self.spawn(name, false, || {
            work();
            Ok(())
        })
    }

    fn spawn(
        &mut self,
        name: &'static str,
        role: bool,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Result<(), Failure> {
        let part = if role { name } else { "process" };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            panics::mark_fatal(part);
            work()
        });
        let thread = thread.map_err(|error| Failure::new(Exit::Unavailable, error))?;
        self.running.push(Running { name, role, thread });
        Ok(())
    }

    /// Waits until all threads have ended. After a failure they get a bounded time to finish, then to abort, and are
    /// left behind after that; the same after a second signal.
    ///
    /// # Errors
    /// Returns the first failure; `Internal` if any thread has panicked.
    pub fn wait(mut self) -> Result<(), Failure> {
        let (mut finish_by, mut abort_by) = (None, None);
        loop {
            self.reap();
            let panicked = self.shutdown.panic();
            if let Some(part) = panicked {
                self.ended(part);
            }
            if self.running.is_empty() {
                break;
            }
            if self.failed.is_some() || panicked.is_some() {
                let by = *finish_by.get_or_insert_with(|| Instant::now() + self.finish);
                self.shutdown.finish(StopReason::Program);
                if Instant::now() >= by && !self.shutdown.aborted() {
                    self.shutdown.request(StopReason::Program);
                }
            }
            if !self.shutdown.aborted() {
                let _ = self.shutdown.wait_for_abort(POLL_INTERVAL);
                continue;
            }
            if Instant::now() > *abort_by.get_or_insert_with(|| Instant::now() + self.abort) {
                break;
            }
            thread::sleep(ABORT_POLL_INTERVAL); // the end of a thread wakes nothing
        }
        for Running { name, .. } in &self.running {
            tracing::warn!(
                role = name,
                "the thread does not end, because brokers do not answer: it is left behind"
            );
        }
        self.outcome()
    }

    fn outcome(self) -> Result<(), Failure> {
        match (self.failed, self.shutdown.panic()) {
            (Some(failure), None) => Err(failure),
            (Some(Failure { error, .. }), Some(_)) => Err(Failure { exit: Exit::Internal, error }),
            (None, Some(part)) => {
                let error =
                    anyhow!("a thread of {part} panicked: a fault of this program; the log has its place");
                Err(Failure { exit: Exit::Internal, error })
            }
            (None, None) => Ok(()),
        }
    }

    /// Removes the threads that have ended.
    fn reap(&mut self) {
        let (ended, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(|running| running.thread.is_finished());
        self.running = running;
        for Running { name, role, thread } in ended {
            if role {
                self.ended(name);
            }
            let (exit, error) = match thread.join() {
                Ok(Ok(())) if self.shutdown.requested() => continue,
                Ok(Ok(())) => {
                    (Exit::Internal, anyhow!("it ended without a request to stop: a fault of this program"))
                }
                Ok(Err(error)) => (exit_of(&error), error),
                Err(_) => {
                    (Exit::Internal, anyhow!("it panicked: a fault of this program; the log has its place"))
                }
            };
            tracing::error!(role = name, error = format!("{error:#}"), "stopped");
            let failure = Failure { exit, error: error.context(format!("{name} stopped")) };
            if self
                .failed
                .as_ref()
                .is_none_or(|failed| failed.exit != Exit::Internal && exit == Exit::Internal)
            {
                self.failed = Some(failure);
            }
        }
    }

    /// Ends the conditions and the metrics of a role.
    fn ended(&self, role: &'static str) {
        self.health.of(role).end();
        metrics::role_ended(role);
    }
}

/// Returns the exit code for the error of a role: a broken invariant is a bug, all other causes lie outside.
fn exit_of(error: &anyhow::Error) -> Exit {
    let moderation = error.downcast_ref::<ModerationError>();
    let score = match moderation {
        Some(ModerationError::Score(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    match (score, moderation) {
        (Some(ScoreError::Invariant { .. }), _) => Exit::Internal,
        (_, Some(ModerationError::Keys(_) | ModerationError::NoRecordKey { .. })) => Exit::Config,
        _ => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn supervisor() -> (Supervisor, Shutdown, Health) {
        let (shutdown, health) = (Shutdown::new(), Health::default());
        let mut supervisor = Supervisor::new(shutdown.clone(), health.clone());
        (supervisor.finish, supervisor.abort) = (Duration::from_millis(20), Duration::from_millis(20));
        (supervisor, shutdown, health)
    }

    fn failure(result: Result<(), Failure>) -> (Exit, String) {
        let Err(Failure { exit, error }) = result else { unreachable!("it did not fail") };
        (exit, format!("{error:#}"))
    }

    #[test]
    fn a_failed_role_stops_the_other_which_finishes() {
        let (mut supervisor, shutdown, health) = supervisor();
        supervisor.finish = Duration::from_secs(600);
        health.of("learn").set("broker seen", true);
        supervisor.role("score", || Err(anyhow!("no brokers"))).unwrap_or_else(|_| unreachable!());
        let (other, own) = (shutdown.clone(), health.clone());
        let learn = move || {
            other.wait();
            assert!(!other.aborted() && !own.ready());
            Ok(())
        };
        supervisor.role("learn", learn).unwrap_or_else(|_| unreachable!());
        assert_eq!(failure(supervisor.wait()), (Exit::Unavailable, "score stopped: no brokers".to_owned()));
        assert!(!shutdown.aborted() && !health.ready());
    }

    #[test]
    fn a_panic_is_an_internal_error_and_a_hanging_role_is_left_behind() {
        let (mut supervisor, shutdown, health) = supervisor();
        let (hold, held) = mpsc::channel::<()>();
        supervisor.role("score", || panic!("on purpose")).unwrap_or_else(|_| unreachable!());
        supervisor.role("learn", move || Ok(_ = held.recv())).unwrap_or_else(|_| unreachable!());
        let (exit, error) = failure(supervisor.wait());
        assert_eq!(exit, Exit::Internal);
        assert!(error.starts_with("score stopped: it panicked"), "{error}");
        assert!(shutdown.aborted(), "learn was asked to abort after its time to finish");
        health.of("score").set("broker seen", true);
        assert!(!health.ready(), "no condition of an ended role holds");
        drop(hold);
    }

    #[test]
    fn a_panic_outside_of_the_roles_is_an_internal_error() {
        let (mut supervisor, shutdown, _) = supervisor();
        supervisor.finish = Duration::from_secs(600);
        let asked = shutdown.clone();
        let score = move || {
            asked.wait();
            Ok(())
        };
        supervisor.role("score", score).unwrap_or_else(|_| unreachable!());
        shutdown.panicked("process");
        assert_eq!(failure(supervisor.wait()).0, Exit::Internal);
    }

    #[test]
    fn a_role_that_ends_without_a_request_is_a_failure() {
        let (mut supervisor, shutdown, _) = supervisor();
        supervisor.role("learn", || Ok(())).unwrap_or_else(|_| unreachable!());
        assert_eq!(failure(supervisor.wait()).0, Exit::Internal);
        shutdown.request(StopReason::Terminate);
        let mut supervisor = Supervisor::new(shutdown, Health::default());
        supervisor.role("learn", || Ok(())).unwrap_or_else(|_| unreachable!());
        assert!(supervisor.wait().is_ok(), "asked before");
    }

    #[test]
    fn a_broken_invariant_is_a_bug_and_other_errors_lie_outside() {
        let bug = anyhow::Error::from(ScoreError::Invariant { what: "an answer without its event".into() });
        assert_eq!(exit_of(&bug), Exit::Internal);
        assert_eq!(exit_of(&anyhow!("no brokers")), Exit::Unavailable);
    }
}
