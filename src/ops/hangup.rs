//! SIGHUP: look at the files again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::panics;

/// Says whether SIGHUP has come. Without one it ends the process; with one it does not.
#[derive(Debug, Clone)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Follows the process's signals, in a thread of its own.
    ///
    /// # Errors
    /// Where the system refuses the thread or the signal.
    pub fn on_signal() -> io::Result<Self> {
        let hangup = Self(Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        let told = Arc::clone(&hangup.0);
        std::thread::Builder::new().name("hangup".to_owned()).spawn(move || {
            panics::mark_fatal("process");
            runtime.block_on(async {
                while signals.recv().await.is_some() {
                    told.store(true, Ordering::Release);
                }
            });
        })?;
        Ok(hangup)
    }

    /// Whether it has come since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
