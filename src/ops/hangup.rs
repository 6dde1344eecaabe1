//! SIGHUP: a request to read files again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGHUP;

/// A flag that SIGHUP sets. Without such a flag SIGHUP ends the process.
#[derive(Debug, Clone)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Handles the SIGHUPs of this process.
    ///
    /// # Errors
    /// Returns an error if the system refuses the signal handler.
    pub fn on_signal() -> io::Result<Self> {
        let hangup = Self(Arc::default());
        signal_hook::flag::register(SIGHUP, Arc::clone(&hangup.0))?;
        Ok(hangup)
    }

    /// Returns `true` if SIGHUP has been received since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
