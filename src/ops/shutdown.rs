//! Shutdown in stages: the first SIGTERM or SIGINT requests to finish, the second to abort, and the third ends the process.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::panics;

/// The exit codes of all commands. They follow sysexits.h where it has a suitable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success, also after SIGTERM.
    Success = 0,
    /// The command line is not valid.
    Usage = 64,
    /// Input data is not valid.
    Data = 65,
    /// A broker, a model file or another service is not available.
    Unavailable = 69,
    /// A bug in this program.
    Internal = 70,
    /// The configuration is not valid.
    Config = 78,
    /// The command was interrupted, e.g. by Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Returns the code that the shell receives.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Ends the process with this exit code. The destructors of C and C++ libraries do not run: a thread that was left behind, e.g.
/// one that waits for an expert or a broker, would still use what they free.
pub fn end_process(code: u8) -> ! {
    let _ = io::stdout().flush();
    signal_hook::low_level::exit(code.into())
}

/// The origin of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM, from an orchestrator.
    Terminate,
    /// SIGINT, from a terminal.
    Interrupt,
    /// The program itself, because it cannot continue.
    Program,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    first: Option<StopReason>,
    aborted: bool,
    /// The part of the process in which a thread has panicked.
    panicked: Option<&'static str>,
}

impl State {
    /// Notes the first request, and logs it.
    fn finish(&mut self, reason: StopReason) {
        self.first = Some(reason);
        tracing::info!("stopping: work in progress is finished; a second signal aborts it");
    }
}

/// The requested stage of the shutdown. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Shutdown {
    /// Creates a shutdown that only [`request`](Self::request) triggers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a shutdown that SIGTERM and SIGINT request. A thread of its own receives them.
    ///
    /// # Errors
    /// Returns an error if the system refuses the thread or the signal handlers.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let requested = shutdown.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            panics::mark_fatal("process");
            for signal in signals.forever() {
                if requested.aborted() {
                    // The process could neither finish nor abort: the sender wants it to end now.
                    end_process(Exit::Interrupted.code());
                }
                requested.request(if signal == SIGTERM {
                    StopReason::Terminate
                } else {
                    StopReason::Interrupt
                });
            }
        })?;
        Ok(shutdown)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests to finish; the second call requests to abort.
    pub fn request(&self, reason: StopReason) {
        let mut state = self.state();
        match state.first {
            None => state.finish(reason),
            Some(_) => {
                state.aborted = true;
                tracing::info!("stopping at once: work in progress is aborted");
            }
        }
        drop(state);
        self.shared.1.notify_all();
    }

    /// Requests to finish unless that has been requested already. Never requests to abort.
    pub fn finish(&self, reason: StopReason) {
        let mut state = self.state();
        if state.first.is_none() {
            state.finish(reason);
        }
        drop(state);
        self.shared.1.notify_all();
    }

    /// Requests to finish because a thread of this part of the process has panicked. Logs nothing, so that a panic hook
    /// can call it.
    pub fn panicked(&self, part: &'static str) {
        let mut state = self.state();
        state.panicked.get_or_insert(part);
        state.first.get_or_insert(StopReason::Program);
        drop(state);
        self.shared.1.notify_all();
    }

    /// Returns the part of the process in which a thread has panicked.
    #[must_use]
    pub fn panic(&self) -> Option<&'static str> {
        self.state().panicked
    }

    /// Returns `true` if the process should finish: read nothing more, commit the work in progress, and leave its groups.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.state().first.is_some()
    }

    /// Returns `true` if the work in progress should be aborted.
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.state().aborted
    }

    /// Returns the origin of the first request.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.state().first
    }

    /// Returns the exit code of a process that has ended as requested.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let State { first, aborted, panicked } = *self.state();
        if panicked.is_some() {
            return Exit::Internal;
        }
        match first {
            Some(StopReason::Interrupt) => Exit::Interrupted,
            Some(StopReason::Terminate) if aborted => Exit::Interrupted,
            _ => Exit::Success,
        }
    }

    fn wait_while(&self, limit: Option<Duration>, waits: impl Fn(&State) -> bool) -> bool {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state();
        while waits(&state) {
            state = match until {
                None => self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Waits until finishing is requested.
    pub fn wait(&self) {
        self.wait_while(None, |state| state.first.is_none());
    }

    /// Waits up to `limit` until finishing is requested. Returns `true` if it is.
    #[must_use]
    pub fn wait_for(&self, limit: Duration) -> bool {
        self.wait_while(Some(limit), |state| state.first.is_none())
    }

    /// Waits up to `limit` until aborting is requested. Returns `true` if it is.
    #[must_use]
    pub fn wait_for_abort(&self, limit: Duration) -> bool {
        self.wait_while(Some(limit), |state| !state.aborted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_finishes_second_aborts() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.requested() && !shutdown.wait_for(Duration::from_millis(1)));
        shutdown.clone().request(StopReason::Terminate);
        assert!(shutdown.requested() && !shutdown.aborted() && shutdown.wait_for(Duration::ZERO));
        assert_eq!(shutdown.exit(), Exit::Success);
        assert!(!shutdown.wait_for_abort(Duration::from_millis(1)));
        shutdown.request(StopReason::Interrupt);
        assert!(shutdown.aborted() && shutdown.wait_for_abort(Duration::ZERO));
        assert_eq!((shutdown.reason(), shutdown.exit()), (Some(StopReason::Terminate), Exit::Interrupted));
    }

    #[test]
    fn a_panic_requests_to_finish_and_is_an_internal_error() {
        let shutdown = Shutdown::new();
        shutdown.panicked("score");
        shutdown.finish(StopReason::Program);
        assert!(shutdown.requested() && !shutdown.aborted());
        shutdown.request(StopReason::Interrupt);
        shutdown.panicked("learn");
        assert_eq!((shutdown.panic(), shutdown.exit()), (Some("score"), Exit::Internal));
    }

    #[test]
    fn a_request_wakes_waiting_threads() {
        let shutdown = Shutdown::new();
        let waiting = std::thread::spawn({
            let shutdown = shutdown.clone();
            move || {
                shutdown.wait();
                shutdown.reason()
            }
        });
        shutdown.request(StopReason::Program);
        assert_eq!(waiting.join().ok().flatten(), Some(StopReason::Program));
    }
}
