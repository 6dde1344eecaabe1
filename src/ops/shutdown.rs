//! Stopping: the first SIGTERM or SIGINT asks to finish, the second to abort, the third ends the process.

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::panics;

/// How a command of ours ends, after sysexits.h where that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All well; also a clean end after SIGTERM.
    Success = 0,
    /// The command line is wrong.
    Usage = 64,
    /// Input data is wrong.
    Data = 65,
    /// A broker, a file of the experts or another service is missing.
    Unavailable = 69,
    /// A fault of ours.
    Internal = 70,
    /// The configuration is wrong.
    Config = 78,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Who asks to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM: an orchestrator.
    Terminate,
    /// SIGINT: a person at a terminal.
    Interrupt,
    /// The program itself, because it cannot go on.
    Program,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    first: Option<StopReason>,
    aborted: bool,
    /// The part of the process of which a thread has panicked.
    panicked: Option<&'static str>,
}

/// Says whether to stop. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Shutdown {
    /// One that only [`request`](Self::request) sets off.
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
                    std::process::exit(i32::from(Exit::Interrupted.code()));
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

    /// Asks to finish; asked again, to abort.
    pub fn request(&self, asker: StopReason) {
        let mut state = self.state();
        match state.first {
            None => {
                state.first = Some(asker);
                tracing::info!("stopping: what is in work is finished; a second signal gives it up");
            }
            Some(_) => {
                state.aborted = true;
                tracing::info!("stopping at once: what is in work is given up");
            }
        }
        drop(state);
        self.shared.1.notify_all();
    }

    /// Asks to finish, unless that has been asked for already. Never asks to abort.
    pub fn finish(&self, asker: StopReason) {
        if !self.requested() {
            self.request(asker);
        }
    }

    /// Asks to finish because a thread of this part of the process has panicked. Logs nothing, so that a panic hook
    /// can call it.
    pub fn panicked(&self, part: &'static str) {
        let mut state = self.state();
        state.panicked.get_or_insert(part);
        state.first.get_or_insert(StopReason::Program);
        drop(state);
        self.shared.1.notify_all();
    }

    /// The part of the process of which a thread has panicked.
    #[must_use]
    pub fn panic(&self) -> Option<&'static str> {
        self.state().panicked
    }

    /// Whether to finish: fetch nothing more, commit what is in work, leave.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.state().first.is_some()
    }

    /// Whether to abort what is in work.
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.state().aborted
    }

    /// Who asked first.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.state().first
    }

    /// How a process that did as it was asked ends.
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

    fn wait_while(&self, limit: Option<Duration>, go_on: impl Fn(&State) -> bool) -> bool {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state();
        while go_on(&state) {
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

    /// Waits until asked to finish.
    pub fn wait(&self) {
        self.wait_while(None, |state| state.first.is_none());
    }

    /// Waits until asked to finish, at most so long; whether asked. The pause of a loop that ends promptly.
    #[must_use]
    pub fn wait_for(&self, limit: Duration) -> bool {
        self.wait_while(Some(limit), |state| state.first.is_none())
    }

    /// Waits until asked to abort, at most so long; whether asked.
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
    fn a_panic_asks_to_finish_and_is_an_internal_error_whoever_asks_besides() {
        let shutdown = Shutdown::new();
        shutdown.panicked("score");
        shutdown.finish(StopReason::Program);
        assert!(shutdown.requested() && !shutdown.aborted());
        shutdown.request(StopReason::Interrupt);
        shutdown.panicked("learn");
        assert_eq!((shutdown.panic(), shutdown.exit()), (Some("score"), Exit::Internal));
    }

    #[test]
    fn those_who_wait_are_woken() {
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
